"""Every kind of model trains as it does in Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from conftest import reseed
from small_models import (
    CLASSES,
    FEATURES,
    VALIDATION,
    X,
    Y,
    assert_same,
    compiled,
    cross_entropy,
    fit,
    hidden,
)


def drawn(make):
    reseed()
    return make()


class Centered(keras.Model):
    """A subclassed model whose loss pulls the mean output to zero."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.dense(x)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.square(keras.ops.mean(y_pred))


def centered():
    model = Centered()
    model(X[:1])
    return model


class Penalized(keras.layers.Layer):
    """Adds the squares of its input to the loss."""

    def call(self, x):
        self.add_loss(0.01 * keras.ops.sum(keras.ops.square(x)))
        return x


def with_layer_loss():
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Dense(5, activity_regularizer="l2")(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(Penalized()(h)))


def normalized():
    inputs = keras.Input((FEATURES,))
    h = keras.layers.BatchNormalization()(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(h))


def partly_frozen():
    model = hidden()
    model.get_layer("first").trainable = False
    return model


def recurrent():
    inputs = keras.Input((FEATURES,))
    h = keras.layers.GRU(3)(inputs[:, :, None])
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(h))


@pytest.mark.parametrize(
    "make",
    [centered, with_layer_loss, normalized, partly_frozen, recurrent],
    ids=lambda make: make.__name__,
)
def test_trains_as_keras_does(make):
    options = dict(batch_size=8, epochs=2, shuffle=False, verbose=0)
    twin = drawn(make)
    twin.compile(keras.optimizers.SGD(0.1), cross_entropy(), run_eagerly=True)
    expected = twin.fit(X, Y, validation_data=VALIDATION, **options).history
    negligible = kd.hyperparameters.L2(initial=1e-12)
    optimizer = keras.optimizers.SGD(0.1)
    model = drawn(make)
    model = compiled(model, optimizer=optimizer, hyperparameters=[negligible])
    logs = fit(model, **options, meta_iterations=1)
    assert_same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-6)
    for name in ("loss", "val_loss"):
        assert logs[name][0] == pytest.approx(expected[name][-1], rel=1e-5)


def test_several_outputs():
    def two_headed():
        reseed()
        inputs = keras.Input((FEATURES,))
        h = keras.layers.Dense(4)(inputs)
        outputs = {
            "kind": keras.layers.Dense(CLASSES, name="kind")(h),
            "size": keras.layers.Dense(1, name="size")(h),
        }
        return keras.Model(inputs, outputs)

    given = dict(
        optimizer=keras.optimizers.SGD(0.05),
        loss={"kind": cross_entropy(), "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.3},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
    )
    y = {"kind": Y, "size": X[:, :1]}
    x_val, y_val = VALIDATION
    options = dict(
        y=y,
        validation_data=(x_val, {"kind": y_val, "size": x_val[:, :1]}),
        shuffle=False,
    )
    twin = two_headed()
    twin.compile(**given, run_eagerly=True)
    expected = twin.fit(X, batch_size=8, epochs=2, verbose=0, **options).history
    given["optimizer"] = keras.optimizers.SGD(0.05)
    negligible = kd.hyperparameters.L2(initial=1e-12)
    model = compiled(two_headed(), **given, hyperparameters=[negligible])
    logs = fit(model, **options, meta_iterations=1)
    assert set(expected) < set(logs)
    for name, values in expected.items():
        assert logs[name][0] == pytest.approx(values[-1], rel=1e-4), name


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("is_stream", [False, True])
def test_losses_of_outputs_are_those_of_evaluate(is_stream, jit_compile):
    """Keras weighs a short batch as others there, in streams and arrays."""
    reseed()
    inputs = keras.Input((FEATURES,))
    outputs = {
        "kind": keras.layers.Dense(CLASSES, name="kind")(inputs),
        "size": keras.layers.Dense(1, name="size")(inputs),
    }
    model = compiled(
        keras.Model(inputs, outputs),
        optimizer=keras.optimizers.SGD(0.0),
        loss={"kind": cross_entropy(), "size": "mse"},
        jit_compile=jit_compile,
    )

    def given(x, y):
        targets = {"kind": y, "size": x[:, :1]}
        if not is_stream:
            return x, targets
        return (tf.data.Dataset.from_tensor_slices((x, targets)).batch(5),)

    size = {} if is_stream else {"batch_size": 5}
    training, held_out = given(X[:16], Y[:16]), given(*VALIDATION)
    logs = model.fit(
        *training,
        **size,
        shuffle=False,
        validation_data=held_out if not is_stream else held_out[0],
        meta_iterations=0,
        verbose=0,
    ).history
    for data, prefix in ((training, ""), (held_out, "val_")):
        expected = model.evaluate(*data, **size, verbose=0, return_dict=True)
        for name in ("kind_loss", "size_loss"):
            found = logs[prefix + name][-1]
            assert found == pytest.approx(expected[name], rel=1e-5)


def test_metrics_that_are_not_a_number():
    x_val, y_val = VALIDATION
    model = compiled(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.F1Score()],  # a number for each class
    )
    one_hot = np.eye(CLASSES)
    validation = x_val, one_hot[y_val]
    logs = fit(model, y=one_hot[Y], validation_data=validation)
    scores = model.evaluate(*validation, verbose=0, return_dict=True)
    best = int(np.argmin(logs["val_loss"]))
    np.testing.assert_allclose(
        logs["val_f1_score"][best], scores["f1_score"], rtol=1e-5
    )
    more = dict(meta_iterations=1, keep="mean")  # with a last training
    fit(model, y=one_hot[Y], validation_data=validation, **more)
    scores = model.evaluate(*validation, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        model.final_logs["val_f1_score"], scores["f1_score"], rtol=1e-5
    )
    final = model.tuning_record.fits[-1]["final"]
    assert "val_loss" in final and "val_f1_score" not in final
