"""Draws that are known by their values alone, and what is none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import precision
from keras_drmad.training.recognition import recognized
from redraws import Own, assert_fresh, model_of, redraw_of

initializers = keras.initializers


STRINGS = {
    None: 1,
    "glorot_uniform": 1,
    "he_uniform": 1,
    "lecun_uniform": 1,
    "uniform": 1,
    "random_normal": 1,
    "truncated_normal": 1,
    "he_normal": 1,
    "glorot_normal": 1,
    "lecun_normal": 1,
    "orthogonal": 0,
    "ones": 0,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STRINGS)
def test_draws_by_strings_are_known_by_their_grain(name, dtype):
    with precision(dtype):
        redraw = redraw_of(model_of(Own(name)))
    assert sum(redraw.drawn) == STRINGS[name]
    assert redraw.fixed == [name == "ones", True]
    assert_fresh(redraw)
    assert ("stays as it is" in redraw.words()) == (name == "orthogonal")


def test_few_numbers_are_no_witness_and_are_said():
    model = model_of(Own(units=2))
    redraw = redraw_of(model)
    assert redraw.drawn == [False, False]
    path = model.weights[0].path
    assert redraw.words() == (
        "0 of 12 trainable numbers (0 of 2 variables) are drawn anew, 2 begin "
        f"as initializers set them; '{path}' stays as it is (loaded, trained, "
        "or by no initializer that is known)."
    )


@pytest.mark.parametrize("name", [name for name in STRINGS if STRINGS[name]])
@pytest.mark.parametrize("shape", [(8, 8), (40, 30), (3, 3, 4, 30)])
def test_trained_numbers_have_no_grain(name, shape):
    for dtype, step in (("float32", 1e-6), ("float64", 1e-12)):
        for _ in range(20):
            drawn = initializers.get(name or "he_uniform")(shape, dtype=dtype)
            moved = drawn + step * np.random.normal(size=shape).astype(dtype)
            assert recognized(np.array(moved)) is None


@pytest.mark.parametrize("digits", [2, 4, 8])
def test_round_numbers_are_no_draws(digits):
    # Between ±.5, which are the bounds of this shape, and ±1.
    values = np.random.uniform(-1, 1, (12, 12)) * 2**digits
    values = np.rint(values) / 2**digits / 2
    for value in (values, 2 * values, values / 10):
        assert recognized(value.astype("float32")) is None
    half = tf.cast(np.random.normal(size=(12, 12)), "bfloat16")
    assert recognized(tf.cast(half, "float32").numpy()) is None


def test_a_table_with_a_few_trained_rows_is_trained():
    for name in ("random_normal", "he_uniform", "he_normal"):
        table = np.array(initializers.get(name)((100, 600)))
        assert recognized(table) is not None
        table[50] += 1e-6 * np.random.normal(size=600)
        assert recognized(table) is None


def test_masks_signs_and_one_hot_tables_are_no_draws():
    drawn = initializers.HeUniform()((40, 40)).numpy()
    normal = initializers.HeNormal()((40, 40)).numpy()
    mask = np.random.random((40, 40)) < 0.6
    values = (mask * drawn, mask * normal, np.sign(normal), np.eye(40))
    for value in values:
        for scale in (1, 0.05 / value.std(), np.sqrt(2 / 40) / value.std()):
            assert recognized((scale * value).astype("float32")) is None


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_no_draw():
    for bad in (np.nan, np.inf):
        value = initializers.HeUniform()((40, 40)).numpy()
        value[3, 3] = bad
        assert recognized(value) is None
        assert recognized(np.full((40, 40), bad)) is None
