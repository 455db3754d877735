"""Fixed-point numbers, and multiplication that forgets nothing.

A real number x is the integer round(x · 2^46) in 64 bits: sums and differences
are exact, magnitudes reach 2^17. A product with a ratio n/d < 1 loses log2(d/n)
bits; an *information buffer* keeps them, one integer for each number, so that
the product can be undone bit for bit (Maclaurin, Duvenaud, Adams 2015,
Algorithm 3).
"""

import fractions
import math

import tensorflow as tf

FRACTION_BITS = 46
WORD_BITS = 32  # the buffer's low bits that are put away together


def to_fixed(x: tf.Tensor) -> tf.Tensor:
    """Returns floats as fixed-point numbers, int64."""
    return tf.cast(tf.round(x * 2.0**FRACTION_BITS), tf.int64)


def to_float(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns fixed-point numbers as floats."""
    return tf.cast(x, dtype) * tf.constant(2.0**-FRACTION_BITS, dtype)


def fit(numbers: list[tf.Tensor]) -> tf.Tensor:
    """Returns whether floats, and sums of two, fit; not if one is nan."""
    each = [
        tf.reduce_all(tf.abs(x) < 2.0 ** (62 - FRACTION_BITS)) for x in numbers
    ]
    return tf.reduce_all(each)


def multiply(
    x: tf.Tensor, buffer: tf.Tensor, ratio: fractions.Fraction
) -> tf.Tensor:
    """Returns about `ratio * x`, and the buffer with the bits that it lost.

    (x, buffer) -> (x', buffer') is one to one; `divide` undoes it.

    Args:
        x: fixed-point numbers.
        buffer: uint64, of the shape of x.
        ratio: n/d, in (0, 1).
    """
    return _exchange(x, buffer, ratio.denominator, ratio.numerator)


def divide(
    x: tf.Tensor, buffer: tf.Tensor, ratio: fractions.Fraction
) -> tf.Tensor:
    """Returns what `multiply` was given."""
    return _exchange(x, buffer, ratio.numerator, ratio.denominator)


def _exchange(x, buffer, out: int, into: int):
    """Moves the digit `x mod out` to the buffer, takes a digit base `into`."""
    digit = tf.math.floormod(x, tf.constant(out, x.dtype))
    x = (x - digit) // tf.constant(out, x.dtype)
    buffer = buffer * tf.constant(out, tf.uint64) + tf.cast(digit, tf.uint64)
    # Division of unsigned integers by hand: quotient, then remainder.
    quotient = buffer // tf.constant(into, tf.uint64)
    digit = buffer - quotient * tf.constant(into, tf.uint64)
    return x * into + tf.cast(digit, x.dtype), quotient


class Words:
    """How many words of 32 bits a buffer has put away after t products.

    After t products by n/d from an empty buffer it is below
    (d/n)^t d / (d - n). A product needs log2(d) bits of room; words leave in
    time for that. The count is integer arithmetic, and so the same wherever it
    is computed.
    """

    _SCALE = 2**20

    def __init__(self, ratio: fractions.Fraction):
        n, d = ratio.numerator, ratio.denominator
        self.bits_per_step = math.log2(d / n)
        room = 64 - math.log2(d) - 1 - math.log2(d / (d - n))
        self._per_step = math.ceil(self.bits_per_step * self._SCALE)
        self._offset = math.ceil((WORD_BITS - room) * self._SCALE)

    def count(self, t):
        """Returns the number of words after t products (int or tensor)."""
        needed = t * self._per_step + self._offset
        whole = needed // (WORD_BITS * self._SCALE)
        return (
            whole * (whole > 0)
            if isinstance(t, int)
            else tf.maximum(whole, tf.zeros_like(whole))
        )

    def most(self, steps: int) -> int:
        """Returns the most words that a number of steps puts away."""
        return math.ceil(steps * self._per_step / (WORD_BITS * self._SCALE)) + 1


def put_away(buffer: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the buffer without its low word, and that word (uint32)."""
    shift = tf.constant(2**WORD_BITS, tf.uint64)
    rest = buffer // shift
    return rest, tf.cast(buffer - rest * shift, tf.uint32)


def take_back(buffer: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
    """Returns what `put_away` was given."""
    shift = tf.constant(2**WORD_BITS, tf.uint64)
    return buffer * shift + tf.cast(word, tf.uint64)
