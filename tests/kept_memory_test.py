"""What a way back keeps is what it says it keeps, and guards that hold."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import relative_error
from closed_forms import exact_model, regression, tanh_net
from conftest import reseed
from keras_drmad.core.span import CHUNK_SIZE
from keras_drmad.core.walked import NOBODY, Diverged
from keras_drmad.differentiation.recorders import Pages
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.training import inputs, kept_batches
from keras_drmad.training.draws import Draws
from keras_drmad.training.edge import Rates
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.kept import NEW
from keras_drmad.training.meta_training import MetaTraining
from keras_drmad.training.tuning import Tuning
from small_models import built_once

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(24)
VALIDATION = regression(8, seed=1)
METHODS = {
    repr(method): method
    for method in (
        kd.DrMAD(),
        kd.DrMAD(0.5, anchors=7, spacing="end"),
        kd.ReverseMode(),
        kd.ReverseMode("bfloat16"),
        kd.ReverseMode("checkpointed"),
        kd.Truncated(10),
        kd.OneStep(),
    )
}
# What these keep is what they say, and not only at most.
KEEP_ALL = {repr(kd.ReverseMode()), repr(kd.ReverseMode("bfloat16"))}


class Kept(NamedTuple):
    """Bytes: those kept, those that the method announced, a state's."""

    found: int
    announced: float
    state: int


def kept_after(model, T, batch_size) -> Kept:
    """Walks forward T steps; the one place here that looks into a model."""
    plan = inputs.plan(
        X,
        Y,
        batch_size=batch_size,
        steps_per_epoch=T,
        validation_data=VALIDATION,
        validation_batch_size=8,
        seed=0,
    )
    training = model._assembly.training(plan, is_tuned=True)
    s_0 = InitialState(training.problem, "same", 0).of(0)
    trained = training.forward(s_0, training.hparams(), plan)
    return Kept(
        kept_bytes(trained.walked.memory),
        training.differentiation.nbytes(T, s_0),
        kept_bytes(training.problem.state()),
    )


def kept_bytes(memory) -> int:
    """Returns the bytes of all tensors that a memory holds."""
    if isinstance(memory, tf.Tensor):
        return memory.shape.num_elements() * memory.dtype.size
    if isinstance(memory, dict):
        return sum(map(kept_bytes, memory.values()))
    if isinstance(memory, (list, tuple)):
        return sum(map(kept_bytes, memory))
    return 0


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from a method and a batch size to their model.

    The batch size is the model's own, so that each model is traced once.
    """

    def build(batch_size):
        del batch_size
        return exact_model(tanh_net(), [L2("input")])

    built = built_once(build)

    def model_of(name, batch_size):
        model = built(batch_size)
        model._assembly.method = METHODS[name]
        return model

    return model_of


@pytest.mark.parametrize("T", [10, 50, CHUNK_SIZE, 2 * CHUNK_SIZE + 10])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch_size", [8, 10], ids=["even", "short"])
def test_kept(model_of, name, T, batch_size):
    kept = kept_after(model_of(name, batch_size), T, batch_size)
    # s_T is the training's own; a scalar for each leaf says its dtype.
    assert kept.found <= kept.announced + kept.state + 50 * 8 * 5
    if name in KEEP_ALL:
        assert kept.found > 0.9 * kept.announced


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_averaged_weights_do_not_fool_the_guard(size):
    # F depends on averages alone; its size is of no account to growth.
    def scaled(y, y_pred):
        return size * tf.reduce_mean(tf.square(y - y_pred), -1)

    reseed()
    optimizer = keras.optimizers.SGD(0.1 / size, use_ema=True, ema_momentum=0.9)
    kinds = [L2("input", 0.05 * size)]
    model = exact_model(tanh_net(), kinds, optimizer, loss=scaled)

    def hypergradient(method):
        model._assembly.method = method
        return model.hypergradient(
            X, Y, batch_size=8, epochs=7, validation_data=VALIDATION
        )

    found = hypergradient(kd.DrMAD(1.0))
    assert found.diagnostics["reverse_steps_used"] == 21
    exact = hypergradient(kd.ReverseMode())
    assert relative_error(found.gradients, exact.gradients) < 1


def test_training_without_tuning_does_not_ask_the_method():
    method = kd.DrMAD(reverse_steps=500)
    kinds = [L2("input"), LearningRate()]
    model = exact_model(tanh_net(), kinds, hypergradient=method)
    model.fit(X, Y, batch_size=8, verbose=0, meta_iterations=0)
    assert model.resolved.method is method
    with pytest.raises(ValueError, match="reverse_steps"):
        model.fit(X, Y, batch_size=8, verbose=0, validation_data=VALIDATION)


@pytest.mark.parametrize("name", ["hypergradient", "validation_loss_after"])
def test_a_validation_loss_that_is_inf_is_an_error(name):
    model = exact_model(
        tanh_net(), [LearningRate()], keras.optimizers.SGD(1e300)
    )
    with pytest.raises(Diverged, match="loss became nan or inf"):
        getattr(model, name)(
            X,
            Y,
            batch_size=8,
            steps_per_epoch=1,
            validation_data=(VALIDATION[0], 1e100 * np.ones((8, 2))),
        )


def test_a_validation_loss_keeps_nothing(monkeypatch):
    # Neither states nor files: only a walk backward needs them.
    model = exact_model(tanh_net(), [L2("input")])
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    training = dict(steps_per_epoch=30, validation_data=VALIDATION)
    model.hypergradient(stream, **training)
    kept = []
    monkeypatch.setattr(
        kept_batches.KeptBatches, "push", lambda *stack: kept.append(stack)
    )
    monkeypatch.setattr(Pages, "note", lambda *state: kept.append(state))
    model.validation_loss_after(stream, **training)
    assert not kept


def test_a_meta_iteration_leaves_no_states_behind():
    model = exact_model(tanh_net(), [L2("input")])
    plan = inputs.plan(
        X,
        Y,
        batch_size=8,
        steps_per_epoch=30,
        validation_data=VALIDATION,
        validation_batch_size=8,
        seed=0,
    )
    training = model._assembly.training(plan, is_tuned=True)
    starts = InitialState(training.problem, "same", 0)
    tuning = Tuning(1, 0, "same", "last", 1, False)
    draws = Draws(training, plan, starts, tuning, Rates([]))
    meta = MetaTraining(draws, model.meta_optimizer, NEW)
    trained, *_ = meta.iterate(0, [NOBODY])
    assert kept_bytes(trained.walked.memory) == 0
