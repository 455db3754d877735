"""Spans of a training chain: the adjoint of one goes into the one before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import relative_error
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.core import nested
from keras_drmad.core.span import CHUNK_SIZE, Span
from keras_drmad.core.walk import Walk
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.training import inputs

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(22)  # of streams, the last batch of a pass has 2
VALIDATION = regression(10, seed=1)
PIECES = {"schedule": "piecewise", "knots": 3}


def net_with_state():
    """Returns a net with moving averages and dropout masks."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dropout(0.3, seed=1)(x)
    return inputs, keras.layers.Dense(2, name="b")(x)


def scheduled_adam():
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 20, 0.7)
    return keras.optimizers.Adam(rate)


def momentum():
    return keras.optimizers.SGD(0.05, momentum=0.9)


NETS = {
    "small": lambda: (tanh_net(), momentum()),
    "with state": lambda: (net_with_state(), scheduled_adam()),
}
CASES = {
    "stored": (kd.ReverseMode(), "small"),
    "bfloat16": (kd.ReverseMode("bfloat16"), "small"),
    "reversible": (kd.ReverseMode("reversible"), "small"),
    "stored, with state": (kd.ReverseMode(), "with state"),
    "checkpointed": (kd.ReverseMode("checkpointed"), "with state"),
    "replayed": (kd.ReverseMode("checkpointed"), "small"),
}


def stream():
    """Returns batches whose shapes differ, and whose order is their own."""
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(22, seed=3, reshuffle_each_iteration=False).batch(5)


@pytest.fixture(scope="module")
def training_of(float64):
    """Returns a function from a case to its training, nets compiled once."""
    models = {}

    def training(name, T, data="arrays"):
        method, net = CASES[name]
        if net not in models:
            keras.utils.set_random_seed(0)
            kinds = [L2("input", 0.05), LearningRate("layer", **PIECES)]
            inputs_and_outputs, optimizer = NETS[net]()
            models[net] = exact_model(inputs_and_outputs, kinds, optimizer)
        given = (X[:20], Y[:20]) if data == "arrays" else (stream(),)
        plan = inputs.plan(
            *given,
            batch_size=5 if data == "arrays" else None,
            steps_per_epoch=T,
            validation_data=VALIDATION,
            validation_batch_size=5,
            seed=0,
        )
        assembly = models[net]._assembly
        assembly.method = method
        return assembly.training(plan, is_tuned=True), plan

    return training


def walked(training, plan, seams):
    """Walks forward and backward through the spans between seams.

    Returns:
        The last state, the adjoint of the first one, dλ.
    """
    problem, differentiation = training.problem, training.differentiation
    walk = Walk(training.loops, plan.training.batches)
    hparams = training.hparams()
    state = problem.started(problem.initial_state(), hparams)
    places = [0, *seams, plan.T]
    spans = []
    for first, last in zip(places, places[1:], strict=False):
        one = differentiation.forward(walk, state, hparams, Span(first, last))
        state = one.state
        spans.append(one)
    generator = np.random.default_rng(0)
    adjoint = [
        tf.constant(generator.normal(size=x.shape))
        for x in nested.float_leaves(state)
    ]
    d_hparams = nested.zeros_like(hparams)
    for one in reversed(spans):
        derivative = differentiation.backward(walk, one, adjoint)
        assert derivative.is_whole
        adjoint = derivative.adjoint
        d_hparams = nested.add(d_hparams, derivative.d_hparams)
    return state, adjoint, d_hparams


T = 36


@pytest.mark.parametrize(
    "name, seams",
    [
        ("stored", [1, T // 2]),
        ("bfloat16", [1, T // 2]),
        ("reversible", [1, T // 2]),
        ("stored, with state", [T // 2]),
        ("checkpointed", [T // 2]),
    ],
)
def test_derivatives_chain(training_of, name, seams):
    training, plan = training_of(name, T)
    whole = walked(training, plan, [])
    parts = walked(training, plan, seams)
    # States, slots, moving averages, seeds and schedules go on; fixed-point
    # numbers are rounded to floats at a seam.
    for found, expected in zip(parts, whole, strict=True):
        found, expected = map(nested.float_leaves, (found, expected))
        assert relative_error(found, expected) < 1e-10
    integers = [
        [x for x in tf.nest.flatten(state) if not x.dtype.is_floating]
        for state in (parts[0], whole[0])
    ]
    assert integers[0] and nested.equal(*integers)


@pytest.mark.parametrize("name", ["stored", "replayed", "reversible"])
def test_a_stream_goes_on_across_a_seam(training_of, name):
    training, plan = training_of(name, T, "stream")
    whole = walked(training, plan, [])
    parts = walked(training, plan, [13])
    for found, expected in zip(parts, whole, strict=True):
        found, expected = map(nested.float_leaves, (found, expected))
        assert relative_error(found, expected) < 1e-10


def test_spans_of_several_chunks_chain(training_of):
    training, plan = training_of("replayed", 2 * CHUNK_SIZE + 1)
    whole = walked(training, plan, [])
    parts = walked(training, plan, [CHUNK_SIZE + 1])
    assert relative_error(parts[2], whole[2]) < 1e-9


def test_no_loop_is_traced_anew_for_another_span(training_of):
    training, plan = training_of("checkpointed", T)
    walked(training, plan, [T // 2])
    before = training.loops.traces()
    walked(training, plan, [T // 2 + 1])
    assert training.loops.traces() == before


def test_the_effect_of_a_span_is_that_of_its_steps_alone(training_of):
    # With λ held constant before the seam, the last span's dλ is all of it.
    training, plan = training_of("stored", T)
    problem = training.problem
    walk = Walk(training.loops, plan.training.batches)
    hparams = training.hparams()
    state = problem.started(problem.initial_state(), hparams)
    method = training.differentiation
    first = method.forward(walk, state, hparams, Span(0, 20))
    last = method.forward(walk, first.state, hparams, Span(20, T))

    def moved(s):
        later = [h + s for h in hparams]
        end = method.forward(walk, first.state, later, Span(20, T)).state
        return np.concatenate([np.ravel(w) for w in end.params])

    step = 1e-4
    expected = (moved(step) - moved(-step)) / (2 * step)
    adjoint = nested.zeros_like(nested.float_leaves(last.state))
    generator = np.random.default_rng(0)
    a = [generator.normal(size=w.shape) for w in last.state.params]
    adjoint[: len(a)] = [tf.constant(x) for x in a]
    found = method.backward(walk, last, adjoint)
    along = sum(float(tf.reduce_sum(d)) for d in found.d_hparams)
    flat = np.concatenate([np.ravel(x) for x in a])
    assert along == pytest.approx(float(flat @ expected), rel=1e-6)


def test_a_stream_that_began_anew_cannot_be_walked_backward(training_of):
    training, plan = training_of("stored", T, "stream")
    problem, method = training.problem, training.differentiation
    walk = Walk(training.loops, plan.training.batches)
    hparams = training.hparams()
    state = problem.started(problem.initial_state(), hparams)
    first = method.forward(walk, state, hparams, Span(0, 10))
    method.forward(walk, state, hparams, Span(10, 20))
    method.forward(walk, state, hparams, Span(10, 20))  # begins the stream
    adjoint = nested.zeros_like(nested.float_leaves(first.state))
    with pytest.raises(RuntimeError, match="0 to 9 of a stream are not kept"):
        method.backward(walk, first, adjoint)
