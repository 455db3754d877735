"""Losses that are not one number, and outputs without a loss."""

import keras
import numpy as np

import keras_drmad as kd
from checks import relative_error
from faults import (
    assert_right_by_differences,
    assert_trains_like_keras,
    members,
    wrapped,
)
from keras_drmad import hyperparameters as kinds

KIND = "losses that are not reduced, outputs without a loss"
GENERATOR = np.random.default_rng(0)
N = 8
X = GENERATOR.normal(size=(N, 4))
Y = GENERATOR.normal(size=(N, 3))
CLASSES = GENERATOR.integers(0, 3, N)
STEPS = GENERATOR.normal(size=(N, 5, 4))
WEIGHTS = GENERATOR.uniform(0.2, 2.0, N)


def sgd():
    return keras.optimizers.SGD(0.05)


def net(shape=(4,)):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Dense(3)(inputs))


def several(count):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3, name=name)(inputs) for name in "abc"]
    return keras.Model(inputs, outputs[:count])


def with_classes():
    """Returns a model with an output of classes, and others without a loss."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    z = keras.layers.Dense(3, name="z")(inputs)
    more = {
        "integers": keras.ops.argmax(z, -1),
        "booleans": z > 0,
        "probabilities": keras.ops.softmax(z),
        "a_layer": keras.layers.Dense(2, name="rest")(inputs),
    }
    return keras.Model(inputs, {"z": z} | more)


def squares(**options):
    return keras.losses.MeanSquaredError(reduction=None, **options)


def sparse():
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"
    )


@members(
    KIND,
    {
        "reduction=None, sample weights": (
            net,
            squares,
            (X, Y),
            {"sample_weight": WEIGHTS},
        ),
        "reduction=None, (N, T)": (
            lambda: net((5, 4)),
            squares,
            (STEPS, STEPS[..., :3]),
            {},
        ),
        "reduction=None, 'none' and class numbers, a sum": (
            lambda: several(3),
            lambda: [squares(), sparse(), keras.losses.MeanSquaredError("sum")],
            (X, [Y, CLASSES, Y]),
            {},
        ),
    },
)
def trains_like_keras(case):
    make_model, loss, (x, y), fit = case
    assert_trains_like_keras(
        make_model,
        sgd,
        loss(),
        [kinds.LearningRate()],
        x,
        y,
        batch_size=4,
        **fit,
    )


@members(KIND, {"the loss of reduction=None, a short last batch": squares})
def reports_like_keras(loss):
    theirs = net()
    theirs.compile(sgd(), loss(), run_eagerly=True)
    fit = dict(batch_size=3, epochs=2, shuffle=False, verbose=0)
    expected = theirs.fit(X, Y, validation_data=(X, Y), **fit).history
    ours = wrapped(net(), sgd(), loss(), [kinds.LearningRate()])
    found = ours.fit(
        X, Y, validation_data=(X, Y), meta_iterations=0, **fit
    ).history
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
    np.testing.assert_allclose(
        ours.evaluate(X, Y, batch_size=3, verbose=0),
        found["val_loss"][-1],
        rtol=1e-9,
    )


@members(
    KIND,
    {
        "hypergradient, reduction=None and two outputs": (
            lambda: [squares(), keras.losses.MeanSquaredError()]
        )
    },
)
def right_by_differences(losses):
    model = wrapped(
        several(2),
        sgd(),
        losses(),
        [kinds.L2("layer", 0.1), kinds.LearningRate(), kinds.ExampleWeights(N)],
    )
    assert_right_by_differences(
        model, X, [Y, Y], batch_size=4, validation_data=(X * 0.9, [Y, Y])
    )


@members(
    KIND,
    {
        "Gauss-Newton, outputs of integers, booleans, probabilities and a "
        "layer without a loss": None
    },
)
def gauss_newton_without_a_loss(_):
    found = []
    model = wrapped(
        with_classes(),
        sgd(),
        {"z": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        [kinds.L2(initial=0.1, layers="z")],
    )
    for curvature in ("hessian", "gauss_newton"):
        model._assembly.method = kd.DrMAD(1.0, curvature=curvature)
        record = model.hypergradient(
            X,
            {"z": CLASSES},
            batch_size=4,
            epochs=2,
            validation_data=(X * 0.9, {"z": CLASSES}),
        )
        found.append(record.gradients["l2"])
    error = relative_error(found[1], found[0])
    assert error < 1e-9, error
