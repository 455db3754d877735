"""What one process of the study with headroom does."""

from typing import Any

import keras
import numpy as np
import optuna

import keras_drmad as kd
from examples import datasets

RATE, PENALTY = 0.002, 1e-3  # usual ones
RATES = 2.0 ** np.arange(-3, 4)  # of the grid, on the usual one
PENALTIES = (0.1, 1.0, 10.0)
WITHIN = 30.0  # the tuner stays within this factor of the usual ones
REVERSE_COST = 2  # forward steps that a step backward counts as
TRIES = 2  # draws on which rivals choose
WIDTH = 64
NEW = 1000  # seeds of new draws begin here
# (training, validation, test)
SIZES = {"mnist": (1000, 1000, 10000), "digits": (500, 300, 997)}
METHODS = {"exact": kd.ReverseMode, "DrMAD()": kd.DrMAD}


def meta_iterations_within(budget: int, method: str) -> int:
    """Returns how many meta-iterations a budget allows, and a last training.

    Args:
        budget: int, in trainings.
        method: of `METHODS`. `DrMAD()` walks a tenth of the steps backward.
    """
    part = 1.0 if method == "exact" else 0.1
    return int((budget - 1) / (1 + REVERSE_COST * part))


class Bench:
    """A deep net and its images; what the cells have in common."""

    def __init__(
        self,
        method: str,
        factor: float,
        dataset: str,
        data_dir: str | None,
        seed: int,
        steps: int,
        hidden: int,
    ):
        """Loads the images and compiles the model.

        Args:
            method: of `METHODS`.
            factor: float, on the usual rate and penalty, at first.
            dataset: `"mnist"` or `"digits"`.
            data_dir: as for `datasets.load`.
            seed: int, of data, weights and batches.
            steps: int, T.
            hidden: int, hidden layers.
        """
        images = datasets.load(dataset, data_dir, SIZES[dataset], seed)
        self.train, self.test, self.seed = images.train, images.test, seed
        keras.utils.set_random_seed(seed)
        inputs = outputs = keras.Input(images.train[0].shape[1:])
        for _ in range(hidden):
            outputs = keras.layers.Dense(WIDTH, "relu")(outputs)
        outputs = keras.layers.Dense(images.classes)(outputs)
        self.model = kd.DrMADModel(inputs, outputs)
        self.model.compile(
            optimizer=keras.optimizers.Adam(RATE * factor),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            hyperparameters=[
                kd.hyperparameters.L2("layer", initial=PENALTY * factor),
                kd.hyperparameters.LearningRate("layer"),
            ],
            hypergradient=METHODS[method](),
            jit_compile=False,  # tracing for XLA takes longer than it saves
        )
        self.arguments: dict[str, Any] = {
            "batch_size": 50,
            "steps_per_epoch": steps,
            "validation_data": images.validation,
            "validation_batch_size": 500,
            "verbose": 0,
        }

    def fit(self, meta_iterations: int, callbacks=()) -> dict[str, list]:
        """Tunes; returns the history."""
        return self.model.fit(
            *self.train,
            **self.arguments,
            meta_iterations=meta_iterations,
            seed=self.seed,
            callbacks=list(callbacks),
        ).history

    def losses(self, points: dict[str, dict]) -> dict[str, float]:
        """Returns validation losses, by which rivals choose."""
        found = self._check(points, TRIES, self.seed * NEW + NEW // 2).results
        means = {name: found[name]["val_loss"].mean() for name in points}
        return {k: np.nan_to_num(v, nan=np.inf) for k, v in means.items()}

    def judged(self, points: dict[str, dict], draws: int) -> dict[str, Any]:
        """Returns test losses and errors on new draws, `(draws, 2)` each.

        Those of the start and those found too; of chance where a training
        diverged.
        """
        seed = (self.seed + 1) * NEW
        check = self._check(points, draws, seed, test_data=self.test)
        chance = np.log(10), 90.0
        found = {}
        for name, own in check.results.items():
            errors = 100 * (1 - own["test_accuracy"])
            values = np.stack([own["test_loss"], errors], axis=1)
            found[name] = np.where(np.isfinite(values), values, chance)
        return found

    def _check(self, points, draws: int, seed: int, **test):
        return self.model.check_hyperparameters(
            *self.train,
            **self.arguments,
            draws=draws,
            seed=seed,
            others=points,
            **test,
        )


def cell(
    kind: str, budget: int, draws: int, factor: float = 1.0, **settings
) -> dict[str, Any]:
    """Tunes by one method, or searches; judges on new draws.

    Args:
        kind: of `METHODS`, or `"rivals"`.
        budget: int, trainings to spend.
        draws: int, new draws.
        factor: float, on the usual rate and penalty, at first.
        **settings: of `Bench`.

    Returns:
        Dict with `names` of the ways; their `values` `(ways, draws, 2)`, test
        loss and error; trainings `spent`; and what else the kind has.
    """
    if kind == "rivals":
        return rivals(Bench("DrMAD()", factor, **settings), budget, draws)
    return ours(Bench(kind, factor, **settings), kind, factor, budget, draws)


def ours(
    bench: Bench, method: str, factor: float, budget: int, draws: int
) -> dict[str, Any]:
    """Tunes rates and penalties; see `cell`.

    Returns:
        Also the history of `val_loss`, of `rates` `(meta_iterations, layers)`,
        of trainings spent in `each`; the rates `found` and the `penalties`.
    """
    recorder = kd.callbacks.HyperparameterHistory()
    count = meta_iterations_within(budget, method)
    history = bench.fit(count, [recorder])
    diagnostics = bench.model.diagnostics
    T = bench.arguments["steps_per_epoch"]
    backward = np.array(diagnostics["reverse_steps_used"]) / T
    # Of those past the edge in a meta-iteration, all but the last began again.
    again = np.maximum(np.array(diagnostics["past_edge"]) - 1, 0)
    each = 1 + again + REVERSE_COST * backward
    values = {k.name: k.value().numpy() for k in bench.model.hyperparameters}
    means = {name: float(geometric_mean(v)) for name, v in values.items()}
    further = {
        "last": {name: recorder.values[name][-1] for name in values},
        "mean": means,
    }
    results = bench.judged(further, draws)
    way = f"x {factor:g}, {method}"
    names = {
        "start": f"x {factor:g}, untuned",
        "found": way,
        "last": f"{way}, last values",
        "mean": f"{way}, their means for all layers",
    }
    if method != "exact":  # which has this row
        del names["start"]
    spent = each.sum() + 1
    return {
        "names": np.array(list(names.values())),
        "values": np.array([results[name] for name in names]),
        "spent": np.array([0.0 if k == "start" else spent for k in names]),
        "val_loss": np.array(history["val_loss"]),
        "rates": np.array(recorder.values["learning_rate"]),
        "each": each,
        "found": values["learning_rate"],
        "penalties": values["l2"],
        "growth": np.array(diagnostics["adjoint_growth"]),
        "past_edge": np.array(diagnostics["past_edge"]),
        "norm": np.array(diagnostics["hypergradient_norm"]),
    }


def rivals(bench: Bench, budget: int, draws: int) -> dict[str, Any]:
    """Searches one rate and one penalty for all layers; see `cell`.

    Returns:
        Also rate and penalty that the `grid` and the `tuner` chose.
    """
    bench.fit(1)  # without which nothing is to be checked
    grid = {
        f"grid_{a:g}_{b:g}": point(RATE * a, PENALTY * b)
        for a in RATES
        for b in PENALTIES
    }
    losses = bench.losses(grid)
    best = grid[min(losses, key=losses.__getitem__)]
    trials = budget // TRIES
    tuned = tune(bench, trials)
    results = bench.judged({"grid": best, "tuner": tuned}, draws)
    names = {
        "start": "usual values",
        "grid": "best of the grid",
        "tuner": "best of Optuna's TPE",
    }
    return {
        "names": np.array(list(names.values())),
        "values": np.array([results[name] for name in names]),
        "spent": np.array([0, TRIES * len(grid), TRIES * trials]),
        "grid": np.array([best["learning_rate"], best["l2"]]),
        "tuner": np.array([tuned["learning_rate"], tuned["l2"]]),
        "losses": np.array(list(losses.values())),
    }


def tune(bench: Bench, trials: int) -> dict[str, float]:
    """Returns the best rate and penalty that Optuna's TPE tried."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        rate, penalty = (
            trial.suggest_float(name, x / WITHIN, x * WITHIN, log=True)
            for name, x in (("learning_rate", RATE), ("l2", PENALTY))
        )
        return bench.losses({"trial": point(rate, penalty)})["trial"]

    search = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=bench.seed)
    )
    search.optimize(objective, n_trials=trials)
    return point(search.best_params["learning_rate"], search.best_params["l2"])


def point(rate: float, penalty: float) -> dict[str, float]:
    """Returns values of the hyperparameters by their names."""
    return {"learning_rate": rate, "l2": penalty}


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Returns the geometric mean of all values."""
    return np.exp(np.log(values).mean())
