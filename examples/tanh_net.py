"""The papers' net for MNIST."""

import math
from collections.abc import Sequence
from typing import Any

import keras

DEVIATION = math.exp(-3)  # of the first weights, in the papers


def tanh_net(
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    start: float | keras.Initializer = DEVIATION,
    bias_start: float = 0.0,
    regularizer: Any = None,
) -> keras.Model:
    """Returns a net of dense layers, tanh between them, logits at the end.

    Args:
        inputs: int, the number of pixels.
        hidden: the numbers of units of the hidden layers.
        classes: int.
        start: float, deviation of the first kernels, e^-3 in the papers; or an
            initializer, which all layers share.
        bias_start: float, deviation of the first biases.
        regularizer: of the kernels, as for `keras.layers.Dense`.
    """
    normal = keras.initializers.RandomNormal

    def dense(units, activation, name):
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=normal(stddev=start)
            if isinstance(start, float)
            else start,
            bias_initializer=normal(stddev=bias_start)
            if bias_start
            else "zeros",
            kernel_regularizer=regularizer,
            name=name,
        )

    x = first = keras.Input((inputs,))
    for k, units in enumerate(hidden):
        x = dense(units, "tanh", f"hidden_{k + 1}")(x)
    return keras.Model(first, dense(classes, None, "output")(x))
