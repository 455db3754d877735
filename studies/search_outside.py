"""A tuner alone, and a tuner with gradients inside, at one budget of steps.

    python -m studies.search_outside --data_dir=FOLDER --run_name=mnist

Optuna chooses a few settings: layers, width, activation, optimizer, rate, one
penalty for all inputs. Three ways to spend the same number of elementary steps:

*alone*: each trial is one training. *inside*: each trial is a `fit` that tunes
many hyperparameters, from the trial's settings on, and is worth what its last
training is. *after*: alone for half of the budget; with the rest one `fit`
tunes the many of the best trial. Trials report on their way, after each fifth
of a training or after each meta-iteration, and Optuna's median pruner ends
some.

Three problems. *labels*: 40 % of the labels of the training images are wrong,
500 clean images validate; the many are weights of the examples; a tuner on the
clean images alone, of which half validate, is a fourth way. *images*: the
many are L2 penalties, one an input of each layer. *columns*: 500 columns of
which 10 matter; the many are L1 penalties, one an input. For the last two half
of the rows validate, for `fit` a new half in each meta-iteration.

What each way chose is tried on new draws of weights and batches, trained on all
rows. A step backward counts as two steps forward. The same command goes on
where it was killed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(["mnist", "digits"], seeds=3)
PROBLEMS = {
    "labels": "40 % of the labels wrong",
    "images": "images",
    "columns": "500 columns, 10 of which matter",
}
WAYS = {
    "alone": "tuner alone",
    "inside": "gradients inside of each trial",
    "after": "gradients after, for the best trial",
    "clean": "tuner alone, on the clean images",
}
flags.DEFINE_multi_enum(
    "problems", list(PROBLEMS), list(PROBLEMS), "Which; once for each."
)
flags.DEFINE_integer("first_seed", 0, "The first of them.", 0)
flags.DEFINE_integer("steps", 200, "T, elementary steps of a training.", 5)
flags.DEFINE_integer("budget", 60, "What each way spends, in trainings.", 4)
flags.DEFINE_integer("meta_iterations", 5, "Of each trial that tunes.", 1)
flags.DEFINE_enum(
    "hypergradient",
    "auto",
    ["auto", "drmad"],
    "The default, which is exact here; or DrMAD().",
)
flags.DEFINE_bool("prunes", True, "Whether Optuna ends trials.")
flags.DEFINE_integer("draws", 5, "New draws of each seed.", 2)

Results = Mapping[str, Sequence[Mapping[str, Any]]]


def cells() -> dict[str, dict]:
    """Returns the settings of each search."""
    common = study.values(
        "dataset",
        "data_dir",
        "steps",
        "budget",
        "meta_iterations",
        "hypergradient",
        "prunes",
        "draws",
    )
    seeds = range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    return {
        f"{problem}_{way}_{seed}": common
        | {"problem": problem, "way": way, "seed": seed}
        for problem in dict.fromkeys(FLAGS.problems)
        for seed in seeds
        for way in ways_of(problem)
    }


def ways_of(problem: str) -> list[str]:
    """Returns the ways that there are for a problem."""
    return [way for way in WAYS if problem == "labels" or way != "clean"]


def cell(**settings) -> dict[str, Any]:
    """Runs one search."""
    from studies import search_outside_ways

    return search_outside_ways.search(**settings)


def table(results: Results, problem: str) -> list[dict]:
    """Returns a row for each way: means and deviations over seeds."""
    rows = []
    for way in ways_of(problem):
        found = results[f"{problem}_{way}"]

        def words(key: str, digits: int, found=found) -> str:
            means = [one[key].mean() for one in found]
            return study.mean_and_deviation(means, digits)

        def each(key: str, found=found) -> str:
            return ", ".join(str(one[key]) for one in found)

        rows.append(
            {
                "way": WAYS[way],
                "test loss": words("test_loss", 3),
                "test error, %": words("test_error", 1),
                "loss by which it was chosen": words("value", 3),
                "trials": each("trials"),
                "of them pruned": each("pruned"),
                "trainings spent": f"{_spent(found):.0f}",
                "s of processor": words("seconds", 0),
            }
        )
    return rows


def _spent(found) -> float:
    return np.mean([one["steps"] for one in found]) / FLAGS.steps


def chosen(results: Results, problem: str) -> list[dict]:
    """Returns what each search chose, a row for each seed."""
    return [
        {
            "way": way,
            "seed": FLAGS.first_seed + k,
            "net": f"{one['layers']} x {one['width']}, {one['activation']}",
            "optimizer": f"{one['optimizer']}({one['rate']:.2g})",
            "penalty": f"{one['penalty']:.2g}",
            "test error, %": f"{one['test_error'].mean():.1f}",
        }
        for way in ways_of(problem)
        for k, one in enumerate(results[f"{problem}_{way}"])
    ]


def draw(run, results: Results, problems: Sequence[str]) -> None:
    """Writes the picture of test errors, a point for each seed."""
    size = (1 + 3.6 * len(problems), 3.6)
    row = study.panels(1, len(problems), size)[0]
    for problem, axes in zip(problems, row, strict=True):
        ways = ways_of(problem)
        found = [results[f"{problem}_{way}"] for way in ways]
        errors = np.array(
            [[one["test_error"].mean() for one in own] for own in found]
        )
        axes.plot(ways, errors, "o", color="C0", alpha=0.5)
        axes.plot(ways, errors.mean(axis=1), "k_", markersize=24)
        axes.set_title(PROBLEMS[problem])
        axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
        axes.margins(x=0.15)
    row[0].set_ylabel("test error (%), on new draws")
    run.write_figure(row[0], "search_outside")


def main(_):
    run = study.begin("search_outside")
    settings = cells()
    results = study.by_seed(study.run_cells(run, cell, settings))
    problems = list(dict.fromkeys(FLAGS.problems))
    for problem in problems:
        print(f"\n**{PROBLEMS[problem]}**")
        study.report(run, table(results, problem), problem)
        study.report(run, chosen(results, problem), f"{problem}_chosen")
    draw(run, results, problems)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
