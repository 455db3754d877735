"""Compares gradients with KerasTuner, at one budget of elementary steps.

    python -m studies.against_tuners --data_dir=FOLDER --run_name=mnist

Tunes 1, 4, 20 and 934 L2 coefficients of the paper's 784-50-50-50-10 net: one
for all weights, one for each layer, for each of five groups of every layer's
inputs, for each input. DrMAD and exact reverse mode, against KerasTuner's
`RandomSearch` and `BayesianOptimization`. Fu et al. say that Bayesian
optimization serves up to about 20 hyperparameters.

All train alike: T steps on 1,000 images, with the same weights, order of data
and compiled loop for all methods of a seed. With so few images a penalty
matters: the best single one, 0.003, takes the validation loss of seed 100 from
0.69 to 0.62; with 15,000 the best one is none. All coefficients lie in [1e-6,
0.1] and start at its geometric middle, which is the tuners' first trial. The
tuners see the validation loss only.

What is spent are forward steps, and for each reverse step `REVERSE_COST`. By
KerasTuner's default Bayesian optimization begins with three random trials for
each hyperparameter, which within such a budget is random search for 20 or
more: here it begins with 10 trials at most.

The "s of search" are all of processor time but those of forward steps: walks
back, a Gaussian process and its suggestions, validation (the same for all); no
compilation. A search that took `--search_minutes` of them ends. `--meta_step`,
for all counts and both gradients, was chosen by a look at seed 100.

The same command goes on where it was killed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from examples import datasets
from studies import study

FLAGS = flags.FLAGS
study.define_flags(["mnist", "digits"], seeds=3)

LABELS = {
    "drmad": "DrMAD",
    "reverse": "exact reverse mode",
    "random": "RandomSearch",
    "bayesian": "BayesianOptimization",
}
flags.DEFINE_multi_enum(
    "methods", list(LABELS), list(LABELS), "Which; once for each."
)
flags.DEFINE_list(
    "counts",
    ["1", "4", "20", "934"],
    "Numbers of coefficients: 1, a multiple of the 4 layers, or all inputs.",
)
flags.DEFINE_integer("first_seed", 0, "The first of them.", 0)
flags.DEFINE_integer("steps", 2000, "T, elementary steps of a training.", 10)
flags.DEFINE_integer("budget", 32, "What is spent, in trainings.", 2)
flags.DEFINE_float("meta_step", 0.3, "Step of the log coefficients.", 0)
flags.DEFINE_float(
    "search_minutes", 3, "Most processor time outside of trainings.", 0
)


# From a method and its number of coefficients to what `search` returned for
# each seed.
Results = Mapping[tuple, Sequence[Mapping[str, Any]]]


def draw(run, results: Results) -> None:
    """Writes the picture of losses against steps spent."""
    counts = sorted({count for _, count in results})
    size = (1 + 3.2 * len(counts), 6.5)
    panels = study.panels(2, len(counts), size, sharex=True, sharey="row")
    for (method, count), cells in results.items():
        column = panels[:, counts.index(count)]
        color = f"C{list(LABELS).index(method)}"
        _draw_cells(column, cells, LABELS[method], color)
    for count, axes in zip(counts, panels[0], strict=True):
        axes.set_title(f"{count} coefficient{'s' if count > 1 else ''}")
    for axes in panels[1]:
        axes.set_xlabel("thousands of elementary steps spent")
    panels[0, 0].set_ylabel("best validation loss so far")
    panels[1, 0].set_ylabel("test loss of the same training")
    panels[0, 0].figure.suptitle(
        "Best of all trainings so far: mean and standard deviation over seeds; "
        "dots where searches end"
    )
    study.legend_below(panels[0, 0])
    run.write_figure(panels[0, 0], "losses_against_steps")


def _draw_cells(column, cells, label: str, color: str) -> None:
    """Draws validation and test losses of one method, a panel for each."""
    from keras_drmad import plots

    ends = [cell["steps"][-1] for cell in cells]
    grid = np.linspace(cells[0]["steps"][0], min(ends), 400)
    for key, axes in zip(("val_loss", "test_loss"), column, strict=True):
        rows = [
            study.best_so_far(cell["val_loss"], cell[key])[
                np.searchsorted(cell["steps"], grid, side="right") - 1
            ]
            for cell in cells
        ]
        plots.mean_and_band(
            grid / 1000, np.array(rows), axes=axes, label=label, color=color
        )
        axes.plot(grid[-1] / 1000, np.mean(rows, 0)[-1], "o", color=color)


def table(results: Results) -> list[dict]:
    """Returns means and standard deviations over seeds, at the end."""
    begun = [
        {key: values[:1] for key, values in cell.items()}
        for cell in next(iter(results.values()))
    ]
    return [_row("any", "the start", begun)] + [
        _row(count, LABELS[method], cells)
        for (method, count), cells in results.items()
    ]


def _row(count, method: str, cells) -> dict[str, Any]:
    """Returns one row of the table."""

    def words(key: str, digits: int, factor: float = 1) -> str:
        values = [
            factor * study.best_so_far(cell["val_loss"], cell[key])[-1]
            for cell in cells
        ]
        return study.mean_and_deviation(values, digits)

    lengths = sorted({len(cell["steps"]) for cell in cells})
    seconds = [cell["search_seconds"][-1] for cell in cells]
    return {
        "coefficients": count,
        "method": method,
        "trainings": " to ".join(map(str, lengths[:1] + lengths[1:][-1:])),
        "validation loss": words("val_loss", 4),
        "test loss": words("test_loss", 4),
        "validation error, %": words("val_error", 2, 100),
        "test error, %": words("test_error", 2, 100),
        "s of search": f"{np.mean(seconds):.0f}",
    }


def cells(seeds: Sequence[int]) -> dict[str, dict]:
    """Returns the settings of each search."""
    common = study.values(
        "dataset", "data_dir", "steps", "budget", "meta_step", "search_minutes"
    )
    return {
        f"{method}_{count}_{seed}": common
        | {"method": method, "count": count, "seed": seed}
        for count in study.whole("counts")
        for method in FLAGS.methods
        for seed in seeds
    }


def main(_):
    from studies import against_tuners_searches as searches
    from studies.grouped_l2 import groups_of_rows

    data = FLAGS.dataset, FLAGS.data_dir
    images = datasets.load(*data, searches.SIZES[FLAGS.dataset], 0)  # or error
    rows = [math.prod(images.shape), *searches.HIDDEN]
    for count in study.whole("counts"):
        groups_of_rows(rows, count)
    run = study.begin("against_tuners")
    seeds = range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    found = study.run_cells(run, searches.search, cells(seeds))
    by_seed = study.by_seed(found)
    results = {
        (method, count): by_seed[f"{method}_{count}"]
        for count in study.whole("counts")
        for method in FLAGS.methods
    }
    draw(run, results)
    study.report(run, table(results), "results")


if __name__ == "__main__":
    app.run(main)
