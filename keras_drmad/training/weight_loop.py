"""One training with callbacks, the hyperparameters as they are."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_drmad.core.state import State
from keras_drmad.training import between
from keras_drmad.training.course import Course, Stopped, Work
from keras_drmad.training.display import Display
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.plan import Plan
from keras_drmad.training.reporter import Reporter
from keras_drmad.training.validation import at_epoch


def fit_weights(
    model: Any,
    training: ElementaryTraining,
    plan: Plan,
    s_0: State,
    callbacks: keras.callbacks.CallbackList,
    course: Course,
    display: Display,
    first: tuple[int, int],
) -> dict[str, float] | None:
    """Trains once with the hyperparameters as they are.

    Args:
        model: the `DrMADModel` that callbacks look at.
        training: the elementary training.
        plan: data and length; `plan.hyper` may be `None`.
        s_0: where the training starts.
        callbacks: Keras's list, already begun.
        course: backups and time.
        display: shows a bar for each epoch.
        first: pair of int, the epochs of `plan.epochs` at which the training
            began, and at which it goes on.

    Returns:
        The last logs, `None` if there were no epochs.

    Raises:
        Diverged: if the training loss leaves the finite numbers.
    """
    hparams, source = training.hparams(), plan.validation or plan.hyper
    (initial, resumed), end = first, plan.epochs
    plan, steps = plan._replace(epochs=end - initial), plan.training.steps
    logs, problem = None, training.problem
    read = between.Passes(plan, course.base)

    def base(number):
        passes = read.now()
        return lambda: between.base(
            model, problem, callbacks, number, passes=passes, s_0=s_0
        )

    course.begin(base(resumed), "epochs")
    watcher = Reporter(
        model,
        callbacks,
        course,
        "epochs",
        steps,
        display=display,
        goes_back=False,
        has_epochs=True,
    )
    state = watcher.begun("forward").get("state", s_0)
    epochs = training.epochs(s_0, hparams, plan, watcher, resumed - initial)
    validation = 0 if source is None else source.steps * plan.epochs
    work = {"forward": plan.T, "validation": validation}
    course.has_time(Work(work, kind="last"))
    left: between.Left = []
    for epoch in range(resumed, end):
        display.begin(f"Epoch {epoch + 1}/{end}" if end > 1 else "", steps)
        callbacks.on_epoch_begin(epoch)
        model.check_trainable()
        between.warn_of_assigned(left, callbacks)
        try:
            state, logs = _end_of_next(epochs, watcher)
            problem.assign(state, hparams, is_final=False)
            if source is not None:
                name = f"validation of {epoch}"
                teller = Reporter(model, callbacks, course, name, steps)
                seen = at_epoch(problem, state, callbacks)
                reported = training.validate(seen, hparams, source, teller)
                logs |= {f"val_{name}": x for name, x in reported.items()}
        except Stopped:
            state = course.reached if course.is_over else state
            break
        left = between.left_to_callbacks(problem)
        callbacks.on_epoch_end(epoch, logs)
        display.end(logs)
        is_stopped = course.workers.any_of_all(model.stop_training)
        is_stopped |= watcher.reached is not None
        course.begin(base(end if is_stopped else epoch + 1), "epochs")
        if is_stopped:
            break
    problem.assign(state, hparams)
    model.keep_ends(problem, s_0, state, hparams)
    return logs


def _end_of_next(
    epochs: Iterator[tuple[State, dict[str, float]]], watcher: Reporter
) -> tuple[State, dict[str, float]]:
    """Returns the state and the metrics where the next epoch ends.

    Raises:
        Stopped: if time is up.
    """
    try:
        return next(epochs)
    except Stopped:
        if watcher.reached is None:
            raise
        return watcher.reached.state, watcher.reached.logs
