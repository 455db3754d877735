"""The trainings of which `studies/fidelity.py` takes hypergradients."""

import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from examples import datasets
from examples.tanh_net import tanh_net
from keras_drmad.hyperparameters import L2, LearningRate
from studies import fidelity_omniglot
from studies.papers import papers_momentum


class Task(NamedTuple):
    """A training whose hyperparameters are differentiated.

    Attributes:
        name: str, the problem's.
        title: str, what it is.
        T: int, the number of steps.
        batch_size: int.
        net: function that returns inputs and outputs.
        optimizer: function that returns the elementary optimizer.
        kinds: function that returns the hyperparameters.
        data: `(x, y)` for training and for validation.
    """

    name: str
    title: str
    T: int
    batch_size: int
    net: Callable
    optimizer: Callable
    kinds: Callable
    data: tuple


# ---- data, nets, optimizers


def images(
    data_dir: str | None,
    flat: bool = True,
    centred: bool = False,
    count: int = 10000,
):
    """Returns `(x, y)` for training and for validation, MNIST or digits.

    Pixels are in [0, 1]; centred, minus the mean training image. Of MNIST there
    are `count` images for training.
    """
    path = pathlib.Path(data_dir or "", "mnist.npz")
    if data_dir and path.exists():
        found = datasets.load("mnist", data_dir, (count, 2000, 1), 0)
    else:
        found = datasets.load("digits", None, (1200, 400, 1), 0)
    shape = (-1,) if flat else (*found.shape, 1)
    lowest = 0 if centred else found.train[0].min(axis=0)
    return tuple(
        ((x - lowest).reshape(len(x), *shape), y)
        for x, y in (found.train, found.validation)
    )


def papers_net(inputs: int, scale: float | None = None):
    """Returns the papers' net, 50-50-50-10.

    Args:
        inputs: int, the number of pixels.
        scale: float, deviation of the initial weights; 1 / √inputs of each
            layer by default.
    """
    initial = keras.initializers
    start: Any = initial.LecunNormal()
    if scale is not None:
        start = initial.RandomNormal(stddev=scale)
    net = tanh_net(inputs, (50, 50, 50), 10, start)
    return net.inputs[0], net.outputs[0]


def small_cnn(shape):
    """Returns inputs and outputs of a net with two convolutions."""
    L = keras.layers
    x = first = keras.Input(shape)
    x = L.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    return first, L.Dense(10)(L.Flatten()(x))


def momentum(alpha: float, gamma: float) -> Callable:
    """Returns what makes v <- gamma v - (1 - gamma) g, w <- w + alpha v."""
    return lambda: papers_momentum(alpha, gamma)


def penalties(log_penalty: float) -> Callable:
    """Returns what makes an L2 coefficient for each unit."""
    return lambda: [L2("input", math.exp(log_penalty))]


# ---- problems

REGIMES: dict[str, tuple] = {  # T, optimizer, logarithm of the penalties
    "momentum_1": (2000, momentum(0.05, 0.95), -4),
    "momentum_2": (1000, momentum(0.1, 0.9), -7),
    "momentum_3": (500, momentum(0.5, 0.9), -9),
    "adam": (1000, lambda: keras.optimizers.Adam(1e-3), -7),
    "rmsprop": (1000, lambda: keras.optimizers.RMSprop(1e-3), -7),
    "paper_1": (2000, momentum(0.05, 0.95), -4),
    # Above the best single penalty, .0025 to .004: the sum should be positive.
    "few": (2000, momentum(0.05, 0.95), math.log(0.01)),
}


def task(problem: str, data_dir: str | None) -> Task:
    """Returns a problem by its name.

    Args:
        problem: str, one of `studies.fidelity.PROBLEMS`.
        data_dir: folder with `mnist.npz` and `omniglot28.npz`; without
            `mnist.npz`, scikit-learn's digits take its place.
    """
    if problem in REGIMES:
        return _regime(problem, data_dir)
    others = {"rates": _rates, "cnn": _cnn, "omniglot": _omniglot}
    return others[problem](data_dir)


def _regime(problem: str, data_dir: str | None) -> Task:
    T, optimizer, log_penalty = REGIMES[problem]
    is_small = problem == "few"
    of_paper = problem.startswith("paper") or is_small
    count = 1000 if is_small else 10000
    data = images(data_dir, centred=of_paper, count=count)
    pixels = data[0][0].shape[1]
    scale = math.exp(-3) if of_paper else None
    title = f"L2 per input, {_name(optimizer())}, T = {T}"
    if is_small:
        title += ", 1,000 images, the paper's start, penalties of 0.01"
    elif of_paper:
        title += ", the paper's start: small weights, a plateau first"
    return Task(
        problem,
        title,
        T,
        50,
        lambda: papers_net(pixels, scale),
        optimizer,
        penalties(log_penalty),
        data,
    )


def _rates(data_dir: str | None) -> Task:
    data = images(data_dir)
    pixels = data[0][0].shape[1]
    return Task(
        "rates",
        "learning rate per layer, SGD(0.01, 0.9), T = 1000",
        1000,
        50,
        lambda: papers_net(pixels),
        momentum(0.1, 0.9),
        lambda: [LearningRate("layer")],
        data,
    )


def _cnn(data_dir: str | None) -> Task:
    data = images(data_dir, flat=False)
    return Task(
        "cnn",
        "small CNN, L2 per input, Adam(0.001), T = 300",
        300,
        50,
        lambda: small_cnn(data[0][0].shape[1:]),
        lambda: keras.optimizers.Adam(1e-3),
        penalties(-7),
        data,
    )


def _omniglot(data_dir: str | None) -> Task:
    return Task(
        "omniglot",
        "Omniglot, sharing between 10 alphabets, SGD(0.1, 0.9), T = 100",
        100,
        110,
        fidelity_omniglot.net,
        momentum(1.0, 0.9),
        lambda: [fidelity_omniglot.Sharing()],
        fidelity_omniglot.data(data_dir or ""),
    )


def _name(optimizer) -> str:
    kind = type(optimizer).__name__
    rate = float(optimizer.learning_rate)
    gamma = getattr(optimizer, "momentum", 0)
    return f"{kind}({rate:.3g}{f', {gamma}' if gamma else ''})"
