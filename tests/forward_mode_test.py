"""Forward mode equals reverse mode, in the memory of one state a tangent."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from closed_forms import bound, exact_model, regression, tanh_net
from conformance import layer_group, layers
from conftest import precision, reseed
from keras_drmad.core import nested, tangents
from keras_drmad.core.adjoint import step_back
from keras_drmad.core.span import CHUNK_SIZE, Span
from keras_drmad.core.state import Batch, State
from keras_drmad.core.walk import Walk
from keras_drmad.differentiation import forward
from keras_drmad.differentiation.forward import Forward
from keras_drmad.hyperparameters import (
    L1,
    L2,
    ExampleWeights,
    InitialScale,
    LearningRate,
    Momentum,
    WeightSharing,
)
from keras_drmad.hyperparameters.together import Together
from keras_drmad.methods import memory
from keras_drmad.methods.forward_mode import MOST
from keras_drmad.seam.problem import ElementaryProblem
from kinds_contract_test import each_gradient, net
from kinds_contract_test import model_of as model_of_kind
from small_models import assert_helps, numbers, put_back

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)  # 4 batches a pass
X[:, 3] = 0  # a dead input: many updates divide by the root of its gradients
VALIDATION = regression(10, seed=1)
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}


def by_each_method(model):
    """Yields after it has given a model a method, and its first numbers."""
    model.optimizer.build(model.trainable_variables)
    before = numbers(model)
    for method in (kd.ReverseMode(), kd.ForwardMode()):
        reseed()
        put_back(model, before)
        model._assembly.method = method
        yield


def records(model, *data, **training):
    """Returns hypergradients by reverse mode and by forward mode."""
    found = []
    for method in (kd.ReverseMode(), kd.ForwardMode()):
        model._assembly.method = method
        found.append(model.hypergradient(*data, **training))
    return found


def assert_same(model, *data, **training):
    """Asserts that forward mode finds what reverse mode does."""
    expected, found = records(model, *data, **training)
    for name, gradient in expected.gradients.items():
        assert np.any(gradient), name
        assert relative_error(found.gradients[name], gradient) < 1e-9, name
    used = "reverse_steps_used"
    assert found.diagnostics[used] == expected.diagnostics[used]


# ---- whatever is tuned, and by whatever optimizer


# The others are in the models below.
def test_a_rate_for_each_step_and_layer():
    model = model_of_kind("LearningRate")
    expected = each_gradient(model)
    found = each_gradient(model, kd.ForwardMode())
    assert relative_error(found, expected) < 1e-9


# Adam and momentum are in the tests below.
def test_an_optimizer_that_clips_and_adds_gradients_up():
    reseed()
    model = exact_model(
        tanh_net(),
        [L2(initial=0.05), LearningRate("layer"), ExampleWeights(20)],
        keras.optimizers.RMSprop(
            0.01, global_clipnorm=0.5, gradient_accumulation_steps=3
        ),
    )
    assert_same(model, X, Y, **TRAINING)


def test_rows_of_a_table_moving_averages_masks_and_a_schedule():
    reseed()
    words = np.random.default_rng(0).integers(0, 9, (20, 3))
    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(9, 2, name="a")(inputs)
    x = keras.layers.Flatten()(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dropout(0.3, seed=1)(x)
    model = exact_model(
        (inputs, keras.layers.Dense(2, name="b")(x)),
        [
            L2("layer", 0.01),
            LearningRate(schedule="piecewise", knots=3),
            InitialScale(layers="b"),
        ],
        keras.optimizers.Adam(0.02, clipnorm=0.1),
    )
    held_out = words[:10], VALIDATION[1]
    assert_same(model, words, Y, **TRAINING | {"validation_data": held_out})


# Other layers of these groups have the same operations, or no weights before
# them.
@pytest.mark.parametrize(
    "name, makes",
    [
        ("resized images", ["UpSampling2D"]),
        ("tokens", ["Embedding", "ReversibleEmbedding", "StringLookup"]),
    ],
)
def test_layers(name, makes, monkeypatch):
    """A layer's gradients may have derivatives that TensorFlow lacks."""
    monkeypatch.setattr(layer_group, "assert_right", assert_transposed)
    group = layers.GROUPS[name]
    with precision(group.dtype):
        makes = [name for name in makes if hasattr(keras.layers, name)]
        layer_group.check(group, makes)


def assert_transposed(model, batch, *unused):
    """Asserts that aᵀ (∂step/∂s z + ∂step/∂λ) is what `step_back` has."""
    batch = Batch(*map(tf.convert_to_tensor, batch))
    model.test_step((batch.x, batch.y))  # metrics are built by a first batch
    kind, _ = bound(LearningRate(), model, model.optimizer)
    problem = ElementaryProblem(model, model.optimizer, Together([kind]), batch)
    state, hparams = problem.state(), problem.hparams()
    generator = np.random.default_rng(0)
    a, z = (
        [
            tf.constant(generator.normal(size=[*lead, *x.shape]), x.dtype)
            for x in nested.float_leaves(state)
        ]
        for lead in ([], [1])
    )

    @tf.function(autograph=False)
    def both(state, hparams, batch, a, z):
        forward = tangents.step(problem, state, hparams, batch, z)
        return forward, step_back(problem, state, hparams, batch, a)

    after, (d_s, d_hparams) = both(state, hparams, batch, a, z)
    found = sum(np.vdot(x, y) for x, y in zip(a, after, strict=True))
    expected = sum(np.vdot(x, y) for x, y in zip(d_s, z, strict=True))
    expected += float(d_hparams[0])
    tolerance = 1e-3 if model.compute_dtype == "float32" else 1e-6
    assert found == pytest.approx(expected, rel=tolerance)


@pytest.fixture(scope="module")
def model(float64):
    """Returns a model that tunes where training starts and how it goes."""
    reseed()
    return exact_model(
        tanh_net(),
        [L2(initial=0.05), LearningRate(), InitialScale()],
        hypergradient=kd.ForwardMode(),
    )


def test_equals_differences(model):
    model._assembly.method = kd.ForwardMode()
    # The last batch of a pass is short.
    assert_exact_hypergradient(model, X[:18], Y[:18], **TRAINING)


def test_a_training_that_goes_on_at_rates_that_a_callback_sets():
    class Halve(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / (1 + batch // 5)

    weights = []
    reseed()
    twin = exact_model(
        net("WeightSharing"),
        [WeightSharing([["a", "b"]], 0.25), L2(initial=0.05)],
    )
    for _ in by_each_method(twin):
        twin.fit(
            X,
            Y,
            **TRAINING,
            meta_iterations=2,
            initial_weights="continue",
            callbacks=[Halve()],
            shuffle=False,
            verbose=0,
        )
        weights.append(
            np.concatenate([np.ravel(h.raw) for h in twin.hyperparameters])
        )
    np.testing.assert_allclose(*weights, rtol=1e-9)


# ---- knots that do not act yet


KNOTS = {
    "LearningRate": lambda per: LearningRate(
        per, schedule="piecewise", knots=6
    ),
    "step": lambda per: LearningRate(per, schedule="step", steps=12),
    "Momentum": lambda per: Momentum(per, 0.5, schedule="piecewise", knots=3),
}


@pytest.mark.parametrize("per", ["all", "layer"])
@pytest.mark.parametrize("name", KNOTS)
def test_a_value_of_a_schedule_acts_from_its_iteration_on(name, per):
    reseed()
    model = exact_model(tanh_net(), [KNOTS[name](per)])
    model.prepared(X, Y, **TRAINING)
    (kind,) = model.hyperparameters
    values, raw = kind.over_time(12), np.array(kind.raw)
    begins = kind.acts_from(12)
    for place in range(raw.size):
        moved = raw.copy()
        moved.flat[place] += 1
        kind.raw.assign(moved)
        (changed,) = np.nonzero(
            np.any(np.reshape(kind.over_time(12) != values, [12, -1]), axis=1)
        )
        assert begins[place] <= changed[0] <= begins[place] + 1
    assert begins[-1] > 4 and len(begins) == raw.size


@pytest.fixture(scope="module")
def with_knots(float64):
    """A model whose knots begin to act in several chunks."""
    reseed()
    kinds = [
        L2(initial=0.05),
        KNOTS["LearningRate"]("all"),
        KNOTS["Momentum"]("all"),
        InitialScale(),
    ]
    return exact_model(tanh_net(), kinds)


@pytest.fixture
def carried(monkeypatch):
    """How many tangents went with each chunk, in a training not so long."""
    monkeypatch.setattr(forward, "WAITS_FROM", 0)
    numbers, many = [], Forward._many

    def noted(self, t):
        numbers.append(many(self, t))
        return numbers[-1]

    monkeypatch.setattr(Forward, "_many", noted)
    return numbers


def test_knots_wait_until_they_act(with_knots, carried):
    """In a stream of several chunks."""
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5).repeat()
    steps = CHUNK_SIZE + CHUNK_SIZE // 2
    training = {"steps_per_epoch": steps, "validation_data": VALIDATION}
    assert_same(with_knots, data, **training)
    count = sum(h.count for h in with_knots.hyperparameters)
    assert carried == sorted(carried)
    assert carried[0] < count == carried[-1]


def test_knots_act_earlier_where_the_optimizer_has_counted():
    slots = [tf.zeros([2]), tf.constant(40), tf.constant(3, tf.int64)]
    assert forward._count(State([], slots, [])) == 40
    assert forward._count(State([], slots[:1], [])) == 0


def test_knots_do_not_wait_in_short_trainings():
    state = State([tf.zeros([10])], [], [])
    knots = Forward(3, (9, 5, 0))
    assert knots._order(Span(0, 10**7), state) == ()
    assert knots._order(Span(0, 10**9), state) == (2, 1, 0)


# ---- at its limits


def test_tangents_that_leave_the_finite_numbers_begin_again():
    # The second derivative of |w|^1.5 at a bias of 0 is infinite.
    class Between(L1):
        @staticmethod
        def measure(w):
            return tf.abs(w) ** 1.5

    reseed()
    model = exact_model(tanh_net(), [Between(layers="a", biases=True)])
    with pytest.warns(RuntimeWarning, match="after 11 of 12"):
        expected, found = records(model, X, Y, **TRAINING)
    assert found.diagnostics["reverse_steps_used"] == 11
    assert relative_error(found.gradients, expected.gradients) < 1e-9


def test_memory_does_not_depend_on_the_length():
    state = State([tf.zeros([5])], [tf.zeros([5]), tf.constant(0)], [])
    kept = [Forward(3).nbytes(T, state) for T in (1, 1000, 100_000)]
    assert kept == [3 * 2 * 5 * 4] * 3


def test_a_span_that_is_not_the_first_is_refused():
    with pytest.raises(ValueError, match="from iteration 3.*ReverseMode"):
        Forward(1).forward(Walk(None, None), None, [], Span(3, 5))


def test_many_hyperparameters_are_refused():
    inputs = keras.Input((MOST + 1,))
    model = exact_model(
        (inputs, keras.layers.Dense(2)(inputs)),
        [L2("input")],
        hypergradient=kd.ForwardMode(),
    )
    x = np.zeros((5, MOST + 1))
    with pytest.raises(ValueError) as error:
        model.hypergradient(x, Y[:5], validation_data=(x, Y[:5]))
    assert_helps(error, "hypergradient", f"{MOST + 1} hyperparameters")
    assert "checkpointed" in str(error.value)


def test_states_that_do_not_fit_are_refused(monkeypatch):
    kind = L2("input")
    bound(kind)
    state = State([tf.zeros([100])], [], [])
    kd.ForwardMode().bind(5, state, [kind])
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(ValueError) as error:
        kd.ForwardMode().bind(5, state, [kind])
    assert_helps(error, "hypergradient", "1 kB")


# ---- where `Auto` takes it


@pytest.mark.parametrize(
    "per, allowed, time_factor, chosen, words",
    [
        (
            "all",
            "30kB",
            4.0,
            "ReverseMode(storage='checkpointed')",
            "3.5 times",
        ),
        ("all", "5kB", 4.0, "ForwardMode()", "about 4 times"),
        ("all", "5kB", 2.9, "DrMAD(", ""),
        (
            "layer",
            "30kB",
            20.0,
            "ReverseMode(storage='checkpointed')",
            "3.5 times",
        ),
        ("layer", "5kB", 20.0, "ForwardMode()", "about 7 times"),
    ],
)
def test_auto(per, allowed, time_factor, chosen, words):
    kind = L2(per)
    bound(kind)
    state = State([tf.zeros([23])], [tf.zeros([23])], [])
    method = kd.Auto(memory=allowed, time_factor=time_factor)
    found, why = method.choose(400, state, [kind])
    assert repr(found).startswith(chosen) and words in why


@pytest.mark.parametrize("time_factor", [4.0, 1000.0])
@pytest.mark.parametrize("per", ["input", "weight"])
def test_auto_goes_past_tangents_that_do_not_fit(per, time_factor, monkeypatch):
    """Whatever the machine can give, and however many there are."""
    kind = L2(per)
    bound(kind)
    state = State([tf.zeros([23])], [tf.zeros([23])], [])
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    found, _ = kd.Auto(time_factor=time_factor).choose(400, state, [kind])
    assert repr(found).startswith("DrMAD(")
    for count in (1, MOST):
        needed = kd.ForwardMode().nbytes(400, state, [kind] * count)
        assert needed == Forward(count * kind.count).nbytes(400, state)
