"""A derivative against differences of the function itself, in one direction."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core.derivatives import vjp
from keras_drmad.keras_internals import without_rewriting

# By dtype: the lengths of steps, relative to the values; the error up to which
# both agree, relative to the difference; and the part of the largest slope up
# to which others count less, as rounding alone may have moved them. A net with
# kinks (ReLU, max pooling) has a gradient that jumps, which only steps do not
# meet that are too short for other numbers than float64.
STEPS = {"float64": (1e-6, 1e-8, 1e-4), "other": (3e-3, 3e-4, 3e-2)}
TOLERANCES = {"float64": 3e-3, "other": 1.5}
FLOORS = {"float64": 1e-3, "other": 3e-2}
MOST_OUTPUTS = 4096


class Verdict(NamedTuple):
    """What differences said.

    Attributes:
        error: float, the smallest relative error of all steps; inf where the
            derivative is not finite.
        product: float, by the derivative, along the direction.
        difference: float, by differences.
        agrees: bool, whether the error is small enough.
    """

    error: float
    product: float
    difference: float
    agrees: bool


class Probe:
    """A function of tensors, with its derivative, traced once."""

    def __init__(self, function: Callable, at: list, rest: Sequence):
        """Traces the function and its derivative.

        Args:
            function: `(at, *rest)`, from a list of floating tensors to a list
                of floating tensors.
            at: list of tensors, where it is differentiated.
            rest: its other arguments.

        Raises:
            LookupError: if an operation has no derivative.
        """

        def traced(at, factors, rest):
            outputs = function(at, *rest)
            # The function's outputs are seen through one number of each.
            c = [
                tf.random.stateless_normal(tf.shape(y), [1, k], dtype=y.dtype)
                for k, y in enumerate(outputs)
            ]
            pairs = list(zip(outputs, c, strict=True))
            numbers = [
                tf.cast(tf.reduce_sum(y * c), tf.float64) for y, c in pairs
            ]
            weighted = [
                c * tf.cast(factors[k], y.dtype)
                for k, (y, c) in enumerate(pairs)
            ]
            return tf.stack(numbers), vjp(outputs, at, weighted)

        self._at, self._rest = list(at), list(rest)
        ones = tf.ones([MOST_OUTPUTS], tf.float64)
        self._traced = tf.function(
            traced, autograph=False
        ).get_concrete_function(self._at, ones, self._rest)

    def numbers(self, at: list, factors: np.ndarray) -> tuple:
        """Returns one number of each output, and the derivative of their sum.

        Args:
            at: list of tensors, where.
            factors: array, what each number counts in the sum.
        """
        padded = np.ones(MOST_OUTPUTS)
        padded[: len(factors)] = factors
        with without_rewriting():
            numbers, slopes = self._traced(at, tf.constant(padded), self._rest)
        return np.asarray(numbers), slopes

    def compare(self, direction: Sequence[Any], dtype: str) -> Verdict:
        """Compares derivative and differences along a direction.

        Args:
            direction: list of arrays, as `at`.
            dtype: str, of what the function computes in.
        """
        dtype = dtype if dtype in STEPS else "other"
        verdict = Verdict(np.inf, np.nan, np.nan, False)
        for step in STEPS[dtype]:
            after, before = (
                self.numbers(_moved(self._at, direction, s), np.ones(0))[0]
                for s in (step, -step)
            )
            slopes = (after - before) / (2 * step)
            sizes = np.abs(slopes)
            if not np.isfinite(sizes).all():
                continue
            # An output that rounding alone moves would have any slope.
            factors = 1 / (sizes + FLOORS[dtype] * sizes.max() + 1e-30)
            _, products = self.numbers(self._at, factors)
            pairs = zip(products, direction, strict=True)
            product = sum(float(np.sum(np.asarray(p) * d)) for p, d in pairs)
            difference = float(np.sum(slopes * factors))
            scale = max(np.sqrt(np.sum((slopes * factors) ** 2)), 1e-12)
            error = abs(product - difference) / scale
            if not np.isfinite(error):
                return Verdict(np.inf, product, difference, False)
            if error < verdict.error:
                agrees = bool(error < TOLERANCES[dtype])
                verdict = Verdict(float(error), product, difference, agrees)
            if verdict.agrees:
                break
        return verdict


def direction(at: list[Any], seed: int) -> list[np.ndarray]:
    """Returns a random direction, of the size of the values.

    Args:
        at: list of tensors.
        seed: int.
    """
    generator = np.random.default_rng(seed)
    return [
        generator.normal(size=x.shape)
        * max(float(np.sqrt(np.mean(np.square(x)))), 0.05)
        for x in (np.asarray(x, float) for x in at)
    ]


def _moved(at: list, direction: Sequence, step: float) -> list:
    return [
        tf.constant(np.asarray(x, float) + step * d, x.dtype)
        for x, d in zip(at, direction, strict=True)
    ]
