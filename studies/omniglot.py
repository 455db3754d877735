"""Drawings of the characters of some alphabets, upright and turned.

Lake, Salakhutdinov, Tenenbaum, *Human-level concept learning through
probabilistic program induction*, Science 2015.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

FILE = "omniglot28.npz"
DRAWERS = 15  # the first 15 of 20 people, as in the papers' data
CLASSES = 55  # characters of the largest alphabet


class Drawings(NamedTuple):
    """One drawing of each character by each person.

    A task is to tell the characters of one alphabet apart. Of n alphabets,
    tasks 0 to n - 1 show them upright, n to 2 n - 1 turned by 90 degrees.

    Attributes:
        images: `(15, characters, pixels)`, in [0, 1] minus the mean image.
        labels: `(characters,)`, classes in [0, 55).
        counts: list of int, the characters of each task.
        tasks: list of str, names.
    """

    images: np.ndarray
    labels: np.ndarray
    counts: list[int]
    tasks: list[str]


def load(data_dir: str | None, alphabets: list[str], seed: int) -> Drawings:
    """Loads alphabets, and a copy of each that is turned by 90 degrees.

    As in Maclaurin et al. 2015, the characters of an alphabet are given classes
    drawn out of 55, the same for both of its tasks.

    Args:
        data_dir: the folder with `omniglot28.npz`; by default the environment
            variable `KERAS_DRMAD_DATA`.
        alphabets: names, or how they begin.
        seed: int, of the classes.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if an alphabet is.
    """
    arrays = _read(data_dir)
    names = arrays["alphabet_names"].tolist()
    random = np.random.default_rng(seed)
    upright, labels, tasks = [], [], []
    for begin in alphabets:
        found = [k for k, name in enumerate(names) if name.startswith(begin)]
        if len(found) != 1:
            raise ValueError(
                f"Invalid alphabet. Expected the beginning of one of {names}. "
                f"Received: {begin!r}."
            )
        upright.append(_drawings(arrays, found[0]))
        labels.append(random.permutation(CLASSES)[: upright[-1].shape[1]])
        tasks.append(begin)
    turned = [np.rot90(images, axes=(2, 3)) for images in upright]
    images = np.concatenate([*upright, *turned], axis=1).astype("float32") / 255
    images = images.reshape(*images.shape[:2], -1)
    return Drawings(
        images - images.mean(axis=(0, 1)),
        np.concatenate(2 * labels).astype("int32"),
        2 * [len(classes) for classes in labels],
        [*tasks, *(f"{name}, turned" for name in tasks)],
    )


def split(
    images: np.ndarray, count: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws `count` drawings of each character, and returns them and the rest.

    Args:
        images: `(drawings, characters, pixels)`.
        count: int.
        seed: list of int.
    """
    random = np.random.default_rng(seed)
    order = np.argsort(random.random(images.shape[:2]), axis=0)
    shuffled = np.take_along_axis(images, order[:, :, None], axis=0)
    return shuffled[:count], shuffled[count:]


def _read(data_dir: str | None) -> dict[str, np.ndarray]:
    folder = data_dir or os.environ.get("KERAS_DRMAD_DATA", "")
    path = pathlib.Path(folder, FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Pass the folder of {FILE} by "
            "`--data_dir=FOLDER` or the environment variable KERAS_DRMAD_DATA. "
            "It is made of the images of https://github.com/brendenlake/omniglot"
            ": `images` (n, 28, 28) uint8 with ink 255; `alphabet`, `character`"
            " and `drawer` (n,), integers from 0, 0 and 1; and "
            "`alphabet_names`."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _drawings(arrays: dict[str, np.ndarray], alphabet: int) -> np.ndarray:
    """Returns an alphabet's images, `(drawers, characters, height, width)`."""
    chosen = (arrays["alphabet"] == alphabet) & (arrays["drawer"] <= DRAWERS)
    order = np.lexsort((arrays["character"][chosen], arrays["drawer"][chosen]))
    images = arrays["images"][chosen][order]
    return images.reshape(DRAWERS, -1, *images.shape[1:])
