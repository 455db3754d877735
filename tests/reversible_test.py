"""Training that runs backwards, bit for bit."""

import fractions
import math

import keras
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from closed_forms import exact_model, linear_net, regression, tanh_net
from keras_drmad.core import fixed_point as exact_arithmetic
from keras_drmad.core.state import State
from keras_drmad.core.walked import Diverged
from keras_drmad.differentiation.reversible import Reversible
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.training.arrays import ArrayChunk

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)  # 4 batches a pass
VALIDATION = regression(10, seed=1)
TRAINING = {"batch_size": 5, "validation_data": VALIDATION}
REVERSIBLE = kd.ReverseMode("reversible")
SGD = keras.optimizers.SGD


def reversible(optimizer=None, net=tanh_net, kinds=None, **options):
    keras.utils.set_random_seed(0)
    return exact_model(
        net(),
        kinds or [L2("input", 0.05)],
        optimizer or SGD(0.1, momentum=0.75),
        **{"hypergradient": REVERSIBLE} | options,
    )


# ---- it returns


def decayed():
    """Returns an optimizer with a schedule, and that clips."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.7)
    return SGD(schedule, momentum=0.75, clipnorm=0.5)


OPTIMIZERS = {
    "little-momentum": lambda: SGD(0.1, momentum=0.125),
    "decayed": decayed,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_returns_and_is_exact(optimizer):
    kinds = [L2("input", 0.05), LearningRate("layer")]
    model = reversible(OPTIMIZERS[optimizer](), kinds=kinds)
    training = TRAINING | {"epochs": 10}  # two chunks
    x, y = X[:18], Y[:18]  # the last batch of a pass is short
    record = model.hypergradient(x, y, **training)
    assert record.diagnostics["is_reversed"] == 1
    # The grid of 2^-46 makes the loss uneven by 1e-13: steps of 1e-3.
    assert_exact_hypergradient(model, x, y, step=1e-3, **training)


@pytest.mark.parametrize("momentum", [0.9, 0.1])
def test_bits_of_a_step(momentum):
    model = reversible(SGD(0.05, momentum=momentum), linear_net)
    found = model.hypergradient(X, Y, epochs=100, **TRAINING).diagnostics
    assert found["is_reversed"] == 1
    assert found["buffer_bits"] == pytest.approx(-math.log2(momentum), rel=0.1)


def test_bytes():
    # For each weight: three whole numbers and a ring of words, now and at the
    # start, and the bits that its products lose; and the states of a chunk.
    way = Reversible(fractions.Fraction(9, 10))
    numbers = [tf.zeros([5], tf.float32)]
    found = way.nbytes(2000, State(numbers, numbers, []))
    ring = 4 * exact_arithmetic.Words(way.momentum).most(32)
    lost = 2000 * math.log2(10 / 9) / 8
    assert found == pytest.approx(5 * (32 * 2 * 4 + 2 * (3 * 8 + ring) + lost))


def test_float32(request):
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    request.addfinalizer(lambda: keras.config.set_floatx("float64"))
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float64"))
    model = reversible()
    x, y = X.astype("float32"), Y.astype("float32")
    record = model.hypergradient(x, y, epochs=10, **TRAINING)
    assert record.gradients["l2"].dtype == tf.float32
    assert record.diagnostics["is_reversed"] == 1


@pytest.mark.slow
def test_with_xla():
    # Its numbers are compared with those without XLA in `common_methods_test`.
    model = reversible(jit_compile=True)
    record = model.hypergradient(X, Y, epochs=20, **TRAINING)
    assert record.diagnostics["is_reversed"] == 1


def test_trains_as_in_floats():
    # The weights of `fit`, too, are those of Keras, up to the grid.
    weights = []
    for hypergradient in (REVERSIBLE, kd.ReverseMode()):
        model = reversible(hypergradient=hypergradient)
        model.fit(
            X, Y, epochs=10, meta_iterations=1, verbose=0, seed=0, **TRAINING
        )
        weights.append(model.get_weights())
        assert int(model.optimizer.iterations) == 40
    assert relative_error(*weights) < 1e-11


# ---- it would be noticed if it did not


def without_the_buffer(x, buffer, ratio):
    return x * ratio.denominator // ratio.numerator, buffer


BREAKAGES = {
    "lost-digits": (exact_arithmetic, "divide", without_the_buffer),
    "lost-words": (Reversible, "_with_words", lambda self, words, s, _: s),
    "batches-in-order": (ArrayChunk, "reversed", lambda self, n: self),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_walk_that_does_not_return_is_noticed(name, monkeypatch):
    monkeypatch.setattr(*BREAKAGES[name])
    # 3 bits a step: words are put away, and more than the ring has room for.
    model = reversible(SGD(0.1, momentum=0.125), linear_net)
    with pytest.warns(RuntimeWarning, match="did not come back.*not exact"):
        found = model.hypergradient(X, Y, epochs=20, **TRAINING).diagnostics
    assert found["reverse_steps_used"] == 80
    assert found["is_reversed"] == 0


@pytest.mark.parametrize("rate", [3.0, 50.0])
def test_numbers_off_the_grid_are_noticed(rate):
    # Whole numbers wrap around: no nan would ever come.
    model = reversible(SGD(rate, momentum=0.9), linear_net)
    with pytest.raises(Diverged, match="training loss.*Lower the learning"):
        model.hypergradient(X, Y, epochs=50, **TRAINING)


# ---- what it refuses


OTHER_OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "SGD with momentum=0": lambda: SGD(0.1),
    "Nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "weight decay": lambda: SGD(0.1, momentum=0.9, weight_decay=0.1),
    "averages": lambda: SGD(0.1, momentum=0.9, use_ema=True),
    "accumulation": lambda: SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2
    ),
}


@pytest.mark.parametrize("says", OTHER_OPTIMIZERS)
def test_other_optimizers_are_refused(says):
    with pytest.raises(ValueError, match=f"(?s)`hypergradient`.*{says}.*Use"):
        reversible(OTHER_OPTIMIZERS[says]())


@pytest.mark.parametrize(
    "layer",
    [keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.5)],
    ids=["batch-normalization", "dropout"],
)
def test_models_with_a_state_of_their_own_are_refused(layer):
    def net():
        inputs = keras.Input((4,))
        return inputs, keras.layers.Dense(2)(layer()(inputs))

    model = reversible(net=net)
    says = r"changes \d other.*BatchNormalization or Dropout.*'checkpointed'"
    with pytest.raises(ValueError, match=says):
        model.hypergradient(X, Y, **TRAINING)


def test_constraints_are_refused():
    def net():
        inputs = keras.Input((4,))
        norm = keras.constraints.MaxNorm(0.3)
        return inputs, keras.layers.Dense(2, kernel_constraint=norm)(inputs)

    with pytest.raises(ValueError, match="onstraint"):
        reversible(net=net).hypergradient(X, Y, **TRAINING)


# Rounded, 1e-4 would be 0; 0.9994 would be 999 / 1000, which carries 1.7 times
# as far.
@pytest.mark.parametrize("momentum", [0.9999, 0.0001, 0.9994])
def test_momenta_that_are_no_fraction_are_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        reversible(SGD(0.01, momentum=momentum))
