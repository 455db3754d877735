"""A second `compile` goes on with loops that are the same, and no others.

Witness of every number is a model that was compiled only once.
"""

import functools
import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import loops_of
from closed_forms import regression
from conftest import reseed
from keras_drmad.hyperparameters import L1, L2, LearningRate, Momentum
from keras_drmad.seam import traits

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(24)
HELD_OUT = regression(8, seed=1)
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


def prepare(model):
    """Settles which loops `numbers` would take, of which it traces none."""
    model.prepared(X, Y, batch_size=8, epochs=3, validation_data=HELD_OUT)


def assert_same(some, others):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_as_compiled_once(model, net, **options):
    again = model_of(net)
    compile_(again, **options)
    assert_same(numbers(model), numbers(again))


@pytest.fixture(scope="module")
def linear_model(float64):
    """Returns the model that tests compile, each of them twice."""
    return model_of(linear)


@pytest.fixture(scope="module")
def compiled_once(float64):
    model = model_of(linear)
    compile_(model)
    return model


@pytest.fixture(scope="module")
def first_assembly(linear_model):
    compile_(linear_model, loss=times(2.0))
    prepare(linear_model)
    return linear_model._assembly


@pytest.fixture
def doubled_model(linear_model, first_assembly):
    """Returns that model as its `compile` with `times(2.0)` left it."""
    linear_model._assembly = first_assembly
    return linear_model


def forward_of(model):
    return loops_of(model)._loops  # what is kept, by name and record


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
    "another rate and value": (
        {},
        dict(optimizer=sgd(0.01), hyperparameters=[L2("input", initial=0.1)]),
    ),
    "adam": (
        dict(optimizer=keras.optimizers.Adam(0.01)),
        dict(optimizer=keras.optimizers.Adam(0.02)),
    ),
    "a tuned rate, averages": (
        dict(
            optimizer=sgd(use_ema=True),
            hyperparameters=[LearningRate(), Momentum()],
        ),
    )
    * 2,
}
EQUAL_LOSSES = {
    "an equal tensor": lambda: times(tf.constant(2.0, "float64")),
    "a variable around Keras": lambda: by_variable,
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
    [*((name, linear) for name in GOES_ON), ("another rate and value", deep)],
)
def test_goes_on(linear_model, name, net):
    first, second = GOES_ON[name]
    model = linear_model if net is linear else model_of(net)
    compile_(model, **renewed(first))
    once = numbers(model)
    before = dict(forward_of(model))
    compile_(model, **renewed(second))
    gc.collect()  # the first optimizer and the first metrics
    again = numbers(model)
    assert kept(model, before) == STEPS
    assert max(loops_of(model).traces().values()) == 1
    if first is second:
        assert_same(once, again)
    else:
        assert_as_compiled_once(model, net, **renewed(second))


@pytest.mark.parametrize("name", EQUAL_LOSSES)
def test_goes_on_with_an_equal_loss(linear_model, name):
    compile_(linear_model, loss=EQUAL_LOSSES[name]())
    prepare(linear_model)
    before = loops_of(linear_model)
    compile_(linear_model, loss=EQUAL_LOSSES[name]())
    prepare(linear_model)
    assert loops_of(linear_model) is before


def test_goes_on_with_equal_functions_within_a_step():
    model = model_of(recurrent)
    compile_(model)
    prepare(model)
    before = loops_of(model)
    compile_(model, optimizer=sgd(0.01))
    prepare(model)
    assert loops_of(model) is before


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


def test_goes_on_with_an_equal_function(doubled_model):
    before = loops_of(doubled_model)
    compile_(doubled_model, loss=times(2.0))
    prepare(doubled_model)
    assert loops_of(doubled_model) is before


@pytest.mark.parametrize("name", BEGINS_ANEW)
def test_begins_anew(doubled_model, name):
    before = loops_of(doubled_model)
    options = dict(loss=times(2.0)) | BEGINS_ANEW[name]
    compile_(doubled_model, **renewed(options))
    prepare(doubled_model)
    assert loops_of(doubled_model) is not before


def test_loops_made_anew_know_nothing_of_the_first_ones():
    model = model_of(linear)
    compile_(model)
    numbers(model)
    before = dict(forward_of(model))
    names = "another optimizer", "other metrics", "more kinds"
    options = functools.reduce(dict.__or__, map(BEGINS_ANEW.get, names))
    compile_(model, **renewed(options))
    numbers(model)
    assert not kept(model, before)
    assert_as_compiled_once(model, linear, **renewed(options))


def change(model, name):
    (layer,) = (x for x in model.layers if isinstance(x, Scaled))
    setattr(layer, name, 2.0)


def test_a_number_changed_in_a_layer_begins_anew():
    model = model_of(linear)
    compile_(model)
    prepare(model)
    before = loops_of(model)
    change(model, "trained")
    compile_(model)
    prepare(model)
    assert loops_of(model) is not before


def test_a_number_changed_for_validation_is_read():
    model = model_of(linear)
    compile_(model)
    numbers(model)
    before = dict(forward_of(model))
    change(model, "validated")
    compile_(model)
    found = numbers(model)
    assert kept(model, before) == STEPS
    again = model_of(linear)
    change(again, "validated")
    compile_(again)
    assert_same(found, numbers(again))


def test_another_variable_around_keras_is_read(linear_model):
    variables = [tf.Variable(v, dtype="float64") for v in (1.5, 1.5)]
    losses = [
        lambda y, z, v=v: v * keras.ops.mean((y - z) ** 2) for v in variables
    ]
    compile_(linear_model, loss=losses[0])
    prepare(linear_model)
    before = loops_of(linear_model)
    compile_(linear_model, loss=losses[1])
    prepare(linear_model)
    assert loops_of(linear_model) is not before


def test_what_the_first_compile_had_is_not_read(linear_model, compiled_once):
    optimizer, l2 = sgd(), L2(per="input", initial=1e-2)
    compile_(linear_model, optimizer=optimizer, hyperparameters=[l2])
    numbers(linear_model)
    before = dict(forward_of(linear_model))
    compile_(linear_model)
    optimizer.learning_rate = 100.0
    l2.raw.assign(l2.raw + 10)
    found = numbers(linear_model)
    assert kept(linear_model, before) == STEPS
    assert_same(found, numbers(compiled_once))


def test_goes_on_over_a_compile_without_training(linear_model, compiled_once):
    compile_(linear_model)
    numbers(linear_model)
    before = dict(forward_of(linear_model))
    compile_(linear_model, loss="mae")
    compile_(linear_model)
    found = numbers(linear_model)
    assert kept(linear_model, before) == STEPS
    assert_same(found, numbers(compiled_once))


def test_goes_on_with_other_lengths_and_batches(linear_model, compiled_once):
    compile_(linear_model)
    numbers(linear_model)
    compile_(linear_model)
    for one in (8, 5):
        a, b = (
            each.hypergradient(X, Y, one, epochs=2, validation_data=HELD_OUT)
            for each in (linear_model, compiled_once)
        )
        assert a.validation_loss == b.validation_loss
        assert_same(a.gradients.values(), b.gradients.values())


def test_frozen_layers_begin_anew():
    model = model_of(deep)
    compile_(model)
    prepare(model)
    before = loops_of(model)
    model.layers[1].trainable = False
    compile_(model)
    prepare(model)
    assert loops_of(model) is not before


def test_gauss_newton_begins_anew():
    model = model_of(linear)
    method = dict(hypergradient=kd.DrMAD(curvature="gauss_newton"))
    compile_(model, **method)
    once = numbers(model)
    before = dict(forward_of(model))
    compile_(model, **method)
    again = numbers(model)
    assert kept(model, before) == {"forward"}
    assert_same(once, again)


@pytest.mark.parametrize("first", [True, False])
def test_xla_or_not_begins_anew(linear_model, first):
    compile_(linear_model, jit_compile=first)
    prepare(linear_model)
    before = loops_of(linear_model)
    compile_(linear_model, jit_compile=not first)
    prepare(linear_model)
    assert loops_of(linear_model) is not before
    assert linear_model.uses_xla is not first


def test_goes_on_with_xla_that_has_been_paid_for(monkeypatch):
    monkeypatch.setattr(traits, "PAYS_FROM", 20)
    model = model_of(linear)
    compile_(model, jit_compile="auto")
    prepare(model)
    assert not model.uses_xla  # 9 steps
    prepare(model)
    numbers(model)
    assert model.uses_xla
    before = dict(forward_of(model))
    compile_(model, jit_compile="auto")
    numbers(model)
    assert model.uses_xla
    assert kept(model, before) == STEPS
