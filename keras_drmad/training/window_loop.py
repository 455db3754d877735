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
