"""One search of penalties, by gradients or by KerasTuner's trials.

For `studies/against_tuners.py`, in processes of their own: `search` runs one
method and returns the record of each training.
"""

import math
import tempfile
import time
from typing import Any

import keras
import keras_tuner as kt
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.grouped_l2 import GroupedL2
from studies.papers import compile_as_papers, papers_model

# (training, validation, test)
SIZES = {"mnist": (1000, 5000, 5000), "digits": (200, 800, 797)}
HIDDEN = (50, 50, 50)
BOUNDS = (1e-6, 1e-1)
START = math.sqrt(BOUNDS[0] * BOUNDS[1])
# Forward steps that take as long: `python -m benchmarks.meta_iteration`.
REVERSE_COST = 1.2
RANDOM_TRIALS = 10


# ---- the model, and what its trainings took


def build_model(images, method: str, count: int, meta_step: float):
    """Returns the paper's net as a compiled `DrMADModel`."""
    model = papers_model(images, HIDDEN)
    compile_as_papers(
        model,
        alpha=0.05,
        gamma=0.95,
        penalties=GroupedL2(count, START, BOUNDS),
        method=kd.ReverseMode() if method == "reverse" else kd.DrMAD(),
        meta_step=meta_step,
    )
    return model


class Meter(kd.callbacks.HeldOut):
    """Records trainings until the budget is spent: what they reached and took.

    Attributes:
        records: list of dicts, one for each training.
    """

    def __init__(self, test, steps: int, budget: int) -> None:
        """Begins to count.

        Args:
            test: `(x, y)`.
            steps: int, T.
            budget: int, in trainings.
        """
        super().__init__(*test, batch_size=1000)
        self._steps = steps
        self._budget = budget
        self.records: list[dict[str, float]] = []
        self._spent = 0.0
        # In processor time: other programs may keep the machine busy.
        self._begin = time.process_time()
        self._trained = 0.0  # seconds of forward steps
        self._tested = 0.0  # seconds of looking at test data

    def search_seconds(self) -> float:
        """Returns all so far but those of forward steps and tests."""
        passed = time.process_time() - self._begin
        return passed - self._trained - self._tested

    def on_epoch_begin(self, epoch, logs=None):
        self._first = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        self._last = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        logs = dict(logs)
        begin = time.process_time()
        super().on_epoch_end(epoch, logs)
        self._tested += time.process_time() - begin
        self._trained += self._last - self._first
        self._spent += self._steps
        self.records.append(
            {
                "steps": self._spent,
                "val_loss": logs["val_loss"],
                "val_error": 1 - logs["val_accuracy"],
                "test_loss": logs["test_loss"],
                "test_error": 1 - logs["test_accuracy"],
                "search_seconds": self.search_seconds(),
            }
        )
        (used,) = self.model.diagnostics.get("reverse_steps_used", [0])[-1:]
        self._spent += REVERSE_COST * used
        if self._spent + self._steps > self._budget * self._steps:
            self.model.stop_training = True


# ---- KerasTuner


class Begun(kt.Oracle):
    """Begins at the defaults, and ends when it is late."""

    def __init__(self, is_late, **options) -> None:
        super().__init__(**options)
        self._is_late = is_late

    def populate_space(self, trial_id):
        if not self.trials:
            values = {hp.name: hp.default for hp in self.get_space().space}
            return {"status": "RUNNING", "values": values}
        if self._is_late():
            return {"status": "STOPPED"}
        return super().populate_space(trial_id)


class Random(Begun, kt.oracles.RandomSearchOracle):
    """`RandomSearch`."""


class Bayesian(Begun, kt.oracles.BayesianOptimizationOracle):
    """`BayesianOptimization`."""


def oracle(method: str, count: int, seed: int, most_trials: int, is_late):
    """Returns KerasTuner's search, which begins at `START`.

    Args:
        is_late: function that says whether to end the search.
    """
    space = kt.HyperParameters()
    for name in names(count):
        space.Float(name, *BOUNDS, sampling="log", default=START)
    options: dict[str, Any] = {
        "is_late": is_late,
        "objective": kt.Objective("val_loss", "min"),
        "max_trials": most_trials,
        "hyperparameters": space,
        "seed": seed + 1,  # KerasTuner takes 0 for none
    }
    if method == "random":
        return Random(**options)
    points = min(3 * count, RANDOM_TRIALS)
    return Bayesian(**options, num_initial_points=points)


def names(count: int) -> list[str]:
    """Returns KerasTuner's names of the coefficients."""
    return [f"l2_{k}" for k in range(count)]


class Trainer(kt.Tuner):
    """Trains in this package's compiled loop.

    Attributes:
        model: a `DrMADModel` with one kind of hyperparameters.
        restart: function, see `restart_of`.
        arguments: those of `fit`.
    """

    def __init__(self, model, restart, arguments, **options) -> None:
        self.model = model
        self.restart = restart
        self.arguments = arguments
        super().__init__(**options)

    def run_trial(self, trial, **_):
        (l2,) = self.model.hyperparameters
        order = names(l2.raw.shape[0])
        values = [trial.hyperparameters.values[name] for name in order]
        l2.assign(np.clip(values, *BOUNDS))  # they are rounded
        self.restart()  # `fit` would go on with the optimizer's velocity
        history = self.model.fit(**self.arguments, meta_iterations=0).history
        return {"val_loss": history["val_loss"][0]}


def search_by_trials(model, oracle, restart, arguments) -> None:
    """Trains with what KerasTuner asks for, until it ends.

    Args:
        model: a `DrMADModel` with one kind of hyperparameters.
        oracle: of KerasTuner.
        restart: function, see `restart_of`.
        arguments: those of `fit`.
    """
    with tempfile.TemporaryDirectory() as folder:
        tuner = Trainer(
            model, restart, arguments, oracle=oracle, directory=folder
        )
        tuner.search(verbose=0)


# ---- one search, in a process of its own


def restart_of(model):
    """Returns a function that gives back the weights and a new optimizer."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]

    def restart() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return restart


def search(
    method: str,
    count: int,
    seed: int,
    dataset: str,
    data_dir: str | None,
    steps: int,
    budget: int,
    meta_step: float,
    search_minutes: float,
) -> dict[str, Any]:
    """Runs one method; returns the record of each training, as arrays."""
    images = datasets.load(dataset, data_dir, SIZES[dataset], seed)
    keras.utils.set_random_seed(seed)
    model = build_model(images, method, count, meta_step)
    is_tuner = method in ("random", "bayesian")
    arguments = {
        "x": images.train[0],
        "y": images.train[1],
        "batch_size": 50,
        "steps_per_epoch": steps,
        "validation_data": images.validation,
        "validation_batch_size": 1000,
        "seed": seed,
        "initial_weights": "same",
        "verbose": 0,
    }
    restart = restart_of(model)
    model.fit(**arguments, meta_iterations=0 if is_tuner else 1)  # compiles
    restart()
    record = Meter(images.test, steps, budget)
    arguments["callbacks"] = [record]
    if is_tuner:

        def is_late() -> bool:
            return record.search_seconds() > 60 * search_minutes

        tuner = oracle(method, count, seed, budget, is_late)
        search_by_trials(model, tuner, restart, arguments)
    else:
        model.fit(**arguments, meta_iterations=budget)
    return {
        key: np.array([one[key] for one in record.records])
        for key in record.records[0]
    }
