"""The loops of `DrMADModel.fit`, with callbacks."""

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import State
from keras_drmad.core.walked import Diverged, Watcher
from keras_drmad.training.compile_line import CompileLine
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    Trained,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.kept import NEW, NOTHING
from keras_drmad.training.meta_training import MetaTraining, Progress
from keras_drmad.training.plan import Plan
from keras_drmad.training.tuning import Tuning

# Those that are always there, and assign nothing.
HARMLESS = (
    CompileLine,
    keras.callbacks.History,
    keras.callbacks.ProgbarLogger,
)


class _Stopped(Exception):
    """A callback asked for an end within a training."""


def run(
    model: Any,
    training: ElementaryTraining,
    plan: Plan,
    tuning: Tuning,
    callbacks: Any,
    *,
    verbose: str | int,
) -> None:
    """Runs what a `fit` was asked for, and tells the callbacks.

    Args:
        model: the `DrMADModel` that callbacks look at.
        training: the elementary training.
        plan: its data and length.
        tuning: how hyperparameters are tuned.
        callbacks: as for `fit`.
        verbose: as for `fit`.

    Raises:
        Diverged: if the first training does.
    """
    is_tuned = tuning.meta_iterations > 0
    line = CompileLine(verbose)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = keras.callbacks.CallbackList(
            [callbacks or [], line],
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=tuning.meta_iterations or plan.epochs,
            steps=plan.T * tuning.draws if is_tuned else plan.training.steps,
            model=model,
        )
    for one in callbacks.callbacks:
        is_whole = not getattr(one, "save_weights_only", True)
        if isinstance(one, keras.callbacks.ModelCheckpoint) and is_whole:
            arguments.keras_file("filepath", one.filepath)
    model.stop_training = False
    model.final_logs = {}
    origin = model.origin_of_trainings() if is_tuned else None
    if not model.untuned:
        model.untuned = [np.array(raw) for raw in training.hparams()]
    compiler: Any = training.loops.compiler
    try:
        with model.handing_out(), compiler.saying(line):
            callbacks.on_train_begin()
            first = keras_internals.take_initial_epoch(model) or tuning.first
            if is_tuned:
                tuning = tuning._replace(first=first)
                meta = _meta_training(model, training, plan, tuning, origin)
                logs = fit_hyperparameters(model, meta, callbacks, verbose)
            else:
                starts = InitialState(training.problem, "same", plan.seed)
                s_0 = starts.going_on()
                logs = fit_weights(model, training, plan, s_0, callbacks, first)
            callbacks.on_train_end(logs)
    finally:
        if is_tuned:  # an interrupt leaves trained weights, too
            model.leave(origin, tuning.initial_weights)


def _meta_training(model, training, plan, tuning, origin) -> MetaTraining:
    resumed = model.resumed if tuning.first > 0 else NEW
    if not resumed.pending:
        left = model.left.at(training.hparams(), model.meta_optimizer)
        resumed = resumed._replace(pending=left)
    if resumed.origin:
        origin.resume(resumed.origin)
    starts = InitialState(
        training.problem,
        tuning.initial_weights,
        plan.seed,
        origin,
        resumed.start,
    )
    return MetaTraining(
        training, plan, model.meta_optimizer, starts, tuning, resumed
    )


def fit_hyperparameters(
    model: Any,
    meta: MetaTraining,
    callbacks: keras.callbacks.CallbackList,
    verbose: str | int,
) -> dict[str, float] | None:
    """Runs meta-iterations, each of them an epoch to the callbacks.

    Leaves the model as `fit` promises, also after an interrupt.

    Args:
        model: the `DrMADModel` that callbacks look at.
        meta: the meta-training.
        callbacks: Keras's list, already begun.
        verbose: as for `fit`.

    Returns:
        The last logs, `None` if no meta-iteration was completed.

    Raises:
        Diverged: if the first meta-iteration does.
    """
    left = model.left
    model.progress, model.left = Progress(meta), NOTHING
    logs = None
    try:
        for each in _meta_iterations(model, meta, callbacks):
            logs = each
    except BaseException as error:
        if meta.best is None:
            meta.restore_best()
            model.left = NOTHING if isinstance(error, Diverged) else left
        elif isinstance(error, KeyboardInterrupt):
            _finish(model, meta, verbose)
        raise
    finally:
        model.progress, model.resumed = None, NEW
    if meta.best is None:
        return logs
    return _finish(model, meta, verbose) or logs


def _finish(
    model: Any, meta: MetaTraining, verbose: str | int
) -> dict[str, float]:
    """Leaves the model with what `keep` says; returns logs of a last training.

    An interrupt within the last training leaves the hyperparameters that were
    found, and the weights of the meta-iteration before.
    """
    meta.settle()
    model.left = meta.left()
    if not meta.tuning.trains_again:
        return {}
    if verbose:
        which = "all examples" if meta.tuning.refit else "the found values"
        print(f"Last training, with {which}")
    compiler: Any = meta.training.loops.compiler
    bar = keras.callbacks.CallbackList(
        [compiler.says],
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=1,
        steps=meta.plan.T,
        model=model,
    )
    was_stopped, model.stop_training = model.stop_training, False
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    try:
        trained, logs = meta.train_again(_Reporter(model, bar, meta.plan.T))
    except Diverged as error:
        meta.restore_best()
        model.left = meta.left()
        _warn_stopped(f"in the last training, {error}", meta, is_best=True)
        return {}
    finally:
        model.stop_training = was_stopped
    _assign(model, meta, trained)
    bar.on_epoch_end(0, logs)
    bar.on_train_end(logs)
    model.final_logs = logs
    return logs


def _assign(model: Any, meta: MetaTraining, trained: Trained) -> None:
    """Gives the model the weights of a training."""
    problem, hparams = meta.training.problem, trained.hparams
    problem.assign(trained.s_T, hparams)
    started = problem.started(trained.s_0, hparams)
    model.keep_ends(problem, started, trained.s_T, hparams)
    model.trained_with = hparams


def _warn_stopped(
    why: str, meta: MetaTraining, *, is_best: bool = False
) -> None:
    if meta.is_mean and not is_best:
        left = "with the means of the hyperparameters before"
    else:
        left = (
            "at the best meta-iteration so far, number "
            f"{meta.best_number + 1}, with its hyperparameters"
        )
    warnings.warn(
        f"Stopped: {why} The model is left {left}.",
        RuntimeWarning,
        stacklevel=2,
    )


def _meta_iterations(model, meta, callbacks) -> Iterator[dict[str, float]]:
    """Runs meta-iterations, and yields their logs."""
    tuning, T = meta.tuning, meta.plan.T
    meta.follow()  # what was left, or saved before its step
    for k in range(tuning.first, tuning.meta_iterations):
        callbacks.on_epoch_begin(k)
        model.check_trainable()
        watchers = [
            _Reporter(model, callbacks, tuning.draws * T, draw * T)
            for draw in range(tuning.draws)
        ]
        try:
            trained, logs = meta.iterate(k, watchers)
        except _Stopped:
            return
        except Diverged as error:
            numbered = Diverged(error.step, error.what, k + 1)
            if meta.best is None:
                raise numbered from None
            meta.give_up()
            _warn_stopped(str(numbered), meta)
            return
        _assign(model, meta, trained)
        callbacks.on_epoch_end(k, logs)
        meta.follow()
        yield logs
        if model.stop_training:
            return


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
        before: int = 0,
    ):
        """Initializes the reporter.

        Args:
            model: whose `stop_training` ends the walk.
            callbacks: Keras's list.
            steps: int, the steps of an epoch.
            before: int, the steps of the epoch before the walk.
        """
        self._model = model
        self._callbacks = callbacks
        self.may_assign = not all(
            isinstance(one, HARMLESS) for one in callbacks.callbacks
        )
        self._steps = steps
        self._before = before

    def on_begin(self, first: int) -> None:
        step = (self._before + first) % self._steps
        self._callbacks.on_train_batch_begin(step)
        self._model.check_trainable()

    def on_end(self, last: int, logs: dict[str, float]) -> None:
        step = (self._before + last) % self._steps
        self._callbacks.on_train_batch_end(step, logs)
        self._model.check_trainable()
        if self._model.stop_training:
            raise _Stopped
