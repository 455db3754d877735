"""`DrMADModel`, a `keras.Model` through which the elementary model shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from small_models import (
    CLASSES,
    FEATURES,
    FIT,
    VALIDATION,
    X,
    Y,
    assert_same,
    compiled,
    cross_entropy,
    fit,
    hidden,
    linear,
    numbers,
)


def drawn(make):
    keras.utils.set_random_seed(0)
    return make()


# ---- the surface


def test_is_made_from_inputs_and_outputs():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(inputs)
    model = kd.DrMADModel(inputs, outputs, name="mine")
    assert isinstance(model, keras.Model)
    assert model.name == "mine"
    assert_same(model.get_weights(), linear().get_weights())
    np.testing.assert_array_equal(model(X), linear()(X))


def test_shows_the_elementary_model(capsys):
    elementary = hidden()
    model = kd.DrMADModel.from_model(elementary)
    assert model.layers == elementary.layers
    assert model.get_layer("first") is elementary.get_layer("first")
    assert model.inputs == elementary.inputs
    assert model.outputs == elementary.outputs
    assert model.count_params() == elementary.count_params()
    assert model.name == elementary.name
    model.summary()
    shown = capsys.readouterr().out
    elementary.summary()
    assert shown == capsys.readouterr().out
    # A new model may begin from its layers.
    features = keras.Model(model.inputs[0], model.get_layer("first").output)
    assert features(X).shape == (len(X), 5)


def test_shares_the_weights():
    elementary = linear()
    model = compiled(elementary)
    before = elementary.get_weights()
    fit(model)
    assert np.any(elementary.get_weights()[0] != before[0])
    assert_same(elementary.get_weights(), model.get_weights())
    assert model.trainable_variables == elementary.trainable_variables


def test_predicts_and_evaluates_as_the_elementary_model():
    model = compiled(hidden(dropout=0.5), metrics=["accuracy"])
    twin = hidden(dropout=0.5)
    twin.compile(loss=cross_entropy(), metrics=["accuracy"])
    np.testing.assert_array_equal(
        model.predict(X, verbose=0), twin.predict(X, verbose=0)
    )
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    for options in (dict(x=X, y=Y, batch_size=5), dict(x=data)):
        options |= dict(return_dict=True, verbose=0)
        expected = twin.evaluate(**options)
        assert model.evaluate(**options) == expected
        assert set(expected) == {"loss", "accuracy"}
    on_batch = model.test_on_batch(X, Y, return_dict=True)
    assert on_batch == twin.test_on_batch(X, Y, return_dict=True)
    assert model.metrics_names == twin.metrics_names


def test_refuses_single_steps():
    model = compiled()
    before = numbers(model)
    with pytest.raises(RuntimeError, match="meta_iterations=0"):
        model.train_on_batch(X, Y)
    assert_same(numbers(model), before)


def test_one_hypergradient_leaves_everything(capsys):
    model = compiled(hidden(dropout=0.3), optimizer="adam")
    fit(model)  # now nothing is at its start
    before = numbers(model)
    options = {k: v for k, v in FIT.items() if k != "verbose"}
    options["validation_data"] = VALIDATION
    found = model.hypergradient(**options)
    loss = model.train_loss_at(**options)
    assert_same(numbers(model), before)
    assert found.validation_loss == loss
    assert set(found.gradients) == {"l2"}
    assert found.gradients["l2"].shape == model.hyperparameters[0].raw.shape
    assert found.diagnostics["reverse_steps"] == 1
    assert capsys.readouterr().out == ""


def test_compiled_again_keeps_what_was_learned():
    l2 = kd.hyperparameters.L2(per="unit", initial=1e-2)
    model = compiled(hyperparameters=[l2])
    fit(model, restore_best=False)
    learned = np.array(l2.raw)
    model.compile("sgd", cross_entropy(), hyperparameters=[l2])
    np.testing.assert_array_equal(l2.raw, learned)
    assert np.ptp(learned) > 0


# ---- kinds of models


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
    options = dict(batch_size=7, epochs=2, shuffle=False, verbose=0)
    twin = drawn(make)
    twin.compile(keras.optimizers.SGD(0.1), cross_entropy())
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
        keras.utils.set_random_seed(0)
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
    twin.compile(**given)
    expected = twin.fit(X, batch_size=8, epochs=2, verbose=0, **options).history
    given["optimizer"] = keras.optimizers.SGD(0.05)
    negligible = kd.hyperparameters.L2(initial=1e-12)
    model = compiled(two_headed(), **given, hyperparameters=[negligible])
    logs = fit(model, **options, meta_iterations=1)
    assert set(expected) < set(logs)
    for name, values in expected.items():
        assert logs[name][0] == pytest.approx(values[-1], rel=1e-4), name


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


# ---- precision


def test_float64(request):
    def use(dtype):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)

    use("float64")
    request.addfinalizer(lambda: use("float32"))
    model = compiled()
    fit(model)
    found = model.hypergradient(X, Y, 8, validation_data=VALIDATION)
    assert model.hyperparameters[0].raw.dtype == "float64"
    assert found.gradients["l2"].dtype == tf.float64
    # More digits than a float has.
    loss = model.train_loss_at(X, Y, 8, validation_data=VALIDATION)
    assert loss != np.float32(loss)
    assert found.validation_loss == pytest.approx(loss, rel=1e-14)


def test_mixed_bfloat16(request):
    keras.config.set_dtype_policy("mixed_bfloat16")
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    half = compiled(hidden())
    assert half.layers[1].compute_dtype == "bfloat16"
    logs = fit(half)
    keras.config.set_dtype_policy("float32")
    expected = fit(compiled(hidden()))
    for name in ("loss", "val_loss"):
        assert logs[name] == pytest.approx(expected[name], rel=2e-2)
        assert logs[name] != expected[name]
    norm = expected["hypergradient_norm"]
    assert logs["hypergradient_norm"] == pytest.approx(norm, rel=0.2)


def test_mixed_float16_is_refused(request):
    keras.config.set_dtype_policy("mixed_float16")
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    with pytest.raises(TypeError, match="`optimizer`.*mixed_bfloat16"):
        compiled(hidden())
