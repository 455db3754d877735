"""Exact hypergradients against central differences, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_derivative, assert_exact_hypergradient, flat
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.hyperparameters import L1, L2, LearningRate

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)
VALIDATION = regression(7, seed=1)
# 4 batches a pass, and a short batch at the end of the validation set.
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}
PER = ("all", "layer", "input", "weight")
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.05),
}


def every_kind():
    """Returns every penalty at every grouping, and a rate for each layer.

    |w| has a kink where a weight crosses 0, and so has the validation loss:
    differences must be small, and trainings with `L1` short.
    """
    penalties = [
        kind(per, 0.02, biases=per in ("layer", "weight"), name=f"{name}_{per}")
        for name, kind in (("l1", L1), ("l2", L2))
        for per in PER
    ]
    return [*penalties, LearningRate("layer")]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_kind_at_once(optimizer):
    model = exact_model(tanh_net(), every_kind(), OPTIMIZERS[optimizer]())
    assert_exact_hypergradient(model, X, Y, **TRAINING)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_one_learning_rate(optimizer):
    kinds = [LearningRate(initial=0.1)]
    model = exact_model(tanh_net(), kinds, OPTIMIZERS[optimizer]())
    assert_exact_hypergradient(model, X, Y, **TRAINING)


def test_learning_rate_of_one_layer():
    kinds = [LearningRate(layers="a"), L2("input", 0.02)]
    model = exact_model(tanh_net(), kinds)
    assert_exact_hypergradient(model, X, Y, **TRAINING)


# ---- every length, and every data that `fit` takes


@pytest.fixture(scope="module")
def momentum_model(float64):
    keras.utils.set_random_seed(0)
    return exact_model(tanh_net(), [L2("input", 0.05), LearningRate("layer")])


@pytest.mark.parametrize(
    "epochs, steps",
    [(1, 1), (1, 4), (1, 100), (1, 101), (2, 50), (3, 77)],
    ids=lambda n: str(n),
)
def test_any_length(momentum_model, epochs, steps):
    # Loops take 100 iterations a call, and start anew with the last epoch.
    training = TRAINING | {"epochs": epochs, "steps_per_epoch": steps}
    assert_exact_hypergradient(momentum_model, X, Y, **training)


def test_unshuffled(momentum_model):
    assert_exact_hypergradient(momentum_model, X, Y, shuffle=False, **TRAINING)


def test_some_of_the_validation_batches(momentum_model):
    training = TRAINING | {"validation_batch_size": 3, "validation_steps": 2}
    assert_exact_hypergradient(momentum_model, X, Y, **training)


def test_a_short_last_batch_in_each_pass(momentum_model):
    assert_exact_hypergradient(momentum_model, X[:18], Y[:18], **TRAINING)


def test_sample_weight(momentum_model):
    weights = np.linspace(0, 2, len(X))
    validation = (*VALIDATION, np.linspace(1, 3, len(VALIDATION[0])))
    training = TRAINING | {"validation_data": validation}
    assert_exact_hypergradient(
        momentum_model, X, Y, sample_weight=weights, **training
    )


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


def test_a_stream(momentum_model):
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    validation = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(5)
    assert_exact_hypergradient(
        momentum_model, stream, epochs=3, validation_data=validation
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_with_xla(optimizer):
    kinds = [L2("input", 0.05), LearningRate("layer")]
    model = exact_model(
        tanh_net(), kinds, OPTIMIZERS[optimizer](), jit_compile=True
    )
    training = TRAINING | {"steps_per_epoch": 45}
    assert_exact_hypergradient(model, X, Y, **training)


# ---- the weights' start


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_start_weights(optimizer, monkeypatch):
    model = exact_model(
        tanh_net(), [L2("input", 0.05)], OPTIMIZERS[optimizer]()
    )
    training = TRAINING | {"epochs": 30}
    model.hypergradient(X, Y, **training)
    walks = model._compiled_walks[2]
    back, ways = walks.back, []

    def recorded(*args):
        ways.append(back(*args))
        return ways[-1]

    monkeypatch.setattr(walks, "back", recorded)
    model.hypergradient(X, Y, **training)
    weights = model.elementary_model.trainable_variables
    assert len(ways) > 1  # the adjoint was carried from chunk to chunk
    assert_derivative(
        lambda: model.validation_loss_after(X, Y, **training),
        weights,
        ways[-1].adjoint[: len(weights)],
    )


# ---- numbers that stay


@pytest.fixture(scope="module")
def dropout_model(float64):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, activation="tanh")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    outputs = keras.layers.Dense(2)(x)
    kinds = [L2("input", 0.05), LearningRate()]
    return exact_model((inputs, outputs), kinds, keras.optimizers.Adam(0.05))


def test_the_same_seed_gives_the_same_numbers(dropout_model):
    def run(seed, shuffle):
        record = dropout_model.hypergradient(
            X, Y, seed=seed, shuffle=shuffle, **TRAINING
        )
        return np.append(flat(record.gradients), record.validation_loss)

    first, other, again = run(1, True), run(2, True), run(1, True)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()
    # The seed draws the masks of dropout, and not only the order.
    assert not np.isclose(run(1, False), run(2, False)).any()


def test_hypergradient_leaves_the_model_as_it_was(dropout_model):
    model = dropout_model
    model.fit(X, Y, seed=1, verbose=0, meta_iterations=2, **TRAINING)
    variables = [
        *model.variables,
        *model.optimizer.variables,
        *model.meta_optimizer.variables,
        *(h.raw for h in model.hyperparameters),
    ]
    before = [np.array(v) for v in variables]
    model.hypergradient(X, Y, **TRAINING)
    model.validation_loss_after(X, Y, **TRAINING)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, variable.path)


STORED = kd.ReverseMode()


@pytest.mark.parametrize(
    "method", [STORED, kd.DrMAD(0.5, last=0.5)], ids=["reverse", "drmad"]
)
def test_every_loop_is_traced_once(method):
    kinds = [L2("input", 0.05), LearningRate(initial=0.1)]
    model = exact_model(tanh_net(), kinds, hypergradient=method)
    for epochs, rate in ((3, 0.1), (1, 0.05), (40, 0.01)):
        kinds[1].assign(rate)
        model.fit(
            X[:18],
            Y[:18],
            verbose=0,
            meta_iterations=2,
            initial_weights="resample",
            **TRAINING | {"epochs": epochs},
        )
    model.hypergradient(X[:18], Y[:18], **TRAINING)
    walks = model._compiled_walks[2]
    taken = [walks.there_noting, walks.differentiate, walks.back]
    for loop in taken + [walks.there] * (method is not STORED):
        assert loop.experimental_get_tracing_count() == 1
