"""One training in which hyperparameters are tuned every few steps."""

from typing import Any

import keras
import numpy as np

from keras_drmad.training import between, moves
from keras_drmad.training.advice import Advice
from keras_drmad.training.course import Course, Stopped, Work
from keras_drmad.training.display import Display
from keras_drmad.training.reporter import Reporter
from keras_drmad.training.tuning_record import counts, new_logs
from keras_drmad.training.validation import at_epoch
from keras_drmad.training.windows import NORM, TOLD, Windows


def fit_in_windows(
    model: Any,
    windows: Windows,
    callbacks: keras.callbacks.CallbackList,
    course: Course,
    display: Display,
    advice: Advice,
    first: tuple[int, int],
) -> dict[str, float] | None:
    """Trains once, and tunes meanwhile; epochs are epochs.

    Args:
        model: the `DrMADModel` that callbacks look at.
        windows: where the training starts, or goes on.
        callbacks: Keras's list, already begun.
        course: backups and time.
        display: shows a bar for each epoch.
        advice: looks at each step of the hyperparameters.
        first: pair of int, the epochs of `plan.epochs` at which the training
            began, and at which it goes on.

    Returns:
        The last logs, `None` if there were no epochs.

    Raises:
        Diverged: if training or validation leaves the finite numbers.
    """
    initial, resumed = first
    epochs = _Epochs(model, windows, callbacks, course, display, initial)
    epochs.begin(resumed)
    logs, record = None, model.tuning_record
    try:
        for epoch in range(resumed, epochs.end):
            logs = epochs.take(epoch, advice)
            is_stopped = course.workers.any_of_all(model.stop_training)
            is_stopped |= epochs.is_stopped
            epochs.back_up(epochs.end if is_stopped else epoch + 1)
            if is_stopped:
                record.end("stopped by a callback")
                break
        record.end("complete")
    except Stopped:
        record.end("the time was up" if course.is_over else "stopped")
        display.leave()
        if course.is_over and course.reached is not None:
            windows.state = course.reached
    except BaseException as error:
        record.break_off(error)
        raise
    finally:  # also after an interrupt
        hparams = windows.training.hparams()
        epochs.problem.assign(windows.state, hparams)
        model.keep_ends(epochs.problem, epochs.s_0, windows.state, hparams)
    return logs


class _Epochs:
    """The epochs of a training that tunes, as Keras's callbacks see them.

    Attributes:
        problem: the elementary problem.
        s_0: `State`, where the training started.
        end: int, the epoch after the last one.
        is_stopped: bool, whether a callback ended the training in an epoch.
    """

    def __init__(
        self,
        model: Any,
        windows: Windows,
        callbacks: keras.callbacks.CallbackList,
        course: Course,
        display: Display,
        initial: int,
    ):
        """Initializes the epochs; the arguments are `fit_in_windows`'s.

        Args:
            initial: int, the epoch at which the training began.
        """
        self._model = model
        self._windows = windows
        self._callbacks = callbacks
        self._course = course
        self._display = display
        self._initial = initial
        self.problem = windows.training.problem
        self.s_0 = windows.state
        plan = windows.plan
        self.end = plan.epochs
        self._plan = plan._replace(epochs=plan.epochs - initial)
        self._source: Any = plan.validation or plan.hyper
        self._steps = plan.training.steps
        windows.plan = self._plan
        self._read = between.Passes(plan, course.base)
        self.is_stopped = False

    def begin(self, epoch: int) -> None:
        """Goes on where another process was, or begins with an epoch."""
        course = self._course
        if course.base:
            self.s_0 = course.base["s_0"]
            self._windows.resume(course.base["windows"])
        self.back_up(epoch)
        plan = self._plan
        validation = self._source.steps * plan.epochs
        work = {"forward": plan.T, "validation": validation}
        course.has_time(Work(work, kind="last"))

    def back_up(self, epoch: int) -> None:
        """Keeps what a new process would go on with, in an epoch."""
        passes, values = self._read.now(), self._windows.values()
        self._course.begin(
            lambda: between.base(
                self._model,
                self.problem,
                self._callbacks,
                epoch,
                passes=passes,
                s_0=self.s_0,
                windows=values,
            )
        )

    def take(self, epoch: int, advice: Advice) -> dict[str, float]:
        """Trains and validates for an epoch, or for what is left of it.

        Returns:
            What callbacks were told at its end.
        """
        model, windows, display = self._model, self._windows, self._display
        tuning = windows.tuning
        backward = self._steps // tuning.every * tuning.look_back
        heading = f"Epoch {epoch + 1}/{self.end}" if self.end > 1 else ""
        display.begin(heading, self._steps + backward)
        self._callbacks.on_epoch_begin(epoch)
        model.check_trainable()
        started = windows.training.hparams()
        last = (epoch - self._initial + 1) * self._steps
        if windows.t == last - self._steps:  # and not in its middle
            windows.losses = []
        first_of = len(model.diagnostics.get(NORM, [])) - len(windows.losses)
        logs = self._train(epoch, last, advice)
        hparams = windows.training.hparams()
        logs |= self._validate(hparams)
        own = {k: model.diagnostics.get(k, [])[first_of:] for k in TOLD}
        model.latest = latest = {
            k: float(np.mean(row)) if row else np.nan for k, row in own.items()
        }
        record = model.tuning_record
        record.add(model.hyperparameters, hparams, logs | latest)
        before = counts(self._callbacks)
        self._callbacks.on_epoch_end(epoch, logs)
        record.amend(new_logs(self._callbacks, before))
        display.end(logs)
        if not display.is_silent:
            together = self.problem.hyperparameters
            display.say(moves.words(together, started, hparams))
        return logs

    def _train(self, epoch: int, last: int, advice: Advice) -> dict[str, float]:
        """Walks through windows to an iteration; returns the metrics."""
        windows, course = self._windows, self._course
        tuning = windows.tuning
        logs: dict[str, float] = {}
        reporter = Reporter(
            self._model,
            self._callbacks,
            course,
            "windows",
            self._steps,
            display=self._display,
            resumes=False,
            has_epochs=True,
        )
        while windows.t < last:
            to = min(windows.t + tuning.every, last)
            try:
                logs, diagnostics = windows.through(to, reporter)
            except Stopped:
                if reporter.reached is None:
                    raise
                windows.t, windows.state, logs = reporter.reached
                self.is_stopped = True
                break
            if diagnostics:
                reporter.walked_back += tuning.look_back
                self._model.note(diagnostics)
                advice.note(diagnostics)
            if windows.t < last and course.is_due(tuning.every):
                self.back_up(epoch)
        return dict(logs)

    def _validate(self, hparams: list) -> dict[str, float]:
        """Returns what an epoch's end is told beside the training's metrics."""
        model, windows, problem = self._model, self._windows, self.problem
        problem.assign(windows.state, hparams, is_final=False)
        model.trained_with = hparams
        teller = Reporter(
            model, self._callbacks, self._course, "", self._steps, resumes=False
        )
        seen = at_epoch(problem, windows.state, self._callbacks)
        reported = windows.training.validate(
            seen, hparams, self._source, teller
        )
        logs = {f"val_{name}": x for name, x in reported.items()}
        logs |= problem.hyperparameters.means(hparams)
        if self._plan.validation is not None and windows.losses:
            logs["hyper_loss"] = float(np.mean(windows.losses))
        return logs
