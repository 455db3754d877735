"""Loops that call a step compute what loops with a copy of the step do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import exact_model
from conftest import precision, reseed
from keras_drmad.core import loops
from keras_drmad.core.apart import apart
from keras_drmad.core.derivatives import vjp
from keras_drmad.hyperparameters import L2, ExampleWeights, LearningRate
from keras_drmad.seam import traits

pytestmark = pytest.mark.usefixtures("float64")

RNG = np.random.default_rng(0)
LAYERS = keras.layers


def line():
    inputs = keras.Input((6, 2))
    h = LAYERS.MaxPooling1D(2)(LAYERS.Conv1D(2, 2, activation="tanh")(inputs))
    return inputs, LAYERS.Dense(1)(LAYERS.Flatten()(h))


def image():
    inputs = keras.Input((5, 5, 1))
    h = LAYERS.Conv2D(2, 2)(inputs)
    h = LAYERS.Dropout(0.2)(LAYERS.MaxPooling2D(2)(h))
    h = LAYERS.BatchNormalization()(h)
    return inputs, LAYERS.Dense(1)(LAYERS.Flatten()(h))


def volume():
    inputs = keras.Input((4, 4, 4, 1))
    h = LAYERS.MaxPooling3D(2)(LAYERS.Conv3D(1, 2, padding="same")(inputs))
    return inputs, LAYERS.Dense(1)(LAYERS.Flatten()(h))


def mean():
    inputs = keras.Input((6, 2))
    h = LAYERS.AveragePooling1D(2)(LAYERS.Conv1D(2, 2)(inputs))
    return inputs, LAYERS.Dense(1)(LAYERS.Flatten()(h))


@pytest.fixture
def calls(monkeypatch):
    """Counts the steps that are called."""
    made = []

    def counted(function):
        made.append(function)
        return apart(function)

    monkeypatch.setattr(loops, "apart", counted)
    return made


def model_of(net, method, kinds, **options):
    reseed()
    keras.utils.set_random_seed(0)
    return exact_model(
        net(),
        kinds,
        keras.optimizers.Adam(0.02),
        hypergradient=method,
        **options,
    )


def found(net, method, kinds=None, *, size=12, **options):
    """Returns gradients and the loss of one training."""
    kinds = kinds or [L2("layer", 0.05), LearningRate()]
    model = model_of(net, method, kinds, **options)
    shape = (20, *model.input_shape[1:])
    x = np.random.default_rng(1).normal(size=shape)
    y = np.sin(x.reshape(20, -1).sum(1))
    result = model.hypergradient(
        x[:size],
        y[:size],
        batch_size=4,
        epochs=2,
        validation_data=(x[12:], y[12:]),
        seed=0,
    )
    return *result.gradients.values(), result.validation_loss


CASES = {
    "rows, short": (
        image,
        kd.ReverseMode("checkpointed"),
        {
            "kinds": [L2("layer", 0.05), LearningRate(), ExampleWeights(11)],
            "size": 11,
        },
    ),
    "curvature": (line, kd.DrMAD(curvature="gauss_newton"), {}),
    "forward": (line, kd.ForwardMode(), {}),
    "implicit": (line, kd.Implicit(terms=3), {"kinds": [L2("layer", 0.05)]}),
}


@pytest.mark.parametrize("net, method, options", CASES.values(), ids=CASES)
def test_called_steps_compute_the_same(
    monkeypatch, calls, net, method, options
):
    called = found(net, method, **options)
    assert calls
    calls.clear()
    monkeypatch.setattr(traits, "PAIRED", ())
    copied = found(net, method, **options)
    assert not calls
    for one, other in zip(called, copied, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-15)


def test_what_oneDNN_takes_in_any_order_is_copied(calls):
    model = model_of(mean, kd.ReverseMode(), [L2()])
    x = RNG.normal(size=(8, 6, 2))
    held_out = x, x[:, 0, 0]
    model.validation_loss_after(x, x[:, 0, 0], 4, validation_data=held_out)
    assert not calls


def test_steps_in_three_dimensions_are_called(monkeypatch, calls):
    """TensorFlow has their pooling in single precision alone."""
    with precision("float32"):
        called = found(volume, kd.DrMAD(1.0))
        assert calls
        monkeypatch.setattr(traits, "PAIRED", ())
        copied = found(volume, kd.DrMAD(1.0))
    for one, other in zip(called, copied, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_xla_has_copies(calls):
    """Of training steps; few held-out batches are left to TensorFlow."""
    model = model_of(line, kd.ReverseMode(), [L2()], jit_compile=True)
    x = RNG.normal(size=(8, 6, 2))
    held_out = x, x[:, 0, 0]
    model.validation_loss_after(x, x[:, 0, 0], 4, validation_data=held_out)
    assert model.uses_xla
    assert not any("_forward" in step.__qualname__ for step in calls)


def test_tuning_while_training_calls_steps(monkeypatch, calls):
    x = RNG.normal(size=(12, 6, 2))
    y = np.sin(x.sum((1, 2)))

    def tuned():
        kind = L2("layer", 0.05)
        model = model_of(line, kd.Truncated(2), [kind])
        model.fit(
            x,
            y,
            batch_size=4,
            epochs=2,
            tune_every=3,
            validation_data=(x, y),
            seed=0,
            verbose=0,
        )
        return [*model.get_weights(), kind.value()]

    called = tuned()
    assert calls
    monkeypatch.setattr(traits, "PAIRED", ())
    for one, other in zip(called, tuned(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


# ---- one function


def test_a_loop_calls_what_is_apart():
    x = tf.constant([1.0, 2.0], tf.float64)
    factor = tf.Variable(2.0, dtype=tf.float64)

    @tf.function(autograph=False)
    def powers(x):
        def body(i, at, sum_of):
            def function(args):
                assert args["nothing"] is None
                y = args["at"] * x * factor
                return {"y": y, "none": None, "slope": vjp([y], [x])}

            done = apart(function)({"at": at, "nothing": None})
            assert done["none"] is None
            return i + 1, done["y"], sum_of + done["slope"][0]

        zero = tf.constant(0)
        return tf.while_loop(
            lambda i, *_: i < 3, body, (zero, tf.ones_like(x), 0 * x)
        )

    _, last, slopes = powers(x)
    np.testing.assert_allclose(last, [8.0, 64.0])
    # Each slope is that of one step: at * factor.
    np.testing.assert_allclose(slopes, [2 * (1 + 2 + 4), 2 * (1 + 4 + 16)])
    functions = powers.get_concrete_function(x).graph.as_graph_def().library
    kept = [f for f in functions.function if f.attr["_noinline"].b]
    assert len(kept) == 1
    name = kept[0].signature.name
    callers = [
        node.attr["f"].func.name
        for function in functions.function
        for node in function.node_def
        if "PartitionedCall" in node.op
    ]
    assert callers == [name]
