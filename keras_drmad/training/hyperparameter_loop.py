"""Meta-iterations with callbacks, and what they leave in the model."""

import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_drmad.core.walked import Diverged
from keras_drmad.training import between, moves
from keras_drmad.training.advice import Advice
from keras_drmad.training.course import Course, Stopped, Work
from keras_drmad.training.display import Display
from keras_drmad.training.elementary_training import Trained
from keras_drmad.training.kept import NEW, NOTHING, Left
from keras_drmad.training.meta_training import MetaTraining, Progress
from keras_drmad.training.reporter import Reporter
from keras_drmad.training.tuning_record import counts, new_logs


def fit_hyperparameters(
    model: Any,
    meta: MetaTraining,
    callbacks: keras.callbacks.CallbackList,
    course: Course,
    display: Display,
    advice: Advice,
) -> dict[str, float] | None:
    """Runs meta-iterations, each of them an epoch to the callbacks.

    Leaves the model as `fit` promises, also after an interrupt.

    Args:
        model: the `DrMADModel` that callbacks look at.
        meta: the meta-training.
        callbacks: Keras's list, already begun.
        course: backups and time.
        display: shows a bar for each training.
        advice: looks at each meta-iteration.

    Returns:
        The last logs, `None` if no meta-iteration was completed.

    Raises:
        Diverged: if the first meta-iteration does.
    """
    left = model.left
    model.progress, model.left = Progress(meta), NOTHING
    logs = None
    try:
        for each in _meta_iterations(
            model, meta, callbacks, course, display, advice
        ):
            logs = each
        logs = _finish(model, meta, callbacks, course, display) or logs
        ended = "the time was up" if course.is_over else "complete"
        model.tuning_record.end(ended)
    except Stopped:  # before the first meta-iteration was complete
        _leave_unfinished(model, meta, course, left)
    except BaseException as error:
        model.tuning_record.break_off(error)
        if meta.best is None:
            meta.restore_best()
            model.left = NOTHING if isinstance(error, Diverged) else left
        elif isinstance(error, KeyboardInterrupt):
            _settle_early(model, meta)
        if isinstance(error, KeyboardInterrupt):
            display.say(_words_on_interrupt(meta))
        raise
    finally:
        model.progress, model.resumed = None, NEW
    return logs


def _meta_iterations(
    model, meta, callbacks, course, display, advice
) -> Iterator[dict[str, float]]:
    """Runs meta-iterations, and yields their logs.

    Raises:
        Stopped: if the first one is not completed.
    """
    together = meta.training.problem.hyperparameters
    tuning, T = meta.tuning, meta.plan.T
    R = meta.training.differentiation.visits(meta.plan.span)
    meta.follow()  # what was left, or saved before its step
    for k in range(tuning.first, tuning.meta_iterations):
        course.begin(lambda k=k: _base_of(model, meta, callbacks, k))
        if not course.has_time(_work(meta)):
            return
        heading = f"Training {k + 1}/{tuning.meta_iterations}"
        words = _words_on_steps(meta, R) if k == tuning.first else ""
        display.begin(heading + words, tuning.draws * (T + R))
        callbacks.on_epoch_begin(k)
        model.check_trainable()
        try:
            trained, logs, diagnostics = _iterated(
                model, meta, callbacks, course, display, k, R
            )
        except Stopped as stopped:
            course.hear(stopped)
            model.tuning_record.end(_words_on_stop(course))
            if meta.best is None:
                raise
            return
        except Diverged as error:
            numbered = Diverged(error.step, error.what, k + 1, meta.retreats)
            if meta.best is None:
                raise numbered from None
            meta.give_up()
            model.tuning_record.end(f"diverged in meta-iteration {k + 1}")
            _warn_stopped(str(numbered), meta)
            return
        _assign(model, meta, trained)
        model.note(diagnostics)
        model.latest = diagnostics
        model.tuning_record.add(
            model.hyperparameters, trained.hparams, logs | diagnostics
        )
        before = counts(callbacks)
        callbacks.on_epoch_end(k, logs)
        model.tuning_record.amend(new_logs(callbacks, before))
        meta.follow()
        advice.note(diagnostics)
        display.end(logs)
        if not display.is_silent:
            now = together.hparams()
            display.say(moves.words(together, trained.hparams, now))
        yield logs
        if course.workers.any_of_all(model.stop_training):
            model.tuning_record.end("stopped by a callback")
            return


def _iterated(model, meta, callbacks, course, display, k, R) -> tuple:
    """Runs a meta-iteration, again with halved rates where it diverges.

    Args:
        k: int, the number of the meta-iteration.
        R: int, the steps backward of a training.

    Returns:
        What `MetaTraining.iterate` returns.

    Raises:
        Diverged: if no lower rates are to be had.
        Stopped: if there is no time to begin again.
    """
    tuning, T = meta.tuning, meta.plan.T
    while True:
        watchers = [
            Reporter(
                model,
                callbacks,
                course,
                f"draw {draw}",
                tuning.draws * T,
                draw * T,
                display=display,
                walked_back=draw * R,
            )
            for draw in range(tuning.draws)
        ]
        try:
            return meta.iterate(k, watchers)
        except Diverged:
            if not meta.retreat():
                raise
            if not course.has_time(_work(meta)):
                raise Stopped(is_late=True) from None
            words = "The training diverged: again, with half the learning rates"
            display.begin(words, tuning.draws * (T + R))
            course.begin(lambda: _base_of(model, meta, callbacks, k))


def _finish(
    model: Any,
    meta: MetaTraining,
    callbacks: keras.callbacks.CallbackList,
    course: Course,
    display: Display,
) -> dict[str, float]:
    """Leaves the model with what `keep` says; returns logs of a last training.

    The end of the time leaves the hyperparameters that were found, and the
    weights of the best meta-iteration.
    """
    if meta.best is None:
        return {}
    if course.is_over:
        display.say("Time is up: no further meta-iteration")
    if not course.has_time(Work(meta.draws.work_at_last(), kind="last")):
        _settle_early(model, meta)
        return {}
    last = meta.tuning.meta_iterations
    course.begin(lambda: _base_of(model, meta, callbacks, last))
    meta.settle()
    model.left = meta.left()
    if not meta.tuning.trains_again:
        return {}
    which = "all examples" if meta.tuning.refit else "the found values"
    display.begin(f"Last training, with {which}", meta.plan.T)
    nobody = keras.callbacks.CallbackList(model=model)
    was_stopped, model.stop_training = model.stop_training, False
    reporter = Reporter(
        model, nobody, course, "last", meta.plan.T, display=display
    )
    try:
        with course.workers.ending_together():
            trained, logs = meta.draws.train_again(reporter)
    except Stopped as stopped:
        course.hear(stopped)
        _settle_early(model, meta)
        return {}
    except Diverged as error:
        meta.restore_best()
        model.left = meta.left()
        model.tuning_record.end("diverged in the last training")
        _warn_stopped(f"in the last training, {error}", meta, is_best=True)
        return {}
    finally:
        model.stop_training = was_stopped
    _assign(model, meta, trained)
    display.end(logs)
    model.final_logs = logs
    model.tuning_record.finish(logs)
    return logs


def _settle_early(model: Any, meta: MetaTraining) -> None:
    """Leaves the model as `keep` says, but without a last training."""
    meta.settle()
    model.left = meta.left()
    if meta.is_mean:
        meta.restore_best_weights()


def _words_on_interrupt(meta: MetaTraining) -> str:
    """Returns what the model has after an interrupt."""
    if meta.best is None:
        return (
            "Interrupted before a meta-iteration was complete: weights and "
            "hyperparameters are those from before `fit`"
        )
    best = f"meta-iteration {meta.best_number + 1}, the best by val_loss"
    if meta.is_mean:
        has = (
            "the means of the hyperparameters, as at the end of a `fit`, and "
            f"the weights of {best}, for there was no last training"
        )
    elif meta.tuning.keep == "last":
        has = "weights of the last complete meta-iteration, and its step"
    else:
        has = f"weights and hyperparameters of {best}"
    return f"Interrupted: the model has {has}"


def _words_on_steps(meta: MetaTraining, backward: int) -> str:
    draws = meta.tuning.draws
    each = f"{draws} draws, each of " if draws > 1 else ""
    return f": {each}{meta.plan.T:,} steps forward and {backward:,} backward"


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


def _words_on_stop(course: Course) -> str:
    """Returns why a training was stopped, for the record."""
    return "the time was up" if course.is_over else "stopped by a callback"


def _leave_unfinished(
    model: Any, meta: MetaTraining, course: Course, left: Left
) -> None:
    """Leaves the model where the first training was stopped.

    When time is up, the weights that it came to are better than nothing. A
    callback that stops leaves what an interrupt does.

    Args:
        left: what the `fit` before left.
    """
    reached = course.workers.common(course.reached)
    if course.is_over and reached is not None:
        meta.training.problem.assign(reached, meta.training.hparams())
        has = (
            "has the weights that its training came to, and the "
            "hyperparameters that it began with"
        )
    else:
        meta.restore_best()
        model.left = left
        has = "is as it was before `fit`"
    why = "Time was up" if course.is_over else "A callback stopped `fit`"
    warnings.warn(
        f"{why} before the first meta-iteration was complete. The model {has}.",
        RuntimeWarning,
        stacklevel=2,
    )


def _work(meta: MetaTraining) -> Work:
    """Returns the work of the next meta-iteration."""
    if meta.best is None:
        return Work(meta.draws.work())
    return Work(meta.draws.work(), meta.draws.work_at_last(), "next")


def _base_of(
    model: Any, meta: MetaTraining, callbacks: Any, number: int
) -> dict[str, Any]:
    """Returns what a backup has of a meta-training, between trainings."""
    return between.base(
        model,
        meta.training.problem,
        callbacks,
        number,
        passes=meta.plan.passes(),
        meta=Progress(meta).values(),
        has_diverged=meta.has_diverged,
    )
