"""Draws that are known by their values alone.

A layer of one's own that says `add_weight(initializer="glorot_uniform")` keeps
no initializer, and nobody knows the seed. But random numbers of TensorFlow have
a grain, which no other values have. Of float32 all are made of uniform numbers
u = k 2⁻²³ with whole k, of float64 of k 2⁻⁵².

A uniform draw is low + (high - low) u, rounded. Weights of a shape that hold
such a number in every entry, bit for bit, have not been trained: after the
smallest step about a fifth of float32 numbers fall on the grid by chance.

Normal numbers come in pairs, r sin(2 π u) and r cos(2 π u), by Box and Muller.
So the angles of pairs of neighbors lie on the grid, whatever the scale; those
of truncated normal numbers, too, save where one number of a pair was rejected.
Rounding moves some angles away. More than half are found within a sixteenth of
a grain to both sides, where chance would have an eighth.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# The digits of u, and a type in which a draw can be taken apart.
_GRAIN: dict[str, tuple[int, Any]] = {
    "float32": (23, np.float64),
    "float64": (52, np.longdouble),
}
_FEWEST = 32  # numbers, or pairs of them, below which chance is no witness
_BLOCK = 2**16  # numbers that are looked at together
_NEAR = 1 / 16  # of a grain, to both sides
_SIGMAS = 7  # above chance
_ROW = 256  # pairs in a row, of which
_LEAST = 0.35  # at least lie near the grid: of a draw .6, by chance .125
_CUT = 0.87962566103423978  # deviation of a normal number cut at 2

UNIFORM = (
    keras.initializers.GlorotUniform,
    keras.initializers.HeUniform,
    keras.initializers.LecunUniform,
    keras.initializers.RandomUniform,
)
NORMAL = (
    keras.initializers.RandomNormal,
    keras.initializers.TruncatedNormal,
    keras.initializers.GlorotNormal,
    keras.initializers.HeNormal,
    keras.initializers.LecunNormal,
)
# The scales with which people make normal weights, besides the default.
SCALES = (0.01, 0.02, 0.1, 1.0)


def recognized(value: np.ndarray) -> keras.initializers.Initializer | None:
    """Returns an initializer that a variable's values were drawn by.

    Args:
        value: array, what the variable holds.

    Returns:
        A new initializer of that kind, with a seed that says nothing; `None`
        for values that are no such draw, for fewer than 32 of them, and for
        draws of other kinds: orthogonal ones, or of a scale of one's own.
    """
    if value.dtype.name not in _GRAIN or value.size < _FEWEST:
        return None
    if not np.isfinite(value).all():
        return None
    for kind in UNIFORM:
        initializer = kind(seed=1)
        if _is_uniform(value, initializer):
            return initializer
    if all(map(_is_normal, _blocks(value))):
        return _normal_of_scale(value)
    return None


def _blocks(value: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the values in order; a short rest belongs to the last block."""
    flat = value.ravel()
    count = max(1, flat.size // _BLOCK)
    for k in range(count):
        last = flat.size if k == count - 1 else (k + 1) * _BLOCK
        yield flat[k * _BLOCK : last]


def _is_uniform(value: np.ndarray, initializer: Any) -> bool:
    """Returns whether all values lie on the grid between two bounds."""
    high = _limit(value.shape, initializer)
    return all(_is_on_grid(block, high) for block in _blocks(value))


def _limit(shape: tuple[int, ...], initializer: Any) -> float:
    """Returns the largest value that a uniform initializer may give."""
    if isinstance(initializer, keras.initializers.RandomUniform):
        return initializer.maxval
    return float(np.sqrt(3 * _variance(shape, initializer)))


def _variance(shape: tuple[int, ...], initializer: Any) -> float:
    """Returns the variance of what a `VarianceScaling` gives."""
    field = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
    fan_in = field * shape[-2] if len(shape) > 1 else shape[0]
    fan_out = field * shape[-1]
    fans = {"fan_in": fan_in, "fan_out": fan_out}
    return initializer.scale / fans.get(
        initializer.mode, (fan_in + fan_out) / 2
    )


def _is_on_grid(values: np.ndarray, high: float) -> bool:
    digits, wide = _GRAIN[values.dtype.name]
    # Keras makes float32 of the bounds on their way to TensorFlow.
    low, top = (values.dtype.type(np.float32(b)) for b in (-high, high))
    width = top - low
    steps = np.rint((values.astype(wide) - low) / width * wide(2) ** digits)
    if steps.min() < 0 or steps.max() > 2.0**digits:
        return False
    found = np.zeros(values.shape, bool)
    for near in (-1, 0, 1):
        u = ((steps + near) * wide(2) ** -digits).astype(values.dtype)
        found |= u * width + low == values
    # Numbers of few digits, such as those kept in bfloat16, lie on the grid
    # between round bounds, too: on its even points.
    odd = np.mean(steps % 2)
    return bool(found.all()) and 0.2 < odd < 0.8 and _is_varied(values)


def _is_normal(values: np.ndarray) -> bool:
    """Returns whether more angles of pairs lie on the grid than by chance."""
    digits, wide = _GRAIN[values.dtype.name]
    pairs = values[: values.size // 2 * 2].reshape(-1, 2).astype(wide)
    if len(pairs) < _FEWEST:
        return False
    turn = 8 * np.arctan(wide(1))
    angles = np.arctan2(pairs[:, 0], pairs[:, 1]) % turn
    u = np.rint(angles / turn * wide(2) ** digits) * wide(2) ** -digits
    # The angle is a number of the draw's own type, rounded as such.
    rounded = values.dtype.type(2 * np.pi) * u.astype(values.dtype)
    grains = np.abs(angles - rounded.astype(wide)) / turn * wide(2) ** digits
    near = grains < _NEAR
    by_chance = 2 * _NEAR
    spread = np.sqrt(by_chance * (1 - by_chance) / len(pairs))
    if np.mean(near) < by_chance + _SIGMAS * spread:
        return False
    # A few rows of a table may have been trained, the others not.
    rows = near[: len(near) // _ROW * _ROW].reshape(-1, _ROW)
    return bool(np.all(rows.mean(axis=1) > _LEAST)) and _is_varied(values)


def _is_varied(values: np.ndarray) -> bool:
    """Returns whether nearly all values differ, by more than the sign.

    Zeros of a mask, signs, and tables of a few numbers lie on any grid.
    """
    return np.unique(np.abs(values)).size > 0.9 * values.size


def _normal_of_scale(
    value: np.ndarray,
) -> keras.initializers.Initializer | None:
    """Returns the normal initializer whose scale values have, if one's is."""
    spread = float(np.std(value, dtype=np.float64))
    largest = float(np.abs(value).max())
    doubt = 4 * spread / np.sqrt(2 * value.size)
    fitting = []
    for initializer in _normals():
        is_cut = not isinstance(initializer, keras.initializers.RandomNormal)
        if isinstance(initializer, keras.initializers.VarianceScaling):
            deviation = np.sqrt(_variance(value.shape, initializer))
        else:
            deviation = initializer.stddev * (_CUT if is_cut else 1)
        away = abs(deviation - spread)
        if away < doubt and not (is_cut and largest > 2.001 * deviation / _CUT):
            fitting.append((not is_cut, away, initializer))
    return min(fitting, key=lambda one: one[:2])[2] if fitting else None


def _normals() -> list[Any]:
    """Returns the normal initializers that are known, each of each scale."""
    with_scale = (
        keras.initializers.TruncatedNormal,
        keras.initializers.RandomNormal,
    )
    return [
        *(kind(seed=1) for kind in NORMAL),
        *(kind(stddev=s, seed=1) for kind in with_scale for s in SCALES),
    ]
