"""A second `compile` goes on with loops that are the same, and no others.

Witness of every number is a model that was compiled only once.
"""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import regression
from conftest import reseed
from keras_drmad.hyperparameters import L1, L2, LearningRate, Momentum
from keras_drmad.seam import traits

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(24)
HELD_OUT = regression(7, seed=1)
RATE = 0.05
FEATURES = X.shape[1]


class Scaled(keras.layers.Layer):
    """Multiplies by Python numbers, one in training and one in validation."""

    def __init__(self):
        super().__init__()
        self.trained, self.validated = 1.0, 1.0

    def call(self, x, training=False):
        return x * (self.trained if training else self.validated)


def linear():
    inputs = keras.Input((FEATURES,))
    return inputs, Scaled()(keras.layers.Dense(1)(inputs))


def deep():
    """Returns a net that draws, and has variables that steps change."""
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Dense(4, "tanh")(inputs)
    h = keras.layers.Dropout(0.2, seed=1)(h)
    h = Scaled()(keras.layers.BatchNormalization()(h))
    return inputs, keras.layers.Dense(1)(h)


def recurrent():
    """Returns a net whose steps have loops, functions in the graph."""
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Reshape((FEATURES, 1))(inputs)
    return inputs, keras.layers.Dense(1)(keras.layers.GRU(3)(h))


def model_of(net):
    reseed()
    return kd.DrMADModel(*net())


def compile_(model, **options):
    defaults = dict(
        optimizer=sgd(),
        loss="mse",
        metrics=["mae"],
        hyperparameters=[L2(per="input", initial=1e-2)],
        hypergradient=kd.ReverseMode(),
        jit_compile=False,
        self_check=False,
    )
    model.compile(**(defaults | options))


def sgd(rate=RATE, momentum=0.5, **options):
    return keras.optimizers.SGD(rate, momentum=momentum, **options)


def numbers(model):
    found = model.hypergradient(X, Y, 8, epochs=3, validation_data=HELD_OUT)
    return [found.validation_loss, *map(np.asarray, found.gradients.values())]


def assert_as_compiled_once(model, net, change=None, **options):
    again = model_of(net)
    if change:
        change(again)
    compile_(again, **options)
    for a, b in zip(numbers(model), numbers(again), strict=True):
        np.testing.assert_array_equal(a, b)


def forward_of(model):
    return model._assembly.loops._loops  # what is kept, by name and record


def kept(model, before):
    """Returns which loops are those of before, by name."""
    now = forward_of(model)
    return {key[0] for key in now if now[key] is before.get(key)}


STEPS = {"forward", "backward"}
weight = tf.Variable(1.5, dtype="float64")


def times(number):
    return lambda y, y_pred: number * keras.ops.mean((y - y_pred) ** 2)


def by_variable(y, y_pred):
    return weight * keras.ops.mean((y - y_pred) ** 2)


GOES_ON = {
    "nothing new": ({}, {}),
    "another rate": ({}, dict(optimizer=sgd(0.01))),
    "another value": ({}, dict(hyperparameters=[L2("input", initial=0.1)])),
    "adam": (
        dict(optimizer=keras.optimizers.Adam(0.01)),
        dict(optimizer=keras.optimizers.Adam(0.02)),
    ),
    "a tuned rate": (
        dict(hyperparameters=[LearningRate(), Momentum()]),
        dict(hyperparameters=[LearningRate(), Momentum()]),
    ),
    "an equal function": (dict(loss=times(2.0)), dict(loss=times(2.0))),
    "an equal tensor": (
        dict(loss=times(tf.constant(2.0, "float64"))),
        dict(loss=times(tf.constant(2.0, "float64"))),
    ),
    "a variable around Keras": (dict(loss=by_variable), dict(loss=by_variable)),
    "no averages": (
        dict(optimizer=sgd(use_ema=True)),
        dict(optimizer=sgd(use_ema=True)),
    ),
}
BEGINS_ANEW = {
    "another momentum": dict(optimizer=sgd(momentum=0.25)),
    "another optimizer": dict(optimizer=keras.optimizers.Adam(RATE)),
    "clipping": dict(optimizer=sgd(global_clipnorm=0.1)),
    "a schedule": dict(
        optimizer=sgd(keras.optimizers.schedules.CosineDecay(RATE, 9))
    ),
    "another loss": dict(loss="mae"),
    "another function": dict(loss=times(3.0)),
    "another tensor": dict(loss=times(tf.constant(3.0, "float64"))),
    "another kind": dict(hyperparameters=[L1(per="input", initial=1e-2)]),
    "other groups": dict(hyperparameters=[L2(per="layer", initial=1e-2)]),
    "more kinds": dict(hyperparameters=[L2(), LearningRate()]),
    "other metrics": dict(metrics=["mse", "mape"]),
    "another name": dict(hyperparameters=[L2(per="input", name="other")]),
}


@pytest.mark.parametrize(
    "name, net",
    [
        *((name, linear) for name in GOES_ON),
        ("another rate", deep),
        ("another rate", recurrent),
    ],
)
def test_goes_on(name, net):
    first, second = GOES_ON[name]
    model = model_of(net)
    compile_(model, **renewed(first))
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, **renewed(second))
    gc.collect()  # the first optimizer and the first metrics
    numbers(model)
    assert kept(model, before) == STEPS
    assert max(model._assembly.loops.traces().values()) == 1
    assert_as_compiled_once(model, net, **renewed(second))


def renewed(options):
    """Returns options of `compile` with objects that no model has yet."""

    def new(one):
        return type(one).from_config(one.get_config())

    made = dict(options)
    if "optimizer" in made:
        made["optimizer"] = new(made["optimizer"])
    if "hyperparameters" in made:
        made["hyperparameters"] = list(map(new, made["hyperparameters"]))
    return made


@pytest.mark.parametrize("name", BEGINS_ANEW)
def test_begins_anew(name):
    options = dict(loss=times(2.0)) | BEGINS_ANEW[name]
    model = model_of(linear)
    compile_(model, loss=times(2.0))
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, **renewed(options))
    numbers(model)
    assert not kept(model, before)
    # Loops that were all made anew know nothing of the first ones.
    if name in ("another optimizer", "other metrics", "more kinds"):
        assert_as_compiled_once(model, linear, **renewed(options))


@pytest.mark.parametrize(
    "name, goes_on", [("trained", False), ("validated", True)]
)
def test_a_number_changed_in_a_layer_counts(name, goes_on):
    model = model_of(linear)
    compile_(model)
    numbers(model)
    before = dict(forward_of(model))

    def change(model):
        (layer,) = (x for x in model.layers if isinstance(x, Scaled))
        setattr(layer, name, 2.0)

    change(model)
    compile_(model)
    numbers(model)
    assert kept(model, before) == (STEPS if goes_on else set())
    assert_as_compiled_once(model, linear, change)


def test_another_variable_around_keras_is_read():
    model = model_of(linear)
    variables = [tf.Variable(v, dtype="float64") for v in (1.5, 1.5)]
    losses = [
        lambda y, z, v=v: v * keras.ops.mean((y - z) ** 2) for v in variables
    ]
    compile_(model, loss=losses[0])
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, loss=losses[1])
    variables[0].assign(100.0)
    numbers(model)
    assert not kept(model, before)
    assert_as_compiled_once(model, linear, loss=times(1.5))


def test_what_the_first_compile_had_is_not_read():
    model = model_of(linear)
    optimizer, l2 = sgd(), L2(per="input", initial=1e-2)
    compile_(model, optimizer=optimizer, hyperparameters=[l2])
    numbers(model)
    before = dict(forward_of(model))
    compile_(model)
    optimizer.learning_rate = 100.0
    l2.raw.assign(l2.raw + 10)
    numbers(model)
    assert kept(model, before) == STEPS
    assert_as_compiled_once(model, linear)


def test_frozen_layers_begin_anew():
    model = model_of(deep)
    compile_(model)
    numbers(model)
    before = dict(forward_of(model))

    def change(model):
        model.layers[1].trainable = False

    change(model)
    compile_(model)
    numbers(model)
    assert not kept(model, before)
    assert_as_compiled_once(model, deep, change)


def test_goes_on_over_a_compile_without_training():
    model = model_of(linear)
    compile_(model)
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, loss="mae")
    compile_(model)
    numbers(model)
    assert kept(model, before) == STEPS
    assert_as_compiled_once(model, linear)


def test_gauss_newton_begins_anew():
    model = model_of(linear)
    method = dict(hypergradient=kd.DrMAD(curvature="gauss_newton"))
    compile_(model, **method)
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, **method)
    numbers(model)
    assert kept(model, before) == {"forward"}
    assert_as_compiled_once(model, linear, **method)


def test_goes_on_with_other_lengths_and_batches():
    model = model_of(linear)
    compile_(model)
    numbers(model)
    compile_(model)
    fresh = model_of(linear)
    compile_(fresh)
    for one in (3, 8, 5):
        a, b = (
            each.hypergradient(X, Y, one, epochs=2, validation_data=HELD_OUT)
            for each in (model, fresh)
        )
        assert a.validation_loss == b.validation_loss
        for x, y in zip(
            a.gradients.values(), b.gradients.values(), strict=True
        ):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("first", [True, False])
def test_xla_or_not_begins_anew(first):
    model = model_of(linear)
    compile_(model, jit_compile=first)
    numbers(model)
    before = dict(forward_of(model))
    compile_(model, jit_compile=not first)
    numbers(model)
    assert not kept(model, before)
    assert model.uses_xla is not first


def test_goes_on_with_xla_that_has_been_paid_for(monkeypatch):
    monkeypatch.setattr(traits, "PAYS_FROM", 20)
    model = model_of(linear)
    compile_(model, jit_compile="auto")
    numbers(model)
    assert not model.uses_xla  # 9 steps
    for _ in range(2):
        numbers(model)
    assert model.uses_xla
    before = dict(forward_of(model))
    compile_(model, jit_compile="auto")
    numbers(model)
    assert model.uses_xla
    assert kept(model, before) == STEPS
