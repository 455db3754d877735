"""Plain Keras: whether a review is kind, by a block of a transformer."""

import keras
import numpy as np

VOCABULARY, LENGTH, WIDTH = 50, 12, 16
generator = np.random.default_rng(0)
x_train = generator.integers(1, VOCABULARY, (96, LENGTH))
y_train = (x_train < 10).sum(axis=1) > 2
x_train, x_val = x_train[:64], x_train[64:]
y_train, y_val = y_train[:64].astype(int), y_train[64:].astype(int)


class Embedded(keras.layers.Layer):
    """Tokens, and their places."""

    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.tokens = keras.layers.Embedding(vocabulary, width)
        self.places = keras.layers.Embedding(length, width)

    def call(self, x):
        places = keras.ops.arange(0, keras.ops.shape(x)[-1])
        return self.tokens(x) + self.places(places)


class Block(keras.layers.Layer):
    """Attention, and two dense layers."""

    def __init__(self, width, heads, hidden, rate=0.1):
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(heads, width)
        self.dense = keras.Sequential(
            [
                keras.layers.Dense(hidden, activation="relu"),
                keras.layers.Dense(width),
            ]
        )
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-6)
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = keras.layers.Dropout(rate)
        self.dropout2 = keras.layers.Dropout(rate)

    def call(self, inputs, training=False):
        x = self.dropout1(self.attention(inputs, inputs), training=training)
        x = self.norm1(inputs + x)
        return self.norm2(x + self.dropout2(self.dense(x), training=training))


inputs = keras.Input((LENGTH,))
x = Embedded(LENGTH, VOCABULARY, WIDTH)(inputs)
x = Block(WIDTH, 2, 32)(x)
x = keras.layers.GlobalAveragePooling1D()(x)
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(20, activation="relu")(x)
x = keras.layers.Dropout(0.1)(x)
outputs = keras.layers.Dense(2, activation="softmax")(x)
model = keras.Model(inputs, outputs)
model.compile(
    optimizer="adam",
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(
    x_train,
    y_train,
    batch_size=16,
    epochs=2,
    validation_data=(x_val, y_val),
)
print(model.evaluate(x_val, y_val, verbose=0))
