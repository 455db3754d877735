"""Rates and penalties of a deep net's layers, from starts far off.

    python -m studies.headroom --data_dir=FOLDER

`studies.deep_net` begins near the best of its grid, where little is left to
learn, and judges each way by the weights and batches of its tuning. Here each
layer of a deep net of dense layers has a learning rate and an L2 penalty, all
of which begin `--factors` times the usual ones, and what was found is judged on
new draws of weights and batches, the same for all ways.

By the exact hypergradient and by `DrMAD()`, with the meta-optimizer that is the
default. Beside them one rate and one penalty for all layers: the best of a grid
around the usual values, and the best trial of Optuna's TPE, by validation loss
on two draws. Each way spends at most `--budget` trainings, a step backward
counted as two forward.

Two more sets of values tell what stands in the way of a tuning: those of its
last meta-iteration, in place of the means that are kept; and one rate and one
penalty for all layers, the geometric means of those found.

Prints Markdown, writes tables and a picture; the same command goes on where it
was killed.
"""

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(["mnist", "digits"], seeds=2)
METHODS = ("exact", "DrMAD()")
flags.DEFINE_integer("first_seed", 1, "The first of them.", 0)
flags.DEFINE_list(
    "factors", ["0.1", "0.333", "3", "10"], "On rate and penalty, at first."
)
flags.DEFINE_multi_enum("methods", METHODS, METHODS, "Once for each method.")
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 2)
flags.DEFINE_integer("budget", 45, "What each way spends, in trainings.", 4)
flags.DEFINE_integer("draws", 10, "New draws on which all are judged.", 2)
flags.DEFINE_integer("hidden", 5, "Hidden layers.", 1)


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = study.values(
        "dataset", "data_dir", "steps", "budget", "draws", "hidden"
    )
    found = {}
    for seed in range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds):
        own = common | {"seed": seed}
        found[f"rivals_{seed}"] = own | {"kind": "rivals"}
        for factor in map(float, FLAGS.factors):
            for method in FLAGS.methods:
                name = f"{method.strip('()')}_{factor:g}_{seed}"
                found[name] = own | {"kind": method, "factor": factor}
    return found


def cell(**settings):
    """Runs one cell."""
    from studies import headroom_trainings

    return headroom_trainings.cell(**settings)


def gathered(records) -> dict[str, list[tuple[np.ndarray, float]]]:
    """Returns for each way, seed by seed, its values and what it spent.

    Args:
        records: what cells returned, seed by seed.
    """
    ways: dict[str, list] = {}
    for record in records:
        for name, values, spent in zip(
            record["names"], record["values"], record["spent"], strict=True
        ):
            ways.setdefault(str(name), []).append((values, float(spent)))
    return ways


def table(ways) -> list[dict]:
    """Returns means over draws, and deviations over seeds, for each way.

    Args:
        ways: of `gathered`.
    """
    grid = _errors(ways["best of the grid"])
    rows = []
    for name, each in ways.items():
        means = np.array([values.mean(axis=0) for values, _ in each])
        errors = _errors(each)
        difference = errors - grid  # of the same draws
        uncertain = difference.std(ddof=1) / np.sqrt(difference.size)
        over = 100 * difference.mean(axis=1) / grid.mean(axis=1)
        total = 100 * difference.mean() / grid.mean()
        uncertain *= 100 / grid.mean()
        rows.append(
            {
                "way": name,
                "test loss": study.mean_and_deviation(means[:, 0], 3),
                "test error, %": study.mean_and_deviation(means[:, 1], 2),
                "over the grid's error, %": f"{total:+.1f} ± {uncertain:.1f}",
                "in each seed": ", ".join(f"{one:+.1f}" for one in over),
                "worst draw, %": f"{errors.max():.1f}",
                "trainings spent": f"{np.mean([s for _, s in each]):.0f}",
            }
        )
    return rows


def _errors(each) -> np.ndarray:
    """Returns errors in percent, `(seeds, draws)`."""
    return np.array([values[:, 1] for values, _ in each])


def draw(run, results) -> None:
    """Draws losses and mean rates as trainings are spent, and rates found."""
    axes = study.panels(1, 3, (13, 4))[0]
    factors = [f"{float(factor):g}" for factor in FLAGS.factors]
    for name, record in results.items():
        if name.startswith("rivals"):
            axes[1].axhline(record["grid"][0], color="k", ls=":", lw=1)
            axes[2].axhline(record["grid"][0], color="k", ls=":", lw=1)
            continue
        method, factor, seed = name.split("_")
        style = {
            "color": f"C{factors.index(factor)}",
            "linestyle": "-" if method == "exact" else "--",
        }
        is_first = seed == str(FLAGS.first_seed)
        label = f"x {factor}, {method}" if is_first else None
        spent = np.cumsum(record["each"])
        axes[0].plot(spent, record["val_loss"], label=label, **style)
        axes[1].plot(spent, _mean(record["rates"]), **style)
        layers = range(1, 1 + len(record["found"]))
        axes[2].plot(layers, record["found"], **style)
    for one in axes[:2]:
        one.set(xlabel="trainings spent", yscale="log")
    axes[0].set_ylabel("validation loss")
    axes[1].set_ylabel("rate: geometric mean of layers")
    axes[2].set(xlabel="layer", ylabel="rate found", yscale="log")
    axes[2].set_title("dotted: the best of the grid", fontsize="medium")
    study.legend_below(axes[0], 4)
    run.write_figure(axes[0], "headroom")


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns geometric means over the last axis."""
    return np.exp(np.log(values).mean(axis=-1))


def found(results) -> list[dict]:
    """Returns what each cell ended with: means of rates and of penalties."""
    rows = []
    for name, record in results.items():
        pairs = {"": (record.get("found"), record.get("penalties"))}
        if name.startswith("rivals"):
            pairs = {f", {way}": record[way][:, None] for way in WAYS}
        for way, (rates, penalties) in pairs.items():
            rows.append(
                {
                    "cell": name + way,
                    "rate": f"{_mean(rates):.2g}",
                    "penalty": f"{_mean(penalties):.2g}",
                    "rates from": f"{rates.min():.2g}",
                    "to": f"{rates.max():.2g}",
                }
            )
    return rows


WAYS = ("grid", "tuner")


def main(_):
    run = study.begin("headroom")
    results = study.run_cells(run, cell, cells())
    study.report(run, table(gathered(results.values())), "results")
    study.report(run, found(results), "found")
    draw(run, results)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
