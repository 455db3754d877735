"""The problems of the study of meta-optimizers: data and trainings."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from examples.small_cnn import small_cnn
from examples.tanh_net import tanh_net
from studies import omniglot, omniglot_nets, tabular_problems
from studies.papers import papers_momentum

Arrays = tuple[np.ndarray, np.ndarray]


class Task(NamedTuple):
    """What a meta-optimizer is tried on.

    Attributes:
        model: a `DrMADModel`, not compiled.
        training: dict, of the arguments of `compile`.
        kinds: list of hyperparameters, not bound.
        train: `(x, y)`.
        test: the same, held out.
        options: dict, of the arguments of `fit` and `check_hyperparameters`.
        refit: bool, of the arguments of `fit`.
        grid: numbers to try as the one value of all entries of the first kind.
        matters: bool array as the entries of the first kind, those whose value
            is to be low (high, if `is_high`); `None` for no such question.
        is_high: bool.
    """

    model: kd.DrMADModel
    training: dict[str, Any]
    kinds: list[kd.hyperparameters.Hyperparameter]
    train: Arrays
    test: Arrays
    options: dict[str, Any]
    refit: bool = False
    grid: Sequence[float] = ()
    matters: np.ndarray | None = None
    is_high: bool = False


def task(
    problem: str, data_dir: str | None, seed: int, divide_steps: int = 1
) -> Task:
    """Returns a problem by its name.

    Args:
        problem: str, of `PROBLEMS`.
        data_dir: folder of MNIST's file, as for `datasets.load`.
        seed: int, of the data and of the weights that the model begins with.
        divide_steps: int, makes trainings shorter.
    """
    keras.utils.set_random_seed(seed)
    found = PROBLEMS[problem](data_dir, seed)
    steps = max(2, found.options["steps_per_epoch"] // divide_steps)
    return found._replace(options=found.options | {"steps_per_epoch": steps})


def mnist_penalties(data_dir, seed: int, count: int, grid) -> Task:
    """A penalty on the weights of each input of each layer: 934 of them.

    Args:
        data_dir: as for `task`.
        seed: int.
        count: int, of training images.
        grid: as of `Task`.
    """
    images = datasets.load("mnist", data_dir, (count, 5000, 5000), seed)
    return _penalties(images, 2000, grid)


def digits_penalties(_, seed: int) -> Task:
    """The same on scikit-learn's digits, for short trials."""
    images = datasets.load("digits", None, (200, 400, 400), seed)
    return _penalties(images, 400, [1e-3, 1e-2])


def _penalties(images: datasets.Images, steps: int, grid) -> Task:
    kind = kd.hyperparameters.L2("input", 3.2e-4, bounds=(1e-6, 1e-1))
    momentum = keras.optimizers.SGD(0.0025, momentum=0.95)
    return _of_images(images, [kind], momentum, steps, 50, grid=grid)


def noisy_labels(
    data_dir, seed: int, wrong=0.4, rate=0.01, steps=500, size=50
) -> Task:
    """A weight for each of 1,000 examples, of which a part have wrong labels.

    Args:
        data_dir: as for `task`.
        seed: int.
        wrong: float, the part of wrong labels.
        rate: float, of the training.
        steps: int, T.
        size: int, of a minibatch.
    """
    images = datasets.load("mnist", data_dir, (1000, 1000, 5000), seed)
    given, is_wrong = images.with_wrong_labels(wrong, seed + 1)
    images = images._replace(train=(images.train[0], given))
    kind = kd.hyperparameters.ExampleWeights(len(given))
    momentum = keras.optimizers.SGD(rate, momentum=0.9)
    marked = {"matters": ~is_wrong, "is_high": True}
    return _of_images(images, [kind], momentum, steps, size, **marked)


def schedule(data_dir, seed: int) -> Task:
    """A learning rate for each weight tensor in each of 100 steps."""
    images = datasets.load("mnist", data_dir, (1000, 5000, 5000), seed)
    kind = kd.hyperparameters.LearningRate(
        "tensor", schedule="step", steps=100, bounds=(1e-3, 3.0)
    )
    momentum = keras.optimizers.SGD(0.01, momentum=0.9)
    grid = [0.01, 0.03, 0.1, 0.2]
    return _of_images(images, [kind], momentum, 100, 100, grid=grid)


def cnn(_, seed: int, per: str = "layer") -> Task:
    """A penalty and a learning rate for each layer of a small CNN, or for all.

    Args:
        _: nothing; the images are scikit-learn's.
        seed: int.
        per: str, `"layer"` or `"all"`.
    """
    images = datasets.load("digits", None, (400, 600, 797), seed)
    images = images.as_pictures()
    layers = small_cnn(images.shape, images.classes)
    kinds = [
        kd.hyperparameters.L2(per, 1e-4, bounds=(1e-6, 1.0)),
        kd.hyperparameters.LearningRate(per, bounds=(1e-5, 0.1)),
    ]
    net = keras.Sequential([keras.Input(images.shape), *layers])
    adam = keras.optimizers.Adam(3e-4)
    grid = [1e-4, 1e-3, 1e-2]
    return _of_images(images, kinds, adam, 300, 50, net=net, grid=grid)


def omniglot_sharing(data_dir, seed: int) -> Task:
    """How much six nets share, a matrix a layer, as in `omniglot_sharing`.

    With three alphabets, upright and turned, 50 hidden units and no penalty,
    and splits drawn anew of the people who draw.
    """
    names = ["Blackfoot", "Hebrew", "Ojibwe"]
    drawings = omniglot.load(data_dir, names, seed)
    train, test = (
        (x, np.tile(drawings.labels, (len(x), 1)))
        for x in omniglot.split(drawings.images, 12, [seed])
    )
    net = omniglot_nets.towers(drawings.counts, [50], math.exp(-2))
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Task(
        kd.DrMADModel.from_model(net),
        {
            # The loss is a mean over characters, the papers' a sum over tasks.
            "optimizer": papers_momentum(len(drawings.tasks), 0.9),
            "loss": crossentropy,
            "metrics": ["accuracy"],
            # It takes XLA a minute to compile this, which runs no faster then.
            "jit_compile": False,
        },
        [kd.hyperparameters.WeightSharing(["layer0_.*", "layer1_.*"])],
        train,
        test,
        {"batch_size": 10, "steps_per_epoch": 50, "validation_split": 1 / 6},
    )


def _of_images(images, kinds, optimizer, steps, size, net=None, **own) -> Task:
    """Returns a problem of images, with a validation set of its own."""
    if net is None:
        pixels = math.prod(images.shape)
        net = tanh_net(pixels, (50, 50, 50), images.classes)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Task(
        kd.DrMADModel.from_model(net),
        {
            "optimizer": optimizer,
            "loss": crossentropy,
            "metrics": ["accuracy"],
        },
        kinds,
        images.train,
        images.test,
        {
            "batch_size": size,
            "steps_per_epoch": steps,
            "validation_data": images.validation,
            "validation_batch_size": 1000,
        },
        **own,
    )


def table(problem: str, seed: int) -> Task:
    """A penalty for each column of a small table, and splits drawn anew."""
    data = tabular_problems.load(problem, seed)
    net = tabular_problems.regression(len(data.matters))
    correct = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
    return Task(
        kd.DrMADModel.from_model(net),
        tabular_problems.trained_by() | {"metrics": [correct]},
        [
            kd.hyperparameters.L2(
                "input",
                tabular_problems.INITIAL,
                bounds=tabular_problems.BOUNDS,
            )
        ],
        data.train,
        data.test,
        {"batch_size": 50, "steps_per_epoch": 400, "validation_split": 0.5},
        refit=True,
        grid=[0.03, 0.1, 0.3, 0.6, 1.0, 2.0],
        matters=data.matters,
    )


PROBLEMS = {
    "mnist_1000": lambda data_dir, seed: mnist_penalties(
        data_dir, seed, 1000, [1e-3, 1.6e-3, 2.5e-3, 4e-3, 6.3e-3]
    ),
    "mnist_15000": lambda data_dir, seed: mnist_penalties(
        data_dir, seed, 15000, [1e-6, 1e-5, 3e-5, 1e-4, 1.8e-4, 5.6e-4]
    ),
    "synthetic": lambda _, seed: table("synthetic", seed),
    "cancer": lambda _, seed: table("cancer", seed),
    "noisy_labels": noisy_labels,
    "noisy_labels_short": lambda data_dir, seed: noisy_labels(
        data_dir, seed, 0.5, 0.03, 100, 100
    ),
    "schedule": schedule,
    "cnn": cnn,
    "cnn_single": lambda _, seed: cnn(_, seed, "all"),
    "omniglot": omniglot_sharing,
    "digits": digits_penalties,
}
