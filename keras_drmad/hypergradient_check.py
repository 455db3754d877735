"""A hypergradient against the trainings that the hypergradient predicts."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

ADVICE_IF_EXACT = (
    "The method is exact, so the loss is far from linear at this `length`, or "
    "has no derivative in places: try a smaller `length`, float64, a lower "
    "learning rate of training, or smooth activations."
)


class Direction(NamedTuple):
    """One direction in which the raw hyperparameters were moved.

    Attributes:
        name: str, `"hypergradient"` or `"random"`.
        predicted: float, the change of the validation loss from one side to
            the other, by the hypergradient.
        actual: float, the same change, by a training on each side.
        distance: float, between the two sides, of all raw values together.
    """

    name: str
    predicted: float
    actual: float
    distance: float


class HypergradientCheck(NamedTuple):
    """How far a hypergradient can be trusted; prints as a table and a verdict.

    Attributes:
        directions: list of `Direction`, the hypergradient's own first.
        cosine: float, an estimate of the cosine of the angle to the exact
            hypergradient; rough for few random directions, nan without any.
        verdict: str, `"exact"`, `"right direction and size"`, `"right
            direction"`, `"weak"` (cosine below about 0.4), `"noise"` (below
            0.1) or `"too small to measure"`.
        advice: str, a sentence on what to do.
    """

    directions: list[Direction]
    cosine: float
    verdict: str
    advice: str

    def __str__(self) -> str:
        lines = ["direction       predicted change    actual change"]
        lines += [
            f"{d.name:14} {d.predicted:17.3e} {d.actual:16.3e}"
            for d in self.directions
        ]
        lines.append(f"cosine to the exact one, about {self.cosine:.2f}")
        return "\n".join([*lines, f"Verdict: {self.verdict}. {self.advice}"])


def check(
    gradients: Sequence[np.ndarray],
    variables: Sequence[keras.Variable],
    loss: Callable[[], float],
    directions: int,
    length: float,
    seed: int,
    size: float,
    *,
    is_exact: bool = False,
) -> HypergradientCheck:
    """Compares predicted with actual changes of the validation loss.

    Each direction takes two trainings, with raw values on both sides of the
    present ones: the difference of their losses is compared with the difference
    by the linear prediction.

    Args:
        gradients: an array for each variable, the hypergradient.
        variables: the raw hyperparameters, which are left as they were.
        loss: trains with the values of the variables, and returns the loss.
        directions: int, the number of random directions, beside the
            hypergradient's.
        length: float, the root mean square distance of the raw values from the
            present ones, in each of the two trainings; less where one value
            alone would move ten times as far.
        seed: int, from which random directions are drawn.
        size: float, the present loss, for the size of rounding errors.
        is_exact: bool, whether the method is, as far as there are derivatives.
    """
    generator = np.random.default_rng(seed)
    before = [np.array(v) for v in variables]
    count = sum(v.size for v in before)
    norm = _norm(gradients)
    named: list[tuple[str, list[np.ndarray]]] = []
    if norm > 0:
        named.append(("hypergradient", [g / norm for g in gradients]))
    for _ in range(directions):
        drawn = [generator.normal(size=v.shape) for v in before]
        named.append(("random", [d / _norm(drawn) for d in drawn]))

    def loss_at(direction, distance):
        for v, x, d in zip(variables, before, direction, strict=True):
            v.assign(x + distance * d)
        return loss()

    rows = []
    try:
        for name, direction in named:
            largest = max(float(np.abs(d).max()) for d in direction)
            step = min(length * count**0.5, 10 * length / largest)
            slope = sum(
                float(np.sum(g * d))
                for g, d in zip(gradients, direction, strict=True)
            )
            actual = loss_at(direction, step) - loss_at(direction, -step)
            rows.append(Direction(name, 2 * step * slope, actual, 2 * step))
    finally:
        for v, x in zip(variables, before, strict=True):
            v.assign(x)
    cosine = _cosine(rows, count)
    noise = 20 * np.finfo(keras.config.floatx()).eps * abs(size)
    verdict, advice = _verdict(rows, cosine, noise)
    if is_exact and verdict in ("noise", "weak", "right direction"):
        advice = ADVICE_IF_EXACT
    return HypergradientCheck(rows, cosine, verdict, advice)


def _cosine(rows: list[Direction], count: int) -> float:
    """Returns an estimate of the cosine to the exact hypergradient g.

    With u the direction of the hypergradient, g is (gᵀu) u and a rest r that
    is orthogonal to u: what a random unit vector d sees of r is gᵀd − gᵀu uᵀd,
    and in n dimensions E (rᵀd)² = ‖r‖² / n. Where all changes are as
    predicted, r is 0 and the cosine 1, for any number of directions.
    """
    first, *others = rows
    if first.name == "random" or not others:
        return math.nan
    slope, norm = (
        first.actual / first.distance,
        first.predicted / first.distance,
    )
    rests = [
        (row.actual - slope / norm * row.predicted) / row.distance
        for row in others
    ]
    across = count * sum(x**2 for x in rests) / len(rests)
    return float(slope / max(math.sqrt(slope**2 + across), 1e-300))


def _is_as_predicted(rows: list[Direction]) -> bool:
    """Returns whether the actual changes are as predicted, to 3 %."""
    errors = [row.actual - row.predicted for row in rows]
    actual = [row.actual for row in rows]
    return bool(np.linalg.norm(errors) <= 0.03 * np.linalg.norm(actual))


def _verdict(
    rows: list[Direction], cosine: float, noise: float
) -> tuple[str, str]:
    """Returns the verdict and the advice of a `HypergradientCheck`."""
    is_zero = rows[0].name == "random"
    if is_zero and max(abs(row.actual) for row in rows) >= noise:
        return "noise", (
            "The hypergradient is 0, but the loss changes: no derivative "
            "arrives. Look for steps without one, such as rounding or "
            "`stop_gradient`, between the hyperparameters and the loss."
        )
    (_, predicted, actual, _), *others = rows
    if max(abs(row.actual) for row in rows) < noise:
        return "too small to measure", (
            "The validation loss hardly depends on these hyperparameters near "
            "their present values. Try a greater `length`, or float64."
        )
    # Random directions apart: these alone could prove a hypergradient wrong.
    if _is_as_predicted(rows[:1]) and _is_as_predicted(others):
        return "exact", "All changes are as predicted, to 3 % of their size."
    if actual <= 0 or cosine < 0.1:
        return "noise", (
            "A step along the hypergradient lowers the loss hardly more than a "
            "random step. Lower the learning rate of training, or use "
            "`hypergradient=keras_drmad.ReverseMode()` in place of another "
            "method."
        )
    if cosine < 0.4:
        return "weak", (
            "A step along the hypergradient lowers the loss, but far less than "
            "a step in another direction would. Use more anchors, or "
            "`hypergradient=keras_drmad.ReverseMode()`."
        )
    if 0.5 <= actual / predicted <= 2:
        return "right direction and size", "Any meta-optimizer will do."
    return "right direction", (
        "The size of the hypergradient is wrong: use a meta-optimizer that "
        "does not depend on the size, such as Adam or `SignDescent`."
    )


def _norm(arrays: Sequence[Any]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(a)) for a in arrays)))
