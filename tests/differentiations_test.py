"""Ways back that are exact, and how near the others come to them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.core import nested
from keras_drmad.core.span import CHUNK_SIZE, Span, divide
from keras_drmad.core.state import Batch, State
from keras_drmad.differentiation.checkpointed import Checkpointed, length
from keras_drmad.differentiation.line import Line
from keras_drmad.differentiation.lines import Lines
from keras_drmad.differentiation.stored import Stored
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.plan import Plan, Source

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(18)  # 4 batches a pass, the last one short
VALIDATION = regression(10, seed=1)
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}
T = 12

# What each is to equal reverse mode with every state stored, up to: rounding;
# for the reversible one, also its grid of 2^-46 = 1.4e-14 over the steps.
EXACT = {"checkpointed": 1e-11, "reversible": 1e-9, "truncated": 1e-11}


def method(name, T=T):
    """Returns a method that is exact for a training of T steps."""
    return {
        "stored": kd.ReverseMode(),
        "checkpointed": kd.ReverseMode("checkpointed"),
        "bfloat16": kd.ReverseMode("bfloat16"),
        "reversible": kd.ReverseMode("reversible"),
        "truncated": kd.Truncated(last=T),
    }[name]


def momentum_model(method):
    # A momentum that float32, in which Keras keeps it, and fractions share.
    return exact_model(
        tanh_net(),
        [L2("input", 0.05), LearningRate("layer")],
        keras.optimizers.SGD(0.1, momentum=0.75),
        hypergradient=method,
    )


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from methods to one model, which then has them."""
    keras.utils.set_random_seed(0)
    model = momentum_model(kd.ReverseMode())

    def model_with(name, T=T):
        chosen = method(name, T) if isinstance(name, str) else name
        model._assembly.method = chosen
        return model

    return model_with


def assert_equals_stored(model_of, name, *data, T=T, **training):
    actual, expected = (
        model_of(which, T).hypergradient(*data, **training)
        for which in (name, "stored")
    )
    error = relative_error(actual.gradients, expected.gradients)
    assert error < EXACT[name], (T, error)
    assert actual.diagnostics["reverse_steps_used"] == T


# ---- the exact ones


# The truncated one is the stored one, of a number of steps.
REPLAYED = ["checkpointed", "reversible"]


@pytest.mark.parametrize("name", REPLAYED)
def test_equals_differences(model_of, name):
    # The grid makes the loss uneven by about 1e-13: differences over steps of
    # 1e-3 see that as 1e-10, and have a truncation error of about 1e-12.
    step = 1e-3 if name == "reversible" else 1e-4
    assert_exact_hypergradient(model_of(name), X, Y, step=step, **TRAINING)


LENGTHS = [(1, 1), (2, 1), (2, 16), (3, 11), (1, 401)]


@pytest.mark.parametrize("name", EXACT)
def test_any_length(model_of, name):
    # Chunks are of 32 (reversible) or 200; stretches of T = 401, of 32. All in
    # one test: a new seed before each makes TensorFlow load its loops anew.
    for epochs, steps in LENGTHS:
        training = TRAINING | {"epochs": epochs, "steps_per_epoch": steps}
        assert_equals_stored(model_of, name, X, Y, T=epochs * steps, **training)


@pytest.mark.parametrize("name", REPLAYED)
def test_a_stream(model_of, name):
    # Its chunks also end at each short batch.
    def stream(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(5)

    data, validation = stream(X, Y), stream(*VALIDATION)
    training = {"epochs": 4, "validation_data": validation}
    assert_equals_stored(model_of, name, data, T=16, **training)


# ---- the unrolled loop


@pytest.fixture(scope="module")
def unrolled(float64):
    """Returns λ, and F as a function of them: a plain eager loop.

    `last` is how many steps feel the hyperparameters that a tape watches, and
    not constants of the same values.
    """
    keras.utils.set_random_seed(0)
    model = momentum_model(kd.ReverseMode())
    batches = [
        Batch(*(tf.constant(a[k : k + 5]) for a in (X, Y)))
        for k in range(0, 18, 5)
    ]
    problem = ElementaryProblem(
        model.elementary_model,
        model.optimizer,
        Together(model.hyperparameters),
        batches[0],
    )
    held_out = Batch(*map(tf.constant, VALIDATION))

    def loss(hparams, last=T):
        state = problem.initial_state()
        for t in range(T):
            felt = hparams
            if t < T - last:
                felt = [tf.stop_gradient(h) for h in hparams]
            state, _, _ = problem.step(state, felt, batches[t % 4], [])
        return problem.validation_loss(state, hparams, held_out, [])[0]

    problem.metrics = []
    return problem.hparams(), loss


@pytest.mark.parametrize("last", [1, 5, T])
def test_truncated_leaves_out_what_came_before(model_of, unrolled, last):
    hparams, loss = unrolled
    with tf.GradientTape() as tape:
        tape.watch(hparams)
        found = loss(hparams, last)
    expected = tape.gradient(found, hparams)
    model = model_of("truncated", last)
    actual = model.hypergradient(X, Y, shuffle=False, **TRAINING)
    assert relative_error(actual.gradients.values(), expected) < 1e-11
    assert actual.diagnostics["reverse_steps_used"] == last


@pytest.mark.parametrize(
    "last, count", [(3, 3), (0.25, 3), (0.01, 1), (1.0, T)]
)
def test_truncated_counts_or_divides(last, count):
    iterations = kd.Truncated(last).bind(T, None).iterations(Span(0, T))
    assert list(iterations) == list(range(T - count, T))


# ---- the ones that come near


def test_bfloat16_is_near(model_of):
    # Each number is off by up to 2^-9 = 0.2 %, now up and now down.
    near, exact = (
        model_of(name).hypergradient(X, Y, **TRAINING).gradients
        for name in ("bfloat16", "stored")
    )
    assert 1e-6 < relative_error(near, exact) < 2.0**-7


def test_anchors_approach_reverse_mode(model_of):
    # A line over T / K steps of a smooth path is off by its curvature, like
    # (T / K)²: four times nearer for twice as many, where these are many. What
    # remains is bfloat16's.
    training = TRAINING | {"batch_size": 18, "epochs": 64}
    exact = model_of("stored").hypergradient(X, Y, **training).gradients
    errors = []
    for K in (4, 8, 64):
        model = model_of(kd.DrMAD(1.0, anchors=K))
        record = model.hypergradient(X, Y, **training)
        assert record.diagnostics["reverse_steps_used"] == 64
        errors.append(relative_error(record.gradients["l2"], exact["l2"]))
    for more, fewer in zip(errors[1:], errors, strict=False):
        assert more < fewer / 2, errors
    assert errors[-1] < 2.0**-7


# ---- how much is kept


STATE = State([tf.zeros(8)], [tf.zeros(8)], [])


def copies(differentiation, T):
    """Returns what is kept, in copies of the training's state."""
    return differentiation.nbytes(T, STATE) / nested.nbytes(STATE)


@pytest.mark.parametrize(
    "T, L, K", [(2000, 2000, 10), (1000, 700, 70), (9, 8, 6)]
)
def test_lines_grow_shorter_towards_the_end(T, L, K):
    even, end = (
        Lines(1, L, K, spacing).places(T) for spacing in ("even", "end")
    )
    for places in (even, end):
        assert len(places) == K + 1
        assert places[0] == T - L and places[-1] == T
        assert np.diff(places).min() >= 1
    assert np.ptp(np.diff(even)) <= 1
    # Rounded to whole steps, so by one longer than the one before, at most.
    assert np.diff(end, 2).max() <= 1
    assert (end >= even).all()
    if K < L / 4:
        # The first half of (1 − k / K)^1.5 covers 1 − 0.5^1.5 of the way.
        assert (end[K // 2] - (T - L)) / L == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize("spacing", ["even", "end"])
def test_as_many_lines_as_steps(spacing):
    assert list(Lines(1, 12, 12, spacing).places(15)) == list(range(3, 16))


def kept(T, epochs):
    """Returns the states that `Checkpointed` keeps of a training, at most."""
    plan = Plan(Source(NoBatches(), T // epochs), epochs, None, None, 0)
    training = ElementaryTraining(NoProblem(), NoLoops(), Checkpointed())
    training.forward(STATE, [], plan)
    # Where the last epoch begins, and where progress is reported, chunks end.
    chunks = divide(np.arange(T), CHUNK_SIZE, plan.training.batches.cuts)
    assert max(map(len, chunks)) <= length(T)
    return len(chunks) + min(T, length(T))


class NoBatches:
    """Batches that there are none of; they keep where chunks begin."""

    def forward(self, span, cuts, revisited, cuts_backward, *, waits, goes_on):
        assert not goes_on
        assert cuts == cuts_backward
        self.cuts = cuts
        return iter(())


class NoProblem:
    """A problem without state."""

    def started(self, state, hparams):
        return state

    def metrics_state(self):
        return []


class NoLoops:
    """Loops that are not called."""

    problem = NoProblem()


def test_checkpoints_are_less_than_three_roots():
    for T in [*range(50, 2000, 7), *range(2000, 50_001, 1234), 50_000]:
        assert copies(Checkpointed(), T) <= 3 * T**0.5, T
        assert kept(T, 1) <= 3 * T**0.5, T
        assert kept(T - T % 3, 3) <= 3 * T**0.5, T


@pytest.mark.parametrize(
    "differentiation, expected",
    [
        (Stored(), 400),
        (Stored(in_bfloat16=True), 200),
        (Stored(last=100), 100),
        (Stored(last=500), 400),
        # These keep parameters only, half of a state.
        (Line(40, 40, 40), 1),
        (Lines(40, 40, 7), 8 / 4),
    ],
    ids=["stored", "bfloat16", "last", "all-of-them", "line", "lines"],
)
def test_copies(differentiation, expected):
    assert copies(differentiation, 400) == expected
