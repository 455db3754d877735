"""Exact hypergradients against central differences, for every data of `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from checks import assert_exact_hypergradient
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.core.span import CHUNK_SIZE
from keras_drmad.hyperparameters import L2, InitialWeights, LearningRate
from small_models import built_once

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)
VALIDATION = regression(7, seed=1)
# 4 batches a pass, and a short batch at the end of the validation set.
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function to the one model of this file, as new."""

    def build():
        # What acts in the loss, in the update, and at the start: the last is
        # the adjoint of the first state, carried through all chunks.
        kinds = [L2("input", 0.05), LearningRate("layer"), InitialWeights()]
        return exact_model(tanh_net(), kinds)

    return built_once(build)


@pytest.fixture
def model(model_of):
    return model_of()


# ---- every length


LENGTHS = [
    (1, 1),
    (1, 4),  # a pass
    (1, CHUNK_SIZE),  # the most that a loop takes in one call
    (1, CHUNK_SIZE + 1),
    (2, CHUNK_SIZE // 2),  # the last epoch has chunks of its own
    (3, CHUNK_SIZE * 3 // 4),
]


@pytest.mark.parametrize("epochs, steps", LENGTHS, ids=str)
def test_any_length(model, epochs, steps):
    training = TRAINING | {"epochs": epochs, "steps_per_epoch": steps}
    is_long = steps * epochs >= CHUNK_SIZE
    assert_exact_hypergradient(model, X, Y, together=is_long, **training)


def test_one_process_describes_nothing_to_others(model, monkeypatch):
    # What hyperparameters are made of may be all data, in Python's lists.
    monkeypatch.setattr(InitialWeights, "get_config", None)
    model.hypergradient(X, Y, **TRAINING)


# ---- every data


def test_unshuffled(model):
    assert_exact_hypergradient(model, X, Y, shuffle=False, **TRAINING)


def test_some_of_the_validation_batches(model):
    training = TRAINING | {"validation_batch_size": 3, "validation_steps": 2}
    assert_exact_hypergradient(model, X, Y, **training)


def test_a_short_last_batch_in_each_pass(model):
    assert_exact_hypergradient(model, X[:18], Y[:18], **TRAINING)


def test_sample_weight(model):
    weights = np.linspace(0, 2, len(X))
    validation = (*VALIDATION, np.linspace(1, 3, len(VALIDATION[0])))
    training = TRAINING | {"validation_data": validation}
    assert_exact_hypergradient(model, X, Y, sample_weight=weights, **training)


def test_class_weight():
    model = exact_model(
        tanh_net(),
        [L2("layer", 0.05)],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    y, y_val = Y.argmax(1), VALIDATION[1].argmax(1)
    training = TRAINING | {"validation_data": (VALIDATION[0], y_val)}
    assert_exact_hypergradient(
        model, X, y, class_weight={0: 0.5, 1: 3.0}, **training
    )


def test_a_stream(model):
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    validation = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(5)
    assert_exact_hypergradient(
        model, stream, epochs=3, validation_data=validation
    )
