"""`layers.Dropout`: a relaxed mask, whose rate has a derivative."""

import numpy as np
import pytest
import tensorflow as tf

from drawing_layers import SHAPE, draws, images
from keras_drmad import layers
from keras_drmad.layers.dropout import kept_parts

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("rate", [0.3, [0.3, 0.6]])
def test_dropout_by_hand(rate):
    x, u, p = images(), draws(SHAPE), np.array(rate)
    z = (np.log(p) - np.log(1 - p) + np.log(u) - np.log(1 - u)) / 0.4
    z = 1 / (1 + np.exp(-z))
    y = layers.Dropout(rate, temperature=0.4, seed=1)(x, training=True)
    np.testing.assert_allclose(y, x * (1 - z) / (1 - p), rtol=1e-10)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_dropout_drops_its_rate_on_average(rate):
    u = (np.arange(100_000) + 0.5) / 100_000
    kept = kept_parts(tf.constant(rate, "float64"), tf.constant(u), 0.1)
    bias = np.pi**2 / 6 * 0.1**2 * rate * (1 - rate) * (1 - 2 * rate)
    np.testing.assert_allclose(1 - np.mean(kept), rate + bias, atol=1e-4)
    np.testing.assert_allclose(np.mean(kept < 0.5), rate, atol=1e-5)


def test_dropout_keeps_the_mean_of_its_inputs():
    x = np.ones((100, 1000))
    y = layers.Dropout(0.25, seed=1)(x, training=True)
    error = 4 * np.std(y) / np.sqrt(x.size)
    np.testing.assert_allclose(np.mean(y), 1, atol=error + 0.002)


def test_dropout_tends_to_zeros_and_ones():
    u = np.random.default_rng(0).uniform(size=10_000)
    rate = tf.constant(0.3, "float64")
    far = []
    for temperature in (1.0, 0.1, 0.01, 1e-4):
        kept = kept_parts(rate, tf.constant(u), temperature).numpy()
        far.append(np.abs(kept - (u < 0.7)).mean())
        np.testing.assert_array_equal(kept > 0.5, u < 0.7)
    assert np.all(np.diff(far) < 0) and far[-1] < 1e-4


def test_dropout_of_a_draw_of_zero_is_finite():
    rate = tf.constant(0.3)
    with tf.GradientTape() as tape:
        tape.watch(rate)
        kept = kept_parts(rate, tf.constant(0.0), 0.1)
    assert (kept, tape.gradient(kept, rate)) == (1, 0)


def test_noise_shape_is_that_of_keras():
    x = np.ones((4, 5, 6))
    shared = layers.Dropout(0.5, noise_shape=(None, 1, 6), seed=1)
    y = shared(x, training=True).numpy()
    np.testing.assert_array_equal(y, y[:, :1] * x)
    assert len(np.unique(y)) == 4 * 6
    assert shared.get_config()["noise_shape"] == (None, 1, 6)


# ---- bad arguments


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: layers.Dropout(0.0), ValueError, "`rate`.*above 0.*rate=0.0"),
        (lambda: layers.Dropout(1), ValueError, "`rate`.*below 1"),
        (lambda: layers.Dropout([0.5, 1.5]), ValueError, "`rate`"),
        (lambda: layers.Dropout("much"), TypeError, "`rate`.*'much'"),
        (lambda: layers.Dropout(None), TypeError, "`rate`"),
        (
            lambda: layers.Dropout(0.5, bounds=(0.6, 0.9)),
            ValueError,
            r"`rate`.*\[0.6, 0.9\]",
        ),
        (lambda: layers.Dropout(bounds=(0, 2)), ValueError, "`bounds`"),
        (lambda: layers.Dropout(temperature=0), ValueError, "`temperature`"),
        (
            lambda: layers.Dropout(temperature="hot"),
            TypeError,
            "`temperature`.*'hot'",
        ),
        (
            lambda: layers.Dropout(temperature=np.inf),
            ValueError,
            "`temperature`",
        ),
        (lambda: layers.Dropout(noise_shape="ab"), ValueError, "`noise_shape`"),
        (lambda: layers.Dropout(noise_shape=(0,)), ValueError, "`noise_shape`"),
        (
            lambda: layers.Dropout(noise_shape=(1, 2))(np.ones((2, 3))),
            ValueError,
            r"`noise_shape`.*\(2, 3\)",
        ),
        (
            lambda: layers.Dropout(noise_shape=(1,))(np.ones((2, 3))),
            ValueError,
            "`noise_shape`",
        ),
        (
            lambda: layers.Dropout([0.5, 0.5])(np.ones((2, 3))),
            ValueError,
            r"`rate`.*\(2,\).*\(2, 3\)",
        ),
        (lambda: layers.Dropout(seed=0.5), TypeError, "`seed`.*0.5"),
    ],
)
def test_bad_arguments_are_told(make, error, words):
    with pytest.raises(error, match=words):
        make()
