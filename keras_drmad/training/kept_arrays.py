"""A user's arrays as tensors, kept from call to call.

Arrays can be changed in place between two calls. So what is kept is compared
with what comes, number by number, before it is used again: that takes a
fraction of the time of checks and copies, and is never stale.
"""

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.training import tables

LIMIT = 2**30  # bytes that are kept, at most
_BLOCK = 2**16  # numbers that are converted or compared together, in the cache
_ALIGNED = 64  # bytes, for tensors that share their memory with an array


class _Kept(NamedTuple):
    """A tensor, and the owner of the memory that it was made of.

    Attributes:
        tensor: `tf.Tensor`, the array's numbers.
        owner: weak reference; where the owner is gone, nothing is kept.
    """

    tensor: tf.Tensor
    owner: weakref.ref


class KeptArrays:
    """Tensors of the arrays that calls are given, each kept for the next call.

    A tensor is kept in memory of its own, next to the user's array, as long as
    the array lives and no other comes in its place; `LIMIT` bytes in all.
    """

    def __init__(self) -> None:
        """Initializes it with nothing."""
        self._kept: dict[tuple, _Kept] = {}

    def tensors(
        self, x: Any, y: Any, sample_weight: Any, argument: str, strings: bool
    ) -> tuple:
        """Returns `(x, y, sample_weight)` as tensors with floats in `floatx`.

        A tensor that was kept, with these very numbers in it, is returned as
        the same object.

        Args:
            x: nested arrays, tables or lists, and so are the others; `None`
                where there is nothing.
            y: as `x`.
            sample_weight: as `x`.
            argument: str, what they came in, for errors.
            strings: bool, whether the model takes strings.

        Raises:
            TypeError: if they hold something else than numbers.
            ValueError: if they are empty, not finite, or of unequal lengths.
        """
        places: dict[str, int] = {}

        def tensor(a: Any, name: str, strings: bool) -> tf.Tensor:
            places[name] = places.get(name, -1) + 1
            key = argument, name, places[name]
            array = tables.examples(a, name, strings=strings)
            kept = self._kept.get(key)
            if kept is not None and _is_same(array, np.asarray(kept.tensor)):
                made = kept.tensor
            else:
                kept = None
                self._kept.pop(key, None)  # free before the next is made
                made = _tensor(array, name)
            self._keep(key, a, made)
            return made

        data = tables.mapped((x, y, sample_weight), argument, strings, tensor)
        tables.check_lengths(data, argument)
        return data

    def _keep(self, key: tuple, a: Any, tensor: tf.Tensor) -> None:
        """Keeps a tensor for as long as the array lives that it was made of."""
        if tensor.dtype == tf.string:
            return
        self._kept.pop(key, None)
        sizes = [_nbytes(kept.tensor) for kept in self._kept.values()]
        if sum(sizes) + _nbytes(tensor) > LIMIT:
            return
        while isinstance(getattr(a, "base", None), np.ndarray):
            a = a.base  # a slice, which is another object each time
        kept = self._kept

        def forget(owner: weakref.ref) -> None:
            if key in kept and kept[key].owner is owner:
                del kept[key]

        try:
            self._kept[key] = _Kept(tensor, weakref.ref(a, forget))
        except TypeError:
            return  # a list, whose end nobody is told of


def _nbytes(tensor: tf.Tensor) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size


def _blocks(array: np.ndarray) -> Iterator[slice]:
    """Yields slices of the first axis, each of some `_BLOCK` numbers."""
    rows = max(1, _BLOCK * len(array) // max(1, array.size))
    for first in range(0, len(array), rows):
        yield slice(first, first + rows)


def _is_same(array: np.ndarray, kept: np.ndarray) -> bool:
    """Returns whether an array in `floatx` has the very bits of another."""
    if array.shape != kept.shape:
        return False
    if tables.in_floatx(array[:0]).dtype != kept.dtype:
        return False
    bits = f"u{kept.dtype.itemsize}"
    return all(
        np.array_equal(
            tables.in_floatx(array[part]).view(bits), kept[part].view(bits)
        )
        for part in _blocks(array)
    )


def _tensor(array: np.ndarray, name: str) -> tf.Tensor:
    """Returns a tensor with a copy of an array, floats in `floatx`.

    Numbers are converted, checked and copied block by block: once through the
    array, with no other copy beside.

    Raises:
        ValueError: if a number is not finite.
    """
    dtype = tables.in_floatx(array[:0]).dtype
    is_plain = dtype.kind in "fiu" and array.size > 0
    if not is_plain or tf.config.list_physical_devices("GPU"):
        array = tables.in_floatx(array)
        tables.check_finite(array, name)
        return tf.convert_to_tensor(array)
    nbytes = array.size * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    copy = memory[start : start + nbytes].view(dtype).reshape(array.shape)
    for part in _blocks(array):
        copy[part] = tables.in_floatx(array[part])
        if not tables.is_finite(copy[part]):
            tables.check_finite(tables.in_floatx(array), name)
    return tf.experimental.dlpack.from_dlpack(copy.__dlpack__())
