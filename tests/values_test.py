"""Bounds, ranges and raw numbers of values."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.transforms import (
    Identity,
    Log,
    Sigmoid,
    Transform,
)


class Negative(Transform):
    """Values below 0: a range with an upper end alone."""

    highest = 0.0

    def value(self, raw):
        return -tf.exp(-raw)

    def raw(self, value):
        return math.inf if value == 0 else -math.log(-value)


TRANSFORMS = [Log(), Identity(), Sigmoid(), Sigmoid(-3.0, 5.0), Negative()]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_raw_numbers_give_the_values_back(transform):
    bounds = values.checked_bounds(None, transform)
    assert bounds == (transform.lowest, transform.highest)
    inside = np.clip([[-2.5, -0.25], [0.5, 0.75]], *bounds)
    inside = inside[(inside > bounds[0]) & (inside < bounds[1])]
    raw = values.raw_of(inside, bounds, transform)
    np.testing.assert_allclose(transform.value(tf.constant(raw)), inside)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_there_is_no_raw_number_out_of_bounds(transform):
    low, high = (
        max(transform.lowest, -2.0) + 0.25,
        min(transform.highest, 2.0) - 0.25,
    )
    bounds = values.checked_bounds((low, high), transform)
    raw = values.raw_of(
        np.array([low - 0.01, low, high, high + 0.01, np.nan]),
        bounds,
        transform,
    )
    assert list(np.isfinite(raw)) == [False, True, True, False, False]


@pytest.mark.parametrize("bounds", [(1e-6, 0.1), (3e-5, 0.3), (0.7, 7.0)])
def test_values_of_clipped_raw_numbers_are_within_the_bounds(bounds):
    # exp of a logarithm in float32 may be on the other side of the bound.
    raw = tf.constant(np.log(bounds), tf.float32)
    found = Log().value(raw).numpy().astype(float)
    again = values.raw_of(found, bounds, Log())
    np.testing.assert_allclose(again, np.log(bounds), rtol=1e-6)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_ends_of_the_range_have_infinite_raw_numbers(transform):
    bounds = values.checked_bounds((None, None), transform)
    finite = np.array([end for end in bounds if math.isfinite(end)])
    assert np.isinf(values.raw_of(finite, bounds, transform)).all()


@pytest.mark.parametrize(
    "bounds, transform",
    [
        (None, Log()),
        ((None, 0.5), Sigmoid()),
        ((1e-3, None), Log()),
        ((-1, 1), Identity()),
    ],
)
def test_bounds_come_back_as_given(bounds, transform):
    checked = values.checked_bounds(bounds, transform)
    given = values.given_bounds(checked, transform)
    assert given == list(bounds or (None, None))
    assert values.checked_bounds(given, transform) == checked


@pytest.mark.parametrize(
    "bounds", [(1, 0), (1, 1), (-1, 1), (1, 2, 3), 3, "ab", (0, math.nan)]
)
def test_bounds_that_are_refused(bounds):
    with pytest.raises(ValueError, match=r"`bounds`.*0 <= lowest.*Received"):
        values.checked_bounds(bounds, Log())


@pytest.mark.parametrize("initial", ["0.1", True, None, [1, None], [True]])
def test_a_start_that_is_no_number(initial):
    with pytest.raises(TypeError, match="`initial`.*an array of numbers"):
        values.checked_initial(initial, (0.0, 1.0), Log())


@pytest.mark.parametrize("initial", [0, 2.0, math.nan, [0.5, -1.0]])
def test_a_start_out_of_bounds(initial):
    with pytest.raises(ValueError, match=r"above 0 and within .*\[0.0, 1.0\]"):
        values.checked_initial(initial, (0.0, 1.0), Log())


def test_a_start_comes_back_in_floats():
    one = values.checked_initial(np.int64(1), (0.0, 1.0), Log())
    assert (type(one), one) == (float, 1.0)
    many = values.checked_initial([1, 1], (0.0, 1.0), Log())
    assert many.dtype == float and many.tolist() == [1.0, 1.0]


def test_what_is_a_thousandth_of_a_unit_from_a_bound_is_at_the_bound():
    raw = np.array([0.0, 0.0015, 0.0025, 1.0, 3.9985, 4.0])
    low, high = values.are_at_bounds(raw, (0.0, 4.0), 2.0)
    np.testing.assert_array_equal(low, [True, True, False, False, False, False])
    np.testing.assert_array_equal(high, [False] * 4 + [True, True])
    units = np.array([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])  # one each
    low, _ = values.are_at_bounds(raw, (0.0, 4.0), units)
    np.testing.assert_array_equal(low, [True, False, True, False, False, False])
    low, high = values.are_at_bounds(raw, (-np.inf, np.inf), 1.0)
    assert not low.any() and not high.any()


@pytest.mark.parametrize(
    "transform", [Sigmoid(), Sigmoid(0, 2), Sigmoid(-3, 5)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_rounding_took_to_an_end_has_a_raw_number_again(transform, dtype):
    raw = tf.constant([-2000.0, -3.0, 0.0, 50.0], dtype)
    value = transform.value(raw).numpy()
    assert value[0] == transform.lowest and value[3] == transform.highest
    found = values.off_the_ends(value, transform)
    bounds = transform.lowest, transform.highest
    again = values.raw_of(found.astype(float), bounds, transform)
    assert np.isfinite(again).all()
    np.testing.assert_allclose(again[1:3], raw[1:3], rtol=1e-5, atol=1e-6)
    rounded = transform.value(tf.constant(again, dtype))
    np.testing.assert_allclose(rounded, value, atol=1e-6)


def test_what_has_no_end_stays():
    value = np.array([-np.inf, -3.0, 0.0, np.inf], "float32")
    np.testing.assert_array_equal(values.off_the_ends(value, Identity()), value)
