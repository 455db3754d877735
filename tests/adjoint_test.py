"""One step back: against the tape's vjp, and against the paper's lines."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_derivative, assert_exact_hypergradient
from closed_forms import (
    QuarticByMomentum,
    exact_model,
    linear_net,
    regression,
    tanh_net,
)
from keras_drmad.core import nested
from keras_drmad.core.adjoint import step_back
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.problem import ElementaryProblem

pytestmark = pytest.mark.usefixtures("float64")
CURVATURE = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]])


def one_step(problem, state, hparams, batch):
    """The explicit map of one step: the floating leaves of s_{t+1}."""
    g, called = problem.gradient(state, hparams, batch)
    params, slots = problem.update(called, g, hparams)
    return nested.float_leaves([params, slots, called.buffers])


def random_like(tensors, seed=1):
    generator = np.random.default_rng(seed)
    return [tf.constant(generator.normal(size=t.shape)) for t in tensors]


def keras_problem(optimizer):
    """A net with every kind of state: weights, slots, moving averages."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh")(inputs)
    x = keras.layers.BatchNormalization()(x)
    kinds = [
        kd.hyperparameters.L2(per="input", initial=0.1),
        kd.hyperparameters.L1(per="layer", initial=0.1),
        kd.hyperparameters.LearningRate(per="layer"),
    ]
    net = inputs, keras.layers.Dense(2)(x)
    model = exact_model(net, kinds, optimizer)
    batch = Batch(*map(tf.constant, regression(6)))
    problem = ElementaryProblem(
        model.elementary_model, model.optimizer, Together(kinds), batch
    )
    return problem, batch


def walked_back(problem, *args):
    """Returns what `step_back` does, which differentiates a graph."""
    back = tf.function(lambda *args: step_back(problem, *args), autograph=False)
    return back(*args)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD,
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.Adam(0.1),
    ],
    ids=["sgd", "nesterov", "adam"],
)
def test_step_back_of_keras_equals_differences(optimizer):
    problem, batch = keras_problem(optimizer())
    hparams = problem.hparams()
    state = problem.initial_state()
    # No slot may be zero, nor become negative on one side.
    slots = [x + 0.1 if x.dtype.is_floating else x + 1 for x in state.slots]
    state = state._replace(slots=slots)
    adjoint = random_like(nested.float_leaves(state))
    assert_equals_differences(problem, state, hparams, batch, adjoint)


def test_step_back_equals_the_lines_of_the_paper():
    problem = QuarticByMomentum(CURVATURE)
    state, hparams, batch, dw, dv = problem.random_point()
    adjoint = [tf.constant(dw), tf.constant(dv)]
    d_state, d_hparams = walked_back(problem, state, hparams, batch, adjoint)
    by_hand = problem.by_hand(state, hparams, batch, dw, dv)
    for actual, expected in zip(
        (*d_state, *d_hparams), (*by_hand[0], *by_hand[1]), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_step_back_of_the_paper_equals_differences():
    problem = QuarticByMomentum(CURVATURE)
    state, hparams, batch, dw, dv = problem.random_point()
    adjoint = [tf.constant(dw), tf.constant(dv)]
    assert_equals_differences(problem, state, hparams, batch, adjoint)


def assert_equals_differences(problem, state, hparams, batch, adjoint):
    """Asserts that a step backward is the derivative of `one_step`."""
    leaves = nested.float_leaves(state)
    variables = [tf.Variable(x) for x in (*leaves, *hparams)]
    is_floating = [x.dtype.is_floating for x in tf.nest.flatten(state)]

    @tf.function(autograph=False)
    def projected_of(values):
        floats = iter(values[: len(leaves)])
        here = [
            next(floats) if keep else x
            for keep, x in zip(is_floating, tf.nest.flatten(state), strict=True)
        ]
        here = tf.nest.pack_sequence_as(state, here)
        after = one_step(problem, here, values[len(leaves) :], batch)
        pairs = zip(after, adjoint, strict=True)
        return tf.add_n([tf.reduce_sum(x * a) for x, a in pairs])

    def projected():
        return float(projected_of([x.value() for x in variables]))

    d_state, d_hparams = walked_back(problem, state, hparams, batch, adjoint)
    gradients = [*d_state, *d_hparams]
    for variable, gradient in zip(variables, gradients, strict=True):
        assert_derivative(projected, [variable], [gradient], rtol=1e-7)


def test_velocity_form_of_the_paper_is_keras_momentum():
    # v ← γ v − (1 − γ) ∇L, w ← w + α v against SGD(α (1 − γ), momentum γ).
    alpha, gamma = 0.5, 0.75  # Keras rounds γ to float32: these survive it
    x, y = regression(20)
    model = exact_model(
        linear_net(),
        [kd.hyperparameters.L2(initial=0.1)],
        keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma),
    )
    w = model.get_weights()[0]
    v = np.zeros_like(w)
    for t in range(8):
        x_t, y_t = x[5 * (t % 4) :][:5], y[5 * (t % 4) :][:5]
        # Keras takes the mean over examples and targets.
        g = 2 * x_t.T @ (x_t @ w - y_t) / y_t.size + 2 * 0.1 * w
        v = gamma * v - (1 - gamma) * g
        w = w + alpha * v
    model.fit(
        x,
        y,
        batch_size=5,
        epochs=2,
        shuffle=False,
        meta_iterations=0,
        verbose=0,
    )
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-12)


def with_a_dead_input(optimizer, jit_compile=True):
    """Returns a model and data whose first input is always zero.

    Its weights have gradient 0 in each step: √0 in Adam's update. With XLA the
    tape makes nan of it; without, TensorFlow's own √ looks out for 0 · ∞.
    """
    kinds = [
        kd.hyperparameters.L2(layers="b", initial=0.1),
        kd.hyperparameters.LearningRate(per="layer"),
    ]
    x, y = regression(10)
    x[:, 0] = 0
    model = exact_model(tanh_net(), kinds, optimizer, jit_compile=jit_compile)
    return model, x, y


@pytest.mark.parametrize(
    "optimizer, jit_compile",
    [
        (lambda: keras.optimizers.Adam(0.05), True),
        (lambda: keras.optimizers.RMSprop(0.01, centered=True), False),
    ],
    ids=["adam-xla", "rmsprop"],
)
def test_undefined_derivatives_at_zero_count_as_zero(optimizer, jit_compile):
    model, x, y = with_a_dead_input(optimizer(), jit_compile)
    training = {"batch_size": 5, "epochs": 4, "validation_data": regression(5)}
    assert_exact_hypergradient(model, x, y, **training)
