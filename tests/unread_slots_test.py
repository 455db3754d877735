"""States that are kept without slots give the same hypergradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.core import left_out
from keras_drmad.core.state import State
from keras_drmad.hyperparameters import L2, ExampleWeights, LearningRate
from small_models import built_once, numbers, put_back

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(12)
TRAINING = {
    "batch_size": 4,  # XLA compiles each size
    "epochs": 3,
    "validation_data": regression(8, seed=1),
}


def test_left_out_and_put_back():
    slots = [tf.constant(k) for k in (1, 2.0, 3, 4.0)]
    state = State([tf.constant(5.0)], slots, [tf.constant(6)])
    places = left_out.of_state(state, (3, 1))
    assert hash(places) == hash(left_out.of_state(state, (1, 3)))
    kept = left_out.without(state, places)
    assert [int(x) for x in kept.slots] == [1, 3]
    back = left_out.with_zeros(kept, places)
    assert [float(x) for x in back.slots] == [1, 0, 3, 0]
    assert [x.dtype for x in back.slots] == [x.dtype for x in slots]
    assert (back.params, back.buffers) == (state.params, state.buffers)


# ---- whole hypergradients


def keep_whole(model, monkeypatch):
    """Makes a model's trainings keep every slot from now on."""
    monkeypatch.setattr(model._assembly.problem, "unread_slots", ())


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function to a model without XLA, or with it."""

    def build(jit_compile):
        # RMSprop's velocity is kept, its momentum is not; neither are averages.
        optimizer = keras.optimizers.RMSprop(0.01, momentum=0.5, use_ema=True)
        kinds = [L2("input", 0.05), LearningRate()]
        return exact_model(
            tanh_net(), kinds, optimizer, jit_compile=jit_compile
        )

    return built_once(build)


@pytest.mark.parametrize(
    "method, jit_compile",
    [
        (kd.ReverseMode(), False),
        (kd.ReverseMode("bfloat16"), False),
        (kd.Truncated(5), False),
        (kd.ReverseMode("checkpointed"), True),  # windows are of stored states
    ],
    ids=repr,
)
def test_the_same_hypergradient(model_of, monkeypatch, method, jit_compile):
    model = model_of(jit_compile)
    monkeypatch.setattr(model._assembly, "method", method)
    without = model.hypergradient(X, Y, **TRAINING)
    keep_whole(model, monkeypatch)
    whole = model.hypergradient(X, Y, **TRAINING)
    for name, gradient in whole.gradients.items():
        np.testing.assert_allclose(
            without.gradients[name], gradient, rtol=1e-11
        )
    # A count, and 23 each: weights, velocities, momenta, averages.
    storage = method.get_config().get("storage")
    if storage == "checkpointed":
        # 9 steps in stretches of 6: 2 states whole, and 6 replayed.
        expected = [2 * (8 + 4 * 23 * 8) + 6 * (8 + n * 23 * 8) for n in (2, 4)]
    else:
        steps = 5 if isinstance(method, kd.Truncated) else 9
        size = 2 if storage == "bfloat16" else 8
        expected = [steps * (8 + n * 23 * size) for n in (2, 4)]
    found = [one.diagnostics["copies"] * 23 * 8 for one in (without, whole)]
    assert found == pytest.approx(expected)


def test_the_same_windows(monkeypatch):
    keras.utils.set_random_seed(0)
    model = exact_model(
        tanh_net(),
        [ExampleWeights(len(X))],
        keras.optimizers.SGD(0.1, momentum=0.9),
    )
    model.optimizer.build(model.trainable_variables)
    before = numbers(model)

    def fitted():
        put_back(model, before)
        options = TRAINING | {"verbose": 0, "shuffle": False, "seed": 0}
        model.fit(X, Y, tune_every=2, look_back=2, **options)
        (weights,) = model.hyperparameters
        return np.array(weights.raw.value)

    without = fitted()
    assert model._assembly.problem.unread_slots
    keep_whole(model, monkeypatch)
    whole = fitted()
    assert not model._assembly.problem.unread_slots
    assert np.ptp(whole) > 0
    np.testing.assert_allclose(without, whole, rtol=1e-11)
