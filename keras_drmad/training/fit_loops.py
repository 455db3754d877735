"""The loops of `DrMADModel.fit`, with callbacks."""

import warnings
from typing import Any

import keras

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import State
from keras_drmad.core.walked import Diverged, Watcher
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.meta_training import (
    NEW,
    NOTHING,
    MetaTraining,
    Progress,
)
from keras_drmad.training.plan import Plan

# Keras's own that are always there, and assign nothing.
HARMLESS = (keras.callbacks.History, keras.callbacks.ProgbarLogger)


class _Stopped(Exception):
    """A callback asked for an end within a training."""


def run(
    model: Any,
    training: ElementaryTraining,
    plan: Plan,
    callbacks: Any,
    *,
    verbose: str | int,
    initial_epoch: int,
    meta_iterations: int,
    initial_weights: str,
    restore_best: bool,
) -> None:
    """Runs what a `fit` was asked for, and tells the callbacks.

    Args:
        model: the `DrMADModel` that callbacks look at.
        training: the elementary training.
        plan: its data and length.
        callbacks: as for `fit`, and so are the others.

    Raises:
        Diverged: if the first training does.
    """
    is_tuned = meta_iterations > 0
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=meta_iterations or plan.epochs,
            steps=plan.T if is_tuned else plan.training.steps,
            model=model,
        )
    for one in callbacks.callbacks:
        is_whole = not getattr(one, "save_weights_only", True)
        if isinstance(one, keras.callbacks.ModelCheckpoint) and is_whole:
            arguments.keras_file("filepath", one.filepath)
    model.stop_training = False
    with model.handing_out():
        callbacks.on_train_begin()
        first = keras_internals.take_initial_epoch(model) or initial_epoch
        if is_tuned:
            resumed = model.resumed if first > 0 else NEW
            if not resumed.pending:
                left = model.left.at(training.hparams(), model.meta_optimizer)
                resumed = resumed._replace(pending=left)
            starts = InitialState(
                training.problem, initial_weights, plan.seed, resumed.start
            )
            meta = MetaTraining(training, plan, model.meta_optimizer, resumed)
            logs = fit_hyperparameters(
                model,
                meta,
                starts,
                callbacks,
                range(first, meta_iterations),
                restore_best=restore_best,
            )
        else:
            starts = InitialState(training.problem, "same", plan.seed)
            logs = fit_weights(
                model, training, plan, starts.going_on(), callbacks, first
            )
        callbacks.on_train_end(logs)


def fit_hyperparameters(
    model: Any,
    meta: MetaTraining,
    starts: InitialState,
    callbacks: keras.callbacks.CallbackList,
    meta_iterations: range,
    *,
    restore_best: bool,
) -> dict[str, float] | None:
    """Runs meta-iterations, each of them an epoch to the callbacks.

    Leaves the model as `fit` promises, also after an interrupt.

    Args:
        model: the `DrMADModel` that callbacks look at.
        meta: the meta-training.
        starts: where each training starts.
        callbacks: Keras's list, already begun.
        meta_iterations: which ones.
        restore_best: bool, as for `fit`.

    Returns:
        The last logs, `None` if no meta-iteration was completed.

    Raises:
        Diverged: if the first meta-iteration does.
    """
    left = model.left
    model.progress, model.left = Progress(meta, starts), NOTHING
    try:
        logs = _meta_iterations(model, meta, starts, callbacks, meta_iterations)
    except BaseException as error:
        if meta.best is None:
            meta.restore_best()
            model.left = NOTHING if isinstance(error, Diverged) else left
        elif isinstance(error, KeyboardInterrupt):
            meta.restore_best()
            model.left = meta.left()
        raise
    finally:
        model.progress, model.resumed = None, NEW
    if restore_best:
        meta.restore_best()
    else:
        meta.step_hyperparameters()
    model.left = meta.left()
    return logs


def _meta_iterations(
    model, meta, starts, callbacks, meta_iterations
) -> dict[str, float] | None:
    logs = None
    for k in meta_iterations:
        meta.step_hyperparameters()
        callbacks.on_epoch_begin(k)
        model.check_trainable()
        plan = meta.plan.with_order(starts.seed_of(k))
        watcher = _Reporter(model, callbacks, plan.T)
        try:
            trained, logs = meta.iterate(k, starts.of(k), plan, watcher)
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
            meta.best = meta.best._replace(pending=None)  # led to this
            meta.restore_best()
            break
        problem, hparams = meta.training.problem, trained.hparams
        problem.assign(trained.s_T, hparams)
        started = problem.started(trained.s_0, hparams)
        model.keep_ends(problem, started, trained.s_T, hparams)
        model.trained_with = hparams
        callbacks.on_epoch_end(k, logs)
        if model.stop_training:
            break
    return logs


def fit_weights(
    model: Any,
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
    logs, state, hparams = None, s_0, training.hparams()
    source = plan.validation or plan.hyper
    plan = plan._replace(epochs=plan.epochs - initial_epoch)
    watcher = _Reporter(model, callbacks, plan.training.steps)
    epochs = training.epochs(s_0, hparams, plan, watcher)
    for epoch in range(initial_epoch, initial_epoch + plan.epochs):
        callbacks.on_epoch_begin(epoch)
        model.check_trainable()
        try:
            state, logs = next(epochs)
        except _Stopped:
            break
        training.problem.assign(state, hparams, is_final=False)
        if source is not None:
            reported = training.validate(state, hparams, source)
            logs |= {f"val_{name}": value for name, value in reported.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    training.problem.assign(state, hparams)
    model.keep_ends(training.problem, s_0, state, hparams)
    return logs


class _Reporter(Watcher):
    """Tells Keras's callbacks of chunks, as batches of an epoch."""

    def __init__(
        self,
        model: keras.Model,
        callbacks: keras.callbacks.CallbackList,
        steps: int,
    ):
        """Initializes the reporter.

        Args:
            model: whose `stop_training` ends the walk.
            callbacks: Keras's list.
            steps: int, the steps of an epoch.
        """
        self._model = model
        self._callbacks = callbacks
        self.may_assign = not all(
            isinstance(one, HARMLESS) for one in callbacks.callbacks
        )
        self._steps = steps

    def on_begin(self, first: int) -> None:
        self._callbacks.on_train_batch_begin(first % self._steps)
        self._model.check_trainable()

    def on_end(self, last: int, logs: dict[str, float]) -> None:
        self._callbacks.on_train_batch_end(last % self._steps, logs)
        self._model.check_trainable()
        if self._model.stop_training:
            raise _Stopped
