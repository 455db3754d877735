"""What `jit_compile="auto"` takes, and that `fit` has the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
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


def test_auto_takes_xla_and_gives_the_same_numbers():
    without, expected = result(False)
    model, logs = result("auto")
    assert model.uses_xla and not without.uses_xla
    # float32, sums in another order, and three steps on hyperparameters.
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-3, atol=1e-6)
    tolerance = dict(rtol=1e-3, atol=1e-5)
    assert_same(model.get_weights(), without.get_weights(), **tolerance)


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
    validation = images(x_val), y_val
    model.validation_loss_after(images(X), Y, 8, validation_data=validation)
    assert not model.uses_xla
