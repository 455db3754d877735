"""Which slots of an optimizer no derivative reads."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from closed_forms import exact_model, regression, tanh_net
from conformance.optimizers import OPTIMIZERS
from keras_drmad.core import left_out, nested
from keras_drmad.core.adjoint import step_back
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import (
    L2,
    LearningRate,
    Momentum,
    WeightDecay,
)
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.linear_slots import unread
from keras_drmad.seam.problem import ElementaryProblem

pytestmark = pytest.mark.usefixtures("float64")

SGD = keras.optimizers.SGD


# ---- functions of a slot m, another slot n and weights w: is m read?

ALWAYS = tf.constant(3, tf.int64)


@tf.custom_gradient
def reversed_gradient(x):
    return x + 0.0, lambda d: -d


UNREAD = {
    "number": lambda m, n, w: 0.9 * m + w * tf.sin(w),
    "divided": lambda m, n, w: m / 3.0 - w,
    "negative": lambda m, n, w: -m + tf.add_n([w, m, n * w]),
    "cast": lambda m, n, w: tf.cast(tf.cast(m, tf.float32), tf.float64),
    "shape": lambda m, n, w: tf.transpose(tf.reshape(m, [2, 3]))[1:] + w[0],
    "joined": lambda m, n, w: tf.squeeze(tf.concat([m[None], w[None]], 1)),
    "chosen": lambda m, n, w: tf.where(ALWAYS > 2, 2.0 * m, w),
    "unused": lambda m, n, w: w,
}
READ = {
    "times weights": lambda m, n, w: m * w,
    "times a slot": lambda m, n, w: m * (n + 1.0),
    "times itself": lambda m, n, w: m * (m + 1.0),
    "square": lambda m, n, w: tf.square(m),
    "over weights": lambda m, n, w: m / (2.0 + tf.square(w)),
    "under weights": lambda m, n, w: w / m,
    "late": lambda m, n, w: w * tf.reverse(0.5 * m + w, [0]),
    "condition": lambda m, n, w: tf.where(m > 0.0, w * w, w),
    "rounded": lambda m, n, w: w * tf.cast(tf.cast(m, tf.int32), m.dtype),
    "held": lambda m, n, w: tf.stop_gradient(m) * w,
    "own gradient": lambda m, n, w: reversed_gradient(m) + w,
    "branches": lambda m, n, w: tf.cond(
        w[0] > 9.0, lambda: m * w, lambda: tf.sin(m)
    ),
    "loop": lambda m, n, w: tf.while_loop(
        lambda k, x: k < 2, lambda k, x: (k + 1, x * m), (0, w)
    )[1],
    "function": lambda m, n, w: tf.function(tf.sin)(m) + w,
}


def found_in(function):
    """Returns the unread ones of slots m and n, and ∂/∂(m, w) as function."""

    @tf.function(autograph=False)
    def update(m, n, w):
        y = function(m, n, w)
        found.append(
            unread(
                [m, ALWAYS, n],
                [w],
                y.graph.get_operations(),
            )
        )
        slopes = tf.range(1.0, 1.0 + tf.size(y, tf.float64), dtype=y.dtype)
        return vjp([y], [m, w], [tf.reshape(slopes, tf.shape(y))])

    found: list[tuple] = []
    generator = np.random.default_rng(0)
    n, w = tf.constant(generator.normal(size=(2, 6)))
    slopes = [
        update(tf.constant(generator.normal(size=6)), n, w) for _ in range(2)
    ]
    return found[0], slopes


@pytest.mark.parametrize("name", UNREAD)
def test_a_slot_that_is_not_read(name):
    found, (first, second) = found_in(UNREAD[name])
    assert 0 in found and 1 not in found
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", READ)
def test_a_slot_that_is_read_or_may_be(name):
    found, _ = found_in(READ[name])
    assert 0 not in found


# ---- optimizers

VELOCITIES = {"momentum"}
CASES = {
    # optimizer, what is tuned beside a penalty, the names of unread slots
    "sgd": (lambda: SGD(0.1), [LearningRate], set()),
    "momentum": (lambda: SGD(0.1, momentum=0.9), [], VELOCITIES),
    "rate": (lambda: SGD(0.1, momentum=0.9), [LearningRate], VELOCITIES),
    "nesterov": (
        lambda: SGD(0.1, momentum=0.9, nesterov=True),
        [LearningRate],
        VELOCITIES,
    ),
    "decay": (
        lambda: SGD(0.1, momentum=0.9, weight_decay=0.1),
        [WeightDecay],
        VELOCITIES,
    ),
    "tuned momentum": (lambda: SGD(0.1, momentum=0.9), [Momentum], set()),
    "clipvalue": (
        lambda: SGD(0.1, momentum=0.9, clipvalue=0.1),
        [],
        VELOCITIES,
    ),
    # Not smooth: roots and quotients of the gradient.
    "clipnorm": (
        lambda: SGD(0.1, momentum=0.9, clipnorm=0.1),
        [],
        VELOCITIES,
    ),
    "averages": (
        lambda: SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=2),
        [LearningRate],
        {"momentum", "average"},
    ),
    "accumulation": (
        lambda: SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
        [],
        {"momentum", "gradient_accumulator"},
    ),
    # α times the gradients' sum.
    "accumulation, rate": (
        lambda: SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
        [LearningRate],
        VELOCITIES,
    ),
    # The velocity is divided, and so read; the momentum is not.
    "rmsprop, momentum": (
        lambda: keras.optimizers.RMSprop(0.01, momentum=0.5),
        [LearningRate],
        VELOCITIES,
    ),
}


def problem_of(optimizer, kinds):
    model = exact_model(tanh_net(), kinds, optimizer)
    batch = Batch(*map(tf.constant, regression(6)))
    return ElementaryProblem(
        model.elementary_model, model.optimizer, Together(kinds), batch
    ), batch


@pytest.mark.parametrize("name", CASES)
def test_slots_that_optimizers_do_not_read(name):
    make, kinds, expected = CASES[name]
    problem, _ = problem_of(make(), [L2(), *(one() for one in kinds)])
    found = [problem.slots[k].path for k in problem.unread_slots]
    named = {path.split("kernel_")[-1].split("bias_")[-1] for path in found}
    assert named == expected
    assert len(found) == 4 * len(expected)  # kernels and biases of two layers


LEAVE_OUT = {
    "adafactor",
    "clipnorm-ema",
    "cosine-decay",
    "ema-overwrite",
    "nesterov",
    "rmsprop-options",
    "schedule-free",
}


# Others have the slots of the first three, and more.
@pytest.mark.parametrize(
    "name",
    [name for name in OPTIMIZERS if name not in ("sgd", "momentum", "adam")],
)
def test_a_step_back_does_not_depend_on_unread_slots(name):
    problem, batch = problem_of(OPTIMIZERS[name].make(), [LearningRate()])
    assert bool(problem.unread_slots) == (name in LEAVE_OUT)
    if name not in LEAVE_OUT:
        return
    generator = np.random.default_rng(0)
    state = problem.initial_state()
    filled = [
        tf.constant(generator.uniform(0.5, 0.7, x.shape), x.dtype)
        if x.dtype.is_floating
        else x
        for x in state.slots
    ]
    state = state._replace(slots=filled)
    adjoint = [
        tf.constant(generator.normal(size=x.shape), x.dtype)
        for x in nested.float_leaves(state)
    ]
    back = tf.function(
        lambda state: step_back(
            problem, state, problem.hparams(), batch, adjoint
        ),
        autograph=False,
    )
    places = left_out.of_state(state, problem.unread_slots)
    zeros = left_out.with_zeros(left_out.without(state, places), places)
    expected, actual = back(state), back(zeros)
    for x, y in zip(
        tf.nest.flatten(expected), tf.nest.flatten(actual), strict=True
    ):
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x, y)
    # What is said to be read stays in its place.
    for k, (x, y) in enumerate(zip(state.slots, zeros.slots, strict=True)):
        is_left_out = k in problem.unread_slots
        np.testing.assert_array_equal(0 * x if is_left_out else x, y)


def test_a_slot_that_the_loss_reads_is_kept():
    optimizer = SGD(0.1, momentum=0.9)

    def loss(y, y_pred):
        velocity = optimizer.variables[2]  # of the first kernel
        shrinking = keras.ops.sum(keras.ops.square(velocity))
        return keras.losses.mean_squared_error(y, y_pred) * (1 + shrinking)

    model = exact_model(tanh_net(), [L2()], optimizer, loss=loss)
    optimizer.build(model.elementary_model.trainable_variables)
    batch = Batch(*map(tf.constant, regression(6)))
    problem = ElementaryProblem(
        model.elementary_model,
        optimizer,
        Together([*model.hyperparameters]),
        batch,
    )
    names = [v.path for v in problem.slots]
    read = {*range(len(names))} - {*problem.unread_slots}
    assert {names[k] for k in read} == {
        optimizer.variables[0].path,  # the count
        optimizer.variables[2].path,
    }
