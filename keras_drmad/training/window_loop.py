"""One training in which hyperparameters are tuned every few steps."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad import arguments, keras_internals
from keras_drmad.core import nested
from keras_drmad.core.span import Span
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walk
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.training import between, moves
from keras_drmad.training.advice import Advice
from keras_drmad.training.course import Course, Stopped, Work
from keras_drmad.training.display import Display
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    check_finite,
)
from keras_drmad.training.plan import Plan
from keras_drmad.training.reporter import Reporter
from keras_drmad.training.tuning import Tuning
from keras_drmad.training.tuning_record import counts, new_logs

NORM = "hypergradient_norm"
TOLD = (NORM, "adjoint_growth", "reverse_steps", "reverse_steps_used")


def check_windows(
    hyperparameters: Sequence[Hyperparameter], plan: Plan, tuning: Tuning
) -> None:
    """Checks that hyperparameters can be tuned within a training.

    Raises:
        ValueError: if windows are longer than epochs, or a kind acts where no
            window sees it.
    """
    steps = plan.training.steps
    if tuning.every > steps:
        raise arguments.value_error(
            "tune_every",
            tuning.every,
            f"at most the {steps} steps of an epoch, within which windows lie",
            advice="Pass a larger `steps_per_epoch`, and fewer `epochs`.",
        )
    for h in hyperparameters:
        if h.acts_on == "start":
            raise ValueError(
                f"The hyperparameter '{h.name}' acts on the first weights, "
                "which no window of a training sees. Leave it out, or leave "
                "`tune_every` out."
            )


def _number(rate: Any) -> Any:
    """Returns a rate, of several copies on devices the first."""
    if isinstance(rate, keras.Variable):
        return keras_internals.value_of(rate)
    return rate


class Windows:
    """Trains, and steps the hyperparameters after each window of K steps.

    A window is walked forward with the hyperparameters as they are. Then the
    loss of the next minibatch of the data that hyperparameters are fitted to is
    differentiated through the last R of the steps, and the meta-optimizer
    follows. What hyperparameters did before is left out: so the hypergradient
    is that of the next R steps' gain, not of the training's.

    Attributes:
        state: `State`, where the training is.
        t: int, the steps that were taken.
        count: int, the windows that were followed by a step of the
            hyperparameters.
        metrics: dict that has the state of the metrics, in the walk's hands.
        losses: list of float, those that the epoch's windows were fitted to.
    """

    def __init__(
        self,
        training: ElementaryTraining,
        plan: Plan,
        meta_optimizer: keras.Optimizer,
        tuning: Tuning,
        s_0: State,
    ):
        """Initializes the windows.

        Args:
            training: the elementary training, its differentiation one of R
                steps.
            plan: data and length.
            meta_optimizer: moves the raw values.
            tuning: has K and R.
            s_0: where the training starts.
        """
        self.training = training
        self.plan = plan
        self.meta_optimizer = meta_optimizer
        self.tuning = tuning
        self.state = s_0
        self.t = self.count = 0
        self.metrics: dict[str, Any] = {}
        self.has_warned = False
        self.losses: list[float] = []

    def values(self) -> dict[str, Any]:
        """Returns what `resume` takes."""
        return {
            "state": self.state,
            "t": self.t,
            "count": self.count,
            "metrics": dict(self.metrics),
            "losses": list(self.losses),
        }

    def resume(self, values: dict[str, Any]) -> None:
        """Goes on where another process was."""
        self.state, self.t = values["state"], values["t"]
        self.count, self.metrics = values["count"], dict(values["metrics"])
        self.losses = list(values["losses"])

    def through(
        self, last: int, watcher: Reporter
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Walks to an iteration, and steps if that completes a window.

        Args:
            last: int, the iteration to come to; at most K further.
            watcher: is told of the chunks.

        Returns:
            The metrics of the epoch so far, and the diagnostics of the
            hypergradient, empty where there is none.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        training, tuning = self.training, self.tuning
        hparams = training.hparams()
        walk = training.walk(self.plan, watcher, carried=self.metrics)
        is_whole = last - self.t == tuning.every and self._follows()
        begin = last - tuning.look_back if is_whole else last
        logs: dict[str, float] = {}
        if begin > self.t:
            logs = self._forward(walk, hparams, begin)
        if not is_whole:
            return logs, {}
        return self._window(walk, hparams, Span(begin, last), watcher)

    def _follows(self) -> bool:
        """Returns whether the meta-optimizer takes a step worth its name.

        Where a schedule has taken its rate to 0, there is nothing to follow,
        and no hypergradient is computed; but the schedule goes on.
        """
        movers = keras_internals.optimizers_within(self.meta_optimizer)
        rates = [one.learning_rate for one in movers]
        if any(float(_number(rate)) for rate in rates):
            return True
        for one in movers:
            one.iterations.assign_add(1)
        return False

    def _forward(self, walk: Walk, hparams: list, last: int) -> dict:
        walked = walk.through(self.state, hparams, Span(self.t, last))
        self.state, self.t = walked.state, last
        return walked.logs

    def _window(
        self, walk: Walk, hparams: list, span: Span, watcher: Reporter
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Walks the last steps, differentiates them, and follows."""
        training, source = self.training, self.plan.hyper
        place = self.count % source.steps
        held = Span(place, place + 1)
        window = training.window(
            walk, self.state, hparams, span, source, held, watcher
        )
        self.state, self.t = window.state, span.last
        check_finite(window.loss, self.plan)
        together = training.problem.hyperparameters
        self.meta_optimizer.apply(window.d_hparams, together.raws)
        together.clip()
        self.count += 1
        norm = float(nested.norm(window.d_hparams))
        self.losses.append(window.loss)
        diagnostics = window.report | {NORM: norm}
        if not self.has_warned:
            self.has_warned = training.warn_cut_short(
                f"The walk backward at step {self.t}", diagnostics
            )
        return window.logs, diagnostics


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
    plan, tuning = windows.plan, windows.tuning
    problem, s_0 = windows.training.problem, windows.state
    steps = plan.training.steps
    (initial, resumed), end = first, plan.epochs
    plan = windows.plan = plan._replace(epochs=end - initial)
    backward = steps // tuning.every * tuning.look_back
    source = plan.validation or plan.hyper
    # A walk that goes on reads the training data from the beginning.
    read = (course.base.get("passes") or plan.passes()).get("training")
    if course.base:
        s_0 = course.base["s_0"]
        windows.resume(course.base["windows"])

    def base(number: int) -> Any:
        passes = plan.passes()
        if read is not None:
            passes["training"] = read
        values = windows.values()
        return lambda: between.base(
            model,
            problem,
            callbacks,
            number,
            passes=passes,
            s_0=s_0,
            windows=values,
        )

    work = {"forward": plan.T, "validation": source.steps * plan.epochs}
    course.begin(base(resumed))
    course.has_time(Work(work, kind="last"))
    logs = None
    try:
        for epoch in range(resumed, end):
            heading = f"Epoch {epoch + 1}/{end}" if end > 1 else ""
            display.begin(heading, steps + backward)
            callbacks.on_epoch_begin(epoch)
            model.check_trainable()
            reporter = Reporter(
                model,
                callbacks,
                course,
                "windows",
                steps,
                display=display,
                resumes=False,
            )
            last = (epoch - initial + 1) * steps
            started = windows.training.hparams()
            if windows.t == last - steps:  # and not in its middle
                windows.losses = []
            first_of = len(model.diagnostics.get(NORM, []))
            first_of -= len(windows.losses)
            while windows.t < last:
                to = min(windows.t + tuning.every, last)
                trained, diagnostics = windows.through(to, reporter)
                logs = trained
                if diagnostics:
                    reporter.walked_back += tuning.look_back
                    model.note(diagnostics)
                    advice.note(diagnostics)
                if windows.t < last and course.is_due(tuning.every):
                    course.begin(base(epoch))
            hparams = windows.training.hparams()
            problem.assign(windows.state, hparams, is_final=False)
            model.trained_with = hparams
            teller = Reporter(
                model, callbacks, course, "", steps, resumes=False
            )
            reported = windows.training.validate(
                windows.state, hparams, source, teller
            )
            logs = dict(logs or {})
            logs |= {f"val_{name}": x for name, x in reported.items()}
            logs |= problem.hyperparameters.means(hparams)
            if plan.validation is not None and windows.losses:
                logs["hyper_loss"] = float(np.mean(windows.losses))
            own = {k: model.diagnostics.get(k, [])[first_of:] for k in TOLD}
            model.latest = latest = {
                k: float(np.mean(row)) if row else np.nan
                for k, row in own.items()
            }
            model.tuning_record.add(
                model.hyperparameters, hparams, logs | latest
            )
            before = counts(callbacks)
            callbacks.on_epoch_end(epoch, logs)
            model.tuning_record.amend(new_logs(callbacks, before))
            display.end(logs)
            if not display.is_silent:
                together = problem.hyperparameters
                display.say(moves.words(together, started, hparams))
            is_stopped = course.workers.any_of_all(model.stop_training)
            course.begin(base(end if is_stopped else epoch + 1))
            if is_stopped:
                model.tuning_record.end("stopped by a callback")
                break
        model.tuning_record.end("complete")
    except Stopped:
        late = course.is_over
        model.tuning_record.end("the time was up" if late else "stopped")
        display.leave()
        if course.is_over and course.reached is not None:
            windows.state = course.reached
    except BaseException as error:
        model.tuning_record.break_off(error)
        raise
    finally:  # also after an interrupt
        hparams = windows.training.hparams()
        problem.assign(windows.state, hparams)
        model.keep_ends(problem, s_0, windows.state, hparams)
    return logs
