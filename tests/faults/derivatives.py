"""Operations whose second derivative is missing, wrong, or none on purpose."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses
from tensorflow.nn import moments as moments_by_name

from checks import assert_derivative, assert_exact_hypergradient
from faults import members, refused, wrapped
from keras_drmad.hyperparameters import L2, LabelSmoothing, LearningRate

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
HELD_OUT = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 2))
IMAGES = RNG.normal(size=(8, 6, 6, 2))
CLASSES = RNG.integers(0, 2, 8)
ONE_HOT = np.eye(3)[RNG.integers(0, 3, 8)]


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def dense(layer):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layer(layers.Dense(3, activation="tanh")(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def assert_exact(model, x=X, y=Y, held_out=HELD_OUT, loss="mse", kinds=None):
    kinds = kinds or [L2("layer", 1e-2), LearningRate()]
    model = wrapped(model, momentum(), loss, kinds)
    assert_exact_hypergradient(
        model, x, y, batch_size=4, shuffle=False, validation_data=held_out
    )


def normalized(moments):
    def by_moments(x):
        mean, variance = moments(x, [-1], keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-3)

    return layers.Lambda(by_moments)


@members(
    "moments, whatever their name",
    {
        "tf.nn.moments": lambda *a, **k: tf.nn.moments(*a, **k),
        "from tensorflow.nn import moments": moments_by_name,
        "compat.v1": tf.compat.v1.nn.moments,
        "compat.v2": tf.compat.v2.nn.moments,
    },
)
def moments_elsewhere(moments):
    assert_exact(dense(normalized(moments)))


@members(
    "moments, whatever their name",
    {
        "weighted_moments": lambda x: (
            x
            - tf.nn.weighted_moments(x, [-1], tf.ones_like(x), keepdims=True)[1]
        ),
        "reduce_variance": lambda x: (
            x / tf.math.reduce_std(x, axis=-1, keepdims=True)
        ),
    },
)
def other_moments(function):
    assert_exact(dense(layers.Lambda(function)))


def of_saved_model():
    inputs = keras.Input((3,))
    inner = keras.Model(inputs, layers.LayerNormalization()(inputs))
    folder = tempfile.mkdtemp()
    inner.export(folder, verbose=False)
    return layers.TFSMLayer(folder, call_endpoint="serve", trainable=False)


class InFunction(layers.Layer):
    """Normalizes in a function that was compiled by itself."""

    @tf.function
    def call(self, x):
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-3)


@members(
    "moments in a function compiled before",
    {"a saved LayerNormalization": of_saved_model, "@tf.function": InFunction},
)
def compiled_before(layer):
    model = wrapped(
        dense(layer()), momentum(), "mse", [L2("layer", 1e-2), LearningRate()]
    )
    try:
        assert_exact_hypergradient(
            model, X, Y, batch_size=4, shuffle=False, validation_data=HELD_OUT
        )
    except ValueError:
        return refused(
            lambda: model.hypergradient(
                X, Y, batch_size=4, validation_data=HELD_OUT
            ),
            "derivative",
        )
    return None


@tf.custom_gradient
def reversed_(x):
    return tf.identity(x), lambda d: -d


@tf.custom_gradient
def scaled(x):
    return 1.0 * x, lambda d: 0.1 * d


@tf.custom_gradient
def rounded(x):
    return tf.round(4 * x) / 4, lambda d: d


@tf.custom_gradient
def clipped(x):
    return tf.sin(x), lambda d: tf.clip_by_value(d, -1e-2, 1e-2)


@members(
    "a gradient of one's own",
    {
        "reversal": reversed_,
        "scaled": scaled,
        "straight through a rounding": rounded,
        "clipped": clipped,
        "keras.ops.custom_gradient": keras.ops.custom_gradient(
            lambda x: (x * 1, lambda *a, upstream=None: -(upstream or a[0]))
        ),
        "stop_gradient": lambda x: x + tf.stop_gradient(tf.sin(x) - x),
        "recomputed": tf.recompute_grad(lambda x: tf.sin(x)),
    },
)
def own_gradients(function):
    assert_exact(dense(layers.Lambda(function)))


def pooled(layer, shape):
    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(2, 3, padding="same", activation="tanh")(inputs)
        x = layer()(layers.Reshape(shape)(x))
        x = layers.Dense(3, activation="tanh")(layers.Flatten()(x))
        return keras.Model(inputs, layers.Dense(2)(x))

    return model


@members(
    "max pooling with equal shapes in and out",
    {
        "1-D": pooled(lambda: layers.MaxPooling1D(3, 1, "same"), (36, 2)),
        "2-D": pooled(lambda: layers.MaxPooling2D(2, 1, "same"), (6, 6, 2)),
        "2-D of size 3": pooled(
            lambda: layers.MaxPooling2D(3, 1, "same"), (6, 6, 2)
        ),
        "of size 1": pooled(lambda: layers.MaxPooling2D(1), (6, 6, 2)),
        "tf.nn.max_pool": pooled(
            lambda: layers.Lambda(lambda x: tf.nn.max_pool(x, 2, 1, "SAME")),
            (6, 6, 2),
        ),
    },
)
def max_pooling(make):
    model = wrapped(make(), momentum(), "mse", [LearningRate()])
    assert_exact_hypergradient(model, IMAGES, Y, rtol=1e-5, **ON_IMAGES)


ON_IMAGES = {
    "batch_size": 4,
    "shuffle": False,
    "validation_data": (IMAGES[:4], Y[:4]),
}


@members("max pooling with equal shapes in and out", {"3-D": (1, 2, 2)})
def max_pooling_3d(size):
    # TensorFlow has it in float32 alone, whose differences say little.
    same = pooled(lambda: layers.MaxPooling2D(size[1:], 1, "same"), (6, 6, 2))
    make = pooled(
        lambda: layers.MaxPooling3D(size, 1, "same", dtype="float32"),
        (1, 6, 6, 2),
    )
    found = []
    for model in (make(), same()):
        model = wrapped(model, momentum(), "mse", [LearningRate()])
        record = model.hypergradient(IMAGES, Y, **ON_IMAGES)
        found.append(float(record.gradients["learning_rate"]))
    np.testing.assert_allclose(*found, rtol=1e-4)


def resized(function):
    return pooled(function, (6, 6, 2))


@members(
    "operations whose gradient has no gradient",
    {
        "softsign": resized(lambda: layers.Activation("softsign")),
        "nearest": resized(
            lambda: layers.Resizing(3, 3, interpolation="nearest")
        ),
        "bilinear": resized(lambda: layers.Resizing(4, 4)),
        "bilinear upsampling": resized(
            lambda: layers.UpSampling2D(interpolation="bilinear")
        ),
        "bicubic": resized(
            lambda: layers.Resizing(4, 4, interpolation="bicubic")
        ),
        "lanczos": resized(
            lambda: layers.Resizing(
                4, 4, interpolation="lanczos5", dtype="float32"
            )
        ),
        "antialiased": resized(
            lambda: layers.Resizing(3, 3, antialias=True, dtype="float32")
        ),
        "area": resized(
            lambda: layers.Lambda(lambda x: tf.image.resize(x, (3, 3)))
        ),
        "max_pool_with_argmax": resized(
            lambda: layers.Lambda(
                lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")[0]
            )
        ),
        "crop_and_resize": resized(
            lambda: layers.Lambda(
                lambda x: tf.cast(
                    tf.image.crop_and_resize(
                        x,
                        tf.tile([[0.0, 0.0, 0.7, 0.9]], [tf.shape(x)[0], 1]),
                        tf.range(tf.shape(x)[0]),
                        (3, 3),
                    ),
                    x.dtype,
                )
            )
        ),
    },
)
def right_by_a_few_lines(make):
    # TensorFlow has most of these in float32 alone, whatever comes in.
    model = wrapped(make(), momentum(), "mse", [LearningRate()])
    record = model.hypergradient(IMAGES, Y, **ON_IMAGES)
    assert_derivative(
        lambda: model.validation_loss_after(IMAGES, Y, **ON_IMAGES),
        [model.hyperparameters[0].raw],
        [record.gradients["learning_rate"]],
        rtol=2e-2,
        step=3e-2,
    )


@members(
    "operations that nothing differentiates twice",
    {
        "LRN": lambda x: tf.cast(tf.nn.lrn(tf.cast(x, "float32")), x.dtype),
        "dilation": lambda x: tf.nn.dilation2d(
            x,
            tf.zeros((2, 2, 2), x.dtype),
            (1, 1, 1, 1),
            "VALID",
            "NHWC",
            (1, 1, 1, 1),
        ),
        "fake quantization": lambda x: tf.cast(
            tf.quantization.fake_quant_with_min_max_args(tf.cast(x, "float32")),
            x.dtype,
        ),
    },
)
def no_second_derivative(function):
    model = resized(lambda: layers.Lambda(function, name="odd"))()
    model = wrapped(model, momentum(), "mse", [LearningRate()])
    model.fit(IMAGES, Y, batch_size=4, meta_iterations=0, verbose=0)
    return refused(
        lambda: model.hypergradient(
            IMAGES, Y, batch_size=4, validation_data=(IMAGES, Y)
        ),
        "odd",
    )


@members(
    "operations that nothing differentiates twice",
    {"CTC": losses.CTC, "CTC by name": lambda: "ctc"},
)
def ctc(make):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 3))
    model = wrapped(
        keras.Model(inputs, layers.Dense(5)(inputs)),
        momentum(),
        make(),
        [LearningRate()],
    )
    x, y = RNG.normal(size=(8, 6, 3)), RNG.integers(1, 4, (8, 2))
    return refused(
        lambda: model.hypergradient(x, y, validation_data=(x, y)), "ctc"
    )


@members(
    "labels that do not add up to 1",
    {
        "rows of zeros": np.eye(3)[[0, 1, 2, 0]] * [[0], [0], [1], [1]],
        "several classes": np.array(
            [[1.0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 0, 0]]
        ),
        "parts": np.full((4, 3), 0.2),
    },
)
def odd_labels(labels):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(x))
    loss = losses.CategoricalCrossentropy(from_logits=True)
    kinds = [L2("layer", 1e-2), LabelSmoothing(0.1)]
    y = np.concatenate([labels, ONE_HOT[:4]])
    assert_exact(model, X, y, (HELD_OUT[0], labels), loss, kinds)


@members(
    "a second derivative that is not finite",
    {
        "Circle": lambda: losses.Circle(gamma=4.0),
        "a root at 0": lambda: (
            lambda y, p: (
                keras.ops.sqrt(keras.ops.square(p - keras.ops.stop_gradient(p)))
                + keras.ops.square(p - y)
            )
        ),
    },
)
def not_finite(make):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.UnitNormalization()(layers.Dense(3)(inputs))
    model = keras.Model(inputs, x)
    model = wrapped(model, momentum(), make(), [L2()])
    y = np.array([0, 0, 1, 2, 0, 1, 1, 2])
    if not isinstance(make(), losses.Circle):
        y = RNG.normal(size=(8, 3))
    return refused(
        lambda: model.fit(
            X, y, batch_size=4, shuffle=False, validation_data=(X, y), verbose=0
        ),
    )
