"""The loops of `DrMADModel.fit`, with callbacks."""

import warnings

import keras

from keras_drmad.core.state import State
from keras_drmad.training.elementary_training import (
    Diverged,
    ElementaryTraining,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.inputs import Plan
from keras_drmad.training.meta_training import MetaTraining


class _Stopped(Exception):
    """A callback asked for an end within a training."""


def fit_hyperparameters(
    model: keras.Model,
    meta: MetaTraining,
    starts: InitialState,
    callbacks: keras.callbacks.CallbackList,
    meta_iterations: range,
) -> dict[str, float] | None:
    """Runs meta-iterations, each of them an epoch to the callbacks.

    Args:
        model: the `DrMADModel` that callbacks look at.
        meta: the meta-training.
        starts: where each training starts.
        callbacks: Keras's list, already begun.
        meta_iterations: which ones.

    Returns:
        The last logs, `None` if no meta-iteration was completed.

    Raises:
        Diverged: if the first meta-iteration does.
    """
    logs = None
    for k in meta_iterations:
        meta.step_hyperparameters()
        callbacks.on_epoch_begin(k)
        training = meta.plan.training
        batches = training.batches.with_seed(starts.seed_of(k))
        plan = meta.plan._replace(training=training._replace(batches=batches))
        s_0 = starts.of(k)
        try:
            s_T, logs = meta.iterate(k, s_0, plan, _reporter(model, callbacks))
        except _Stopped:
            break
        except Diverged as error:
            if meta.best is None:
                raise Diverged(error.step, error.what, k + 1) from None
            warnings.warn(
                f"Stopped: {Diverged(error.step, error.what, k + 1)} The model "
                "is left at the best meta-iteration so far, number "
                f"{meta.best.meta_iteration + 1}, with its hyperparameters.",
                RuntimeWarning,
                stacklevel=2,
            )
            meta.restore_best()
            break
        meta.training.problem.assign(s_T)
        model._keep_ends(meta.training.problem.started(s_0), s_T)
        callbacks.on_epoch_end(k, logs)
        if model.stop_training:
            break
    return logs


def fit_weights(
    model: keras.Model,
    training: ElementaryTraining,
    plan: Plan,
    s_0: State,
    callbacks: keras.callbacks.CallbackList,
    initial_epoch: int,
) -> dict[str, float] | None:
    """Trains once with the hyperparameters as they are.

    Args:
        model: the `DrMADModel` that callbacks look at.
        training: the elementary training.
        plan: data and length; `plan.hyper` may be `None`.
        s_0: where the training starts.
        callbacks: Keras's list, already begun.
        initial_epoch: int, the first epoch of `plan.epochs`.

    Returns:
        The last logs, `None` if there were no epochs.

    Raises:
        Diverged: if the training loss leaves the finite numbers.
    """
    logs, state = None, s_0
    source = plan.validation or plan.hyper
    plan = plan._replace(epochs=plan.epochs - initial_epoch)
    epochs = training.epochs_there(s_0, plan, _reporter(model, callbacks))
    for epoch in range(initial_epoch, initial_epoch + plan.epochs):
        callbacks.on_epoch_begin(epoch)
        try:
            state, logs = next(epochs)
        except _Stopped:
            break
        training.problem.assign(state, is_final=False)
        if source is not None:
            reported = training.validate(state, source)
            logs |= {f"val_{name}": value for name, value in reported.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    training.problem.assign(state)
    model._keep_ends(s_0, state)
    return logs


def _reporter(model, callbacks):
    def on_chunk(first, last, logs):
        callbacks.on_train_batch_begin(first)
        callbacks.on_train_batch_end(last, logs)
        if model.stop_training:
            raise _Stopped

    return on_chunk
