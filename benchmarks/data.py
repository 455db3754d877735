"""Data for timing: MNIST, or noise of its shape."""

import os
import pathlib

import numpy as np
from absl import flags

from examples import datasets

flags.disclaim_key_flags()  # they belong to the program that asks for them


def define_flags() -> None:
    """Defines the flag that says where the data are."""
    flags.DEFINE_string(
        "data_dir",
        os.environ.get("KERAS_DRMAD_DATA"),
        "Folder with mnist.npz; KERAS_DRMAD_DATA by default.",
    )


def images(data_dir: str | None, validation: int = 5000) -> datasets.Images:
    """Returns 15,000 images for training, and some for validation.

    Args:
        data_dir: the folder with `mnist.npz`; noise without such a file.
        validation: int, how many.
    """
    sizes = 15000, validation, 1
    if data_dir and pathlib.Path(data_dir, "mnist.npz").is_file():
        return datasets.load("mnist", data_dir, sizes, 0)
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 0.5, (sum(sizes), 784)).astype("float32")
    y = random.integers(0, 10, sum(sizes)).astype("int32")
    train, held_out, test = (
        (x[part], y[part])
        for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2])
    )
    mean = np.zeros(784, "float32")
    return datasets.Images(train, held_out, test, (28, 28), 10, mean)
