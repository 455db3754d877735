"""How the papers train their net for MNIST and tune its penalties."""

import keras

import keras_drmad as kd
from keras_drmad.methods import Method


def compile_as_papers(
    model: kd.DrMADModel,
    alpha: float,
    gamma: float,
    penalties: kd.hyperparameters.Hyperparameter,
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
        optimizer=papers_momentum(alpha, gamma),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[penalties],
        hypergradient=method,
        meta_optimizer=kd.SignDescent(meta_step),
    )


def papers_momentum(alpha: float, gamma: float) -> keras.optimizers.SGD:
    """Returns v <- gamma v - (1 - gamma) g, w <- w + alpha v.

    Keras's velocity has the rate in it, and no factor 1 - gamma.
    """
    return keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma)
