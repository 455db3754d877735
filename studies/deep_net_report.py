"""The table and the pictures of the deep net's study."""

import numpy as np

from keras_drmad import plots
from studies import study
from studies.deep_net_trainings import KINDS
from studies.study import mean_and_deviation

COLORS = {"drmad": "C0", "anchors": "C1", "exact": "C2", "grid": "0.4"}
LABELS = {
    "drmad": "DrMAD, the paper's line",
    "anchors": "DrMAD, 39 lines, R = T",
    "exact": "exact, checkpointed",
    "last_tenth": "DrMAD(last=0.1)",
    "anchors_last": "DrMAD, 39 lines, last 0.3",
}


def tuned(found) -> list[str]:
    """Returns the names of the methods that tuned, not compared only."""
    return [name for name, records in found.items() if "final" in records[0]]


def rows_of(records, name: str):
    """Returns `(seeds, meta_iterations)`; nan where a training diverged."""
    longest = max(len(record[name]) for record in records)
    rows = np.full((len(records), longest), np.nan)
    for row, record in zip(rows, records, strict=True):
        row[: len(record[name])] = record[name]
    return rows


def test_curves(records):
    """Returns `(seeds, meta_iterations)` of test losses, and of errors."""
    return (
        rows_of(records, "test_loss"),
        100 * (1 - rows_of(records, "test_accuracy")),
    )


def trainings(records, grid):
    """Returns the cost of each meta-iteration, in trainings, by seed.

    The median over meta-iterations, without what compiling took once.
    """
    return np.array(
        [
            np.median(record["seconds"]) / np.median(plain["seconds"])
            for record, plain in zip(records, grid, strict=True)
        ]
    )


def row(method: str, records, found) -> dict[str, str]:
    """Returns the row of a method in the table."""
    best = [int(np.argmin(r["val_loss"])) for r in records]
    tunes = method in tuned(found)

    def change(values, digits):
        first = mean_and_deviation([v[0] for v in values], digits)
        last = mean_and_deviation(
            [v[k] for v, k in zip(values, best, strict=True)], digits
        )
        return f"{first} → {last}" if tunes else "-"

    errors = [100 * (1 - r["test_accuracy"]) for r in records]
    exact = found.get("exact", records)
    counts = [len(r["val_loss"]) for r in records]
    cost = counts * trainings(records, found["grid"])
    growth = np.concatenate([r["adjoint_growth"] for r in records])
    used = np.concatenate([r["reverse_steps_used"] for r in records])
    return {
        "method": LABELS[method],
        "validation loss": change([r["val_loss"] for r in records], 3),
        "test loss": change([r["test_loss"] for r in records], 3),
        "test error, %": change(errors, 1),
        "final test error, %": (
            mean_and_deviation([100 * r["final"][1] for r in records], 1)
            if tunes
            else "-"
        ),
        "cost, trainings": mean_and_deviation(cost, 1) if tunes else "-",
        "memory, copies": f"{records[0]['copies'][0]:.0f}",
        **{
            f"cosine, {kind}": mean_and_deviation(
                [
                    study.cosine(r[f"first_{kind}"], e[f"first_{kind}"])
                    for r, e in zip(records, exact, strict=True)
                ],
                2,
            )
            for kind in KINDS
        },
        "adjoint growth": f"{growth.min():.3g} to {growth.max():.3g}",
        "reverse steps": f"{used.min():.0f} to {used.max():.0f}",
    }


def plain_rows(grid, columns) -> list[dict[str, str]]:
    """Returns the rows of the start and of the grid's best point."""
    best = [int(np.nanargmin(r["results"][:, 0])) for r in grid]
    found = []
    for name, places, cost in (
        ("start", [0] * len(grid), 1),
        ("best", best, len(grid[0]["points"])),
    ):
        chosen = np.array(
            [r["results"][k] for r, k in zip(grid, places, strict=True)]
        )
        label = "the start" if name == "start" else "best of the grid"
        finals = [100 * r[f"final_{name}"][1] for r in grid]
        found.append(
            dict.fromkeys(columns, "-")
            | {
                "method": label,
                "validation loss": mean_and_deviation(chosen[:, 0]),
                "test loss": mean_and_deviation(chosen[:, 2]),
                "test error, %": mean_and_deviation(100 * chosen[:, 3], 1),
                "final test error, %": mean_and_deviation(finals, 1),
                "cost, trainings": str(cost),
            }
        )
    return found


def table(found) -> list[dict[str, str]]:
    """Returns the rows of the table."""
    ways = [
        row(name, records, found)
        for name, records in found.items()
        if name != "grid"
    ]
    return plain_rows(found["grid"], ways[0]) + ways


# ---- pictures


def two_axes(title: str, xlabel: str):
    """Returns axes of test loss and test error."""
    (axes,) = study.panels(1, 2, (10, 4.5))
    axes[0].figure.suptitle(title)
    for one, name in zip(axes, ("test loss", "test error, %"), strict=True):
        one.set_xlabel(xlabel)
        one.set_ylabel(name)
    return axes


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
                axes=one,
                label=LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        one.axhline(
            levels[k], color=COLORS["grid"], ls="--", label="best of the grid"
        )
        study.number_meta_iterations(one)
    study.legend_below(axes[0])
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
                np.array([study.best_so_far(*pair) for pair in pairs]),
                axes=one,
                label=LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        found_by_grid = [
            study.best_so_far(r["results"][:, 0], r["results"][:, 2 + k])
            for r in grid
        ]
        plots.mean_and_band(
            np.arange(1, len(grid[0]["points"]) + 1),
            np.array(found_by_grid) * (1, 100)[k],
            axes=one,
            label="grid of one rate and one penalty",
            color=COLORS["grid"],
            marker=".",
        )
    study.legend_below(axes[0])
    run.write_figure(axes[0], "cost")


def draw_hyperparameters(run, found) -> None:
    """Writes the best penalties and rates of each layer, in order of depth."""
    axes = study.panels(2, 1, (9, 7), sharex=True)[:, 0]
    one_record = found[tuned(found)[0]][0]
    axes[0].figure.suptitle(
        "What was learned for each layer, from first to last"
    )
    for (kind, label), one in zip(KINDS.items(), axes, strict=True):
        for name in tuned(found):
            rows = [
                r[f"value_{kind}"][np.argmin(r["val_loss"])]
                for r in found[name]
            ]
            plots.mean_and_band(
                np.arange(len(rows[0])),
                np.array(rows),
                axes=one,
                label=LABELS[name],
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
    study.legend_below(axes[0])
    run.write_figure(axes[0], "hyperparameters")
