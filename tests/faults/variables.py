"""Variables: assigned in a call, nobody's, or read around every scope."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from checks import assert_exact_hypergradient
from conformance import assert_all_right
from conftest import precision
from faults import (
    assert_trains_like_keras,
    members,
    refused,
    wrapped,
)
from keras_drmad.hyperparameters import LearningRate

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
HELD_OUT = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 2))
SEQUENCES = RNG.normal(size=(8, 3, 4))


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def kinds():
    return [LearningRate()]


class RunningMean(layers.Layer):
    """Subtracts a running mean that it assigns and reads in one call."""

    def __init__(self, stops=False, **kwargs):
        super().__init__(**kwargs)
        self.stops = stops

    def build(self, shape):
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if training:
            new = 0.5 * self.mean + 0.5 * ops.mean(x, 0)
            self.mean.assign(ops.stop_gradient(new) if self.stops else new)
        return x - self.mean


class Codebook(layers.Layer):
    """Pulls its inputs to the nearest code, straight through (VQ-VAE)."""

    def build(self, shape):
        self.codes = self.add_weight(shape=(3, shape[-1]), name="codes")

    def call(self, x):
        distance = ops.sum((x[:, None] - self.codes) ** 2, -1)
        nearest = ops.one_hot(ops.argmin(distance, -1), 3, dtype=x.dtype)
        code = nearest @ self.codes
        self.add_loss(ops.mean((ops.stop_gradient(x) - code) ** 2))
        return x + ops.stop_gradient(code - x)


class Largest(layers.Layer):
    """Divides by the largest size so far, which it assigns and reads."""

    def build(self, shape):
        self.size = self.add_weight(
            shape=(), initializer="ones", trainable=False
        )

    def call(self, x, training=False):
        if training:
            self.size.assign(ops.maximum(self.size, ops.max(ops.abs(x))))
        return x / self.size


class Counting(layers.Layer):
    """Counts its calls, in training or not, and computes with the count."""

    def build(self, shape):
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x):
        self.count.assign_add(1.0)
        return x * ops.cos(self.count)


class Untracked(layers.Layer):
    """Keeps a running mean in a variable that Keras does not track."""

    def build(self, shape):
        self.box = (lambda v: lambda: v)(
            keras.Variable(np.zeros(shape[-1]), trainable=False)
        )

    def call(self, x, training=False):
        mean = self.box()
        if training:
            mean.assign(0.5 * mean + 0.5 * ops.mean(x, 0))
        return x + mean


class Halving(layers.Layer):
    """Shrinks its own kernel in each call of training, before it is read."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x, training=False):
        before = x @ self.w
        if training:
            self.w.assign(0.9 * self.w)
        return before + x @ self.w


class Drawing(layers.Layer):
    """Adds noise without a seed, by Keras's global generator."""

    def call(self, x, training=False):
        noise = 0.1 * keras.random.normal(ops.shape(x), dtype=x.dtype)
        return x + noise if training else x


def around(layer):
    """Returns a model with a layer between two dense ones."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layer(x)))


def branches(makes):
    """Returns a model with a branch for each function that makes a layer.

    All have the same weights before them, and after them.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="tanh")(inputs)
    outputs = [make()(x) for make in makes]
    total = layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, layers.Dense(2)(total))


def recurrent(makes):
    """Returns a model with a branch for each function to a stateful layer.

    Without loops, which take long to trace; states are read before them and
    assigned after them.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input(batch_shape=(4, 3, 4))
    outputs = [make(2, stateful=True, unroll=True)(inputs) for make in makes]
    total = layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, layers.Dense(2)(total))


def assert_right(make, x=X, held_out=HELD_OUT):
    training = {"batch_size": 4, "epochs": 2, "shuffle": False}
    model = wrapped(make(), momentum(), "mse", kinds())
    before = [np.array(v) for v in model.elementary_model.variables]
    given = training | {"validation_data": held_out, "validation_batch_size": 4}
    loss = model.validation_loss_after(x, Y, **given)
    assert_exact_hypergradient(model, x, Y, rtol=1e-5, **given)
    after = model.elementary_model.variables
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    _, theirs = assert_trains_like_keras(
        make, momentum, "mse", kinds(), x, Y, ours=model, **training
    )
    evaluated = theirs.evaluate(*held_out, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, evaluated, rtol=1e-9)


ASSIGNED = {
    "running mean": RunningMean,
    "running mean, stopped by hand": lambda: RunningMean(True),
    "largest size so far": Largest,
    "codes, straight through": Codebook,
    "BatchNormalization": lambda: layers.BatchNormalization(momentum=0.5),
    "a count of calls": Counting,
    "an untracked mean": Untracked,  # nobody's
    "a kernel read before and after": Halving,  # the optimizer adjusts it, too
}
STATEFUL = {
    "SimpleRNN": layers.SimpleRNN,
    "LSTM": layers.LSTM,  # two states
}


@members(
    "a variable that a call assigns and reads", {", ".join(ASSIGNED): ASSIGNED}
)
def assigned_and_read(makes):
    assert_all_right(
        [*makes],
        lambda names: assert_right(
            lambda: branches([makes[name] for name in names])
        ),
    )


@members("a variable that is nobody's", {", ".join(STATEFUL): STATEFUL})
def nobodys(makes):
    held_out = SEQUENCES[:4], Y[:4]
    assert_all_right(
        [*makes],
        lambda names: assert_right(
            lambda: recurrent([makes[name] for name in names]),
            SEQUENCES,
            held_out,
        ),
    )


@members("randomness without a seed", {"keras.random": Drawing})
def unseeded(layer):
    model = wrapped(around(layer()), momentum(), "mse", kinds())
    training = {"batch_size": 4, "epochs": 2, "validation_data": HELD_OUT}
    assert_exact_hypergradient(model, X, Y, seed=0, **training)
    model.fit(X, Y, batch_size=4, epochs=2, meta_iterations=0, verbose=0)


def noise(draw):
    """Returns a layer that adds noise of its own."""

    class Noise(layers.Layer):
        def call(self, x, training=False):
            return x + draw(x) if training else x

    return Noise()


@members(
    "randomness that cannot be drawn again",
    {
        "tf.random": lambda x: tf.random.normal(tf.shape(x), dtype=x.dtype),
        "tf.nn.dropout": lambda x: tf.nn.dropout(x, 0.5),
        "tf.random.Generator": lambda x: (
            tf.random.get_global_generator().normal(tf.shape(x), dtype=x.dtype)
        ),
        "NumPy": lambda x: np.random.normal(size=3),
        "Python in a py_function": lambda x: tf.reshape(
            tf.py_function(lambda: np.random.normal(size=3), [], x.dtype), [3]
        ),
        "tf.random.shuffle": lambda x: tf.random.shuffle(x),
    },
)
def not_again(draw):
    tf.random.get_global_generator()
    model = wrapped(around(noise(draw)), momentum(), "mse", kinds())
    return refused(
        lambda: model.fit(X, Y, validation_data=HELD_OUT, verbose=0), "random"
    )


class Compiled(layers.Layer):
    """A dense layer whose call was compiled by itself."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)

    @tf.function
    def call(self, x):
        return tf.tanh(x @ tf.convert_to_tensor(self.w))


class Assigning(layers.Layer):
    """Assigns a variable of TensorFlow's."""

    def build(self, shape):
        self.seen = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def call(self, x):
        self.seen.assign_add(tf.reduce_mean(x))
        return x


def saved_model():
    """Returns a `TFSMLayer` with weights."""
    inputs = keras.Input((3,))
    inner = keras.Model(inputs, layers.Dense(3, activation="tanh")(inputs))
    folder = tempfile.mkdtemp()
    inner.export(folder, verbose=False)
    return layers.TFSMLayer(folder, call_endpoint="serve")


@members(
    "weights that no scope reaches",
    {
        "a call that is a tf.function": Compiled,
        "a TFSMLayer": saved_model,
        "a tf.Variable assigned in a call": Assigning,
    },
)
def out_of_reach(make):
    layer = make()
    model = wrapped(around(layer), momentum(), "mse", kinds())
    return refused(lambda: model.fit(X, Y, meta_iterations=0, verbose=0))


@members("weights that no scope reaches", {"a frozen TFSMLayer": saved_model})
def frozen(make):
    layer = make()
    layer.trainable = False
    model = wrapped(around(layer), momentum(), "mse", kinds())
    assert_exact_hypergradient(
        model, X, Y, batch_size=4, validation_data=HELD_OUT
    )


class Inside(layers.Layer):
    """A layer of one's own around a normalized one."""

    def build(self, shape):
        self.inner = layers.SpectralNormalization(layers.Dense(3))
        self.inner.build(shape)

    def call(self, x, training=False):
        return self.inner(x, training=training)


@members(
    "what depends on weights and is held constant",
    {
        "float32": ("float32", "one"),
        "float64": ("float64", "one"),
        "within a layer": ("float32", "inside"),
    },
)
def is_refused_where_it_is_trained(case):
    floatx, kind = case
    makes = {
        "one": lambda: layers.SpectralNormalization(layers.Dense(3)),
        "inside": Inside,
    }
    data = dict(x=X, y=Y, batch_size=4)
    with precision(floatx):
        model = wrapped(around(makes[kind]()), momentum(), "mse", kinds())
        refused(
            lambda: model.hypergradient(**data, validation_data=HELD_OUT),
            "SpectralNormalization",
            "hypergradient",
        )
        model.fit(**data, meta_iterations=0, verbose=0)
