"""One search of a net and its penalties, by Optuna with gradients or without.

For `studies/search_outside.py`, in processes of their own: `search` runs one
way, tries what it chose on new draws, and returns numbers.
"""

import dataclasses
import math
import time
from typing import Any

import keras
import numpy as np
import optuna

import keras_drmad as kd
from studies.search_outside_problems import Problem, load

BOUNDS = (1e-6, 1.0)  # of a penalty
# Forward steps that a step backward counts as: it is the derivative of one.
REVERSE_COST = 2
EPOCHS = 5  # parts of a training of the tuner alone, which reports after each
NEW = 1000  # seeds of new draws begin here
NAMES = ("layers", "width", "activation", "optimizer", "rate", "penalty")


def suggest(trial: optuna.Trial, least: int) -> dict[str, Any]:
    """Returns the few settings that a trial tries.

    Args:
        trial: Optuna's.
        least: int, of hidden layers.
    """
    optimizer = trial.suggest_categorical("optimizer", ["SGD", "Adam"])
    low, high = {"SGD": (3e-3, 0.3), "Adam": (1e-4, 1e-2)}[optimizer]
    return {
        "layers": trial.suggest_int("layers", least, least + 2),
        "width": trial.suggest_categorical("width", [16, 32, 64]),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh"]),
        "optimizer": optimizer,
        "rate": trial.suggest_float(f"rate_{optimizer}", low, high, log=True),
        "penalty": trial.suggest_float("penalty", 1e-5, 1e-1, log=True),
    }


def build_model(problem: Problem, few: dict[str, Any], seed: int, method: str):
    """Returns a compiled net, whose many hyperparameters begin alike."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(problem.train[0].shape[1:])
    hidden = inputs
    for _ in range(few["layers"]):
        hidden = keras.layers.Dense(few["width"], few["activation"])(hidden)
    model = kd.DrMADModel(inputs, keras.layers.Dense(problem.classes)(hidden))
    many = [problem.penalty("input", few["penalty"], bounds=BOUNDS)]
    if problem.weighs:
        count = len(problem.train[0])
        many += [kd.hyperparameters.ExampleWeights(count, initial=0.5)]
    model.compile(
        keras.optimizers.SGD(few["rate"], momentum=0.9)
        if few["optimizer"] == "SGD"
        else keras.optimizers.Adam(few["rate"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=many,
        meta_optimizer={many[-1].name: kd.SignConsensus()},
        hypergradient=kd.DrMAD() if method == "drmad" else "auto",
        jit_compile=False,  # which takes longer than such trials
        self_check=False,  # the tests do
    )
    return model


# ---- searches


class Spending(keras.callbacks.Callback):
    """Counts the elementary steps of all trials, and reports to one of them.

    Attributes:
        steps: float, those spent, in forward steps.
        each: int, the forward steps of an epoch, or of a meta-iteration.
        limit: float, of `steps`: a `fit` ends where one more meta-iteration and
            a last training would go beyond it.
        trial: Optuna's, or `None`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.each, self.limit = 0.0, 0, math.inf
        self.trial: optuna.Trial | None = None

    def on_epoch_end(self, epoch, logs=None):
        reverse = self.model.latest.get("reverse_steps_used", 0)
        cost = self.each + REVERSE_COST * reverse
        self.steps += cost
        if self.steps + cost + self.each > self.limit:
            self.model.stop_training = True
        if self.trial is not None:
            self.trial.report(logs["val_loss"], epoch)
            if self.trial.should_prune():
                raise optuna.TrialPruned


@dataclasses.dataclass
class Search:
    """A search within a budget; see `search` for its arguments."""

    problem: Problem
    seed: int
    steps: int
    meta_iterations: int
    method: str
    prunes: bool

    def __post_init__(self) -> None:
        self.spending = Spending()
        self.arguments: dict[str, Any] = {
            "x": self.problem.train[0],
            "y": self.problem.train[1],
            "batch_size": 50,
            **self.problem.validation,
            "validation_batch_size": 1000,
            "seed": self.seed,
            "verbose": 0,
        }
        self.found: dict[int, list[np.ndarray]] = {}

    def alone(self, trial: optuna.Trial) -> float:
        """Trains once; returns the validation loss."""
        model = self._model_of(trial)
        self.spending.each = self.steps // EPOCHS
        history = model.fit(
            **self.arguments,
            meta_iterations=0,
            epochs=EPOCHS,
            steps_per_epoch=self.steps // EPOCHS,
            callbacks=[self.spending],
        ).history
        return self._ended(trial, model, history["val_loss"][-1])

    def inside(self, trial: optuna.Trial) -> float:
        """Tunes the many; returns the loss of the last training."""
        model = self._model_of(trial)
        try:
            value = self.tune(model, self.meta_iterations)
        except FloatingPointError as error:
            raise optuna.TrialPruned(str(error)) from error
        return self._ended(trial, model, value)

    def tune(self, model, meta_iterations: int) -> float:
        """Tunes the many; returns the loss of the last training."""
        self.spending.each = self.steps
        model.fit(
            **self.arguments,
            steps_per_epoch=self.steps,
            meta_iterations=meta_iterations,
            callbacks=[self.spending],
        )
        self.spending.steps += self.steps  # of the last training
        return model.final_logs.get("val_loss", math.nan)

    def run(self, objective, budget: float) -> optuna.Study:
        """Runs trials until the budget is spent, in trainings.

        The last trial may go beyond it.
        """
        limit = budget * self.steps

        def stop(study, trial):
            if self.spending.steps >= limit:
                study.stop()

        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self.seed),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=4, n_warmup_steps=1
            )
            if self.prunes
            else optuna.pruners.NopPruner(),
        )
        study.optimize(objective, callbacks=[stop])
        return study

    def _model_of(self, trial: optuna.Trial):
        few = suggest(trial, self.problem.least)
        trial.set_user_attr("few", few)
        self.spending.trial = trial if self.prunes else None
        seed = self.seed + trial.number
        return build_model(self.problem, few, seed, self.method)

    def _ended(self, trial: optuna.Trial, model, value: float) -> float:
        if not math.isfinite(value):
            raise optuna.TrialPruned("The training diverged.")
        self.found[trial.number] = values_of(model)
        return value


def values_of(model) -> list[np.ndarray]:
    """Returns the values of all hyperparameters."""
    return [h.value().numpy() for h in model.hyperparameters]


# ---- one search, in a process of its own


def search(
    problem: str,
    dataset: str,
    data_dir: str | None,
    way: str,
    seed: int,
    steps: int,
    budget: int,
    meta_iterations: int,
    hypergradient: str,
    prunes: bool,
    draws: int,
) -> dict[str, Any]:
    """Runs one way, and tries on new draws what it chose.

    Args:
        problem: str, see `load`.
        dataset: of the images, `"mnist"` or `"digits"`.
        data_dir: as for `datasets.load`.
        way: `"alone"`: each trial is a training. `"inside"`:
            each trial tunes the many. `"after"`: alone for half of the
            budget; with the rest the many of the best trial are tuned.
            `"clean"`: alone, on the clean images.
        seed: int, of the data and of the search.
        steps: int, T.
        budget: int, in trainings.
        meta_iterations: int, of each trial.
        hypergradient: `"drmad"` or `"auto"`.
        prunes: bool, whether trials report on their way, and are pruned.
        draws: int, new draws.

    Returns:
        Dict with what was chosen and found, `value`, the loss by which it was
        chosen, `test_loss` and `test_error` of each new draw, and what was
        spent: `trials`, `pruned`, `steps`, `seconds` of processor time.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = load(problem, dataset, data_dir, seed, clean=way == "clean")
    one = Search(data, seed, steps, meta_iterations, hypergradient, prunes)
    begin = time.process_time()
    objective = one.inside if way == "inside" else one.alone
    study = one.run(objective, budget / 2 if way == "after" else budget)
    best = study.best_trial
    few, value = best.user_attrs["few"], study.best_value
    values = one.found[best.number]
    if way == "after":
        model = build_model(data, few, seed, hypergradient)
        one.spending.limit, one.spending.trial = budget * steps, None
        value = one.tune(model, budget)
        values = values_of(model)
    seconds = time.process_time() - begin
    states = [trial.state for trial in study.trials]
    tried = [
        _on_new_draw(data, few, values, seed + NEW + k, steps)
        for k in range(draws)
    ]
    return {
        **{name: np.array(few[name]) for name in NAMES},
        "values": values[-1],
        "value": value,
        "trials": len(states),
        "pruned": states.count(optuna.trial.TrialState.PRUNED),
        "steps": one.spending.steps,
        "seconds": seconds,
        "test_loss": np.array([loss for loss, _ in tried]),
        "test_error": np.array([100 * (1 - right) for _, right in tried]),
    }


def _on_new_draw(data: Problem, few, values, seed: int, steps: int):
    """Trains on all rows from a new draw; returns test loss and accuracy."""
    model = build_model(data, few, seed, "drmad")
    for kind, value in zip(model.hyperparameters, values, strict=True):
        kind.assign(value)
    x, y = data.train
    model.fit(
        x,
        y,
        batch_size=50,
        steps_per_epoch=steps,
        meta_iterations=0,
        seed=seed,
        verbose=0,
    )
    return model.evaluate(*data.test, batch_size=1000, verbose=0)
