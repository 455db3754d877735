"""The papers' net for MNIST: data, training, and how penalties are tuned."""

import math
from collections.abc import Sequence

import keras

import keras_drmad as kd
from examples import datasets
from examples.tanh_net import tanh_net
from keras_drmad.methods import Method

# (training, validation, test)
SIZES = {"mnist": (15000, 5000, 5000), "digits": (1000, 400, 397)}


def load(dataset: str, data_dir: str | None, seed: int) -> datasets.Images:
    """Returns the images of a seed."""
    return datasets.load(dataset, data_dir, SIZES[dataset], seed)


def papers_net(
    images: datasets.Images, hidden: Sequence[int] = (50, 50, 50)
) -> keras.Model:
    """Returns a new net for images."""
    return tanh_net(math.prod(images.shape), hidden, images.classes)


def papers_model(
    images: datasets.Images, hidden: Sequence[int] = (50, 50, 50)
) -> kd.DrMADModel:
    """Returns a new net for images as a `DrMADModel`, not compiled."""
    return kd.DrMADModel.from_model(papers_net(images, hidden))


def drmad_of_paper(reverse_steps: float = 0.1) -> kd.DrMAD:
    """Returns R steps spread over the line to the last weights.

    Args:
        reverse_steps: float, R as a part of T; a tenth in the papers' code.
    """
    return kd.DrMAD(reverse_steps, last=1.0, average=False)


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
