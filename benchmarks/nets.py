"""Small nets of several kinds, for timing; imported without Keras."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Task(NamedTuple):
    """A net and its data.

    Attributes:
        shape: of an example.
        batch_size: int.
        layers: function from Keras to the list of hidden layers.
    """

    shape: tuple[int, ...]
    batch_size: int
    layers: Callable[[Any], list]


def _dense(*sizes: int) -> Callable[[Any], list]:
    return lambda layers: [layers.Dense(n, "tanh") for n in sizes]


def _attention(layers: Any) -> list:
    def block(x):
        heads = layers.MultiHeadAttention(2, 16)(x, x)
        x = layers.LayerNormalization()(layers.add([x, heads]))
        wide = layers.Dense(64, activation="gelu")(x)
        rest = layers.Dense(32)(wide)
        return layers.LayerNormalization()(layers.add([x, rest]))

    return [block, layers.GlobalAveragePooling1D()]


def _convolutions(layers: Any) -> list:
    return [
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ]


TASKS = {
    "digits": Task((64,), 50, _dense(50)),
    "mnist": Task((784,), 50, _dense(50, 50, 50)),
    "wide": Task((784,), 128, _dense(500, 500)),
    "cnn": Task((28, 28, 1), 50, _convolutions),
    "gru": Task((20, 8), 32, lambda layers: [layers.GRU(16)]),
    "attention": Task((16, 32), 32, _attention),
}


def ends(task: Task) -> tuple[Any, Any]:
    """Returns the inputs and the ten outputs of a net."""
    import keras

    inputs = h = keras.Input(task.shape)
    for layer in task.layers(keras.layers):
        h = layer(h)
    return inputs, keras.layers.Dense(10)(h)
