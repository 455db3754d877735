"""`DrMADModel`, a `keras.Model` through which the elementary model shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import flat
from conftest import reseed
from small_models import (
    CLASSES,
    FEATURES,
    FIT,
    VALIDATION,
    X,
    Y,
    assert_same,
    compiled,
    cross_entropy,
    fit,
    hidden,
    linear,
    numbers,
)


def test_is_made_from_inputs_and_outputs():
    reseed()
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(inputs)
    model = kd.DrMADModel(inputs, outputs, name="mine")
    assert isinstance(model, keras.Model)
    assert model.name == "mine"
    assert_same(model.get_weights(), linear().get_weights())
    np.testing.assert_array_equal(model(X), linear()(X))


def test_shows_the_elementary_model(capsys):
    elementary = hidden()
    model = kd.DrMADModel.from_model(elementary)
    assert model.layers == elementary.layers
    assert model.get_layer("first") is elementary.get_layer("first")
    assert model.inputs == elementary.inputs
    assert model.outputs == elementary.outputs
    assert model.input_shape == elementary.input_shape == (None, FEATURES)
    assert model.output_shape == elementary.output_shape == (None, CLASSES)
    assert model.count_params() == elementary.count_params()
    assert model.name == elementary.name
    model.summary()
    shown = capsys.readouterr().out
    elementary.summary()
    assert shown == capsys.readouterr().out
    # A new model may begin from its layers.
    features = keras.Model(model.inputs[0], model.get_layer("first").output)
    assert features(X).shape == (len(X), 5)


def test_shares_the_weights():
    elementary = linear()
    model = compiled(elementary)
    before = elementary.get_weights()
    fit(model)
    assert np.any(elementary.get_weights()[0] != before[0])
    assert_same(elementary.get_weights(), model.get_weights())
    assert model.trainable_variables == elementary.trainable_variables


def test_predicts_and_evaluates_as_the_elementary_model():
    model = compiled(hidden(dropout=0.5), metrics=["accuracy"])
    twin = hidden(dropout=0.5)
    twin.compile(loss=cross_entropy(), metrics=["accuracy"])
    np.testing.assert_array_equal(
        model.predict(X, verbose=0), twin.predict(X, verbose=0)
    )
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    for options in (dict(x=X, y=Y, batch_size=5), dict(x=data)):
        options |= dict(return_dict=True, verbose=0)
        expected = twin.evaluate(**options)
        assert model.evaluate(**options) == expected
        assert set(expected) == {"loss", "accuracy"}
    on_batch = model.test_on_batch(X, Y, return_dict=True)
    assert on_batch == twin.test_on_batch(X, Y, return_dict=True)
    assert model.metrics_names == twin.metrics_names


def in_a_row():
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.dense(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], CLASSES)


def subclassed():
    model = Subclassed()
    model(X[:1])
    return model


@pytest.mark.parametrize("make", [hidden, in_a_row, subclassed])
def test_is_a_layer_of_other_models(make):
    model = kd.DrMADModel.from_model(make())
    inputs = keras.Input((FEATURES,))
    softened = keras.Model(inputs, keras.layers.Softmax()(model(inputs)))
    outputs = model.predict(X, verbose=0)
    np.testing.assert_allclose(
        softened.predict(X, verbose=0),
        keras.ops.softmax(outputs),
        rtol=1e-5,
    )
    inputs = keras.Input((1, FEATURES))
    each = keras.Model(inputs, keras.layers.TimeDistributed(model)(inputs))
    np.testing.assert_allclose(
        each.predict(X[:, None], verbose=0)[:, 0], outputs, rtol=1e-5
    )


def test_refuses_single_steps():
    model = compiled()
    before = numbers(model)
    with pytest.raises(RuntimeError, match="meta_iterations=0"):
        model.train_on_batch(X, Y)
    assert_same(numbers(model), before)


# ---- one hypergradient

ONCE = {k: v for k, v in FIT.items() if k != "verbose"}
ONCE["validation_data"] = VALIDATION


@pytest.fixture(scope="module")
def noisy():
    """A model with masks to draw, moving averages and moments."""
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Dense(5, activation="tanh")(inputs)
    h = keras.layers.BatchNormalization()(h)
    h = keras.layers.Dropout(0.5)(h)
    net = keras.Model(inputs, keras.layers.Dense(CLASSES)(h))
    return compiled(net, optimizer=keras.optimizers.Adam(0.05))


def test_one_hypergradient_leaves_everything(noisy, capsys):
    fit(noisy)  # now nothing is at its start
    before = numbers(noisy)
    found = noisy.hypergradient(**ONCE)
    loss = noisy.validation_loss_after(**ONCE)
    assert_same(numbers(noisy), before)
    assert found.validation_loss == loss
    assert set(found.gradients) == {"l2"}
    assert found.gradients["l2"].shape == noisy.hyperparameters[0].raw.shape
    assert found.diagnostics["reverse_steps"] == 1
    assert capsys.readouterr().out == ""


def test_one_hypergradient_is_drawn_by_its_seed(noisy):
    def run(seed, shuffle):
        options = ONCE | {"seed": seed, "shuffle": shuffle}
        record = noisy.hypergradient(**options)
        return np.append(flat(record.gradients), record.validation_loss)

    first, other, again = run(1, True), run(2, True), run(1, True)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()
    # The seed draws the masks of dropout, and not only the order.
    assert not np.isclose(run(1, False), run(2, False)).any()


# ---- compiled again


def test_compiled_again_keeps_what_was_learned():
    l2 = kd.hyperparameters.L2(per="input", initial=1e-2)
    model = compiled(hyperparameters=[l2])
    fit(model, keep="last")
    learned = np.array(l2.raw)
    model.compile("sgd", cross_entropy(), hyperparameters=[l2])
    np.testing.assert_array_equal(l2.raw, learned)
    assert np.ptp(learned) > 0


def test_hyperparameters_belong_to_the_model_compiled_last():
    shared = kd.hyperparameters.L2()
    first = compiled(hyperparameters=[shared])
    second = compiled(hyperparameters=[shared])
    with pytest.raises(ValueError, match="'l2' was compiled into another"):
        fit(first)
    fit(second)


def test_layers_may_be_frozen_between_two_fits():
    model = compiled(hidden())
    fit(model)
    model.elementary_model.get_layer("first").trainable = False
    model.compile(
        keras.optimizers.SGD(0.1),
        cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2(per="input", layers="last")],
        jit_compile=False,
    )
    fit(model)
    ends = [w.shape for w in model.end_weights]
    assert ends == [v.shape for v in model.trainable_variables]
