"""Loops made of copies of the look at a step compute what traced ones do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import exact_model, regression
from conftest import reseed
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.graph_copy import GraphCopy
from keras_drmad.hyperparameters import L2, ExampleWeights, LearningRate
from keras_drmad.seam import copied_step

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(12)
HELD_OUT = regression(8, seed=1)
IDS = np.arange(36).reshape(12, 3) % 5


def dense():
    inputs = keras.Input((4,))
    h = keras.layers.Dense(3, "tanh")(inputs)
    return inputs, keras.layers.Dense(2)(h), X, HELD_OUT[0]


def dropout_and_normalization():
    inputs = keras.Input((4,))
    h = keras.layers.Dense(3, "tanh")(inputs)
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.3)(h))
    return inputs, keras.layers.Dense(2)(h), X, HELD_OUT[0]


def rows():
    inputs = keras.Input((3,), dtype="int32")
    h = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(inputs))
    return inputs, keras.layers.Dense(2)(h), IDS, IDS[:8]


def named_inputs():
    # Of one shape, and not in the order of their names; one layer is frozen.
    inputs = {name: keras.Input((4,), name=name) for name in ("b", "a")}
    h = [
        keras.layers.Dense(3, "tanh", trainable=name == "a")(inputs[name])
        for name in ("b", "a")
    ]
    outputs = keras.layers.Dense(2)(keras.layers.Subtract()(h))
    x, held_out = ({"b": a, "a": a[:, ::-1] ** 2} for a in (X, HELD_OUT[0]))
    return inputs, outputs, x, held_out


def recurrent():
    inputs = keras.Input((3,), dtype="int32")
    h = keras.layers.Embedding(5, 2, mask_zero=True)(inputs)
    return (
        inputs,
        keras.layers.Dense(2)(keras.layers.SimpleRNN(2)(h)),
        IDS,
        IDS[:8],
    )


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.5),
    "Adam": lambda: keras.optimizers.Adam(0.02, global_clipnorm=0.5),
    "averages": lambda: keras.optimizers.RMSprop(
        keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5), use_ema=True
    ),
    "accumulation": lambda: keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=2
    ),
}
CASES = [
    (dense, "accumulation", kd.ReverseMode()),
    (dense, "momentum", kd.ForwardMode()),
    (dropout_and_normalization, "averages", kd.ReverseMode()),
    (rows, "Adam", kd.ReverseMode()),
    (rows, "momentum", kd.DrMAD(curvature="gauss_newton")),
    (named_inputs, "momentum", kd.ReverseMode("checkpointed")),
    (recurrent, "momentum", kd.ReverseMode()),
]


def found(net, name, method, size=12, **options):
    """Returns gradients, losses and weights of one training."""
    reseed()
    inputs, outputs, x, held_out = net()
    kinds = [L2("layer", 0.05), LearningRate()]
    if name == "accumulation":
        kinds = kinds[:1]
    if name == "Adam":
        kinds.append(ExampleWeights(len(x)))  # found by their places
    model = exact_model(
        (inputs, outputs),
        kinds,
        OPTIMIZERS[name](),
        hypergradient=method,
        **options,
    )
    result = model.hypergradient(
        tf.nest.map_structure(lambda a: a[:size], x),
        Y[:size],
        batch_size=4,
        epochs=3,
        validation_data=(held_out, HELD_OUT[1]),
        seed=0,
    )
    return *result.gradients.values(), result.validation_loss


@pytest.fixture
def copies(monkeypatch):
    """Counts copies; set to `None`, lets none be made."""
    counts = {"made": 0}
    copied = copied_step.CopiedStep._copied

    def counted(self, half, args):
        if counts["made"] is None:
            return None
        made = copied(self, half, args)
        counts["made"] += made is not None
        return made

    monkeypatch.setattr(copied_step.CopiedStep, "_copied", counted)
    return counts


@pytest.mark.parametrize(
    "net, name, method",
    CASES,
    ids=[f"{net.__name__}-{name}-{method!r}" for net, name, method in CASES],
)
def test_copies_compute_the_same(copies, net, name, method):
    by_copies = found(net, name, method)
    # Both halves forward, and backward those that call no functions.
    calls = (net is recurrent) + (name == "accumulation")
    assert copies["made"] >= 4 - calls
    copies["made"] = None
    for one, other in zip(by_copies, found(net, name, method), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(
    "options", [{"size": 11}, {"jit_compile": True}], ids=["short", "xla"]
)
def test_gradients_are_not_copied(copies, options):
    """Of batches of other sizes, and under XLA."""
    found(dense, "momentum", kd.ReverseMode(), **options)
    # The update knows of no minibatch.
    assert copies["made"] == (0 if "jit_compile" in options else 2)


# ---- one graph


def test_a_copy_captures_constants_and_returns_what_was_not_computed():
    table = tf.Variable([1.0, 2.0, 3.0], dtype=tf.float64)

    def function(x, unused, nothing):
        del unused
        return {"y": x * table, "nothing": nothing, "x": x}

    specs = [tf.TensorSpec([3], tf.float64), tf.TensorSpec([2], tf.float64)]
    copy = GraphCopy(tf.function(function).get_concrete_function(*specs, None))
    assert copy.takes((tf.ones([3], tf.float64), tf.ones([2], tf.float64)))
    for other in (tf.ones([3]), tf.ones([4], tf.float64)):
        assert not copy.takes((other, tf.ones([2], tf.float64)))

    @tf.function
    def twice(x):
        unused = tf.zeros([2], tf.float64)
        first = copy((x, unused, None))
        assert first["nothing"] is None and first["y"].shape == [3]
        second = copy((first["y"] * first["x"], unused, None))["y"]
        return second, vjp([second], [x])

    x = tf.constant([1.0, -1.0, 2.0], tf.float64)
    second, (slope,) = twice(x)
    np.testing.assert_allclose(second, x**2 * table**2)
    np.testing.assert_allclose(slope, 2 * x * table**2)
    table.assign(-table)  # a variable is read when the graph runs
    np.testing.assert_allclose(twice(x)[0], x**2 * table**2)
    table.assign([0.0, 1.0, 0.0])
    np.testing.assert_allclose(twice(x)[0], [0, 1, 0])


def test_conditions_and_loops_are_copied():
    def function(x):
        many = tf.while_loop(lambda y: y[0] < 8, lambda y: 2 * y, [x])[0]
        return tf.cond(x[1] > 0, lambda: many, lambda: -many)

    copy = GraphCopy(
        tf.function(function).get_concrete_function(tf.TensorSpec([2]))
    )
    copied = tf.function(lambda x: copy((x,)) + copy((x * [4.0, -1.0],)))
    found = copied(tf.constant([1.0, 0.5]))
    np.testing.assert_allclose(found, [8.0 - 8.0, 4.0 + 1.0])
