"""Label smoothing, where the loss is not a mean over classes that come last."""

import keras
import numpy as np
import tensorflow as tf

from checks import relative_error
from faults import (
    assert_right_by_differences,
    members,
    wrapped,
)
from keras_drmad import hyperparameters as kinds
from keras_drmad.core.state import Batch

KIND = "label smoothing of a loss's own axis, reduction and labels"
GENERATOR = np.random.default_rng(0)
N = 8
X = GENERATOR.normal(size=(N, 4))
WEIGHTS = GENERATOR.uniform(0.2, 2.0, N)
POSITIONS = GENERATOR.uniform(0.2, 2.0, (N, 3))
LOSSES = keras.losses


def sgd():
    return keras.optimizers.SGD(0.5)


def net(shape, activation=None):
    def make():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        h = keras.layers.Dense(int(np.prod(shape)))(inputs)
        h = keras.layers.Reshape(shape)(h)
        return keras.Model(inputs, keras.layers.Activation(activation)(h))

    return make


def softmax(axis):
    return lambda z: keras.ops.softmax(z, axis=axis)


def labels(classes, positions, axis):
    numbers = np.random.default_rng(1).integers(0, classes, (N, *positions))
    return np.moveaxis(np.eye(classes)[numbers], -1, axis)


SQUARE = labels(3, (3,), 1)


@members(
    KIND,
    {
        "CategoricalCrossentropy(axis=1), logits": (
            net((3, 3)),
            lambda **o: LOSSES.CategoricalCrossentropy(True, axis=1, **o),
            SQUARE,
            {},
        ),
        "CategoricalCrossentropy(axis=1), probabilities": (
            net((3, 3), softmax(1)),
            lambda **o: LOSSES.CategoricalCrossentropy(axis=1, **o),
            SQUARE,
            {"sample_weight": POSITIONS},
        ),
        "CategoricalCrossentropy(axis=1), channels first": (
            net((3, 2, 3)),
            lambda **o: LOSSES.CategoricalCrossentropy(True, axis=1, **o),
            labels(3, (2, 3), 1),
            {},
        ),
        "CategoricalFocalCrossentropy(axis=1)": (
            net((3, 3)),
            lambda **o: LOSSES.CategoricalFocalCrossentropy(
                from_logits=True, axis=1, **o
            ),
            SQUARE,
            {},
        ),
        "CategoricalFocalCrossentropy": (
            net((3,)),
            lambda **o: LOSSES.CategoricalFocalCrossentropy(
                from_logits=True, gamma=1.0, **o
            ),
            labels(3, (), -1),
            {"sample_weight": WEIGHTS},
        ),
        "BinaryCrossentropy(axis=1)": (
            net((5, 3)),
            lambda **o: LOSSES.BinaryCrossentropy(True, axis=1, **o),
            labels(5, (3,), 1),
            {"sample_weight": POSITIONS},
        ),
        "BinaryFocalCrossentropy(axis=1)": (
            net((5, 3), "sigmoid"),
            lambda **o: LOSSES.BinaryFocalCrossentropy(axis=1, **o),
            labels(5, (3,), 1),
            {},
        ),
        "BinaryFocalCrossentropy, balanced": (
            net((1,)),
            lambda **o: LOSSES.BinaryFocalCrossentropy(
                apply_class_balancing=True, from_logits=True, **o
            ),
            labels(2, (), -1)[:, :1],
            {},
        ),
        "a sum": (
            net((3,)),
            lambda **o: LOSSES.CategoricalCrossentropy(
                True, reduction="sum", **o
            ),
            labels(3, (), -1),
            {"sample_weight": WEIGHTS[:, None]},
        ),
        "a mean by weights": (
            net((3,)),
            lambda **o: LOSSES.CategoricalCrossentropy(
                True, reduction="mean_with_sample_weight", **o
            ),
            labels(3, (), -1),
            {"sample_weight": WEIGHTS},
        ),
    },
)
def smooths_like_keras(case):
    """The loss and its gradient; `masks` trains with them."""
    make_model, loss, y, fit = case
    kind = kinds.LabelSmoothing(0.3)
    model = wrapped(make_model(), sgd(), loss(), [kind])
    weights = fit.get("sample_weight")
    with tf.GradientTape(persistent=True) as tape:
        z = model.elementary_model(X)
        batch = Batch(X, tf.constant(y), weights)
        plain = loss()(y, z, weights)
        ours = kind.loss(kind.raw.value, plain, batch, z)
        theirs = loss(label_smoothing=0.3)(y, z, weights)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    weights = model.elementary_model.trainable_weights
    found, expected = (
        tape.gradient(one, [w.value for w in weights]) for one in (ours, theirs)
    )
    assert relative_error(found, expected) < 1e-9


@members(KIND, {"weight of the loss, a list": [0.5]})
def follows_the_weight_of_the_loss(weight):
    y = labels(3, (), -1)
    theirs = net((3,))()
    theirs.compile(
        sgd(),
        LOSSES.CategoricalCrossentropy(True, label_smoothing=0.3),
        loss_weights=weight,
        run_eagerly=True,
    )
    theirs.fit(X, y, batch_size=4, shuffle=False, verbose=0)
    ours = wrapped(
        net((3,))(),
        sgd(),
        LOSSES.CategoricalCrossentropy(True),
        [kinds.LabelSmoothing(0.3)],
        loss_weights=weight,
    )
    ours.fit(X, y, batch_size=4, shuffle=False, verbose=0, meta_iterations=0)
    error = relative_error(ours.get_weights(), theirs.get_weights())
    assert error < 1e-9, error


@members(
    KIND,
    {
        "more positions than classes": (3, 5, "linear", True),
        "fewer positions than classes": (5, 2, "linear", True),
        "more positions, probabilities": (3, 5, softmax(1), False),
    },
)
def spreads_over_the_classes(case):
    # Keras itself spreads over as many classes as there are positions.
    classes, positions, activation, logits = case
    y = labels(classes, (positions,), 1)
    loss = LOSSES.CategoricalCrossentropy(logits, axis=1)
    kind = kinds.LabelSmoothing(0.3)
    model = wrapped(
        net((classes, positions), activation)(), sgd(), loss, [kind]
    )
    z = model.elementary_model(X)
    found = kind.loss(kind.raw.value, loss(y, z), Batch(X, tf.constant(y)), z)
    expected = loss(0.7 * y + 0.3 / classes, z)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@members(
    KIND,
    {
        "sparse labels, sample_weight (N, 1)": ({}, (N, 1)),
        "sparse labels, a sum": ({"reduction": "sum"}, (N,)),
        "sparse labels, an ignored class": ({"ignore_class": 2}, (N, 3)),
    },
)
def smooths_sparse_labels(case):
    options, shape = case
    y = labels(3, (3,), -1).argmax(-1)
    weights = np.random.default_rng(2).uniform(0.2, 2.0, shape)
    ignored = y == options.pop("ignore_class", -1)
    each = np.broadcast_to(
        weights.reshape(*shape, *[1] * (2 - len(shape))), y.shape
    )
    z = net((3, 3))()(X)
    scale = ignored.size / (~ignored).sum()  # Keras's mean is over the rest
    expected = LOSSES.CategoricalCrossentropy(
        True, label_smoothing=0.3, **options
    )(np.eye(3)[y], z, each * ~ignored * scale)
    if ignored.any():
        options = options | {"ignore_class": 2}
    loss = LOSSES.SparseCategoricalCrossentropy(True, **options)
    kind = kinds.LabelSmoothing(0.3)
    wrapped(net((3, 3))(), sgd(), loss, [kind])
    plain = loss(y, z, each)
    batch = Batch(X, tf.constant(y), tf.constant(weights))
    found = kind.loss(kind.raw.value, plain, batch, z)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@members(
    KIND,
    {
        "hypergradient, axis=1": (
            (3, 5),
            lambda: LOSSES.CategoricalCrossentropy(True, axis=1),
            labels(3, (5,), 1),
        ),
        "hypergradient, binary focal": (
            (3,),
            lambda: LOSSES.BinaryFocalCrossentropy(from_logits=True),
            labels(3, (), -1),
        ),
        "hypergradient, focal": (
            (3,),
            lambda: LOSSES.CategoricalFocalCrossentropy(from_logits=True),
            labels(3, (), -1),
        ),
    },
)
def right_by_differences(case):
    shape, loss, y = case
    model = wrapped(net(shape)(), sgd(), loss(), [kinds.LabelSmoothing(0.3)])
    assert_right_by_differences(
        model, X, y, batch_size=4, epochs=1, validation_data=(X * 0.9, y)
    )
