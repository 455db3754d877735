"""What a tuning found, as a table of pandas: a row for each entry."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_drmad import results
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.results import Result

FIXED = ("name", "kind", "layer", "weight", "entry")
NUMBERS = ("start", "value", "start_raw", "raw", "moved")
AT = ("", "low", "high")


def table(model: Any) -> Any:
    """Returns what `DrMADModel.to_dataframe` returns.

    Whole columns are made at once: a million entries take about a second.

    Args:
        model: a `DrMADModel` that was tuned.

    Raises:
        ImportError: if there is no pandas.
        ValueError: if the model was not tuned.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "`to_dataframe` needs pandas. Run `pip install pandas`, or "
            "`pip install keras_drmad[table]`."
        ) from error

    found = results.of_model(model)
    parts = [one.kind.parts() for one in found]
    axes = list(
        dict.fromkeys(axis for own in parts for p in own for axis in p.axes)
    )
    columns: dict[str, list] = {}
    for one, own in zip(found, parts, strict=True):
        for name, column in _columns(one, own, axes, pd).items():
            columns.setdefault(name, []).append(column)
    return pd.DataFrame({k: _joined(v, pd) for k, v in columns.items()})


def _columns(
    one: Result, parts: Sequence[Part], axes: Sequence[str], pd: Any
) -> dict[str, Any]:
    """Returns the columns of one hyperparameter, as arrays."""
    size = one.kind.count

    def text(words: Sequence[str], codes: np.ndarray) -> Any:
        names = list(dict.fromkeys(words))
        numbers = np.array([names.index(word) for word in words])
        return pd.Categorical.from_codes(numbers[codes], names)

    alike = np.zeros(size, int)
    part_of = np.zeros(size, int)
    for number, part in enumerate(parts):
        part_of[part.entries] = number
    columns = {
        "name": text([one.name], alike),
        "kind": text([type(one.kind).__name__], alike),
        "layer": text([part.layer for part in parts], part_of),
        "weight": text([part.weight for part in parts], part_of),
        "entry": np.arange(size),
    }
    for axis in axes:
        taken = axis in (*FIXED, *NUMBERS)
        numbers = _along(axis, parts, size)
        columns[f"{axis}_axis" if taken else axis] = _whole(numbers, pd)
    for name in NUMBERS:
        array = np.broadcast_to(getattr(one, name), one.raw.shape)
        columns[name] = array.ravel()
    missing = np.full(size, np.nan)
    for name in ("certainty", "votes"):
        told = getattr(one, name)
        columns[name] = missing if told is None else np.ravel(told)
    certain = one.is_certain
    columns["is_certain"] = pd.array(
        np.zeros(size, bool) if certain is None else np.ravel(certain),
        dtype="boolean",
    )
    if certain is None:
        columns["is_certain"][:] = pd.NA
    low, high = one.kind.bounds
    columns["low"], columns["high"] = np.full(size, low), np.full(size, high)
    at = np.where(one.is_at_low, 1, np.where(one.is_at_high, 2, 0))
    columns["at_bound"] = pd.Categorical.from_codes(np.ravel(at), AT)
    return columns


def _along(axis: str, parts: Sequence[Part], size: int) -> np.ndarray:
    """Returns where on an axis each entry is, nan where not on it."""
    found = np.full(size, np.nan)
    for part in parts:
        if axis in part.axes:
            k = part.axes.index(axis)
            numbers = np.arange(part.entries.shape[k])
            if k == 0 and part.places is not None:
                numbers = part.places
            rest = [1] * (part.entries.ndim - k - 1)
            found[part.entries] = numbers.reshape(-1, *rest)
    return found


def _whole(numbers: np.ndarray, pd: Any) -> Any:
    """Returns numbers that may be missing; as integers where all are whole."""
    missing = np.isnan(numbers)
    there = np.where(missing, 0, numbers)
    if np.all(there == np.round(there)):
        return pd.arrays.IntegerArray(there.astype("int64"), missing)
    return pd.arrays.FloatingArray(there, missing)


def _joined(columns: list, pd: Any) -> Any:
    """Returns one column of those of all hyperparameters."""
    if isinstance(columns[0], pd.Categorical):
        return pd.api.types.union_categoricals(columns)
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return pd.concat([pd.Series(c) for c in columns], ignore_index=True)
