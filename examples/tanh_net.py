"""The papers' net for MNIST."""

from collections.abc import Sequence

import keras

import keras_drmad as kd
from keras_drmad.methods import Method


def tanh_net(
    inputs: int, hidden: Sequence[int], classes: int, scale: float
) -> keras.Model:
    """Returns a net of dense layers, tanh between them, logits at the end.

    Args:
        inputs: int, the number of pixels.
        hidden: the numbers of units of the hidden layers.
        classes: int.
        scale: float, deviation of the initial weights (biases start at 0).
    """

    def dense(units, activation, name):
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=scale),
            name=name,
        )

    x = first = keras.Input((inputs,))
    for k, units in enumerate(hidden):
        x = dense(units, "tanh", f"hidden_{k + 1}")(x)
    return keras.Model(first, dense(classes, None, "output")(x))


def compile_as_papers(
    model: kd.DrMADModel,
    alpha: float,
    gamma: float,
    penalties: kd.hyperparameters.L2,
    method: Method,
    meta_step: float,
) -> None:
    """Compiles a net for the papers' experiments with penalties.

    Trains by v <- gamma v - (1 - gamma) g, w <- w + alpha v, and tunes by the
    sign of the hypergradient.

    Args:
        model: a `DrMADModel` whose outputs are logits.
        alpha: float, the rate.
        gamma: float, the momentum.
        penalties: the hyperparameters.
        method: of the hypergradient.
        meta_step: float, of the logarithms of the penalties.
    """
    model.compile(
        # Keras's velocity has the rate in it, and no factor 1 - gamma.
        optimizer=keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[penalties],
        hypergradient=method,
        meta_optimizer=kd.SignDescent(meta_step),
    )
