"""What `jit_compile="auto"` takes, and that `fit` has the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import loops_of
from keras_drmad.training import assembly
from small_models import VALIDATION, X, Y, assert_same, compiled, fit, hidden


def result(jit_compile):
    # No dropout: XLA has another random generator.
    model = compiled(
        hidden(),
        hyperparameters=[
            kd.hyperparameters.L2(per="input", initial=1e-2),
            kd.hyperparameters.LearningRate(),
        ],
        hypergradient=kd.DrMAD(reverse_steps=5),
        jit_compile=jit_compile,
    )
    # A short batch at the end of each epoch.
    return model, fit(model, batch_size=7, meta_iterations=3)


@pytest.fixture
def soon(monkeypatch):
    """Compiling pays from 20 steps on, not from 4,000."""
    monkeypatch.setattr(assembly, "PAYS_FROM", 20)


def test_auto_takes_xla_and_gives_the_same_numbers(soon):
    without, expected = result(False)
    model, logs = result("auto")
    assert model.uses_xla and not without.uses_xla
    # float32, sums in another order, and three steps on hyperparameters.
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-3, atol=1e-6)
    tolerance = dict(rtol=1e-3, atol=1e-5)
    assert_same(model.get_weights(), without.get_weights(), **tolerance)


def asked_for(**training):
    """Asks for a training, which does not begin yet."""
    return dict(batch_size=8, validation_data=VALIDATION, **training)


def test_auto_compiles_once_enough_steps_were_asked_for():
    model = compiled(jit_compile="auto")
    model.hypergradient(X, Y, **asked_for(steps_per_epoch=3))
    assert model.uses_xla is False
    model.prepared(X, Y, **asked_for(steps_per_epoch=3, trainings=1_332))
    assert model.uses_xla is False  # 3,999 steps
    model.prepared(X, Y, **asked_for(steps_per_epoch=1))
    assert model.uses_xla is True
    # What is compiled stays in use.
    traced = model.prepared(X, Y, **asked_for(steps_per_epoch=1))[0].loops
    assert loops_of(model) is traced


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_change_nothing_where_jit_compile_says_it(jit_compile):
    model = compiled(jit_compile=jit_compile)
    for steps in (1, 5_000):
        model.prepared(X, Y, **asked_for(steps_per_epoch=steps))
        assert model.uses_xla is jit_compile


def test_auto_counts_all_trainings_of_a_fit_and_of_a_check(soon):
    model = compiled(jit_compile="auto")
    fit(model, epochs=1, steps_per_epoch=3, meta_iterations=6)
    assert not model.uses_xla  # 18 steps
    model = compiled(jit_compile="auto")
    fit(model, epochs=1, steps_per_epoch=3, meta_iterations=7)
    assert model.uses_xla
    model = compiled(jit_compile="auto")
    model.check_hypergradient(X, Y, **asked_for(steps_per_epoch=3))
    assert model.uses_xla  # 7 trainings


def images(x):
    """Returns images of four pixels."""
    return x.reshape(-1, 2, 2, 1)


def with_convolution():
    inputs = keras.Input((2, 2, 1))
    h = keras.layers.Conv2D(2, 2)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(h)))


def with_pooling():
    inputs = keras.Input((2, 2, 1))
    h = keras.layers.MaxPooling2D(2)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(h)))


@pytest.mark.parametrize("make", [with_convolution, with_pooling])
def test_auto_takes_no_xla_for_images_on_a_cpu(make):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU runs these well with XLA")
    model = compiled(make(), jit_compile="auto")
    x_val, y_val = VALIDATION
    data = asked_for(steps_per_epoch=5_000)
    data["validation_data"] = images(x_val), y_val
    model.prepared(images(X), Y, **data)
    assert not model.uses_xla
