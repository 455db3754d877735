"""The optimizers table: every stock optimizer crossed with what it keeps.

As in Keras's own `fit`; differentiable, through steps that are replayed.
"""

import keras
import numpy as np
import pytest
from keras.optimizers.schedules import ExponentialDecay

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from closed_forms import exact_model, regression
from conformance.optimizers import OPTIMIZERS, SGD, UPDATES
from conftest import reseed
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.seam.pure_optimizer import FirstValues
from small_models import assert_helps, built_once
from this_keras import KERAS

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(12)
X[:, 3] = 0  # a dead input: many updates divide by the root of its gradients
TRAINING = {
    "batch_size": 4,
    "epochs": 2,
    "validation_data": regression(8, seed=1),
}
# Keras rounds Python numbers to float32: take coefficients that survive it.
COEFFICIENT = 2.0**-5
REPLAYED = kd.ReverseMode("checkpointed")
# Other rows take the same steps and more: "ema-overwrite", "cosine-decay" and
# "exponential-decay".
ROWS = {
    name: row
    for name, row in OPTIMIZERS.items()
    if name not in ("sgd", "momentum", "adam")
}


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
    options = {"hypergradient": REPLAYED} | options
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


@pytest.mark.parametrize("name", ROWS)
def test_hypergradient(model_of, name):
    """Through stretches of 4 steps, which are replayed, and of 2."""
    assert_exact_hypergradient(model_of(name), X, Y, **TRAINING)


# With numbers beside slots, and with weights that are not those of the model.
@pytest.mark.parametrize(
    "name",
    [name for name in ("nadam", "schedule-free") if name in UPDATES],
)
def test_replayed_steps_are_the_same_steps(model_of, name):
    model = model_of(name)
    replayed = gradients(model)
    model._assembly.method = kd.ReverseMode()  # every state is stored
    try:
        # Rounding, which roots of small moments make larger.
        assert relative_error(replayed, gradients(model)) < 1e-9
    finally:
        model._assembly.method = REPLAYED


def assert_trains_as(twin, model, rtol=1e-12):
    """Asserts that `fit` of both ends at the same weights and slots.

    And that the loss of the end was announced, for an optimizer with `use_ema`
    that of the averages, by `validation_loss_after`, too.
    """
    x, y = TRAINING["validation_data"]
    both = TRAINING | {"shuffle": False}  # as long: the loops are there
    training = {k: v for k, v in both.items() if k != "validation_data"}
    announced = [model.hypergradient(X, Y, **both).validation_loss]
    if model.optimizer.use_ema:
        announced.append(model.validation_loss_after(X, Y, **both))
    model.fit(X, Y, meta_iterations=0, verbose=0, **training)
    # Keras's own `evaluate` would trace the model once more.
    evaluated = np.mean((model(x) - y) ** 2)
    np.testing.assert_allclose(announced, evaluated, rtol)
    fit_in_keras(twin)
    for actual, expected in zip(changed(model), changed(twin), strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol, atol=1e-14, err_msg=expected.path
        )


def fit_in_keras(twin):
    """Trains as Keras's `fit` does, without its data sets and callbacks."""
    for _ in range(TRAINING["epochs"]):
        for k in range(0, len(X), 4):
            twin.train_on_batch(X[k : k + 4], Y[k : k + 4])
    twin.optimizer.finalize_variable_values(twin.trainable_variables)


def changed(model):
    """Returns the variables that training changes."""
    slots = model.optimizer.variables
    return [*model.weights, *(v for v in slots if v.name != "learning_rate")]


def keras_model(net, optimizer):
    twin = keras.Model(*net)
    twin.compile(optimizer, "mse", run_eagerly=True)
    return twin


@pytest.mark.parametrize(
    "name", [name for name, row in ROWS.items() if row.as_keras]
)
def test_same_weights_as_keras(model_of, name):
    rtol = OPTIMIZERS[name].as_keras
    assert_trains_as(keras_twin(name), model_of(name), rtol)


@pytest.mark.slow
def test_xla_gives_the_same_numbers(model_of):
    # Of one with powers and roots; others are sums and products, too.
    expected = gradients(model_of("exponential-decay"))
    model = tuned(
        "exponential-decay",
        hypergradient=kd.ReverseMode(),
        jit_compile=True,
    )
    assert relative_error(gradients(model), expected) < 1e-10
    assert model.uses_xla


@pytest.mark.parametrize(
    "name", [name for name, row in OPTIMIZERS.items() if not row.reversible]
)
def test_what_cannot_be_reversed_is_refused(name):
    method = kd.ReverseMode("reversible")
    with pytest.raises(ValueError) as error:
        if name == "nesterov":
            tuned(name, hypergradient=method)
        else:  # `compile` asks this
            method.check(OPTIMIZERS[name].make(), [])
    received = type(OPTIMIZERS[name].make()).__name__
    assert_helps(error, "hypergradient", f"Received: {received}")
    assert "ReverseMode('checkpointed')" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in (
            "clipvalue-weight-decay",
            "muon",
            "exponential-decay",
        )
        if name in OPTIMIZERS
    ],
)
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


@pytest.mark.skipif(
    "schedule-free" not in OPTIMIZERS, reason="Keras has it since 3.14"
)
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


@pytest.mark.skipif(
    KERAS[:2] not in ((3, 14), (3, 15)), reason="Keras may do otherwise"
)
def test_schedule_free_of_keras_has_to_be_built_before_fit():
    """As docs/limits.md says: or its first step throws the weights away."""
    model = exact_model(
        net(), [LearningRate()], keras.optimizers.ScheduleFreeAdamW(0.0625)
    )
    first = model.get_weights()
    model.fit(X, Y, batch_size=4, meta_iterations=0, verbose=0, shuffle=False)
    moved = {}
    for is_built in (False, True):
        plain = keras.Model(*net())
        plain.set_weights(first)
        plain.compile(
            keras.optimizers.ScheduleFreeAdamW(0.0625),
            "mse",
            jit_compile=False,
        )
        if is_built:
            plain.optimizer.build(plain.trainable_variables)
        plain.fit(X, Y, batch_size=4, verbose=0, shuffle=False)
        moved[is_built] = relative_error(
            plain.get_weights(), model.get_weights()
        )
    assert moved[True] < 0.1 < 0.5 < moved[False]


class FromWeights(keras.optimizers.SGD):
    """Begins with a velocity that is the weights."""

    def build(self, variables):
        super().build(variables)
        for v, velocity in zip(variables, self.momentums, strict=True):
            velocity.assign(v.value)


def test_first_values_are_those_of_an_optimizer_that_is_new():
    weight = keras.Variable(np.ones(3))

    def of(optimizer):
        optimizer.build([weight])
        return FirstValues(optimizer)

    adagrad = keras.optimizers.Adagrad(initial_accumulator_value=0.25)
    first = of(adagrad)
    np.testing.assert_array_equal(first()[-1], [0.25] * 3)
    assert first() is first()
    adagrad.initial_accumulator_value = 0.5
    np.testing.assert_array_equal(first()[-1], [0.5] * 3)
    first = of(FromWeights(0.1, momentum=0.5))
    for value in (1, 2):
        weight.assign(np.full(3, value))
        np.testing.assert_array_equal(first()[-1], [value] * 3)
