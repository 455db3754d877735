"""What `fit` takes, and that it means what it means to `keras.Model.fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from conftest import reseed
from keras_drmad.training.sources import warn_of_ends
from small_models import (
    CLASSES,
    FEATURES,
    VALIDATION,
    X,
    Y,
    assert_same,
    built_once,
    compiled,
    cross_entropy,
    data,
)

W = np.linspace(0.0, 2.0, len(X)).astype("float32")
PENALTY = 1e-2
CLOSE = dict(rtol=1e-5, atol=1e-6)  # float32, the same sums in another order


def linear(inputs=None, regularizer=None):
    """Returns softmax regression."""
    reseed()
    inputs = keras.Input((FEATURES,)) if inputs is None else inputs
    x = inputs
    if isinstance(inputs, dict):
        x = keras.layers.Concatenate()([inputs[k] for k in sorted(inputs)])
    layer = keras.layers.Dense(CLASSES, kernel_regularizer=regularizer)
    return keras.Model(inputs, layer(x))


def sgd():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def by_keras(model, loss, options):
    """Returns weights and last logs of `keras.Model.fit`."""
    model.compile(optimizer=sgd(), loss=loss, run_eagerly=True)
    history = model.fit(epochs=2, shuffle=False, verbose=0, **options).history
    return model.get_weights(), {k: v[-1] for k, v in history.items()}


def penalized(model, loss):
    """Returns a `DrMADModel` with the same penalty."""
    l2 = kd.hyperparameters.L2(initial=PENALTY)
    return compiled(model, optimizer=sgd(), loss=loss, hyperparameters=[l2])


@pytest.fixture(scope="module")
def usual():
    """Returns a function to a model for the usual data, as new: one trace."""
    return built_once(lambda: penalized(linear(), cross_entropy()))


def by_us(model, options):
    """Returns the same of one meta-iteration."""
    history = model.fit(
        epochs=2,
        shuffle=False,
        verbose=0,
        meta_iterations=1,
        initial_weights="same",
        **options,
    ).history
    return model.get_weights(), {k: v[-1] for k, v in history.items()}


def assert_as_keras(model, options, inputs=lambda: None, loss=None):
    options = dict(validation_data=VALIDATION) | options
    twin = linear(inputs(), keras.regularizers.L2(PENALTY))
    expected, logs = by_keras(twin, loss or cross_entropy(), options)
    weights, our_logs = by_us(model, options)
    assert_same(weights, expected, **CLOSE)
    # `val_loss` of Keras has the regularizer's share in it.
    kernel = expected[0]
    logs["val_loss"] -= PENALTY * np.sum(kernel**2)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(our_logs[name], logs[name], rtol=1e-5)


# ---- kinds of data


def dataset(*arrays, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


class Slices(keras.utils.PyDataset):
    """Batches of 8 of some arrays."""

    def __init__(self, *arrays, **options):
        super().__init__(**options)
        self.arrays = arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // 8)

    def __getitem__(self, k):
        return tuple(a[8 * k : 8 * (k + 1)] for a in self.arrays)


def of_unknown_cardinality():
    unknown = dataset(tf.cast(X, tf.bfloat16), Y).filter(lambda x, y: True)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    return unknown


KINDS = {
    "arrays": lambda: dict(x=X, y=Y, batch_size=8),
    "one batch, by default": lambda: dict(x=X, y=Y),
    "tensors of doubles, a short last batch": lambda: dict(
        x=tf.constant(X.astype(float)), y=tf.constant(Y), batch_size=7
    ),
    "tensors of bfloat16": lambda: dict(
        x=tf.cast(X, tf.bfloat16), y=Y, batch_size=8
    ),
    "weighted, validation as well": lambda: dict(
        x=X,
        y=Y,
        sample_weight=W,
        validation_data=(*VALIDATION, W[:16]),
        batch_size=8,
    ),
    "a column of classes": lambda: dict(
        x=X, y=Y[:, None], class_weight={0: 3.0, 7: 9.0}, batch_size=8
    ),
    "tf.data, weighted": lambda: dict(x=dataset(X, Y, W)),
    "tf.data, by class": lambda: dict(
        x=dataset(X, Y), class_weight={0: 3.0, 1: 1.0, 2: 0.5}
    ),
    "tf.data, bfloat16, unknown cardinality": lambda: dict(
        x=of_unknown_cardinality()
    ),
    "tf.data, a third of it an epoch": lambda: dict(
        x=dataset(X, Y), steps_per_epoch=1
    ),
    "tf.data, endless, validation as well": lambda: dict(
        x=dataset(X, Y).repeat(),
        steps_per_epoch=4,
        validation_data=dataset(*VALIDATION, batch_size=8).repeat(),
        validation_steps=2,
    ),
    "PyDataset, by class, validation as well": lambda: dict(
        x=Slices(X, Y, workers=2),
        class_weight={0: 3.0},
        validation_data=Slices(*VALIDATION),
    ),
    "validation_split, weighted": lambda: dict(
        x=X,
        y=Y,
        sample_weight=W,
        batch_size=8,
        validation_data=None,
        validation_split=0.3,
    ),
}


# Keras's `fit` warns at the end of a data set of unknown cardinality.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_trains_as_keras_does(usual, kind):
    assert_as_keras(usual(), KINDS[kind]())


def parts(x):
    return {"a": x[:, :1], "b": x[:, 1:]}


@pytest.mark.parametrize("as_stream", [False, True])
def test_takes_dicts_of_inputs(as_stream):
    validation = parts(VALIDATION[0]), VALIDATION[1]
    options = dict(x=parts(X), y=Y, batch_size=8)
    if as_stream:
        options = dict(x=dataset(parts(X), Y))

    def inputs():
        return {
            "a": keras.Input((1,), name="a"),
            "b": keras.Input((FEATURES - 1,), name="b"),
        }

    model = penalized(linear(inputs()), cross_entropy())
    options |= dict(validation_data=validation)
    assert_as_keras(model, options, inputs)


def test_weighs_classes_given_as_one_hot():
    options = dict(x=X, y=np.eye(CLASSES)[Y], class_weight={0: 3.0, 2: 0.5})
    x, y = VALIDATION
    options["validation_data"] = x, np.eye(CLASSES)[y]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert_as_keras(penalized(linear(), loss), options, loss=loss)


def test_weighs_classes_below_zero():
    sign = np.where(Y == 0, -1, 1)[:, None].repeat(CLASSES, axis=1)[:, :1]
    validation = VALIDATION[0], np.ones((16, 1))
    options = dict(x=X, y=sign, class_weight={-1: 3.0, 1: 0.5})
    options |= dict(validation_data=validation)
    loss = keras.losses.Hinge()
    assert_as_keras(penalized(linear(), loss), options, loss=loss)


def test_weights_of_classes_and_examples_multiply(usual):
    # Keras refuses the two at once.
    of_class = np.array([3.0, 1.0, 0.5])
    options = dict(x=X, y=Y, batch_size=8, validation_data=VALIDATION)
    both = dict(sample_weight=W, class_weight=dict(enumerate(of_class)))
    some, _ = by_us(usual(), options | both)
    product = dict(sample_weight=W * of_class[Y])
    others, _ = by_us(usual(), options | product)
    assert_same(some, others, **CLOSE)


# ---- data that end


@pytest.mark.parametrize("stream", [dataset, Slices])
def test_says_that_a_stream_ends_within_an_epoch(stream):
    data = stream(X, Y)  # 3 batches
    with pytest.warns(UserWarning, match="3 batches.*steps_per_epoch=2"):
        warn_of_ends(data, 2, epochs=2)
    with pytest.warns(UserWarning, match="3 batches.*steps_per_epoch=4"):
        warn_of_ends(data, 4, epochs=1)
    warn_of_ends(data, 2, epochs=1)  # no epoch meets the end
    warn_of_ends(data, 1, epochs=9)
    warn_of_ends(dataset(X, Y).repeat(), 2, epochs=2)
    warn_of_ends(X, 2, epochs=2)


@pytest.mark.parametrize("held_out", [VALIDATION, Slices(*VALIDATION)])
def test_each_held_out_batch_counts_once(small, held_out):
    model = small()
    options = dict(batch_size=8, meta_iterations=0, verbose=0)
    options |= dict(validation_data=held_out, validation_steps=3)
    with pytest.warns(UserWarning, match="2 batches, fewer than valid.*=3"):
        logs = model.fit(X, Y, **options).history
    loss = model.evaluate(*VALIDATION, verbose=0)
    assert logs["val_loss"][0] == pytest.approx(loss, rel=1e-6)


def test_goes_through_a_stream_again_within_an_epoch(small):
    def weights(data):
        model = small()
        options = dict(epochs=2, meta_iterations=0, verbose=0)
        model.fit(data, steps_per_epoch=4, **options)
        return model.get_weights()

    with pytest.warns(UserWarning, match="3 batches.*steps_per_epoch=4"):
        found = weights(dataset(X, Y))
    assert_same(found, weights(dataset(X, Y).repeat()))


# ---- hyper_data


@pytest.fixture(scope="module")
def small():
    """Returns a function to the small model, as new: one trace."""
    return built_once(compiled)


def test_hyper_data_is_what_hyperparameters_are_fitted_to(small):
    other = data(40, seed=2)
    options = dict(x=X, y=Y, batch_size=8, seed=0, verbose=0)
    options["initial_weights"] = "same"

    def fitted(**sets):
        model = small()
        logs = model.fit(
            **options, **sets, meta_iterations=2, keep="last"
        ).history
        loss = model.evaluate(*other, verbose=0)
        return logs, loss, np.array(model.hyperparameters[0].raw)

    logs, loss, raw = fitted(validation_data=other, hyper_data=VALIDATION)
    expected, _, same = fitted(validation_data=VALIDATION)
    _, _, different = fitted(validation_data=other)
    np.testing.assert_allclose(raw, same, rtol=1e-6)
    assert np.abs(raw - different).max() > 1e-3
    # The report is on validation_data.
    assert logs["hyper_loss"] == pytest.approx(expected["val_loss"])
    assert logs["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_hyper_data_is_enough(small):
    sets = dict(hyper_data=VALIDATION)
    logs = small().fit(X, Y, **sets, meta_iterations=1, verbose=0).history
    assert np.isfinite(logs["val_loss"][0])
    assert "hyper_loss" not in logs
