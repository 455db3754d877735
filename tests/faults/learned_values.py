"""A `LearnedValue` that is in no layer, but in a regularizer, a loss, ..."""

import functools

import keras
import numpy as np

import keras_drmad as kd
from faults import assert_right_by_differences, members, refused, wrapped
from keras_drmad import hyperparameters as kinds

KIND = "a learned value that is in no layer"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 4))
Y = GENERATOR.normal(size=(8, 2))
FAR = []  # where no search would look


def value():
    return kd.layers.LearnedValue(0.3)


class Squares(keras.regularizers.Regularizer):
    """A regularizer with a learned coefficient."""

    def __init__(self):
        self.factor = value()

    def __call__(self, w):
        return self.factor.value() * keras.ops.sum(w**2)


class Scaled(keras.Loss):
    """A loss with a learned factor, which only training should see less of."""

    def __init__(self):
        super().__init__()
        self.parts = {"factor": [value()]}

    def call(self, y, y_pred):
        (factor,) = self.parts["factor"]
        return factor.value() * keras.ops.mean((y - y_pred) ** 2, axis=-1)


class Scales(keras.initializers.Initializer):
    """An initializer with a learned scale."""

    def __init__(self):
        self.scale = value()

    def __call__(self, shape, dtype=None, **kwargs):
        return self.scale.value() * keras.ops.ones(shape, dtype)


class Shrinks(keras.constraints.Constraint):
    """A constraint with a learned factor."""

    def __init__(self):
        self.factor = value()

    def __call__(self, w):
        return self.factor.value() * w


class Counts(keras.metrics.MeanMetricWrapper):
    """A metric with a learned threshold."""

    def __init__(self):
        limit = value()
        super().__init__(lambda y, y_pred: limit.value() * (y - y_pred))


class Decays(keras.layers.Layer):
    """A layer whose weight has a regularizer that is no attribute."""

    def build(self, shape):
        self.w = self.add_weight(
            shape=(shape[-1],), initializer="ones", regularizer=Squares()
        )

    def call(self, x):
        return x * self.w


def net(before=None, **dense):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = inputs if before is None else before(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="d", **dense)(h))


def in_closure():
    factor = value()
    return lambda w: factor.value() * keras.ops.sum(w**2)


def power(factor, x):
    return keras.ops.tanh(factor.value() * x)


def far_away(y, y_pred):
    return FAR[-1].value() * keras.ops.mean((y - y_pred) ** 2, axis=-1)


def sgd():
    return keras.optimizers.SGD(0.1)


def everywhere():
    """Returns a model with a value in each of six places."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Lambda(functools.partial(power, value()))(inputs)
    h = Decays()(h)
    h = keras.layers.Dense(
        3,
        kernel_regularizer=Squares(),
        bias_regularizer=in_closure(),
        activity_regularizer=Squares(),
        activation=functools.partial(power, value()),
    )(h)
    return keras.Model(inputs, keras.layers.Dense(2)(h))


def two():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(2)(inputs) for _ in "ab"])


@members(
    KIND,
    {
        "regularizers, an activation, a Lambda layer; a loss": (
            everywhere,
            Scaled,
            Y,
            7,
        ),
        "losses of two outputs, one a function": (
            two,
            lambda: [Scaled(), in_loss(value())],
            [Y, Y],
            2,
        ),
    },
)
def is_learned(case):
    make_model, loss, y, count = case
    model = wrapped(make_model(), sgd(), loss(), [kinds.LearningRate()])
    assert len(model.hyperparameters) == 1 + count
    assert_right_by_differences(
        model, X, y, batch_size=4, epochs=2, validation_data=(X * 0.9, y)
    )


def in_loss(factor):
    return lambda y, p: factor.value() * keras.ops.mean((y - p) ** 2, axis=-1)


@members(
    KIND,
    {
        "an initializer": (
            lambda: net(kernel_initializer=Scales()),
            "mse",
            {},
            "kernel_initializer",
        ),
        "a constraint": (
            lambda: net(kernel_constraint=Shrinks()),
            "mse",
            {},
            "kernel_constraint",
        ),
        "a metric": (net, "mse", {"metrics": lambda: [Counts()]}, "metric"),
    },
)
def cannot_be_learned(case):
    make_model, loss, options, word = case
    model = make_model()
    options = {name: make() for name, make in options.items()}
    return refused(
        lambda: wrapped(model, sgd(), loss, [kinds.L2()], **options),
        "LearnedValue",
        word,
    )


@members(KIND, {"a list that no object has": far_away})
def is_missed(loss):
    FAR.append(value())
    model = wrapped(net(), sgd(), loss, [kinds.L2()])
    return refused(
        lambda: model.fit(
            X, Y, validation_data=(X, Y), meta_iterations=1, verbose=0
        ),
        "LearnedValue",
        "layer",
    )
