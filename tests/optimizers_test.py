"""Every stock optimizer: as in Keras's own `fit`, and differentiable."""

import keras
import numpy as np
import pytest
from keras.optimizers.schedules import CosineDecay, ExponentialDecay

from checks import assert_exact_hypergradient
from closed_forms import exact_model, regression
from keras_drmad.hyperparameters import L2, LearningRate

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
ScheduleFree = keras.optimizers.ScheduleFreeAdamW
OPTIMIZERS = {
    "sgd": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02),
    "amsgrad": lambda: Adam(0.02, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.02),
    "nadam": lambda: keras.optimizers.Nadam(0.02),
    "rmsprop": lambda: RMSprop(0.01),
    "rmsprop-momentum": lambda: RMSprop(0.01, momentum=0.5),
    "rmsprop-centered": lambda: RMSprop(0.01, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "lamb": lambda: keras.optimizers.Lamb(0.02),
    "ftrl": lambda: keras.optimizers.Ftrl(
        0.1, l1_regularization_strength=0.001, l2_regularization_strength=0.01
    ),
    "adafactor": lambda: keras.optimizers.Adafactor(0.1),
    "muon": lambda: keras.optimizers.Muon(0.05, weight_decay=0.1),
    "cosine-decay": lambda: SGD(CosineDecay(0.2, 10), momentum=0.9),
    "exponential-decay": lambda: Adam(ExponentialDecay(0.05, 4, 0.7)),
    "clipnorm": lambda: SGD(0.1, clipnorm=0.5),
    "clipvalue": lambda: SGD(0.1, clipvalue=0.2),
    "global-clipnorm": lambda: SGD(0.1, global_clipnorm=0.5),
    "weight-decay": lambda: excluding_biases(SGD(0.1, weight_decay=0.1)),
    "ema": lambda: SGD(0.1, use_ema=True, ema_momentum=0.75),
    "ema-overwrite": lambda: SGD(
        0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4
    ),
    "loss-scale": lambda: Adam(0.02, loss_scale_factor=128.0),
    "accumulation": lambda: Adam(0.05, gradient_accumulation_steps=2),
    "schedule-free": lambda: ScheduleFree(0.02, warmup_steps=5),
}
NOT_AS_IN_KERAS = {"schedule-free"}  # see the test of its formula


def excluding_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def net(penalty=0.0, **options):
    """Returns one layer that is not linear."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    layer = keras.layers.Dense(
        2, activation="tanh", kernel_regularizer=regularizer, **options
    )
    return inputs, layer(inputs)


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from names to models, each of them compiled once."""
    models = {}

    def model(name):
        if name not in models:
            kinds = [L2(initial=COEFFICIENT), LearningRate()]
            models[name] = exact_model(net(), kinds, OPTIMIZERS[name]())
        return models[name]

    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradient(model_of, name):
    assert_exact_hypergradient(model_of(name), X, Y, **TRAINING)


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
    "name", [name for name in OPTIMIZERS if name not in NOT_AS_IN_KERAS]
)
def test_same_weights_as_keras(model_of, name):
    twin = keras_model(net(COEFFICIENT), OPTIMIZERS[name]())
    # Schedules compute in float32, and graphs may round a cosine otherwise.
    rtol = 1e-6 if name == "cosine-decay" else 1e-12
    assert_trains_as(twin, model_of(name), rtol)


@pytest.mark.parametrize("name", ["weight-decay", "muon", "exponential-decay"])
def test_learning_rate_is_that_of_keras(name):
    # Decay that Keras multiplies by the rate follows it; a schedule is scaled.
    model = exact_model(net(), [LearningRate()], OPTIMIZERS[name]())
    twin = keras_model(net(), OPTIMIZERS[name]())
    if name == "exponential-decay":
        model.hyperparameters[0].assign(0.5)
        twin.optimizer.learning_rate = ExponentialDecay(0.025, 4, 0.7)
    else:
        model.hyperparameters[0].assign(0.03)
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


def test_lion_differentiates_its_learning_rate():
    def lion():
        return keras.optimizers.Lion(0.01)

    model = exact_model(net(), [LearningRate()], lion())
    assert_exact_hypergradient(model, X, Y, **TRAINING)
    assert_trains_as(keras_model(net(), lion()), model)


def test_lion_refuses_penalties():
    kinds = [LearningRate(), L2(name="decay")]
    model = exact_model(net(), kinds, keras.optimizers.Lion(0.01))
    with pytest.raises(ValueError, match=r"Lion.* sign .*'decay'"):
        model.fit(X, Y, meta_iterations=1, verbose=0, **TRAINING)


def test_schedule_free_follows_its_formula():
    # Keras, on TensorFlow, reads "the momentum before the update" after it:
    # `momentum.value` is the variable itself. Here it is what its comments say.
    x, y = X[:4], Y[:4]
    model = exact_model(net(), [LearningRate()], ScheduleFree(0.0625))
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
