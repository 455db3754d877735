"""Arithmetic on nested structures, against numbers computed by hand."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.core import nested


class Pair(NamedTuple):
    left: list
    right: dict


def pair(left, right, count=0):
    return Pair(
        [tf.constant(left)], {"x": tf.constant(right), "n": tf.constant(count)}
    )


def numbers(structure):
    return [x.numpy().tolist() for x in tf.nest.flatten(structure)]


def test_float_leaves_are_those_a_derivative_reaches():
    leaves = nested.float_leaves(pair([1.0, 2.0], 3.0, count=4))
    assert numbers(leaves) == [[1.0, 2.0], 3.0]


def test_add():
    total = nested.add(pair([1.0, 2.0], 3.0, 4), pair([10.0, 20.0], 30.0, 40))
    assert isinstance(total, Pair)
    assert numbers(total) == numbers(pair([11.0, 22.0], 33.0, 44))


def test_scale_casts_the_factor_to_each_leaf():
    halves = [tf.constant([2.0, 4.0]), tf.constant(6.0, tf.float64)]
    scaled = nested.scale(tf.constant(0.5), halves)
    assert [x.dtype for x in scaled] == [tf.float32, tf.float64]
    assert numbers(scaled) == [[1.0, 2.0], 3.0]


def test_zeros_like():
    zeros = nested.zeros_like(pair([1.0, 2.0], 3.0, 4))
    assert numbers(zeros) == numbers(pair([0.0, 0.0], 0.0, 0))


def test_norm_is_of_all_leaves_together():
    structure = [tf.constant([2.0, 3.0]), {"x": tf.constant(6.0)}]
    assert nested.norm(structure).numpy() == pytest.approx(7.0)


def test_norm_of_several_precisions():
    mixed = [tf.constant(3.0, tf.float64), tf.constant(4.0, tf.float32)]
    assert nested.norm(mixed).dtype == tf.float64
    assert float(nested.norm(mixed)) == pytest.approx(5.0)


SHAPES = [(784, 50), (3, 3, 5, 16), (7, 9), (8,), (5,), (), (0, 4)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norm_in_xla(dtype):
    generator = np.random.default_rng(0)
    structure = [generator.normal(size=s).astype(dtype) for s in SHAPES]
    structure.append(np.zeros((4, 16), dtype))
    structure[0][::2] = np.inf if dtype == "float32" else -3.0
    expected = np.linalg.norm([np.linalg.norm(x) for x in structure])
    tensors = [tf.constant(x) for x in structure]

    @tf.function(jit_compile=True)
    def in_xla():
        return nested.norm(tensors, in_xla=True)

    np.testing.assert_allclose(in_xla(), expected, rtol=1e-6)
    np.testing.assert_allclose(nested.norm(tensors), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_by_columns_in_xla(shape):
    x, coefficients = np.random.default_rng(0).normal(size=(2, *shape))

    @tf.function(jit_compile=True)
    def summed(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                cubes = coefficients * x**3
                total = nested.sum_by_columns(cubes)
            slope = tape.gradient(total, x)
            square = tf.reduce_sum(slope**2)
        # The sum again, differentiated operation by operation.
        (by_operation,) = tf.compat.v1.gradients([total], [x])
        return total, slope, by_operation, outer.gradient(square, x)

    slope = 3 * coefficients * x**2
    expected = [
        math.fsum(np.ravel(coefficients * x**3)),
        slope,
        slope,
        2 * slope * 6 * coefficients * x,
    ]
    for actual, one in zip(summed(tf.constant(x)), expected, strict=True):
        np.testing.assert_allclose(actual, one, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sum_by_columns_of_what_is_not_finite(value):
    x = np.ones((3, 9))
    x[1, 4] = value
    summed = tf.function(nested.sum_by_columns, jit_compile=True)
    np.testing.assert_array_equal(summed(tf.constant(x)), value)
    x[1] = value
    np.testing.assert_array_equal(summed(tf.constant(x)), value)


def test_xla_does_not_make_one_sum_of_two():
    summed = tf.function(nested.sum_by_columns, jit_compile=True)
    x = tf.ones([784, 50])
    compiled = summed.experimental_get_compiler_ir(x)(stage="optimized_hlo")
    assert "f32[50]" in compiled  # the columns' sums


@pytest.mark.parametrize("condition, expected", [(True, 1.0), (False, 2.0)])
def test_where(condition, expected):
    chosen = nested.where(
        tf.constant(condition), [tf.constant(1.0)], [tf.constant(2.0)]
    )
    assert numbers(chosen) == [expected]


@pytest.mark.parametrize(
    "beta, expected", [(0, [1.0, 4.0]), (0.25, [2.0, 3.0]), (1, [5.0, 0.0])]
)
def test_interpolate_goes_in_a_straight_line(beta, expected):
    a, b = [tf.constant([1.0, 4.0])], [tf.constant([5.0, 0.0])]
    (point,) = nested.interpolate(a, b, tf.constant(beta, tf.float64))
    np.testing.assert_allclose(point, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64, tf.uint32])
def test_counted_is_exact(dtype):
    # 2,000 steps of three draws each, from a count that float32 cannot hold.
    start, T = 2**30 + 1, 2000
    first = [tf.constant(start, dtype), tf.constant(0.0)]
    last = [tf.constant(start + 3 * T, dtype), tf.constant(7.0)]
    for t in (0, 1, 1999, 2000):
        counts = nested.counted(first, last, tf.constant(t), tf.constant(T))
        assert counts[0].dtype == dtype
        assert int(counts[0]) == start + 3 * t
        assert float(counts[1]) == 7.0  # others as at the end


def test_scale_by_a_python_number_keeps_its_digits():
    (tenth,) = nested.scale(0.1, [tf.constant(1.0, tf.float64)])
    assert float(tenth) == 0.1
