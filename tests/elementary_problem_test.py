"""The seam to Keras: models of every kind have exact hypergradients."""

import keras
import numpy as np
import pytest
from keras import layers

from checks import assert_exact_hypergradient, relative_error
from closed_forms import exact_model, regression, tanh_net
from conftest import set_precision
from keras_drmad.hyperparameters import L2, LearningRate

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(12)
X_VAL, Y_VAL = regression(8, seed=1)
TRAINING = {"batch_size": 4, "epochs": 3}


def assert_exact(net, data=(X, Y), validation=(X_VAL, Y_VAL), **compile_):
    kinds = [L2("input", 0.05), LearningRate("layer")]
    model = exact_model(net, kinds, **compile_)
    assert_exact_hypergradient(
        model, *data, validation_data=validation, **TRAINING
    )
    return model


def test_sequential_with_losses_of_layers():
    penalties = {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    stack = [layers.Dense(3, "tanh", **penalties), layers.Dense(2)]
    assert_exact(keras.Sequential([keras.Input((4,)), *stack]))


def test_normalizations():
    # The moving averages are part of the state: validation looks at them.
    inputs = keras.Input((4,))
    x = layers.LayerNormalization()(layers.Dense(6)(inputs))
    x = layers.BatchNormalization(momentum=0.5)(x)
    x = layers.GroupNormalization(2)(layers.Reshape((3, 2))(x))
    x = layers.RMSNormalization()(layers.Flatten()(x))
    x = layers.UnitNormalization()(x)
    model = assert_exact((inputs, layers.Dense(2)(x)))
    assert len(model._assembly.problem.buffers) == 2


def test_dropout_under_xla():
    # The way back draws the masks of the way there; without XLA, as in
    # `first_edition_test`.
    inputs, x = keras.Input((4,)), layers.Dense(6, activation="tanh")
    x = layers.Dropout(0.5)(x(inputs))
    net = inputs, layers.Dense(2)(x)
    assert_exact(net, jit_compile=True)


def test_several_inputs_and_outputs():
    left, right = (
        keras.Input((4,), name="left"),
        keras.Input((2,), name="right"),
    )
    x = layers.Concatenate()([left, right])
    x = layers.Dense(3, activation="tanh")(x)
    outputs = [layers.Dense(2, name="p")(x), layers.Dense(1, name="q")(x)]

    def data(x, y):
        return [x, y], [y, x[:, :1]]

    assert_exact(
        ([left, right], outputs),
        data(X, Y),
        data(X_VAL, Y_VAL),
        loss=["mse", keras.losses.Huber()],
        loss_weights=[0.5, 2.0],
    )


def test_dictionaries_of_inputs_and_outputs():
    inputs = {name: keras.Input((4,), name=name) for name in "uv"}
    x = layers.Dense(3, activation="tanh")(layers.Add()(list(inputs.values())))
    outputs = {"p": layers.Dense(2, name="p")(x)}

    def data(x, y):
        return {"u": x, "v": x**2}, {"p": y}

    assert_exact((inputs, outputs), data(X, Y), data(X_VAL, Y_VAL))


def test_a_frozen_layer_and_a_layer_used_twice():
    inputs, shared = keras.Input((4,)), layers.Dense(4, activation="tanh")
    frozen = layers.Dense(4, trainable=False)
    x = shared(shared(frozen(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    before = [w.numpy() for w in frozen.weights]
    wrapped = assert_exact(model)
    held_out = X_VAL, Y_VAL
    options = {**TRAINING, "validation_data": held_out, "verbose": 0}
    wrapped.fit(X, Y, meta_iterations=1, **options)
    for w, value in zip(frozen.weights, before, strict=True):
        np.testing.assert_array_equal(w, value)


def test_embedding():
    # Gradients come as slices; rows that no example names have none.
    inputs = keras.Input((3,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(9, 2)(inputs))
    tokens = np.random.default_rng(0).integers(0, 8, (20, 3))
    assert_exact(
        (inputs, layers.Dense(2)(x)),
        (tokens[:12], Y),
        (tokens[12:], Y_VAL),
        optimizer=keras.optimizers.Adam(0.1),
    )


def test_convolution_and_pooling():
    inputs = keras.Input((5, 5, 1))
    x = layers.Conv2D(2, 2, activation="tanh")(inputs)
    x = layers.Conv2DTranspose(2, 2, activation="tanh")(x)
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    images = np.random.default_rng(0).normal(size=(20, 5, 5, 1))
    assert_exact(
        (inputs, layers.Dense(2)(x)), (images[:12], Y), (images[12:], Y_VAL)
    )


def test_recurrent():
    inputs = keras.Input((3, 4))
    x = layers.GRU(3)(inputs)
    series = np.random.default_rng(0).normal(size=(20, 3, 4))
    assert_exact(
        (inputs, layers.Dense(2)(x)), (series[:12], Y), (series[12:], Y_VAL)
    )


class Autoencoder(keras.Model):
    """A subclassed model with a loss and a metric of its own."""

    def __init__(self):
        super().__init__()
        self.code = layers.Dense(2, activation="tanh")
        self.back = layers.Dense(4)
        self.distance = keras.metrics.Mean("distance")

    def call(self, x):
        return self.back(self.code(x))

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        del y, sample_weight
        weight = 1.0 if training else 0.5
        loss = weight * keras.ops.mean(keras.ops.abs(x - y_pred) ** 3)
        self.distance.update_state(loss)
        return loss


def test_subclassed_with_its_own_loss():
    model = Autoencoder()
    model(X[:1])
    wrapped = assert_exact(model, (X,), (X_VAL, None), loss=None)
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    penalty = 0.05 * sum(np.sum(np.square(w)) for w in kernels)
    fitted = wrapped.fit(X, batch_size=12, meta_iterations=0, verbose=0)
    logs = fitted.history
    np.testing.assert_allclose(
        logs["loss"][0], logs["distance"][0] + penalty, rtol=1e-12
    )


def gradients(floatx, layers_dtype):
    """Returns a hypergradient of weights that all precisions hold exactly."""
    set_precision(floatx, layers_dtype)
    try:
        model = keras.Model(*tanh_net())
        generator = np.random.default_rng(0)
        model.set_weights(
            [generator.normal(size=w.shape).round(2) for w in model.weights]
        )
        model = exact_model(model, [L2("input", 0.05), LearningRate("layer")])
        record = model.hypergradient(
            X, Y, validation_data=(X_VAL, Y_VAL), **TRAINING
        )
    finally:
        set_precision("float64")
    assert record.gradients["l2"].dtype == floatx
    return record.gradients


def test_float32_agrees_with_float64():
    double = gradients("float64", "float64")
    # Layers and hyperparameters may be of different precision.
    for precision in (("float32", "float32"), ("float32", "float64")):
        assert relative_error(gradients(*precision), double) < 1e-5
