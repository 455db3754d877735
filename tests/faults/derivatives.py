"""Operations whose second derivative is missing, wrong, or none on purpose."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses
from tensorflow.nn import moments as moments_by_name

from checks import assert_exact_hypergradient, differences, loss_after
from conformance import assert_all_right
from faults import members, refused, wrapped
from keras_drmad.hyperparameters import L2, LabelSmoothing, LearningRate

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
HELD_OUT = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 2))
IMAGES = RNG.normal(size=(8, 6, 6, 2))
CLASSES = RNG.integers(0, 2, 8)


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def dense(*added):
    """Returns a model with a branch for each of some layers.

    They share the weights before them and those after them, whose gradients
    have a share of each.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = layers.Dense(3, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(2)(joined(*(f(h) for f in added))))


def joined(*outputs):
    """Returns all outputs beside each other."""
    return layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]


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

    return by_moments


MOMENTS = {
    "from tensorflow.nn import moments": normalized(moments_by_name),
    "compat.v1": normalized(tf.compat.v1.nn.moments),
    "weighted_moments": lambda x: (
        x - tf.nn.weighted_moments(x, [-1], tf.ones_like(x), keepdims=True)[1]
    ),
    "reduce_variance": lambda x: (
        x / tf.math.reduce_std(x, axis=-1, keepdims=True)
    ),
}


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


GRADIENTS = {
    "reversal": reversed_,
    "scaled": scaled,
    "straight through a rounding": rounded,
    "clipped": clipped,
    "keras.ops.custom_gradient": keras.ops.custom_gradient(
        lambda x: (x * 1, lambda *a, upstream=None: -(upstream or a[0]))
    ),
    "stop_gradient": lambda x: x + tf.stop_gradient(tf.sin(x) - x),
    "recomputed": tf.recompute_grad(lambda x: tf.sin(x)),
}


@members("moments, whatever their name", {", ".join(MOMENTS): MOMENTS})
@members("a gradient of one's own", {", ".join(GRADIENTS): GRADIENTS})
def functions_of_one_model(functions):
    assert_all_right(
        [*functions],
        lambda names: assert_exact(
            dense(*(layers.Lambda(functions[name]) for name in names))
        ),
    )


def pooled(*makes):
    """Returns a model with a branch for each function that makes a layer.

    Each has a convolution before it, and all have the same weights after them.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    outputs = []
    for k, (make, shape) in enumerate(makes):
        x = layers.Conv2D(
            2, 3, padding="same", activation="tanh", name=f"conv_{k}"
        )(inputs)
        outputs.append(layers.Flatten()(make()(layers.Reshape(shape)(x))))
    x = layers.Dense(3, activation="tanh")(joined(*outputs))
    return keras.Model(inputs, layers.Dense(2)(x))


POOLED = {
    "1-D": (lambda: layers.MaxPooling1D(3, 1, "same"), (36, 2)),
    "2-D": (lambda: layers.MaxPooling2D(2, 1, "same"), (6, 6, 2)),
    "2-D of size 3": (lambda: layers.MaxPooling2D(3, 1, "same"), (6, 6, 2)),
    "of size 1": (lambda: layers.MaxPooling2D(1), (6, 6, 2)),
    "tf.nn.max_pool": (
        lambda: layers.Lambda(lambda x: tf.nn.max_pool(x, 2, 1, "SAME")),
        (6, 6, 2),
    ),
    "max_pool_with_argmax, smaller": (
        lambda: layers.Lambda(
            lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")[0]
        ),
        (6, 6, 2),
    ),
}


@members(
    "max pooling with equal shapes in and out", {", ".join(POOLED): POOLED}
)
def max_pooling(makes):
    def check(names):
        model = pooled(*(makes[name] for name in names))
        model = wrapped(model, momentum(), "mse", [LearningRate()])
        assert_exact_hypergradient(model, IMAGES, Y, rtol=1e-5, **ON_IMAGES)

    assert_all_right([*makes], check)


def in_three_dimensions(layer):
    """Returns a function that gives images to a layer for volumes."""
    return lambda x: layer(layers.Reshape((1, *x.shape[1:]))(x))


ON_IMAGES = {
    "batch_size": 4,
    "shuffle": False,
    "validation_data": (IMAGES[:4], Y[:4]),
}


RESIZED = {
    "softsign": lambda: layers.Activation("softsign"),
    "max pooling, 3-D, equal shapes": lambda: in_three_dimensions(
        layers.MaxPooling3D((1, 2, 2), 1, "same", dtype="float32")
    ),
    "nearest": lambda: layers.Resizing(3, 3, interpolation="nearest"),
    "bilinear": lambda: layers.Resizing(4, 4),
    "bilinear upsampling": lambda: layers.UpSampling2D(
        interpolation="bilinear"
    ),
    "bicubic": lambda: layers.Resizing(4, 4, interpolation="bicubic"),
    "lanczos": lambda: layers.Resizing(
        4, 4, interpolation="lanczos5", dtype="float32"
    ),
    "antialiased": lambda: layers.Resizing(
        3, 3, antialias=True, dtype="float32"
    ),
    "area": lambda: layers.Lambda(lambda x: tf.image.resize(x, (3, 3))),
    "crop_and_resize": lambda: layers.Lambda(
        lambda x: tf.cast(
            tf.image.crop_and_resize(
                x,
                tf.tile([[0.0, 0.0, 0.7, 0.9]], [tf.shape(x)[0], 1]),
                tf.range(tf.shape(x)[0]),
                (3, 3),
            ),
            x.dtype,
        )
    ),
}


@members(
    "operations whose gradient has no gradient", {", ".join(RESIZED): RESIZED}
)
def right_by_a_few_lines(makes):
    """The rate of each branch alone, by differences."""

    # TensorFlow has most of these in float32 alone, whatever comes in.
    def check(names):
        model = pooled(*((makes[name], (6, 6, 2)) for name in names))
        rates = [
            LearningRate(layers=f"conv_{k}", name=f"rate_{k}")
            for k in range(len(names))
        ]
        model = wrapped(model, momentum(), "mse", rates)
        record = model.hypergradient(IMAGES, Y, **ON_IMAGES)
        loss = loss_after(model, IMAGES, Y, **ON_IMAGES)
        for name, h in zip(names, model.hyperparameters, strict=True):
            expected = differences(loss, [h.raw], [[np.array(1.0)]], step=3e-2)
            found = record.gradients[h.name]
            np.testing.assert_allclose(
                found, expected[0], rtol=2e-2, err_msg=name
            )

    assert_all_right([*makes], check)


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
    odd = layers.Lambda(function, name="odd")
    model = pooled((lambda: odd, (6, 6, 2)))
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
    {"CTC by name": "ctc"},
)
def ctc(name):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 3))
    model = wrapped(
        keras.Model(inputs, layers.Dense(5)(inputs)),
        momentum(),
        name,
        [LearningRate()],
    )
    x, y = RNG.normal(size=(8, 6, 3)), RNG.integers(1, 4, (8, 2))
    return refused(
        lambda: model.hypergradient(x, y, validation_data=(x, y)), "ctc"
    )


ODD_LABELS = np.concatenate(
    [
        np.eye(3)[[0, 1, 2, 0]] * [[0], [0], [1], [1]],
        [[1.0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 0, 0]],
        np.full((4, 3), 0.2),
    ]
)


@members(
    "labels that do not add up to 1",
    {"rows of zeros, several classes, parts": ODD_LABELS},
)
def odd_labels(labels):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(x))
    loss = losses.CategoricalCrossentropy(from_logits=True)
    kinds = [L2("layer", 1e-2), LabelSmoothing(0.1)]
    x, held_out = RNG.normal(size=(2, 12, 4))
    assert_exact(model, x, labels, (held_out, labels), loss, kinds)


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
