"""The optimizers table: every stock optimizer crossed with what it keeps.

As in Keras's own `fit`; differentiable; the same when its steps are replayed.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras.optimizers.schedules import CosineDecay, ExponentialDecay

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from closed_forms import exact_model, regression
from conftest import reseed
from keras_drmad.hyperparameters import L2, LearningRate
from small_models import assert_helps, built_once

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(12)
X[:, 3] = 0  # a dead input: many updates divide by the root of its gradients
TRAINING = {
    "batch_size": 4,
    "epochs": 3,
    "validation_data": regression(6, seed=1),
}
# Keras rounds Python numbers to float32: take coefficients that survive it.
COEFFICIENT = 2.0**-5

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
RMSprop = keras.optimizers.RMSprop


class Row(NamedTuple):
    """An optimizer, and what sets it apart from the others.

    Attributes:
        make: function that returns a new optimizer.
        as_keras: float, the error against Keras's own `fit`, at most; `None`
            where Keras does not what it says (see the test of the formula).
        penalties: bool, whether penalties reach the weights; a sign hides them.
        reversible: bool, whether steps can be taken back bit for bit.
    """

    make: Callable[[], keras.Optimizer]
    as_keras: float | None = 1e-12
    penalties: bool = True
    reversible: bool = False


def excluding_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


UPDATES = {
    "sgd": Row(lambda: SGD(0.1)),
    "momentum": Row(lambda: SGD(0.1, momentum=0.9), reversible=True),
    "nesterov": Row(lambda: SGD(0.1, momentum=0.9, nesterov=True)),
    "adam": Row(lambda: Adam(0.02)),
    "adamw": Row(lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1)),
    "adamax": Row(lambda: keras.optimizers.Adamax(0.02)),
    "nadam": Row(lambda: keras.optimizers.Nadam(0.02)),
    "rmsprop": Row(lambda: RMSprop(0.01)),
    "adagrad": Row(lambda: keras.optimizers.Adagrad(0.1)),
    "adadelta": Row(lambda: keras.optimizers.Adadelta(1.0)),
    "lamb": Row(lambda: keras.optimizers.Lamb(0.02)),
    "lion": Row(lambda: keras.optimizers.Lion(0.01), penalties=False),
    "ftrl": Row(
        lambda: keras.optimizers.Ftrl(
            0.1,
            l1_regularization_strength=0.001,
            l2_regularization_strength=0.01,
        )
    ),
    "adafactor": Row(lambda: keras.optimizers.Adafactor(0.1)),
    "muon": Row(lambda: keras.optimizers.Muon(0.05, weight_decay=0.1)),
    "schedule-free": Row(
        lambda: keras.optimizers.ScheduleFreeAdamW(0.02, warmup_steps=5),
        as_keras=None,
    ),
}
OPTIONS = {
    "amsgrad": Row(lambda: Adam(0.02, amsgrad=True)),
    "rmsprop-momentum": Row(lambda: RMSprop(0.01, momentum=0.5)),
    "rmsprop-centered": Row(lambda: RMSprop(0.01, centered=True)),
    # Schedules compute in float32, and graphs may round a cosine otherwise.
    "cosine-decay": Row(
        lambda: SGD(CosineDecay(0.2, 10), momentum=0.9),
        as_keras=1e-6,
        reversible=True,
    ),
    "exponential-decay": Row(lambda: Adam(ExponentialDecay(0.05, 4, 0.7))),
    "clipnorm": Row(lambda: SGD(0.1, clipnorm=0.5)),
    "clipvalue": Row(lambda: SGD(0.1, clipvalue=0.2)),
    "global-clipnorm": Row(lambda: SGD(0.1, global_clipnorm=0.5)),
    "weight-decay": Row(lambda: excluding_biases(SGD(0.1, weight_decay=0.1))),
    "ema": Row(lambda: SGD(0.1, use_ema=True, ema_momentum=0.75)),
    "ema-overwrite": Row(
        lambda: SGD(
            0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4
        )
    ),
    "loss-scale": Row(lambda: Adam(0.02, loss_scale_factor=128.0)),
    "accumulation": Row(lambda: Adam(0.05, gradient_accumulation_steps=2)),
}
OPTIMIZERS = UPDATES | OPTIONS


def net(penalty=0.0, **options):
    """Returns one layer that is not linear."""
    reseed()
    inputs = keras.Input((4,))
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    layer = keras.layers.Dense(
        2, activation="tanh", kernel_regularizer=regularizer, **options
    )
    return inputs, layer(inputs)


def tuned(name, **options):
    """Returns a model that tunes its rate, and a penalty if there can be one.

    The rate is the last of its hyperparameters.
    """
    row = OPTIMIZERS[name]
    penalties = [L2(initial=COEFFICIENT)] if row.penalties else []
    kinds = [*penalties, LearningRate()]
    return exact_model(net(), kinds, row.make(), **options)


def keras_twin(name):
    """Returns a model of Keras with the same penalty."""
    row = OPTIMIZERS[name]
    return keras_model(net(COEFFICIENT * row.penalties), row.make())


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from names to models, each of them as new."""
    return built_once(tuned)


def gradients(model):
    return model.hypergradient(X, Y, **TRAINING).gradients


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradient(model_of, name):
    assert_exact_hypergradient(model_of(name), X, Y, **TRAINING)


@pytest.mark.parametrize("name", UPDATES)
def test_replayed_steps_are_the_same_steps(model_of, name):
    model = model_of(name)
    expected = gradients(model)  # every state is stored
    model._assembly.method = kd.ReverseMode("checkpointed")
    try:
        # Rounding, which roots of small moments make larger.
        assert relative_error(gradients(model), expected) < 1e-9
    finally:
        model._assembly.method = kd.ReverseMode()


def assert_trains_as(twin, model, rtol=1e-12):
    """Asserts that `fit` of both ends at the same weights and slots.

    And that `validation_loss_after` announces the loss of the end, for an
    optimizer with `use_ema` that of the averages.
    """
    training = {"batch_size": 4, "epochs": 3, "shuffle": False}
    validation = TRAINING["validation_data"]
    announced = model.validation_loss_after(
        X, Y, validation_data=validation, **training
    )
    model.fit(X, Y, meta_iterations=0, verbose=0, **training)
    evaluated = model.evaluate(*validation, verbose=0)
    np.testing.assert_allclose(announced, evaluated, rtol)
    twin.fit(X, Y, verbose=0, **training)
    for actual, expected in zip(changed(model), changed(twin), strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol, atol=1e-14, err_msg=expected.path
        )


def changed(model):
    """Returns the variables that training changes."""
    slots = model.optimizer.variables
    return [*model.weights, *(v for v in slots if v.name != "learning_rate")]


def keras_model(net, optimizer):
    twin = keras.Model(*net)
    twin.compile(optimizer, "mse", run_eagerly=True)
    return twin


@pytest.mark.parametrize(
    "name", [name for name, row in OPTIMIZERS.items() if row.as_keras]
)
def test_same_weights_as_keras(model_of, name):
    rtol = OPTIMIZERS[name].as_keras
    assert_trains_as(keras_twin(name), model_of(name), rtol)


@pytest.mark.slow
def test_xla_gives_the_same_numbers(model_of):
    # Of one with powers and roots; others are sums and products, too.
    expected = gradients(model_of("adam"))
    model = tuned("adam", jit_compile=True)
    assert relative_error(gradients(model), expected) < 1e-10
    assert model.uses_xla


@pytest.mark.parametrize(
    "name", [name for name, row in OPTIMIZERS.items() if not row.reversible]
)
def test_what_cannot_be_reversed_is_refused(name):
    with pytest.raises(ValueError) as error:
        tuned(name, hypergradient=kd.ReverseMode("reversible"))
    received = type(OPTIMIZERS[name].make()).__name__
    assert_helps(error, "hypergradient", f"Received: {received}")
    assert "ReverseMode('checkpointed')" in str(error.value)


@pytest.mark.parametrize("name", ["weight-decay", "muon", "exponential-decay"])
def test_learning_rate_is_that_of_keras(model_of, name):
    # Decay that Keras multiplies by the rate follows it; a schedule is scaled.
    model, twin = model_of(name), keras_twin(name)
    rate = model.hyperparameters[-1]
    if name == "exponential-decay":
        rate.assign(0.5)
        twin.optimizer.learning_rate = ExponentialDecay(0.025, 4, 0.7)
    else:
        rate.assign(0.03)
        twin.optimizer.learning_rate = 0.03
    assert_trains_as(twin, model, rtol=1e-6)


def test_constraints():
    norm = {"kernel_constraint": keras.constraints.MaxNorm(0.75)}
    model = exact_model(net(**norm), [L2(initial=COEFFICIENT), LearningRate()])
    assert_exact_hypergradient(model, X, Y, **TRAINING)
    optimizer = SGD(0.1, momentum=0.9)
    assert_trains_as(keras_model(net(COEFFICIENT, **norm), optimizer), model)
    norms = np.linalg.norm(model.get_weights()[0], axis=0)
    assert norms.max() == pytest.approx(0.75, abs=1e-6)


def test_lion_refuses_penalties():
    kinds = [LearningRate(), L2(name="decay")]
    model = exact_model(net(), kinds, OPTIMIZERS["lion"].make())
    with pytest.raises(ValueError, match=r"Lion.* sign .*'decay'"):
        model.fit(X, Y, meta_iterations=1, verbose=0, **TRAINING)


def test_schedule_free_follows_its_formula():
    # Keras, on TensorFlow, reads "the momentum before the update" after it:
    # `momentum.value` is the variable itself. Here it is what its comments say.
    x, y = X[:4], Y[:4]
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.0625)
    model = exact_model(net(), [LearningRate()], optimizer)
    now = np.concatenate([w.ravel() for w in model.get_weights()])
    average, fast, velocity = now, now, 0.0
    beta_1, beta_2 = float(np.float32(0.9)), float(np.float32(0.999))
    for k in range(1, 6):
        w, b = now[:8].reshape(4, 2), now[8:]
        prediction = np.tanh(x @ w + b)
        d = 2 / y.size * (prediction - y) * (1 - prediction**2)
        g = np.concatenate([(x.T @ d).ravel(), d.sum(0)])
        velocity = velocity + (1 - beta_2) * (g**2 - velocity)
        scale = np.sqrt(velocity / (1 - beta_2**k))
        fast = fast - 0.0625 * g / (scale + 1e-8)
        average = (1 - 1 / k) * average + fast / k
        now = (1 - beta_1) * fast + beta_1 * average
    model.fit(x, y, batch_size=4, epochs=5, meta_iterations=0, verbose=0)
    actual = np.concatenate([w.ravel() for w in model.get_weights()])
    np.testing.assert_allclose(actual, now, rtol=1e-10)
