"""What a method would refuse, where nothing is differentiated."""

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from faults import assert_trains_like_keras, members, refused, wrapped
from keras_drmad import hyperparameters as kinds

KIND = "refused although nothing is differentiated"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 4))
Y = GENERATOR.normal(size=(8, 2))
IMAGES = GENERATOR.normal(size=(8, 4, 4, 1))


class Quantized(keras.layers.Layer):
    """A layer whose gradient TensorFlow takes for a constant."""

    def call(self, x):
        x32 = tf.cast(x, "float32")
        return tf.cast(
            tf.quantization.fake_quant_with_min_max_args(x32), x.dtype
        )


def dense():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def quantized():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    return keras.Model(inputs, Quantized()(keras.layers.Dense(2)(inputs)))


def resized():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 4, 1))
    h = keras.layers.Conv2D(2, 2)(inputs)
    h = keras.layers.UpSampling2D(2, interpolation="bilinear")(h)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(h)))


def lion():
    return keras.optimizers.Lion(0.01)


def sgd():
    return keras.optimizers.SGD(0.1)


@members(
    KIND,
    {
        "Lion, L2, L1, ExampleWeights, LearningRate": (
            lion,
            dense,
            lambda: [
                kinds.L2(initial=1e-300),
                kinds.L1(initial=1e-300),
                kinds.ExampleWeights(8, initial=1.0, transform="log"),
                kinds.LearningRate(),
            ],
            X,
        ),
        "a quantized layer": (
            sgd,
            quantized,
            lambda: [kinds.LearningRate()],
            X,
        ),
        "bilinear resizing": (
            sgd,
            resized,
            lambda: [kinds.L2(initial=1e-300)],
            IMAGES,
        ),
    },
)
def trains_like_keras(case):
    make_optimizer, make_model, made, x = case
    assert_trains_like_keras(
        make_model, make_optimizer, "mse", made(), x, Y, batch_size=4
    )


@members(KIND, {"Lion, L2, Truncated": lambda: kd.Truncated(0.5)})
def trains_with_a_method(method):
    assert_trains_like_keras(
        dense,
        lion,
        "mse",
        [kinds.L2(initial=1e-300)],
        X,
        Y,
        batch_size=4,
        more={"hypergradient": method()},
    )


@members(
    KIND,
    {"Lion, L2, tuned": lion},
)
def is_refused_where_it_is(make_optimizer):
    model = wrapped(dense(), make_optimizer(), "mse", [kinds.L2()])
    model.fit(X, Y, meta_iterations=0, verbose=0)
    return refused(
        lambda: model.fit(
            X, Y, validation_data=(X, Y), meta_iterations=1, verbose=0
        ),
        "Lion",
        "sign",
    )
