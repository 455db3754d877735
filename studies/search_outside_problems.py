"""Problems with many hyperparameters, for `studies/search_outside.py`."""

import dataclasses
from typing import Any

import numpy as np

import keras_drmad as kd
from examples import datasets
from studies import tabular_problems

WRONG = 0.4  # the part of wrong labels


@dataclasses.dataclass
class Problem:
    """What is trained, and which many hyperparameters it has.

    Attributes:
        train: `(x, y)`.
        test: `(x, y)`, held out.
        classes: int.
        penalty: class of the penalties, one an input.
        least: int, of hidden layers.
        validation: arguments of `fit` that say what validates.
        weighs: bool, whether each example has a weight, which is tuned in place
            of the penalties.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: int
    penalty: Any
    least: int
    validation: dict[str, Any]
    weighs: bool = False


def load(
    problem: str,
    dataset: str,
    data_dir: str | None,
    seed: int,
    clean: bool = False,
) -> Problem:
    """Returns a problem.

    Args:
        problem: `"labels"`, `"images"` or `"columns"`.
        dataset: of the images, `"mnist"` or `"digits"`.
        data_dir: as for `datasets.load`.
        seed: int, of the draw.
        clean: bool, whether to train on the clean images of `"labels"` alone.
    """
    half = {"validation_split": 0.5}
    L1, L2 = kd.hyperparameters.L1, kd.hyperparameters.L2
    if problem == "columns":
        table = tabular_problems.load("synthetic", seed)
        return Problem(table.train, table.test, 2, L1, 0, half)
    sizes = {
        ("labels", "mnist"): (1000, 500, 10000),
        ("labels", "digits"): (500, 300, 997),
        ("images", "mnist"): (2000, 0, 10000),
        ("images", "digits"): (600, 0, 1197),
    }
    images = datasets.load(dataset, data_dir, sizes[problem, dataset], seed)
    if problem == "images":
        return Problem(images.train, images.test, 10, L2, 1, half)
    if clean:
        return Problem(images.validation, images.test, 10, L2, 1, half)
    given, _ = images.with_wrong_labels(WRONG, seed + 1)
    train = images.train[0], given
    data = {"validation_data": images.validation}
    return Problem(train, images.test, 10, L2, 1, data, weighs=True)
