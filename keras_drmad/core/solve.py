"""Conjugate gradients for a system of linear equations."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_drmad.core import nested


class Solved(NamedTuple):
    """The end of conjugate gradients.

    Attributes:
        q: list of tensors, the solution so far.
        iterations: int, those that were taken.
        residual: float, ‖b − H q‖ / ‖b‖.
        is_solved: bool, whether the residual vanished, to rounding.
    """

    q: list[tf.Tensor]
    iterations: int
    residual: float
    is_solved: bool = False


def solve(product: Callable, b: list[tf.Tensor], iterations: int) -> Solved:
    """Solves H q = b; ends at a direction of no positive curvature.

    Args:
        product: function from a list of tensors p to H p.
        b: list of tensors.
        iterations: int, at most.

    Returns:
        `Solved`. Where even b itself has no positive curvature, q is b.
    """
    q, r, p = nested.zeros_like(b), b, b
    first = squared = _dot(b, b)
    for k in range(iterations):
        if squared <= 1e-20 * first:  # solved, to rounding
            return Solved(q, k, _ratio(squared, first), is_solved=True)
        Hp = product(p)
        curvature = _dot(p, Hp)
        if not curvature > 1e-12 * _dot(p, p):
            return Solved(q if k else b, k, _ratio(squared, first))
        alpha = squared / curvature
        q = _plus(q, alpha, p)
        r = _plus(r, -alpha, Hp)
        squared, before = _dot(r, r), squared
        p = _plus(r, squared / before, p)
    return Solved(q, iterations, _ratio(squared, first))


def _dot(a: list[tf.Tensor], b: list[tf.Tensor]) -> float:
    return float(
        tf.add_n([tf.reduce_sum(x * y) for x, y in zip(a, b, strict=True)])
    )


def _plus(
    a: list[tf.Tensor], factor: float, b: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns a + factor · b; a product takes the factor in the dtype of b."""
    return [x + factor * y for x, y in zip(a, b, strict=True)]


def _ratio(squared: float, first: float) -> float:
    return (squared / first) ** 0.5 if first else 0.0
