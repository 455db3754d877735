"""Plain Keras: small images in two classes, by a net with augmentation."""

import keras
import numpy as np
import tensorflow as tf

generator = np.random.default_rng(0)
labels = generator.integers(0, 2, 96)
images = generator.uniform(0, 120, (96, 12, 12, 3)).astype("float32")
images[labels == 1, :6] += 80

data = tf.data.Dataset.from_tensor_slices((images, labels))
train = data.take(64).shuffle(64, seed=0).batch(16).prefetch(2)
validation = data.skip(64).batch(16)

augmentation = keras.Sequential(
    [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(0.1),
        keras.layers.RandomContrast(0.1),
    ]
)


def make_model(shape, classes):
    inputs = keras.Input(shape)
    x = augmentation(inputs)
    x = keras.layers.Rescaling(1 / 255)(x)
    for size in (8, 16):
        x = keras.layers.SeparableConv2D(size, 3, padding="same")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("relu")(x)
        x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.25)(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


model = make_model((12, 12, 3), 2)
model.compile(
    optimizer=keras.optimizers.Adam(3e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
)
model.fit(
    train,
    epochs=2,
    validation_data=validation,
    callbacks=[keras.callbacks.ModelCheckpoint("at_{epoch}.keras")],
)
print(model.predict(images[:1], verbose=0))
