"""What users keep data in, as NumPy arrays: tables, sparse arrays, strings."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.nested import leaves, map_arrays

PARTS = ("x", "y", "sample_weight", "index")
READS_STRINGS = (
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)
ADVICE = (
    "Encode it as numbers first, with `keras.layers.StringLookup`, "
    "`TextVectorization` or `Hashing`: before `fit`, or in `dataset.map(...)`. "
    "Leave out what the model does not read."
)


def check_lengths(data: Sequence, argument: str) -> None:
    """Checks that all arrays have equally many examples, and at least one.

    Args:
        data: `(x, y, sample_weight)`, nested arrays.
        argument: str, what they came in.

    Raises:
        ValueError: if they have not.
    """
    named = zip(PARTS, data, strict=False)
    sizes = [(name, len(a)) for name, part in named for a in leaves(part)]
    others = [name for name, size in sizes if size != sizes[0][1]]
    if others:
        each = dict.fromkeys(f"{size} in `{name}`" for name, size in sizes)
        raise ValueError(
            "Invalid value for argument "
            f"`{others[0] if argument == 'x' else argument}`. Expected the "
            "same number of examples in all arrays of inputs, targets and "
            f"weights. Received: {', '.join(each)}."
        )
    if not sizes or sizes[0][1] == 0:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected at least one "
            "example. Received: an empty data set."
        )


def checked(data: Sequence, argument: str, strings: bool) -> tuple:
    """Returns the parts of data as finite arrays, floats in `floatx`."""

    def finite(a: Any, name: str, strings: bool) -> np.ndarray:
        array = in_floatx(examples(a, name, strings=strings))
        check_finite(array, name)
        return array

    return mapped(data, argument, strings, finite)


def mapped(
    data: Sequence, argument: str, strings: bool, function: Callable
) -> tuple:
    """Returns what a function makes of each array of the parts of data.

    Args:
        data: `(x, y, sample_weight)`, or more, nested arrays.
        argument: str, what they came in.
        strings: bool, whether the model takes strings.
        function: takes an array, its name for errors, and whether it may hold
            strings.
    """
    own = PARTS[: len(data)]
    names = own if argument == "x" else (argument,) * len(own)
    return tuple(
        map_named(
            lambda a, name, is_x=k == 0: function(a, name, strings and is_x),
            part,
            name,
        )
        for k, (part, name) in enumerate(zip(data, names, strict=True))
    )


def check_finite(array: np.ndarray, argument: str) -> None:
    """Checks that an array holds neither nan nor inf.

    Raises:
        ValueError: if it does.
    """
    if not is_finite(array):
        rest = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected finite "
            f"numbers. Received: {int((~rest).sum())} of {len(array)} examples "
            f"with nan or inf, the first at index {int(np.argmin(rest))}. "
            "Remove or replace them."
        )


def is_finite(array: np.ndarray) -> bool:
    """Returns whether an array holds neither nan nor inf."""
    # A sum takes no memory, and is finite only if all numbers are.
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(array.sum()):
            return True
    return bool(np.isfinite(array).all())


def examples(a: Any, name: str, *, strings: bool) -> np.ndarray:
    """Returns `as_array`, with an axis of examples.

    Raises:
        TypeError: as `as_array`.
        ValueError: if it is a single number.
    """
    array = as_array(a, name, strings=strings)
    if array.ndim == 0:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected arrays with "
            "the examples on the first axis. Received: a single number. "
            "Convert lists with `np.array(...)`, and batch data sets with "
            "`.batch(...)`."
        )
    return array


def in_floatx(array: np.ndarray) -> np.ndarray:
    """Returns an array with floats in `floatx`, and bytes in our order."""
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # `check_finite` finds it, in words
        return array.astype(keras.config.floatx(), copy=False)


def takes_strings(model: keras.Model) -> bool:
    """Returns whether a model has an input or a layer for strings."""
    try:
        inputs = tf.nest.flatten(model.inputs)
    except AttributeError:
        inputs = []  # a subclassed model
    return any(getattr(x, "dtype", "") == "string" for x in inputs) or any(
        isinstance(layer, READS_STRINGS)
        for layer in keras_internals.layers_within(model)
    )


def map_named(function: Callable, data: Any, name: str) -> Any:
    """Applies a function of array and name to every array of a structure.

    Args:
        function: takes an array, and the name of its part of the data.
        data: nested arrays, `None` where there is nothing.
        name: str, the argument; features of a dict are named `x['feature']`.
    """
    if type(data) is dict:
        return {
            key: map_named(function, part, f"{name}[{key!r}]")
            for key, part in data.items()
        }
    return map_arrays(lambda a: function(a, name), data)


def as_array(a: Any, name: str, *, strings: bool = False) -> np.ndarray:
    """Returns an array of numbers, or of bytes in the place of strings.

    Args:
        a: an array, a tensor, a table or a column of pandas, a sparse array of
            SciPy or TensorFlow.
        name: str, what it is called in errors.
        strings: bool, whether the model takes strings.

    Raises:
        TypeError: if it holds something else.
    """
    pandas, sparse = (sys.modules.get(n) for n in ("pandas", "scipy.sparse"))
    if pandas and isinstance(a, pandas.DataFrame):
        return _of_table(a, name, strings=strings)
    if pandas and isinstance(a, pandas.Series):
        return as_array(_of_column(a), name, strings=strings)
    if sparse and sparse.issparse(a):
        a = a.toarray()
    elif isinstance(a, tf.SparseTensor):
        a = tf.sparse.to_dense(a)
    elif isinstance(a, tf.RaggedTensor):
        raise _refusal(
            name,
            "a ragged tensor",
            "Pad it first: `ragged.to_tensor()`, with a mask in the model.",
        )
    array = np.asarray(a)
    if array.dtype.kind == "O":
        array = _of_objects(array)
    if array.dtype == tf.bfloat16.as_numpy_dtype:  # no number to NumPy
        array = array.astype("float32")
    if array.dtype.kind in "fiub":
        return array
    sequences = (list, tuple, np.ndarray)
    if array.dtype.kind == "O" and any(
        isinstance(one, sequences) for one in array.flat
    ):
        raise _refusal(
            name,
            "an array of sequences of different lengths",
            "Pad them first: `keras.utils.pad_sequences(...)`, with a mask in "
            "the model.",
        )
    if array.dtype.kind not in "SU":
        raise _refusal(name, f"an array of dtype {array.dtype}", ADVICE)
    if not strings:
        raise _refusal(
            name, f"strings, an array of dtype {array.dtype}", ADVICE
        )
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array


def _of_table(table: Any, name: str, *, strings: bool) -> np.ndarray:
    """Returns the columns of a `pandas.DataFrame`, side by side."""
    columns = [
        as_array(
            _of_column(table.iloc[:, k]), f"{name}[{key!r}]", strings=strings
        )
        for k, key in enumerate(table.columns)
    ]
    if not columns:
        return np.zeros((len(table), 0))
    kinds = {column.dtype.kind == "S" for column in columns}
    if len(kinds) > 1:
        raise _refusal(
            name,
            "a table with both strings and numbers",
            "Pass a dict of columns, one for each input of the model: "
            "`dict(table)`.",
        )
    return np.stack(columns, axis=1)


def _of_column(column: Any) -> Any:
    """Returns a `pandas.Series` as an array, a missing number as nan."""
    if not hasattr(column.dtype, "na_value"):
        return np.asarray(column)
    if getattr(column.dtype, "kind", "O") not in "fiub":  # strings
        return np.asarray(column, dtype=object)
    if column.isna().any():
        return column.to_numpy(dtype="float64", na_value=np.nan)
    return column.to_numpy(dtype=column.dtype.numpy_dtype)


def _of_objects(array: np.ndarray) -> np.ndarray:
    """Returns an array of Python objects as numbers or strings, if it can be.

    Strings of digits stay strings.
    """
    kinds = {type(one) for one in array.flat}
    if kinds and all(issubclass(kind, (str, bytes)) for kind in kinds):
        texts = [
            one if isinstance(one, bytes) else one.encode()
            for one in array.flat
        ]
        return np.array(texts, "S").reshape(array.shape)
    if any(issubclass(kind, (str, bytes)) for kind in kinds):
        return array
    try:
        return np.array(array.tolist())
    except (TypeError, ValueError):
        return array


def _refusal(name: str, received: str, advice: str) -> TypeError:
    return TypeError(
        f"Invalid type for argument `{name}`. Expected arrays of numbers. "
        f"Received: {received}. {advice}"
    )
