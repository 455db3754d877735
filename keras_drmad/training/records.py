"""Nested structures of tensors, as JSON and bytes that give the same bits."""

import importlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

PACKAGE = __package__.partition(".")[0]


class Damaged(Exception):
    """A file that does not hold what was written into it."""


class Blob(NamedTuple):
    """Where a file has the bytes of an array.

    Attributes:
        begin: int, the first byte.
        size: int, the number of bytes.
        checksum: int, CRC-32 of the bytes.
        dtype: str, TensorFlow's name.
        shape: list of int.
    """

    begin: int
    size: int
    checksum: int
    dtype: str
    shape: list[int]


def encoded(value: Any, write: Callable[[memoryview], int]) -> Any:
    """Returns a structure as JSON takes it.

    Args:
        value: numbers, strings, `None`, arrays and tensors, in lists, tuples,
            dicts and named tuples of this package, at any depth.
        write: function that writes bytes, and returns where they begin.

    Raises:
        TypeError: if there is something else in the structure.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encoded(one, write) for one in value]
    if isinstance(value, dict):
        pairs = [[k, encoded(one, write)] for k, one in value.items()]
        return {"is": "dict", "of": pairs}
    if isinstance(value, tuple):
        of = [encoded(one, write) for one in value]
        if not hasattr(value, "_fields"):
            return {"is": "tuple", "of": of}
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"is": "record", "name": name, "of": of}
    if tf.is_tensor(value):
        return {"is": "tensor", "of": _blob(value.numpy(), value.dtype, write)}
    if isinstance(value, (np.ndarray, np.generic)):
        is_array = isinstance(value, np.ndarray)
        blob = _blob(np.asarray(value), tf.as_dtype(value.dtype), write)
        return {"is": "array" if is_array else "number", "of": blob}
    raise TypeError(f"A backup has no place for {value!r}.")


def decoded(code: Any, read: Callable[[int, int], bytes]) -> Any:
    """Returns the structure of which `encoded` made JSON.

    Args:
        code: what `encoded` returned.
        read: function that returns bytes, given the first one and their number.

    Raises:
        Damaged: if bytes are not those that were written.
    """
    if isinstance(code, list):
        return [decoded(one, read) for one in code]
    if not isinstance(code, dict):
        return code
    of = code["of"]
    if code["is"] == "dict":
        return {k: decoded(one, read) for k, one in of}
    if code["is"] == "tuple":
        return tuple(decoded(one, read) for one in of)
    if code["is"] == "record":
        return _record(code["name"])(*(decoded(one, read) for one in of))
    array = _array(Blob(*of), read)
    if code["is"] == "tensor":
        return tf.constant(array)
    return array[()] if code["is"] == "number" else array


def _blob(
    array: np.ndarray, dtype: tf.DType, write: Callable[[memoryview], int]
) -> Blob:
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    data = memoryview(flat)
    begin = write(data)
    return Blob(
        begin, data.nbytes, zlib.crc32(data), dtype.name, list(array.shape)
    )


def _array(blob: Blob, read: Callable[[int, int], bytes]) -> np.ndarray:
    data = read(blob.begin, blob.size)
    if len(data) != blob.size or zlib.crc32(data) != blob.checksum:
        raise Damaged("other bytes than were written")
    dtype = tf.as_dtype(blob.dtype).as_numpy_dtype
    return np.frombuffer(bytearray(data), dtype).reshape(blob.shape)


def _record(name: str) -> Any:
    """Returns a named tuple of this package by its name.

    Raises:
        Damaged: if there is none.
    """
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] == PACKAGE:
        found = getattr(importlib.import_module(module), qualname, None)
        if isinstance(found, type) and hasattr(found, "_fields"):
            return found
    raise Damaged(f"an unknown record {name!r}")
