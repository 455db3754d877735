"""A penalty for each column of wide tables, against one penalty and others.

    python -m studies.wide_tables --run_name=again

Of each table: nets (linear models, where the problem is linear) with a penalty
for each column, tuned by `fit` on a new draw of weights and of the half that
validates for each training; with one penalty for all columns, of a grid by the
mean validation loss of as many halves as `--draws`; without penalties; on the
first columns of a random forest (nets), as many as validate best; and
scikit-learn's, whose cross-validation has the same rows. What each way found is
then trained with on all rows, from `--draws` new draws of weights, and judged
by test rows that nothing saw.

Columns: test loss (log loss; mean squared error, of targets with a variance of
1), test error, the area under the ROC curve by which penalties (scikit-learn:
coefficients, importances) find the columns that matter, how many of them are
among as many first ones, and seconds of the processor. The same command goes on
where it was killed.
"""

import time

import numpy as np
from absl import app, flags
from matplotlib import ticker

from examples import tables
from studies import study
from studies import wide_tables_problems as problems

FLAGS = flags.FLAGS
study.define_flags(seeds=5)
flags.DEFINE_multi_enum(
    "problems",
    [name for name in problems.PROBLEMS if name != "digits"],
    list(problems.PROBLEMS),
    "Of the tables; once for each.",
)
flags.DEFINE_integer("first_seed", 10, "Of all seeds.", 0)
flags.DEFINE_integer(
    "steps", None, "T, elementary steps; 800 for nets, else 400 by default.", 1
)
flags.DEFINE_integer(
    "meta_iterations", None, "Trainings of a tuning; 40, or 20 by default.", 1
)
flags.DEFINE_integer("draws", 3, "New draws, to choose and judge by.", 2)

NOTHING = 1e-6  # as good as no penalty
GRID = (NOTHING, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
PLAIN, TUNED = "no penalty", "a penalty a column"
LASSO, RIGHT = "on the lasso's columns", "on the right columns"
FOREST, COUNTS = "on the forest's first columns", (5, 10, 20, 40, 80)
# Ways that know the test rows, or which columns matter.
UNFAIR = ("best by test", RIGHT)


class Bench:
    """A draw of a problem, and what was measured on it."""

    def __init__(self, name: str, seed: int, steps: int, draws: int):
        """Draws the table."""
        self.table = tables.load(name, seed)
        self.name, self.seed, self.draws = name, seed, draws
        self.training = {"batch_size": 50, "steps_per_epoch": steps}
        self.problem = problems.PROBLEMS[name]
        self.found: dict[str, list[float]] = {}

    def check(self, model, values, x, y, **options):
        """Trains with each of some penalties, on the same new draws.

        Args:
            model: the model, tuned.
            values: dict from names to penalties, a number or `(columns,)`.
            x: rows.
            y: targets.
            **options: of `check_hyperparameters`.

        Returns:
            Dict from the names to means, by their names as logs have them.
        """
        (kind,) = model.hyperparameters
        shape = kind.value().shape
        results = model.check_hyperparameters(
            x,
            y,
            **self.training,
            draws=self.draws,
            others={
                key: {kind.name: np.broadcast_to(value, shape)}
                for key, value in values.items()
            },
            seed=self.seed,
            verbose=0,
            **options,
        ).results
        return {
            key: {log: np.mean(each) for log, each in results[key].items()}
            for key in values
        }

    def judge(self, model, values, seconds=0.0, relevance=None, only=None):
        """Keeps the scores of penalties on test rows, trained on all rows.

        Args:
            model: the model, tuned.
            values: as for `check`.
            seconds: float, that it took to find them.
            relevance: `(columns,)`, larger for a column that is held to
                matter more.
            only: `(columns,)` bool, the columns that a net sees, the others
                being 0.
        """
        only = np.True_ if only is None else only
        (x, y), (x_test, y_test) = self.table.train, self.table.test
        test = x_test * only, y_test
        means = self.check(model, values, x * only, y, validation_data=test)
        for key, logs in means.items():
            error = 100 * (1 - logs.get("val_accuracy", np.nan))
            areas = self.areas(relevance)
            self.found[key] = [logs["val_loss"], error, *areas, seconds]
        return means

    def areas(self, relevance) -> tuple[float, float]:
        """Returns how well the columns that matter are found."""
        from sklearn import metrics

        if relevance is None:
            return np.nan, np.nan
        matters = self.table.matters
        area = metrics.roc_auc_score(matters, relevance)
        return area, tables.found_first(relevance, matters)


def measure(
    name: str,
    seed: int,
    steps: int | None,
    meta_iterations: int | None,
    draws: int,
) -> dict[str, np.ndarray]:
    """Returns `names`, `scores` `(names, scores)`, and the penalties found."""
    import keras

    problem = problems.PROBLEMS[name]
    steps = steps or problem.steps
    meta_iterations = meta_iterations or problem.meta_iterations
    bench = Bench(name, seed, steps, draws)
    keras.utils.set_random_seed(seed)
    lasso = use_rivals(bench)
    keras.utils.set_random_seed(seed)
    # Two models to compile for nets, for which an L1 penalty may be better.
    kinds = dict.fromkeys((problem.kind, "L1"))
    for kind in kinds:
        model = problems.model(name, kind, steps)
        begin = time.process_time()
        model.fit(
            *bench.table.train,
            **bench.training,
            validation_split=0.5,
            meta_iterations=meta_iterations if kind == problem.kind else 1,
            seed=seed,
            verbose=0,
        )
        seconds = time.process_time() - begin
        if kind == problem.kind:
            penalties = np.ravel(model.hyperparameters[0].value())
            bench.judge(model, {TUNED: penalties}, seconds, -penalties)
            for key, only in (LASSO, lasso), (RIGHT, bench.table.matters):
                bench.judge(model, {key: NOTHING}, only=only)
        use_grid(bench, model, kind)
    names = list(bench.found)
    return {
        "names": np.array(names),
        "scores": np.array([bench.found[key] for key in names]),
        "penalties": penalties,
    }


def measure_forest(
    name: str, seed: int, steps: int | None, draws: int
) -> dict[str, np.ndarray]:
    """Returns `names` and `scores` of nets on the first columns of a forest.

    How many of them are chosen by the mean validation loss of new halves; the
    forest itself has seen all training rows.
    """
    import keras

    problem = problems.PROBLEMS[name]
    bench = Bench(name, seed, steps or problem.steps, draws)
    x, y = bench.table.train
    begin = time.process_time()
    (forest,) = tables.fit_rivals(bench.table, ["random forest"]).values()
    relevance = forest.relevance
    keras.utils.set_random_seed(seed)
    model = problems.model(name, problem.kind, steps or problem.steps)
    options = {"validation_split": 0.5}
    # So that there are values to compare with.
    model.fit(x, y, **bench.training, **options, meta_iterations=1, verbose=0)
    losses = {}
    for count in COUNTS:
        only = relevance >= np.sort(relevance)[-count]
        means = bench.check(model, {"all": NOTHING}, x * only, y, **options)
        losses[count] = means["all"]["val_loss"]
    best = min(losses, key=lambda count: losses[count])
    seconds = time.process_time() - begin
    only = relevance >= np.sort(relevance)[-best]
    bench.judge(model, {FOREST: NOTHING}, seconds, only=only)
    return {
        "names": np.array([FOREST]),
        "scores": np.array([bench.found[FOREST]]),
        "count": np.array(best),
    }


def use_grid(bench: Bench, model, kind: str) -> None:
    """Keeps the scores of one penalty, as validation and tests choose it."""
    grid = {str(value): value for value in GRID}
    begin = time.process_time()
    means = bench.check(model, grid, *bench.table.train, validation_split=0.5)
    best = min(grid, key=lambda key: means[key]["val_loss"])
    seconds = time.process_time() - begin
    bench.judge(model, grid)
    each = {key: bench.found.pop(key) for key in grid}
    bench.found.setdefault(PLAIN, each[str(NOTHING)])
    bench.found[f"one {kind}"] = [*each[best][:-1], seconds]
    lowest = min(each.values())
    bench.found[f"one {kind}, best by test"] = [*lowest[:-1], np.nan]


def use_rivals(bench: Bench) -> np.ndarray:
    """Keeps the scores of scikit-learn's; returns the lasso's columns."""
    for key, fitted in tables.fit_rivals(bench.table).items():
        areas = bench.areas(fitted.relevance)
        scores = [fitted.loss, fitted.error, *areas, fitted.seconds]
        bench.found[key] = scores
        if key.startswith("lasso"):
            kept = fitted.relevance > 0
    return kept


# ---- tables and pictures


def rows(name: str, records) -> list[dict[str, str]]:
    """Returns the rows of a problem: means, deviations, and each seed."""
    scores = np.array([record["scores"] for record in records])
    names = records[0]["names"].tolist()
    tuned = scores[:, names.index(TUNED), 0]
    table = []
    for k in np.argsort(scores[:, :, 0].mean(0)):
        loss, error, area, found, seconds = scores[:, k].T
        wins = f"{np.sum(tuned < loss)} of {len(loss)}"
        table.append(
            {
                "table": name,
                "way": names[k],
                "test loss": study.mean_and_deviation(loss),
                "ours is lower in": wins if names[k] != TUNED else "",
                "test error, %": _known(error, 1),
                "area": _known(area, 3),
                "found": _known(found, 1),
                "seconds": f"{np.mean(seconds):.1f}"
                if np.all(seconds > 0)
                else "",
                "each loss": ", ".join(f"{value:.3f}" for value in loss),
            }
        )
    return table


def _known(values: np.ndarray, digits: int) -> str:
    """Returns mean ± deviation, or nothing where there are no numbers."""
    if np.isnan(values).any():
        return ""
    return study.mean_and_deviation(values, digits)


def panels(count: int, columns: int, width: float) -> list:
    """Returns the axes of some panels in rows."""
    columns = min(count, columns)
    rows = -(-count // columns)
    size = (columns * width, rows * 3.3)
    axes = study.panels(rows, columns, size).ravel()
    for one in axes[count:]:
        one.set_axis_off()
    return list(axes[:count])


def draw_losses(run, found) -> None:
    """Draws the test losses of all ways, a point for each seed."""
    axes = panels(len(found), 2, 6.5)
    for one, (name, records) in zip(axes, found.items(), strict=True):
        names = records[0]["names"].tolist()
        losses = np.array([record["scores"][:, 0] for record in records])
        order = np.argsort(-losses.mean(0))
        for place, k in enumerate(order):
            is_unfair = names[k].endswith(UNFAIR)
            color = "C0" if names[k] == TUNED else "0.75" if is_unfair else "C1"
            here = np.full(len(losses), place)
            one.plot(losses[:, k], here, ".", color=color, alpha=0.6)
            one.plot(losses[:, k].mean(), place, "|", color=color, ms=16, mew=2)
        one.set_yticks(range(len(order)), [names[k] for k in order])
        one.set(title=name, xscale="log")
        one.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 4)))
        one.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        one.xaxis.set_minor_formatter(ticker.NullFormatter())
        one.set_xlabel("test loss of each seed, and their mean")
        one.grid(axis="x", which="both", alpha=0.3)
    run.write_figure(axes[0], "test_losses")


def draw_penalties(run, found) -> None:
    """Draws the penalties of the first seed, of columns in order."""
    axes = panels(len(found), 2, 4.5)
    for one, (name, records) in zip(axes, found.items(), strict=True):
        penalties, problem = records[0]["penalties"], problems.PROBLEMS[name]
        order = np.argsort(penalties)
        matters = order < tables.SIZES[name][1]
        place = np.arange(len(order))
        for label, are, color in (
            ("that do not", ~matters, "0.7"),
            ("columns that matter", matters, "C0"),
        ):
            here = place[are], penalties[order][are]
            one.plot(*here, ".", color=color, label=label)
        one.axhline(problem.initial, ls=":", color="k", lw=1)
        one.set(yscale="log", title=name, ylabel="penalty (dotted: at first)")
        one.set_xlabel("columns, by their penalty")
    axes[0].legend(reverse=True)
    run.write_figure(axes[0], "penalties")


def main(_):
    run = study.begin("wide_tables")
    common = study.values("steps", "draws")
    tuned = common | study.values("meta_iterations")
    each = [
        (name, seed)
        for name in FLAGS.problems
        for seed in range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    ]
    cells = {
        f"{name}_{seed}": tuned | {"name": name, "seed": seed}
        for name, seed in each
    }
    found = study.by_seed(study.run_cells(run, measure, cells))
    cells = {
        f"{name}_forest_{seed}": common | {"name": name, "seed": seed}
        for name, seed in each
        if problems.PROBLEMS[name].hidden
    }
    of_forests = study.by_seed(study.run_cells(run, measure_forest, cells))
    for key, others in of_forests.items():
        records = found[key.removesuffix("_forest")]
        for record, other in zip(records, others, strict=True):
            for part in "names", "scores":
                record[part] = np.concatenate([record[part], other[part]])
    draw_losses(run, found)
    draw_penalties(run, found)
    study.report(run, [r for n in found for r in rows(n, found[n])], "results")


if __name__ == "__main__":
    app.run(main)
