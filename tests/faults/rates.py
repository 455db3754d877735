"""Rates of a user's own, and optimizers with slots of their own."""

import functools

import keras
import numpy as np

import keras_drmad as kd
from conformance.optimizers import BROKEN
from faults import (
    assert_right_by_differences,
    assert_trains_like_keras,
    members,
    refused,
    wrapped,
)

Schedule = keras.optimizers.schedules.LearningRateSchedule
H = kd.hyperparameters

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 3))
Y = GENERATOR.normal(size=(8, 2))
FIT = dict(batch_size=4, epochs=2)
MUON = ("Muon's momentum", "Muon's momentum without nesterov")


class Bare(Schedule):
    """A schedule that cannot be saved: it has no config."""

    def __call__(self, step):
        return 0.1 / (1.0 + keras.ops.cast(step, "float32"))


class NotRegistered(Bare):
    """A schedule with a config, of a class that Keras cannot find."""

    def get_config(self):
        return {}


class Rate:
    """An object with a method that returns a rate, and one that is called."""

    value = 0.1

    def now(self):
        return self.value

    def __call__(self):
        return self.value


def constant():
    return 0.1


class Momenta(keras.optimizers.Optimizer):
    """An optimizer of its own: lists, a dict, and a variable to begin with."""

    def __init__(self, learning_rate=0.1, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.lists, self.named = [], {}

    def build(self, variables):
        super().build(variables)
        for v in variables:
            self.lists.append(self.add_variable_from_reference(v, "m"))
            ones = keras.Variable(np.ones(v.shape), dtype=v.dtype)
            self.named[str(len(self.named))] = ones

    def update_step(self, gradient, variable, learning_rate):
        k = self._get_variable_index(variable)
        m, n = self.lists[k], self.named[str(k)]
        m.assign(0.5 * m + gradient)
        n.assign(0.5 * n)
        rate = keras.ops.cast(learning_rate, variable.dtype)
        variable.assign(variable - rate * m * n)


class Counting(Momenta):
    """With a variable that the constructor makes, and a config."""

    def __init__(self, learning_rate=0.1, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.seen = self.add_variable((), name="seen")

    def update_step(self, gradient, variable, learning_rate):
        self.seen.assign(self.seen + 1)
        super().update_step(gradient, variable, learning_rate)


def net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@members(
    "rates of one's own",
    {
        "a schedule without config, sums of gradients": lambda: (
            keras.optimizers.SGD(
                Bare(), momentum=0.5, gradient_accumulation_steps=2
            )
        ),
        "a schedule that is not registered, averages": lambda: (
            keras.optimizers.SGD(
                NotRegistered(), use_ema=True, ema_momentum=0.5
            )
        ),
        "a bound method, Adagrad": lambda: keras.optimizers.Adagrad(Rate().now),
        "an object that is called, an optimizer of one's own": lambda: Momenta(
            Rate()
        ),
        "a partial function, Adam": lambda: keras.optimizers.Adam(
            functools.partial(constant)
        ),
        "a lambda, Nadam": lambda: keras.optimizers.Nadam(lambda: 0.1),
    },
)
def trains_and_starts_anew(make):
    """Keras's weights; and a training of its own begins with new slots."""
    model, _ = assert_trains_like_keras(
        net, make, "mse", [H.L2(initial=1e-12)], X, Y, rtol=1e-7, **FIT
    )
    given = dict(FIT, validation_data=(X, Y), seed=0)

    def put_back():
        model.set_weights(net().get_weights())
        for h in model.hyperparameters:
            h.assign(1e-4)

    put_back()
    before = model.validation_loss_after(X, Y, **given)
    model.fit(X, Y, **given, meta_iterations=1, verbose=0)
    assert np.isfinite(model.diagnostics["hypergradient_norm"][0])
    put_back()
    assert np.isclose(
        model.validation_loss_after(X, Y, **given), before, rtol=1e-9
    )


@members(
    "slots that a constructor makes",
    {"with a config": (0.1, True), "without": (Bare(), False)},
)
def begins_anew_or_says_so(case):
    rate, saves = case
    model = wrapped(net(), Counting(rate), "mse", [H.L2()])
    given = dict(FIT, validation_data=(X, Y), seed=0, verbose=0)

    def fit():
        model.fit(X, Y, **given, meta_iterations=1)

    if not saves:
        return refused(fit, "optimizer", "Counting", "build")
    return fit()


@members(
    "numbers of optimizers",
    {
        MUON[0]: (lambda: keras.optimizers.Muon(0.05), "momentum"),
        MUON[1]: (
            lambda: keras.optimizers.Muon(0.05, nesterov=False),
            "momentum",
        ),
        "RMSprop, centered": (
            lambda: keras.optimizers.RMSprop(0.05, centered=True),
            "rho",
        ),
        "Lamb": (lambda: keras.optimizers.Lamb(0.05), "beta_2"),
        "Adadelta": (lambda: keras.optimizers.Adadelta(0.5), "rho"),
        "SGD, nesterov": (
            lambda: keras.optimizers.SGD(0.05, momentum=0.5, nesterov=True),
            "momentum",
        ),
    },
    lacking=MUON if "Muon" in BROKEN else (),
)
def momentum_by_differences(case):
    make, coefficient = case
    model = wrapped(net(), make(), "mse", [H.Momentum(coefficient=coefficient)])
    assert_right_by_differences(
        model, X, Y, batch_size=4, epochs=2, validation_data=(X, Y), rtol=1e-5
    )


@members(
    "to plain Keras",
    {
        "a schedule without config": Bare(),
        "a bound method": Rate().now,
        "a stock schedule": keras.optimizers.schedules.ExponentialDecay(
            0.1, 2, 0.5
        ),
    },
)
def leaves_with_its_rate(rate):
    kinds = [H.Momentum(per="layer", initial=0.5)]
    model = wrapped(
        net(), keras.optimizers.SGD(rate, momentum=0.5), "mse", kinds
    )
    plain = net()
    plain.compile(model.to_keras().optimizer, "mse", run_eagerly=True)
    plain.fit(X, Y, **FIT, shuffle=False, verbose=0)
    model.fit(X, Y, **FIT, shuffle=False, verbose=0, meta_iterations=0)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
