"""Plain Keras: who defaults, from a table, by a net of two layers."""

import keras
import numpy as np

generator = np.random.default_rng(0)
features = generator.normal(size=(400, 20)).astype("float32")
chance = 1 / (1 + np.exp(-features[:, :3].sum(axis=1)))
targets = (generator.uniform(size=400) < chance).astype("float32")

normalizer = keras.layers.Normalization()
normalizer.adapt(features)

inputs = keras.Input((20,))
x = normalizer(inputs)
x = keras.layers.Dense(32, activation="relu")(x)
x = keras.layers.Dropout(0.3)(x)
x = keras.layers.Dense(32, activation="relu")(x)
x = keras.layers.Dropout(0.3)(x)
outputs = keras.layers.Dense(1, activation="sigmoid")(x)
model = keras.Model(inputs, outputs)

model.compile(
    optimizer=keras.optimizers.Adam(1e-2),
    loss="binary_crossentropy",
    metrics=["accuracy", keras.metrics.Recall(name="recall")],
)
model.fit(
    features,
    targets,
    batch_size=64,
    epochs=2,
    validation_split=0.2,
    class_weight={0: 1.0, 1: 1.5},
)
print(model.predict(features[:3], verbose=0))
