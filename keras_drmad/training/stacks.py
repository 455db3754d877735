"""Consecutive minibatches of one shape, stacked to a chunk."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core.nested import leaves
from keras_drmad.core.span import CHUNK_SIZE

CHUNK_BYTES = 64 * 2**20  # of a chunk's stacked batches, at most
ALIGNMENT = 64  # bytes, of the memory of TensorFlow's tensors
SHORT = (50, 100)  # the lengths of chunks of what is no longer


def length(longest: int) -> int:
    """Returns how many batches the chunks of a walk hold at most.

    One of three numbers, as compiled loops are traced for each.

    Args:
        longest: int, the batches between two cuts, at most.
    """
    return next((n for n in SHORT if longest <= n), CHUNK_SIZE)


class Stack:
    """Gathers consecutive batches of one shape and emits them stacked.

    Emits when so many of them as asked for or `CHUNK_BYTES` are gathered, each
    as large as with the longest strings in any, when a batch has another shape
    than the one before, and at `flush`.
    """

    def __init__(self, emit: Callable[[np.ndarray, Any], None], length: int):
        """Initializes the stack.

        Args:
            emit: takes the iterations and the stacked batches, the last one
                repeated until they are as many as a chunk holds.
            length: int, how many it gathers.
        """
        self.emit = emit
        self.length = length
        self.iterations: list[int] = []
        self.batches: list = []
        self._shapes: list = []  # of the arrays of each batch
        self._nbytes: list[int] = []  # of each array, the largest

    def push(self, t: int, batch: Any) -> None:
        """Takes the batch of iteration t."""
        if not self.takes(batch):
            self.flush()
        self.gather(t, batch)
        if len(self.batches) == self._capacity():
            self.flush()

    def takes(self, batch: Any) -> bool:
        """Returns whether a batch goes into one chunk with those gathered."""
        if not self.batches:
            return True
        arrays = leaves(batch)
        if list(map(np.shape, arrays)) != self._shapes:
            return False
        room = capacity(sum(self._largest(arrays)), self.length)
        return len(self.batches) < room

    def gather(self, t: int, batch: Any) -> None:
        """Takes the batch of iteration t, and emits nothing."""
        arrays = leaves(batch)
        if not self.batches:
            self._shapes = list(map(np.shape, arrays))
        self._nbytes = self._largest(arrays)
        self.iterations.append(t)
        self.batches.append(batch)

    def flush(self) -> None:
        """Emits what is gathered, if anything is."""
        if self.batches:
            n = self._capacity()
            stacked = _zip_map(lambda *a: _joined(a, n), self.batches)
            self.emit(np.array(self.iterations), stacked)
        self.iterations, self.batches, self._nbytes = [], [], []

    def _largest(self, arrays: list) -> list[int]:
        """Returns the bytes of each array, the largest with another batch."""
        own = [a.nbytes for a in arrays]
        return list(map(max, own, self._nbytes or own))

    def _capacity(self) -> int:
        return capacity(sum(self._nbytes), self.length)


def capacity(size: int, most: int) -> int:
    """Returns how many batches of a number of bytes a chunk holds."""
    return min(max(1, CHUNK_BYTES // max(size, 1)), most)


def _joined(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Returns arrays along a new first axis, the last one until the end.

    So that a chunk has its full length, and one trace serves all.
    """
    n = len(arrays)
    joined = _empty((length, *arrays[0].shape), np.result_type(*arrays))
    np.stack(arrays, out=joined[:n])
    joined[n:] = joined[n - 1]
    return joined


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an array that a tensor can lie in; see `tensor_in_place`."""
    if dtype.hasobject or dtype.kind not in "biufc":
        return np.empty(shape, dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _zip_map(function: Callable, structures: list):
    return tf.nest.map_structure(
        lambda *a: None if a[0] is None else function(*a), *structures
    )
