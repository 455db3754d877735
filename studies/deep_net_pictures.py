"""The pictures of the deep net's study."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker

from keras_drmad import plots
from studies.deep_net_report import (
    LABELS,
    rows_of,
    test_curves,
    trainings,
    tuned,
)
from studies.deep_net_trainings import KINDS

COLORS = {"drmad": "C0", "anchors": "C1", "exact": "C2", "grid": "0.4"}


def best_so_far(losses, values):
    """Returns the value at the lowest loss until each place, `(n,)`."""
    places = [int(np.nanargmin(losses[: k + 1])) for k in range(len(losses))]
    return np.asarray(values)[places]


def two_axes(title: str, xlabel: str):
    """Returns axes of test loss and test error."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    figure.suptitle(title)
    for one, name in zip(axes, ("test loss", "test error, %"), strict=True):
        one.set_xlabel(xlabel)
        one.set_ylabel(name)
    return axes


def legend_below(axes) -> None:
    """Puts one legend for all axes of a figure below them."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels)
    )


def draw_meta_iterations(run, found) -> None:
    """Writes what each training reached."""
    axes = two_axes(
        "The net of each meta-iteration, mean and deviation over seeds",
        "meta-iteration",
    )
    grid = found["grid"]
    best = [r["results"][np.nanargmin(r["results"][:, 0])] for r in grid]
    levels = np.mean(best, axis=0)[2:] * (1, 100)
    for k, one in enumerate(axes):
        for name in tuned(found):
            rows = test_curves(found[name])[k]
            plots.mean_and_band(
                np.arange(1, rows.shape[1] + 1),
                rows,
                one,
                LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        one.axhline(
            levels[k], color=COLORS["grid"], ls="--", label="best of the grid"
        )
        one.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    legend_below(axes[0])
    run.write_figure(axes[0], "meta_iterations")


def draw_cost(run, found) -> None:
    """Writes the test results of the best by validation, against the cost."""
    axes = two_axes(
        "Best so far by validation loss, against the cost",
        "cost, in plain trainings",
    )
    grid = found["grid"]
    for k, one in enumerate(axes):
        for name in tuned(found):
            records = found[name]
            losses = rows_of(records, "val_loss")
            pairs = zip(losses, test_curves(records)[k], strict=True)
            cost = trainings(records, grid).mean()
            plots.mean_and_band(
                cost * np.arange(1, losses.shape[1] + 1),
                np.array([best_so_far(*pair) for pair in pairs]),
                one,
                LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        found_by_grid = [
            best_so_far(r["results"][:, 0], r["results"][:, 2 + k])
            for r in grid
        ]
        plots.mean_and_band(
            np.arange(1, len(grid[0]["points"]) + 1),
            np.array(found_by_grid) * (1, 100)[k],
            one,
            "grid of one rate and one penalty",
            color=COLORS["grid"],
            marker=".",
        )
    legend_below(axes[0])
    run.write_figure(axes[0], "cost")


def draw_hyperparameters(run, found) -> None:
    """Writes the best penalties and rates of each layer, in order of depth."""
    figure, axes = plt.subplots(
        2, 1, figsize=(9, 7), sharex=True, layout="constrained"
    )
    one_record = found[tuned(found)[0]][0]
    figure.suptitle("What was learned for each layer, from first to last")
    for (kind, label), one in zip(KINDS.items(), axes, strict=True):
        for name in tuned(found):
            rows = [
                r[f"value_{kind}"][np.argmin(r["val_loss"])]
                for r in found[name]
            ]
            plots.mean_and_band(
                np.arange(len(rows[0])),
                np.array(rows),
                one,
                LABELS[name],
                log=True,
                color=COLORS[name],
                marker=".",
            )
        one.axhline(
            one_record[f"value_{kind}"][0, 0],
            color="0.4",
            ls=":",
            label="the start",
        )
        one.set_yscale("log")
        one.set_ylabel(label)
    layers = one_record["layers"]
    axes[1].set_xticks(
        np.arange(len(layers)), layers, rotation=90, fontsize="small"
    )
    legend_below(axes[0])
    run.write_figure(axes[0], "hyperparameters")
