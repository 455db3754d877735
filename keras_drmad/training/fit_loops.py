"""`DrMADModel.fit`: which of the loops runs, and with what."""

import functools
from typing import Any

import keras
import numpy as np

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.training import advice as advices
from keras_drmad.training import between, edge
from keras_drmad.training.course import Course
from keras_drmad.training.display import Display
from keras_drmad.training.draws import Draws
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.epoch_loop import Epochs, fit_epochs
from keras_drmad.training.hyperparameter_loop import fit_hyperparameters
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.kept import NEW, Resumed
from keras_drmad.training.meta_training import MetaTraining
from keras_drmad.training.plain_epochs import PlainEpochs
from keras_drmad.training.plan import Plan
from keras_drmad.training.tuned_epochs import TunedEpochs
from keras_drmad.training.tuning import Tuning
from keras_drmad.training.windows import Windows, check_windows


def run(
    model: Any,
    training: ElementaryTraining,
    plan: Plan,
    tuning: Tuning,
    callbacks: Any,
    course: Course,
    display: Display,
) -> None:
    """Runs what a `fit` was asked for, and tells the callbacks.

    Args:
        model: the `DrMADModel` that callbacks look at.
        training: the elementary training.
        plan: its data and length.
        tuning: how hyperparameters are tuned.
        callbacks: as for `fit`.
        course: its backups and its time.
        display: shows how `fit` goes on.

    Raises:
        Diverged: if the first training does.
        OSError: if a backup can't be written.
    """
    is_tuned, workers = tuning.meta_iterations > 0, training.workers
    repeats = is_tuned and not tuning.every
    if tuning.every:
        problem = training.problem
        check_windows(problem.hyperparameters, problem.optimizer, plan, tuning)
    callbacks = workers.callbacks(callbacks)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        display.leave_bars_to(callbacks.callbacks)
    else:
        callbacks = keras.callbacks.CallbackList(
            callbacks or [],
            add_history=True,
            verbose=display.verbose,
            epochs=tuning.meta_iterations if repeats else plan.epochs,
            steps=plan.T * tuning.draws if repeats else plan.training.steps,
            model=model,
        )
    for one in callbacks.callbacks:
        is_whole = not getattr(one, "save_weights_only", True)
        if isinstance(one, keras.callbacks.ModelCheckpoint) and is_whole:
            arguments.keras_file("filepath", one.filepath)
    model.stop_training = False
    model.final_logs, model.diagnostics, model.latest = {}, {}, {}
    origin = model.origin_of_trainings()
    if repeats:
        origin.agree(workers)
    if not model.untuned:
        model.untuned = [np.array(raw) for raw in training.hparams()]
    if is_tuned:
        display.say(advices.on_numbers(training.problem.hyperparameters, plan))
    compiler: Any = training.loops.compiler
    try:
        with (
            origin.in_use(),
            model.handing_out(),
            compiler.saying(display),
            workers.watched(),
            course.in_place_of(callbacks),
        ):
            try:
                callbacks.on_train_begin()
            finally:  # no later `fit` is to begin there
                asked = keras_internals.take_initial_epoch(model)
            tuning = tuning._replace(first=asked or tuning.first)
            if course.base:
                display.say(f"Goes on from the backup in '{course.folder}'")
                between.go_on(
                    model, training.problem, plan, callbacks, course.base
                )
            course.watch(lambda: sum(training.loops.traces().values()))
            advice = advices.Advice(_moved(model))
            if is_tuned and not (course.base and model.tuning_record.fits):
                _begin_record(model, plan, tuning)
            if repeats:
                number = course.base.get("number", tuning.first)
                tuning = tuning._replace(first=number)
                meta = _meta_training(
                    model, training, plan, tuning, origin, course.base
                )
                logs = fit_hyperparameters(
                    model, meta, callbacks, course, display, advice
                )
            else:
                starts = InitialState(training.problem, "same", plan.seed)
                s_0 = course.base.get("s_0") or starts.going_on()
                epochs: Epochs
                if tuning.every:
                    windows = Windows(
                        training, plan, model.meta_optimizer, tuning, s_0
                    )
                    epochs = TunedEpochs(model, windows, advice)
                else:
                    epochs = PlainEpochs(training, plan, s_0)
                logs = fit_epochs(
                    model, epochs, callbacks, course, display, tuning.first
                )
            callbacks.on_train_end(logs)
            course.end()
        if is_tuned:
            advice.give(model.history.history, callbacks.callbacks)
    finally:  # an interrupt leaves trained weights, too
        model.leave(origin, tuning.initial_weights if repeats else "")


def _moved(model: Any) -> list[Hyperparameter]:
    """Returns the hyperparameters that are to move.

    Not those that a dict of meta-optimizers does not name: a rate of 0 holds
    these.
    """
    is_held = functools.partial(keras_internals.is_held, model.meta_optimizer)
    return [h for h in model.hyperparameters if not is_held(h.raw)]


def _begin_record(model: Any, plan: Plan, tuning: Tuning) -> None:
    method, why = model.resolved
    model.tuning_record.begin(
        meta_iterations=(
            plan.epochs if tuning.every else tuning.meta_iterations
        )
        - tuning.first,
        every=tuning.every or 0,
        initial_weights=tuning.initial_weights,
        keep=tuning.keep,
        draws=tuning.draws,
        refit=tuning.refit,
        steps=plan.training.steps if tuning.every else plan.T,
        seed=plan.seed,
        method=repr(method),
        why=why,
    )


def _meta_training(model, training, plan, tuning, origin, base) -> MetaTraining:
    resumed = model.resumed if tuning.first > 0 else NEW
    if base:
        resumed = Resumed(**base["meta"])
    elif not resumed.pending:
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
    draws = Draws(training, plan, starts, tuning, edge.Rates(_moved(model)))
    meta = MetaTraining(draws, model.meta_optimizer, resumed)
    meta.has_diverged = base.get("has_diverged", False)
    return meta
