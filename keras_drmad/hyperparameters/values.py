"""Values of hyperparameters: their bounds, their range, their raw numbers.

A range is open, and comes with the transform; bounds are closed, lie within the
range, and come from the user. At an end without a bound, the bound is the end
of the range.
"""

import math
from typing import Any, Protocol

import numpy as np

# The name of the variable of a `layers.LearnedValue`, by which training knows a
# value that it reads and that `compile` did not find.
RAW = "learned_value_raw"
STILL = 0.05  # natural units: what moved less did not move
NEAR = 1e-3  # natural units: what is nearer to a bound is at the bound


class Range(Protocol):
    """The range of a `Transform`, and its raw numbers."""

    lowest: float
    highest: float

    def raw(self, value: float) -> float:
        """Returns the raw number of a value; see `Transform.raw`."""


def raw_of(
    value: np.ndarray, bounds: tuple[float, float], transform: Range
) -> np.ndarray:
    """Returns the raw numbers of values; nan where a value is out of bounds.

    At an end of the range the raw number is infinite. A value at a bound may
    have been rounded to float32, as that of a raw number which was clipped, and
    may then be on the other side: it counts as the bound.

    Args:
        value: array of values.
        bounds: `(lowest, highest)` value.
        transform: from raw numbers to values.
    """
    lowest, highest = bounds
    slack = 4 * float(np.finfo("float32").eps)
    inside = value >= lowest - slack * abs(lowest)
    inside &= value <= highest + slack * abs(highest)
    within = np.clip(value, lowest, highest)
    to_raw = np.vectorize(transform.raw, otypes=[float])
    # `np.where` computes both sides: values outside need a harmless stand-in.
    return np.where(
        inside, to_raw(np.where(inside, within, _middle(transform))), np.nan
    )


def off_the_ends(value: np.ndarray, transform: Range) -> np.ndarray:
    """Returns values with the next number inside in the place of a range's end.

    An end has no raw number. But floats round a value near an end to the end:
    in float32 a sigmoid is 1 from a raw number of 17 on.

    Args:
        value: array of floats, values that a transform may have given.
        transform: from raw numbers to values.
    """
    ends = transform.lowest, transform.highest
    low, high = (value.dtype.type(end) for end in ends)
    tiny = np.finfo(value.dtype).tiny
    for end, other in ((low, high), (high, low)):
        if np.isfinite(end):
            inside = (
                np.nextafter(end, other) if end else np.copysign(tiny, other)
            )
            value = np.where(value == end, inside, value)
    return value


def are_at_bounds(
    raw: np.ndarray, raw_bounds: tuple[float, float], unit: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which raw numbers are at the lower bound, and which at the upper.

    Args:
        raw: array of raw numbers.
        raw_bounds: the raw numbers of the bounds, infinite where there is none.
        unit: natural unit of the raw numbers, or one for each of these.
    """
    near = NEAR * np.broadcast_to(unit, raw.shape)
    lowest, highest = raw_bounds
    return raw - lowest < near, highest - raw < near


def room(
    raw: np.ndarray, raw_bounds: tuple[float, float], unit: float | np.ndarray
) -> float:
    """Returns how far any raw number can move within bounds, in its units.

    Args:
        raw: array of raw numbers.
        raw_bounds: as for `are_at_bounds`.
        unit: natural unit of the raw numbers, or one for each of these.
    """
    lowest, highest = raw_bounds
    return float(np.max(np.maximum(raw - lowest, highest - raw) / unit))


def checked_initial(
    initial: Any, bounds: tuple[float, float], transform: Range
) -> float | np.ndarray:
    """Returns the argument `initial`, as a float or as an array of floats.

    Args:
        initial: what was received.
        bounds: `(lowest, highest)` value.
        transform: from raw numbers to values.

    Raises:
        TypeError: if `initial` is not a number or an array of numbers.
        ValueError: if a number is out of bounds or out of the range.
    """
    array = np.asarray(initial)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            "Invalid type for argument `initial`. Expected a number or an "
            f"array of numbers. Received: initial={initial!r}."
        )
    if not np.isfinite(raw_of(array.astype(float), bounds, transform)).all():
        raise ValueError(
            "Invalid value for argument `initial`. Expected finite numbers "
            f"{range_in_words(bounds, transform)}. "
            f"Received: initial={initial!r}."
        )
    return array.astype(float) if array.ndim else float(array)


def range_in_words(bounds: tuple[float, float], transform: Range) -> str:
    """Returns which values are allowed, in words.

    Args:
        bounds: `(lowest, highest)` value.
        transform: from raw numbers to values.
    """
    low, high = transform.lowest, transform.highest
    words = [f"above {low:g}"] if math.isfinite(low) else []
    words += [f"below {high:g}"] if math.isfinite(high) else []
    words.append(f"within the bounds [{bounds[0]}, {bounds[1]}]")
    return " and ".join(words)


def checked_bounds(bounds: Any, transform: Range) -> tuple[float, float]:
    """Returns the argument `bounds` as two numbers.

    Args:
        bounds: what was received: `None`, or a pair of numbers or `None`.
        transform: from raw numbers to values.

    Raises:
        ValueError: if `bounds` is not an increasing pair within the range.
    """
    low, high = transform.lowest, transform.highest
    try:
        first, last = (None, None) if bounds is None else bounds
        lowest = low if first is None else float(first)
        highest = high if last is None else float(last)
        valid = low <= lowest < highest <= high
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "Invalid value for argument `bounds`. Expected `None` or a pair "
            "(lowest, highest) of numbers with "
            f"{low:g} <= lowest < highest <= {high:g}, either of which may be "
            f"`None`. Received: bounds={bounds!r}."
        )
    return lowest, highest


def given_bounds(
    bounds: tuple[float, float], transform: Range
) -> list[float | None]:
    """Returns bounds as a user gives them: `None` for an end of the range.

    Args:
        bounds: `(lowest, highest)` value.
        transform: from raw numbers to values.
    """
    ends = transform.lowest, transform.highest
    return [
        None if bound == end else bound
        for bound, end in zip(bounds, ends, strict=True)
    ]


def _middle(transform: Range) -> float:
    """Returns a value inside of the range, away from its ends."""
    low, high = transform.lowest, transform.highest
    if math.isfinite(low):
        return (low + high) / 2 if math.isfinite(high) else low + 1
    return high - 1 if math.isfinite(high) else 0.0
