"""Fixed-point products that are undone bit for bit."""

import fractions
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.core import fixed_point as exact

RATIOS = [
    fractions.Fraction(*pair)
    for pair in (
        (9, 10),
        (1, 10),
        (19, 20),
        (1, 2),
        (99, 100),
        (999, 1000),
        (1, 1000),
    )
]
each_ratio = pytest.mark.parametrize("ratio", RATIOS, ids=str)


def random_bits(shape, bits, seed=0):
    """Returns integers of every size up to a number of bits, and signs."""
    generator = np.random.default_rng(seed)
    sizes = 2.0 ** generator.uniform(0, bits, shape)
    signs = generator.choice([-1, 1], shape)
    return (sizes * signs).astype(np.int64)


def assert_equal(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# ---- numbers


def test_fixed_point_keeps_46_bits():
    x = np.random.default_rng(0).normal(size=100)
    back = exact.to_float(exact.to_fixed(tf.constant(x)), tf.float64)
    np.testing.assert_allclose(back, x, rtol=0, atol=2.0**-47)
    # What is on the grid comes back as it was, as far as 2^17.
    on_grid = np.array([0.0, 2.0**-46, -3 * 2.0**-46, 2.0**17 - 2.0**-35])
    there = exact.to_fixed(tf.constant(on_grid))
    assert_equal(exact.to_float(there, tf.float64), on_grid)


# ---- one product


@each_ratio
def test_a_product_is_undone(ratio):
    # To the ends of the words: no intermediate result may leave them.
    largest = 2**63 - 1000
    x = [0, 1, -1, largest, -largest, *random_bits(2000, 62.9)]
    full = 2**64 // ratio.denominator - 1
    buffers = np.random.default_rng(1).integers(
        0, full, len(x), np.uint64, endpoint=True
    )
    buffers[:5] = full
    x, buffers = tf.constant(x, tf.int64), tf.constant(buffers)
    product, buffer = exact.multiply(x, buffers, ratio)
    again, before = exact.divide(product, buffer, ratio)
    assert_equal(again, x)
    assert_equal(before, buffers)


@each_ratio
def test_a_product_is_one_on_the_grid(ratio):
    x = random_bits(2000, 53)
    product, _ = exact.multiply(
        tf.constant(x), tf.zeros(x.shape, tf.uint64), ratio
    )
    n, d = ratio.numerator, ratio.denominator
    expected = [math.floor(fractions.Fraction(int(v)) * n / d) for v in x]
    # Rounded down, to a multiple of n, plus a digit below n.
    off = np.abs(np.asarray(product) - np.array(expected))
    assert off.max() <= n


def test_a_product_without_a_buffer_cannot_be_undone():
    # Else the tests above would say nothing: the buffer carries the bits.
    x = tf.constant(random_bits(100, 40))
    empty = tf.zeros(x.shape, tf.uint64)
    product, _ = exact.multiply(x, empty, RATIOS[0])
    again, _ = exact.divide(product, empty, RATIOS[0])
    assert np.any(np.asarray(again) != np.asarray(x))


# ---- words of the buffer


def test_words_are_put_away_and_taken_back():
    generator = np.random.default_rng(0)
    buffer = generator.integers(0, 2**64, 1000, np.uint64)
    buffer[:3] = [0, 2**32 - 1, 2**64 - 1]
    rest, word = exact.put_away(tf.constant(buffer))
    assert word.dtype == tf.uint32
    assert_equal(rest, buffer >> np.uint64(32))
    assert_equal(exact.take_back(rest, word), buffer)


@pytest.mark.parametrize("ratio", RATIOS[:4], ids=str)
def test_a_long_chain_is_undone(ratio):
    steps, words = 900, exact.Words(ratio)
    x = tf.constant(random_bits(20, 50))
    added = tf.constant(random_bits((steps, 20), 45, seed=1))
    first, buffer, away = x, tf.zeros(20, tf.uint64), []
    for t in range(steps):
        x, buffer = exact.multiply(x, buffer, ratio)
        x += added[t]
        if words.count(t + 1) > words.count(t):
            buffer, word = exact.put_away(buffer)
            away.append(word)
    assert len(away) == words.count(steps) > 0
    for t in reversed(range(steps)):
        if words.count(t + 1) > words.count(t):
            buffer = exact.take_back(buffer, away.pop())
        x, buffer = exact.divide(x - added[t], buffer, ratio)
    assert_equal(x, first)
    assert_equal(buffer, np.zeros(20))


@each_ratio
def test_a_buffer_never_overflows(ratio):
    # In Python's integers, which do; each lost digit the largest there is.
    n, d = ratio.numerator, ratio.denominator
    words, buffer = exact.Words(ratio), 0
    for t in range(20_000):
        needed = buffer * d + d - 1
        assert needed < 2**64, t
        buffer = needed // n
        put_away = words.count(t + 1) - words.count(t)
        assert put_away in (0, 1)
        buffer >>= exact.WORD_BITS * put_away


@pytest.mark.parametrize("ratio", [RATIOS[0], RATIOS[1]], ids=str)
def test_bits_of_a_step(ratio):
    # What it keeps is what the products lose; the open word counts in full.
    T, words = 2000, exact.Words(ratio)
    bits = exact.WORD_BITS * words.count(T) / T
    lost = math.log2(1 / ratio)
    assert words.bits_per_step == pytest.approx(lost)
    assert lost - 64 / T <= bits <= 1.1 * lost


@each_ratio
def test_words_of_some_steps(ratio):
    words = exact.Words(ratio)
    t = np.arange(5000)
    count = np.asarray(words.count(tf.constant(t)))
    assert_equal(count, [words.count(int(k)) for k in t])
    assert count[0] == 0
    for steps in (1, 32, 200):
        assert (count[steps:] - count[:-steps]).max() <= words.most(steps)
