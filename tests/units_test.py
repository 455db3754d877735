"""Natural units: how far raw values sensibly move."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from keras_drmad import hyperparameters as kinds
from keras_drmad.layers.in_layers import InLayer
from small_models import compiled, fit, hidden


class Cube(kinds.Transform):
    """Any number, as the cube of its raw number."""

    def value(self, raw):
        return raw**3

    def raw(self, value):
        return float(np.cbrt(value))


@pytest.mark.parametrize(
    "initial, transform, bounds, expected",
    [
        (0.1, "log", (1e-3, 1.0), 1.0),
        ([0.2, 0.4], "sigmoid", None, 1.0),
        (0.5, kinds.Sigmoid(-1.0, 3.0), None, 1.0),
        (2.0, Cube(), None, 1.0),
        (-0.25, "identity", None, 0.25),
        ([-0.25, 0.75], "identity", None, 0.5),
        (0.0, "identity", None, 1.0),
        (0.0, "identity", (-0.5, 0.5), 0.1),
        (0.25, "identity", (None, 2.0), 0.25),
        (0.25, "identity", (-1.0, 0.5), 0.15),
    ],
)
def test_of_a_learned_value(initial, transform, bounds, expected):
    value = kd.layers.LearnedValue(initial, transform, bounds=bounds)
    assert InLayer(value, "value").unit == pytest.approx(expected)


def test_of_learned_data():
    x = np.random.default_rng(0).normal(3.0, 5.0, size=(20, 4))
    assert kinds.LearnedData(x).unit == pytest.approx(x.std())
    assert kinds.LearnedData(np.full((2, 3), 7.0)).unit == 7.0
    assert kinds.LearnedData(np.full((2, 3), 0.7), "sigmoid").unit == 1.0


def test_of_example_weights():
    assert kinds.ExampleWeights(5).unit == 1.0
    assert kinds.ExampleWeights(5, initial=2, transform="identity").unit == 2


def test_of_first_weights_is_the_spread_of_each_tensor():
    model = compiled(hidden(), hyperparameters=[kinds.InitialWeights()])
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    a, b = (w.std() for w in kernels)
    # Biases are zeros at first.
    usual = (a + b) / 2
    expected = np.repeat([a, usual, b, usual], [20, 5, 15, 3])
    (kind,) = model.hyperparameters
    np.testing.assert_allclose(kind.unit, expected, rtol=1e-6)
    # While they are tuned the unit stays: a bias that moved a little did so.
    kind.raw.assign_add(np.linspace(1e-5, 8e-5, 43))
    np.testing.assert_allclose(kind.unit, expected, rtol=1e-6)
    kind.bind(model.elementary_model, model.optimizer)  # compiled again
    np.testing.assert_allclose(kind.unit, expected, rtol=1e-6)


def test_of_first_weights_that_are_all_equal():
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, kernel_initializer="zeros")(inputs)
    kind = kinds.InitialWeights(biases=False)
    compiled(keras.Model(inputs, outputs), hyperparameters=[kind])
    np.testing.assert_array_equal(kind.unit, np.ones(12))


@pytest.mark.parametrize("rule", [kd.SignDescent, kd.SignConsensus])
def test_steps_are_taken_in_units(rule):
    x = np.random.default_rng(0).normal(0.0, 5.0, size=(20, 4))
    kind = kinds.LearnedData(x)
    kind.bind(None, None)
    plain = keras.Variable(np.zeros(x.shape))
    moved = []
    for raw, known in ((kind.raw, [kind]), (plain, [])):
        optimizer, before = rule(0.1), raw.numpy()
        optimizer.know(known)
        for k in range(3):
            g = np.random.default_rng(k).normal(size=x.shape)
            optimizer.apply([tf.constant(g, "float32")], [raw])
        moved.append(raw.numpy() - before)
    np.testing.assert_allclose(moved[0], moved[1] * x.std(), rtol=1e-3)


def test_units_are_saved(tmp_path):
    def model():
        return compiled(
            hidden(),
            hyperparameters=[kinds.InitialWeights()],
            meta_optimizer=kd.SignDescent(0.1),
        )

    first = model()
    (kind,) = first.hyperparameters
    unit = kind.unit
    kind.raw.assign(kind.raw * 2 + 1)
    first.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # The loaded model drew other weights before these came from the file.
    assert fit(loaded) == fit(first)
    np.testing.assert_array_equal(
        loaded.meta_optimizer.units[0], first.meta_optimizer.units[0]
    )
    np.testing.assert_array_equal(loaded.hyperparameters[0].unit, unit)
