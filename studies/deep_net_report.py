"""The table of the deep net's study."""

import numpy as np

from studies.deep_net_trainings import KINDS
from studies.study import mean_and_deviation

LABELS = {
    "drmad": "DrMAD, the paper's line",
    "anchors": "DrMAD, 39 lines, R = T",
    "exact": "exact, checkpointed",
    "last_tenth": "DrMAD(last=0.1)",
    "anchors_last": "DrMAD, 39 lines, last 0.3",
}


def by_method(results) -> dict[str, list]:
    """Returns the records of each method, and of the grid, in order of seeds.

    Args:
        results: dict from "<method>_<seed>" to records, the seeds ascending.
    """
    found: dict[str, list] = {}
    for name, record in results.items():
        found.setdefault(name.rpartition("_")[0], []).append(record)
    return found


def tuned(found) -> list[str]:
    """Returns the names of the ways back that tuned, not compared only."""
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


def cosine(a, b) -> float:
    """Returns the cosine of the angle between two vectors; nan for 0."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else float("nan")


def row(method: str, records, found) -> dict[str, str]:
    """Returns the row of a way back in the table."""
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
                    cosine(r[f"first_{kind}"], e[f"first_{kind}"])
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
