"""Optuna and KerasTuner around `fit`."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_drmad as kd
from examples.searched_net import compiled_net
from running import (
    assert_flag_is_refused_without_tensorflow,
    python,
    run_program,
)
from small_models import VALIDATION, X, Y, compiled, data

optuna = pytest.importorskip("optuna")
kt = pytest.importorskip("keras_tuner")

WORTH = "loss_of_last_training"
BAD = 1e30  # a rate with which the first training diverges
FIT = dict(
    x=X, y=Y, batch_size=8, validation_data=VALIDATION, seed=0, verbose=0
)


def model_of(rate):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    return compiled(
        keras.Model(inputs, keras.layers.Dense(3)(inputs)),
        optimizer=keras.optimizers.Adam(rate),
        meta_optimizer=None,
    )


def whole_fit(rate, meta_iterations):
    """Returns the loss of the last training of one `fit`."""
    model = model_of(rate)
    model.fit(**FIT, meta_iterations=meta_iterations)
    return model.final_logs["val_loss"]


# ---- Optuna


def objective(trial, rates, seen=None):
    def report(epoch, logs):
        trial.report(logs["val_loss"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    model = model_of(trial.suggest_categorical("rate", rates))
    if seen is not None:
        seen.append(model)
    try:
        callback = keras.callbacks.LambdaCallback(on_epoch_end=report)
        model.fit(**FIT, meta_iterations=4, callbacks=[callback])
    except FloatingPointError as error:
        raise optuna.TrialPruned(str(error)) from error
    return model.final_logs["val_loss"]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(rates, seen=None, **options):
    """Returns a study that has tried these rates in turn."""
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0), **options
    )
    for rate in rates:
        study.enqueue_trial({"rate": rate})
    study.optimize(
        lambda trial: objective(trial, sorted(set(rates)), seen), len(rates)
    )
    return study


def test_a_trial_that_is_behind_ends_and_leaves_a_model_that_goes_on():
    pruner = optuna.pruners.MedianPruner(1, n_warmup_steps=1)
    seen = []
    study = study_of([0.1, 1e-6, 0.1], seen, pruner=pruner)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[1].intermediate_values) == [0, 1]
    # Each trial is what `fit` is without Optuna, also after one that ended.
    assert study.trials[0].value == study.trials[2].value == whole_fit(0.1, 4)
    assert seen[1].tuning_record.fits[-1]["ended"] != "complete"
    seen[1].fit(**FIT, meta_iterations=1)
    assert np.isfinite(seen[1].final_logs["val_loss"])
    # And none of it stays in memory.
    alive = [weakref.ref(model._assembly) for model in seen]
    seen.clear()
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def test_a_training_that_diverges_is_a_pruned_trial():
    study = study_of([BAD, 0.1])
    assert [t.state.name for t in study.trials] == ["PRUNED", "COMPLETE"]
    assert study.best_params == {"rate": 0.1}


# ---- KerasTuner


class Tuned(kt.HyperModel):
    """Chooses a rate; what KerasTuner calls epochs are meta-iterations."""

    def __init__(self, rates=None):
        super().__init__()
        self.rates = rates

    def build(self, hp):
        if self.rates is None:
            return model_of(hp.Float("rate", 0.01, 0.3, sampling="log"))
        return model_of(hp.Choice("rate", self.rates))

    def fit(self, hp, model, epochs=2, initial_epoch=0, **options):
        try:
            model.fit(
                meta_iterations=epochs, initial_epoch=initial_epoch, **options
            )
        except FloatingPointError as error:
            raise kt.errors.FailedTrialError(str(error)) from error
        return {WORTH: model.final_logs["val_loss"]}


def searched(tuner, folder, rates, callbacks=(), **options):
    """Returns a tuner of KerasTuner's that has come to its end."""
    found = tuner(
        Tuned(rates),
        kt.Objective(WORTH, "min"),
        directory=folder,
        seed=1,
        max_consecutive_failed_trials=9,
        **options,
    )
    found.search(**FIT, callbacks=list(callbacks))
    return found


@pytest.fixture(scope="module")
def hyperband(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hyperband")
    return searched(kt.Hyperband, folder, None, max_epochs=3)


def test_trials_that_go_on_are_as_if_they_had_not_stopped(hyperband):
    trials = hyperband.oracle.trials.values()
    went_on = [
        t for t in trials if "tuner/trial_id" in t.hyperparameters.values
    ]
    (trial,) = went_on
    values = trial.hyperparameters.values
    assert (values["tuner/initial_epoch"], values["tuner/epochs"]) == (1, 3)
    expected = whole_fit(values["rate"], 3)
    np.testing.assert_allclose(trial.score, expected, rtol=1e-6)


def test_the_best_model_needs_its_last_training_only(hyperband):
    (model,) = hyperband.get_best_models(1)
    (trial,) = hyperband.oracle.get_best_trials(1)
    end = trial.hyperparameters.values["tuner/epochs"]
    history = model.fit(**FIT, meta_iterations=end, initial_epoch=end).history
    assert not history  # no further meta-iteration
    np.testing.assert_allclose(
        model.final_logs["val_loss"], trial.score, rtol=1e-6
    )
    loss = model.evaluate(*VALIDATION, verbose=0)
    np.testing.assert_allclose(loss, trial.score, rtol=1e-5)


def test_hyperband_goes_on_after_trainings_that_diverge(tmp_path):
    tuner = searched(kt.Hyperband, tmp_path, [BAD, 0.1], max_epochs=3)
    states = {BAD: set(), 0.1: set()}
    for trial in tuner.oracle.trials.values():
        states[trial.hyperparameters["rate"]].add(trial.status)
        if trial.status == "FAILED":
            assert "became nan or inf at step 2" in trial.message
    assert states == {BAD: {"FAILED"}, 0.1: {"COMPLETED"}}
    assert tuner.get_best_hyperparameters()[0]["rate"] == 0.1


def own_callbacks(folder):
    held_out = data(8, seed=2)
    return [
        kd.callbacks.HyperparameterHistory(),
        kd.callbacks.Diagnostics(),
        kd.callbacks.HeldOut(*held_out),
        kd.callbacks.ReduceMetaRateOnPlateau(patience=1),
        kd.callbacks.TimeBudget(600),
        keras.callbacks.TensorBoard(folder),
        kd.callbacks.TensorBoard(folder),
    ]


def test_callbacks_of_this_package_are_copied_for_each_execution(tmp_path):
    callbacks = own_callbacks(str(tmp_path / "logs"))
    public = [
        one
        for one in vars(kd.callbacks).values()
        if isinstance(one, type) and issubclass(one, keras.callbacks.Callback)
    ]
    assert set(public) <= set(map(type, callbacks))
    tuner = searched(
        kt.RandomSearch,
        tmp_path,
        [0.03, 0.1],
        callbacks,
        max_trials=1,
        executions_per_trial=2,
    )
    (trial,) = tuner.oracle.trials.values()
    assert trial.status == "COMPLETED"
    # The one given is left as it was: each execution has a copy.
    assert callbacks[0]._rows == {}
    folders = {path.parent.name for path in tmp_path.glob("logs/*/*/tuning")}
    assert folders == {"execution0", "execution1"}


# ---- the programs

PROGRAMS = {"with_optuna": "optuna", "with_keras_tuner": "keras_tuner"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_flags_are_answered_without_tensorflow(name):
    assert_flag_is_refused_without_tensorflow(f"examples.{name}", "--draws=1")


@pytest.mark.parametrize(("name", "package"), PROGRAMS.items())
def test_what_is_missing_is_named(name, package):
    done = python(
        "-c",
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from examples import {name} as program\n"
        "program.app.run(program.main, ['x'])\n",
    )
    assert done.returncode != 0
    assert "pip install '.[" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def with_one_layer(images, layers, **options):
    """Returns the net of a trial, with one hidden layer however many it has."""
    return compiled_net(images, 1, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("with_optuna", ["--trials=2", "--meta_iterations=2"]),
        ("with_keras_tuner", ["--meta_iterations=3"]),
    ],
)
def test_short_run_searches_and_tunes(tmp_path, name, flags):
    constants = {"examples.searched_net.compiled_net": with_one_layer}
    out = run_program(
        f"examples.{name}",
        tmp_path,
        "--steps=30",
        *flags,
        constants=constants,
    )
    assert "The best trial is " in out and "Verdict: " in out
    folder = tmp_path / name / "short"
    assert (folder / "figures" / "trials.png").stat().st_size > 5_000
    assert "--steps=30" in (folder / "flags.txt").read_text().splitlines()
    loaded = keras.models.load_model(next(folder.glob("*.keras")))
    assert isinstance(loaded, kd.DrMADModel)
    assert loaded.tuning_record.rows
