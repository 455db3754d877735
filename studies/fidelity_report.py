"""The rows of `studies/fidelity.py`: kept, as a table and as a picture.

Imports no TensorFlow: the program that starts the others needs none.
"""

import csv
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt


class Row(NamedTuple):
    """What was measured of one method, problem and seed."""

    problem: str
    title: str
    method: str
    seed: int
    cosine: float
    indirect: float
    signs: float
    norm: float
    gain: float
    time: float
    copies: float


def write(folder: pathlib.Path, rows: list[Row]) -> None:
    """Writes table.md, fidelity.csv and the picture."""
    problems = dict.fromkeys(row.problem for row in rows)
    tables = [markdown([r for r in rows if r.problem == p]) for p in problems]
    (folder / "table.md").write_text("\n".join(tables))
    with open(folder / "fidelity.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    draw(rows, folder / "cost_against_cosine.png")


def read(path: pathlib.Path) -> list[Row]:
    """Returns the rows that `write` wrote."""
    kinds = Row.__annotations__.values()
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [
        Row(*(kind(x) for kind, x in zip(kinds, row, strict=True)))
        for row in rows
    ]


# ---- the table


def markdown(rows: list[Row]) -> str:
    """Returns the table of a problem: means and deviations over seeds."""
    names = ("cosine", "indirect", "signs", "norm", "gain", "time", "copies")
    lines = [
        f"**{rows[0].title}**",
        "",
        f"| method | {' | '.join(names)} |",
        f"| --- |{' --- |' * len(names)}",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        cells = [cell(name, [getattr(r, name) for r in own]) for name in names]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def cell(name: str, values: list[float]) -> str:
    """Returns a cell of the table, from the values of all seeds."""
    mean, spread = np.mean(values), np.std(values)
    if name == "copies":
        return f"{mean:,.0f}"
    if name == "time":
        return f"{mean:.2f}"
    if abs(mean) < 100:
        return f"{mean:.2f} ± {spread:.2f}"
    return f"{mean:.1e}"


# ---- the picture


def draw(rows: list[Row], path: pathlib.Path) -> None:
    """Draws cost against cosine, a panel for each problem."""
    problems = list(dict.fromkeys(row.problem for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    columns = min(3, len(problems))
    height = -(-len(problems) // columns)
    figure, panels = plt.subplots(
        height,
        columns,
        figsize=(4.6 * columns, 3.4 * height + 1),
        squeeze=False,
        layout="constrained",
    )
    for panel in panels.flat[len(problems) :]:
        panel.remove()
    shown: dict = {}  # labels and handles, one of each method
    for problem, panel in zip(problems, panels.flat, strict=False):
        draw_problem([r for r in rows if r.problem == problem], methods, panel)
        handles, labels = panel.get_legend_handles_labels()
        shown |= zip(labels, handles, strict=True)
    for row in panels:
        row[0].set_ylabel("cosine to the exact hypergradient")
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=columns + 1,
        fontsize=8,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_problem(rows: list[Row], methods: list[str], panel) -> None:
    """Draws the rows of one problem.

    Args:
        rows: those of the problem.
        methods: names of all methods of the picture, which number the colors.
        panel: Matplotlib's axes.
    """
    for k, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        if not own:
            continue
        values = [row.cosine for row in own]
        panel.errorbar(
            np.mean([row.time for row in own]),
            np.mean(values),
            np.std(values),
            marker="os^Dv<>P"[k // 10 + k % 3],
            color=f"C{k % 10}",
            linestyle="none",
            label=method,
        )
    panel.set_title(textwrap.fill(rows[0].title, 50), fontsize=9)
    panel.set_xlabel("training and way back / training alone")
    lowest = min(row.cosine for row in rows)
    panel.set_ylim(min(-0.05, lowest - 0.05), 1.05)
    panel.set_xscale("log")
    panel.set_xticks([1, 1.5, 2, 3, 4, 6, 8])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.grid(alpha=0.3)
