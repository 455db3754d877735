"""Minibatches of a walk forward that the walk backward visits again."""

import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_drmad.core.nested import leaves, map_arrays

IN_MEMORY = 256 * 2**20  # bytes


class _Kept(NamedTuple):
    """Consecutive minibatches, stacked.

    Attributes:
        iterations: `(n,)`, those of the minibatches, ascending.
        data: nested arrays `(chunk_size, batch_size, ...)`, or paths of their
            files.
        is_in_files: bool, which of the two.
    """

    iterations: np.ndarray
    data: Any
    is_in_files: bool


class KeptBatches:
    """Stacked minibatches, of which the last ones are taken out first.

    They stay in memory as long as they take no more than `IN_MEMORY` bytes; the
    others are written to temporary files, so that memory does not grow with the
    length of a training.
    """

    def __init__(self) -> None:
        """Initializes them; no file is made yet."""
        self._kept: list[_Kept] = []
        self._nbytes = 0  # in memory
        self._numbers = itertools.count()  # of files
        self._folder = ""
        self._remove_folder: Callable[[], Any] = lambda: None

    def __len__(self) -> int:
        """How many pushed stacks are left."""
        return len(self._kept)

    def iterations(self, first: int) -> np.ndarray:
        """Returns the iterations from a first one on, ascending."""
        kept = [one.iterations for one in self._kept]
        joined = np.concatenate([np.zeros(0, int), *kept])
        return joined[joined >= first]

    def push(self, iterations: np.ndarray, stacked: Any) -> None:
        """Keeps minibatches, those of the last iterations so far.

        Args:
            iterations: `(n,)`, ascending.
            stacked: nested arrays `(chunk_size, batch_size, ...)`.
        """
        nbytes = sum(array.nbytes for array in leaves(stacked))
        is_in_files = self._nbytes + nbytes > IN_MEMORY
        if is_in_files:
            stacked = map_arrays(self._write, stacked)
        else:
            self._nbytes += nbytes
        self._kept.append(_Kept(iterations, stacked, is_in_files))

    def pop(self) -> tuple[np.ndarray, Any]:
        """Returns the minibatches that were pushed last, and lets them go."""
        iterations, stacked, is_in_files = self._kept.pop()
        if is_in_files:
            stacked = map_arrays(_read, stacked)
        else:
            self._nbytes -= sum(array.nbytes for array in leaves(stacked))
        return iterations, stacked

    def close(self) -> None:
        """Lets all of them go, and deletes the temporary files."""
        self._remove_folder()
        self._folder, self._kept, self._nbytes = "", [], 0

    def _write(self, array: np.ndarray) -> str:
        """Writes an array, and returns the path of its file."""
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="keras_drmad_")
            # Also where the walk backward never comes, or ends early.
            self._remove_folder = weakref.finalize(
                self, shutil.rmtree, self._folder, ignore_errors=True
            )
        path = f"{self._folder}/{next(self._numbers)}.npy"
        np.save(path, array)
        return path


def _read(path: str) -> np.ndarray:
    """Returns the array of a file, and deletes the file."""
    array = np.load(path)
    os.remove(path)
    return array
