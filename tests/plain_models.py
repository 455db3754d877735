"""What the tests of models that leave for plain Keras share."""

import warnings

import keras
import numpy as np
import pytest

from closed_forms import exact_model, regression, tanh_net

T = 6  # two epochs of three batches, the last one short
X, Y = regression(11)
ONE_HOT = np.eye(2)[np.arange(11) % 2]
WEIGHTS = ["a/kernel", "a/bias", "b/kernel", "b/bias"]
# Keras makes a float32 tensor of a Python float, in float64, too.
SINGLE = 2e-7


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.8)


def learned(hyperparameters, optimizer=None, net=None, **options):
    """Returns a model with weights and values that no constructor gives."""
    model = exact_model(
        tanh_net() if net is None else net,
        hyperparameters,
        optimizer or momentum(),
        **options,
    )
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=w.shape) / 2 for w in model.get_weights()]
    )
    for h in model.hyperparameters:
        h.raw.assign(h.raw.value + generator.normal(size=h.raw.shape) / 5)
        h.assign(h.value().numpy().astype("float32"))  # see `SINGLE`
    return model


def exported(*args, **options):
    """Returns what leaves, without a warning, and the hyperparameters."""
    model = learned(*args, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.to_keras(), *model.hyperparameters


def left_out(*args, **options):
    """Returns what leaves, and the hyperparameters, of which one does not."""
    model = learned(*args, **options)
    with pytest.warns(UserWarning, match="no place in plain Keras") as caught:
        plain = model.to_keras()
    assert list(plain.left_out) == [model.hyperparameters[0].name]
    (warning,) = caught
    assert f"'{model.hyperparameters[0].name}'" in str(warning.message)
    assert warning.filename == __file__
    return plain, *model.hyperparameters
