"""A hypergradient against the trainings it is to predict."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np


class Direction(NamedTuple):
    """One direction in which the raw hyperparameters were moved.

    Attributes:
        name: str, `"hypergradient"` or `"random"`.
        predicted: float, the change of the validation loss by the gradient.
        actual: float, the change that trainings on both sides show.
    """

    name: str
    predicted: float
    actual: float


class HypergradientCheck(NamedTuple):
    """How far a hypergradient can be trusted; printed, a table and a verdict.

    Attributes:
        directions: list of `Direction`, the hypergradient's own first.
        cosine: float, an estimate of the cosine of its angle to the exact
            hypergradient; rough for few random directions, nan for none.
        verdict: str, `"exact"`, `"right direction and size"`, `"right
            direction"`, `"weak"` (cosine below about 0.4) or `"noise"` (below
            0.1).
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
) -> HypergradientCheck:
    """Compares predicted with actual changes of the validation loss.

    Each direction takes two trainings, at raw values on either side: the
    difference of their losses is compared with that of the linear prediction.

    Args:
        gradients: an array for each variable.
        variables: the raw hyperparameters; they are left as they were.
        loss: trains with the values of the variables, returns the loss.
        directions: int, how many random ones beside the hypergradient.
        length: float, the root mean square distance of the raw values from
            where they are, in each of the two trainings.
        seed: int, from which random directions are drawn.
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
    step = length * count**0.5

    def loss_at(direction, distance):
        for v, x, d in zip(variables, before, direction, strict=True):
            v.assign(x + distance * d)
        return loss()

    rows = []
    try:
        for name, direction in named:
            slope = sum(
                float(np.sum(g * d))
                for g, d in zip(gradients, direction, strict=True)
            )
            actual = loss_at(direction, step) - loss_at(direction, -step)
            rows.append(Direction(name, 2 * step * slope, actual))
    finally:
        for v, x in zip(variables, before, strict=True):
            v.assign(x)
    cosine = _cosine(rows, count)
    return HypergradientCheck(rows, cosine, *_verdict(rows, cosine))


def _cosine(rows: list[Direction], count: int) -> float:
    """Returns an estimate of the cosine to the exact hypergradient g.

    A random unit vector d has E (gᵀd)² = ‖g‖² / n in n dimensions.
    """
    squares = [row.actual**2 for row in rows if row.name == "random"]
    if not squares or rows[0].name == "random":
        return math.nan
    steepest = math.sqrt(count * sum(squares) / len(squares))
    return float(np.clip(rows[0].actual / max(steepest, 1e-30), -1, 1))


def _verdict(rows: list[Direction], cosine: float) -> tuple[str, str]:
    """Returns the verdict and the advice."""
    if not rows or rows[0].name == "random":
        return "noise", "The hypergradient is 0: nothing can be learned by it."
    _, predicted, actual = rows[0]
    largest = max(abs(row.actual) for row in rows)
    errors = [abs(row.actual - row.predicted) for row in rows]
    if max(errors) <= 0.03 * largest:
        return "exact", "All changes are as predicted, to 3 % of the largest."
    if actual <= 0 or cosine < 0.1:
        return "noise", (
            "Following it lowers the loss hardly more than a random step. "
            "Lower the learning rate, or use "
            "`hypergradient=keras_drmad.ReverseMode()`."
        )
    if cosine < 0.4:
        return "weak", (
            "It lowers the loss, far less than another direction would. Use "
            "more anchors, or `hypergradient=keras_drmad.ReverseMode()`."
        )
    if 0.5 <= actual / predicted <= 2:
        return "right direction and size", "Any meta-optimizer will do."
    return "right direction", (
        "Its size is off: use a meta-optimizer that does not depend on it, "
        "such as Adam or `SignDescent`."
    )


def _norm(arrays: Sequence[Any]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(a)) for a in arrays)))
