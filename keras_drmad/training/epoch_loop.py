"""One training with callbacks, to which epochs are epochs."""

import abc
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.training import between
from keras_drmad.training.course import Course, Stopped, Work
from keras_drmad.training.display import Display
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.plan import Plan
from keras_drmad.training.reporter import Reached, Reporter
from keras_drmad.training.tuning_record import counts, new_logs
from keras_drmad.training.validation import at_epoch

UNFINISHED = (
    "Time was up before the first epoch was complete. The model has the "
    "weights that its training came to."
)


class Epochs(abc.ABC):
    """A way to take the epochs of one training.

    Attributes:
        training: the elementary training.
        plan: its data and length, from the epoch on at which it began.
        state: `State`, where the training is, between walks.
        resumes: bool, whether walks go on where they were broken off.
        backward: int, the steps backward of an epoch.
    """

    resumes = True
    backward = 0

    def __init__(self, training: ElementaryTraining, plan: Plan, s_0: State):
        """Initializes the epochs.

        Args:
            training: the elementary training.
            plan: its data and length.
            s_0: where it starts.
        """
        self.training = training
        self.plan = plan
        self.state = s_0

    @abc.abstractmethod
    def begin(self, watcher: Reporter, base: Mapping[str, Any], k: int) -> None:
        """Begins, or goes on where another process was.

        Args:
            watcher: is told of the chunks of all epochs.
            base: what a backup has; empty where nothing is resumed.
            k: int, the epochs that were taken, of those of the plan.
        """

    @abc.abstractmethod
    def take(
        self, k: int, watcher: Reporter, back_up: Callable[[], None]
    ) -> Mapping[str, float]:
        """Walks to the end of an epoch, or what is left of it.

        Args:
            k: int, its number, from 0.
            watcher: is told of the chunks.
            back_up: function that keeps what a new process would go on with.

        Returns:
            The metrics of the training.

        Raises:
            Diverged: if the training leaves the finite numbers.
            Stopped: if a callback ends it, or time is up.
        """

    @abc.abstractmethod
    def hparams(self) -> list[tf.Tensor]:
        """Returns the raw values λ that the state is validated with."""

    def stop(self, reached: Reached) -> None:
        """Ends where a callback ended an epoch."""
        self.state = reached.state

    def values(self) -> dict[str, Any]:
        """Returns what a backup has beside what each training has."""
        return {}

    def report(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Returns what an epoch's end is told beside training and validation.

        Args:
            logs: of both.
        """
        return {}

    def amend(self, logs: Mapping[str, Any]) -> None:
        """Is told what callbacks have added at an epoch's end."""

    def words(self) -> str:
        """Returns what is printed below an epoch's bar; empty for nothing."""
        return ""

    def end(self, how: str | BaseException) -> None:
        """Is told how the training ended, in words, or what broke it off."""


def fit_epochs(
    model: Any,
    epochs: Epochs,
    callbacks: keras.callbacks.CallbackList,
    course: Course,
    display: Display,
    first: int,
) -> dict[str, float] | None:
    """Trains once; leaves the model where the training came to.

    That is the end of the last chunk that was complete, whatever ended it: an
    interrupt or an error, time, a callback, numbers that are not finite.

    Args:
        model: the `DrMADModel` that callbacks look at.
        epochs: how epochs are taken.
        callbacks: Keras's list, already begun.
        course: backups and time.
        display: shows a bar for each epoch.
        first: int, the epoch to begin with, unless a backup has it.

    Returns:
        The logs of the last complete epoch, `None` if there was none.

    Raises:
        Diverged: if training or validation leaves the finite numbers.
    """
    plan, base = epochs.plan, course.base
    initial = base.get("initial", first)
    resumed, end = base.get("number", first), plan.epochs
    read = between.PassesForBackup(plan, base)
    epochs.plan = plan = plan._replace(epochs=max(0, end - initial))
    problem, s_0 = epochs.training.problem, epochs.state
    steps = plan.training.steps
    watcher = Reporter(
        model,
        callbacks,
        course,
        "epochs",
        steps,
        display=display,
        goes_back=False,
        resumes=epochs.resumes,
        has_epochs=True,
    )

    def back_up(epoch: int) -> None:
        passes, values = read.now(), epochs.values()
        course.begin(
            lambda: between.base(
                model,
                problem,
                callbacks,
                epoch,
                initial=initial,
                passes=passes,
                s_0=s_0,
                **values,
            ),
            "epochs",
        )

    epochs.begin(watcher, base, resumed - initial)
    back_up(resumed)
    source: Any = plan.validation or plan.hyper
    validation = 0 if source is None else source.steps * plan.epochs
    work = {"forward": plan.T, "validation": validation}
    course.has_time(Work(work, kind="last"))
    logs, left = None, between.Left()
    try:
        for epoch in range(resumed, end):
            heading = f"Epoch {epoch + 1}/{end}" if end > 1 else ""
            display.begin(heading, steps + epochs.backward)
            callbacks.on_epoch_begin(epoch)
            model.check_trainable()
            between.warn_of_assigned(left, callbacks)
            logs = _taken(
                model,
                epochs,
                callbacks,
                watcher,
                epoch - initial,
                functools.partial(back_up, epoch),
            )
            before = counts(callbacks)
            if watcher.may_assign:
                left = between.left_to_callbacks(problem)
            callbacks.on_epoch_end(epoch, logs)
            epochs.amend(new_logs(callbacks, before))
            display.end(logs)
            if not display.is_silent and (words := epochs.words()):
                display.say(words)
            is_stopped = course.workers.any_of_all(model.stop_training)
            is_stopped |= watcher.reached is not None
            back_up(end if is_stopped else epoch + 1)
            if is_stopped:
                epochs.end("stopped by a callback")
                break
        epochs.end("complete")
    except Stopped:
        epochs.end("the time was up")
        display.leave()
        if logs is None and resumed == initial:
            warnings.warn(UNFINISHED, RuntimeWarning, stacklevel=2)
    except BaseException as error:
        epochs.end(error)
        raise
    finally:
        state = epochs.state if watcher.state is None else watcher.state
        hparams = epochs.hparams()
        problem.assign(state, hparams)
        model.check_trainable()  # not by layers that were frozen since
        model.keep_ends(problem, s_0, state, hparams)
    return logs


def _taken(
    model: Any,
    epochs: Epochs,
    callbacks: keras.callbacks.CallbackList,
    watcher: Reporter,
    k: int,
    back_up: Callable[[], None],
) -> dict[str, float]:
    """Takes an epoch, and validates; returns what callbacks are told of it.

    Args:
        model: as for `fit_epochs`.
        epochs: as for `fit_epochs`.
        callbacks: as for `fit_epochs`.
        watcher: as for `Epochs.take`.
        k: as for `Epochs.take`.
        back_up: as for `Epochs.take`.
    """
    training, plan = epochs.training, epochs.plan
    watcher.walked_back = 0
    try:
        logs = dict(epochs.take(k, watcher, back_up))
    except Stopped:
        if watcher.reached is None:
            raise
        epochs.stop(watcher.reached)
        logs = dict(watcher.reached.logs)
    hparams, source = epochs.hparams(), plan.validation or plan.hyper
    training.problem.assign(epochs.state, hparams, is_final=False)
    if source is not None:
        teller = Reporter(
            model,
            callbacks,
            watcher.course,
            f"validation of {k}",
            plan.training.steps,
            resumes=epochs.resumes,
        )
        seen = at_epoch(training.problem, epochs.state, callbacks)
        reported = training.validate(seen, hparams, source, teller)
        logs |= {f"val_{name}": x for name, x in reported.items()}
    return logs | epochs.report(logs)
