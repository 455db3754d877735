"""The tables and the pictures of `studies/fidelity.py`."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from studies import study

Rows = Sequence[dict[str, Any]]
COLUMNS = ("cosine", "indirect", "signs", "norm", "gain", "time", "copies")
DIRECTIONS = ("others", "others_4", "sum", "cosine", "time", "copies")


# ---- the tables


def markdown(rows: Rows) -> str:
    """Returns the table of a problem: means and deviations over seeds."""
    return table(f"**{rows[0]['title']}**", rows, COLUMNS)


def ranking(rows: Rows) -> str:
    """Returns the table of directions, best to other draws first."""
    ceiling = rows[0]["ceiling"]
    title = f"**{rows[0]['title']}** (a perfect direction: {ceiling:.2f})"
    order = sorted(rows, key=lambda row: -mean_of(rows, row, "others"))
    return table(title, order, DIRECTIONS)


def summary(rows: Rows) -> str:
    """Returns one table for all problems, best to other draws first."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    scores: dict[str, dict[str, tuple[float, ...]]] = {}
    for row in rows:
        own = [r for r in rows if r["problem"] == row["problem"]]
        scores.setdefault(row["method"], {})[row["problem"]] = tuple(
            mean_of(own, row, name) for name in ("others", "others_4", "sum")
        )
    order = sorted(
        scores,
        key=lambda name: (
            -np.mean([three[0] for three in scores[name].values()])
        ),
    )
    head = ["one / four / sum", *(title_of(rows, name) for name in problems)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name in order:
        cells = [
            " / ".join(f"{value:.2f}" for value in scores[name][problem])
            if problem in scores[name]
            else "-"
            for problem in problems
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    ceilings = {row["problem"]: row["ceiling"] for row in rows}
    cells = [f"{ceilings[problem]:.2f}" for problem in problems]
    lines.append(f"| a perfect direction | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def title_of(rows: Rows, problem: str) -> str:
    """Returns what a problem is, in words."""
    return next(r["title"] for r in rows if r["problem"] == problem)


def mean_of(rows: Rows, one: dict[str, Any], name: str) -> float:
    """Returns the mean of a column over the seeds of one row's method."""
    method = one["method"]
    return float(np.mean([r[name] for r in rows if r["method"] == method]))


def table(title: str, rows: Rows, names: Sequence[str]) -> str:
    """Returns some columns, a line for each method in the order of the rows."""
    lines = [
        title,
        "",
        f"| method | {' | '.join(names)} |",
        f"| --- |{' --- |' * len(names)}",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [cell(name, [r[name] for r in own]) for name in names]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def cell(name: str, values: list[float]) -> str:
    """Returns a cell of the table, from the values of all seeds."""
    mean, spread = np.mean(values), np.std(values)
    if name == "copies":
        return f"{mean:,.0f}"
    if name in ("time", "sum"):
        return f"{mean:.2f}"
    if abs(mean) < 100:
        return f"{mean:.2f} ± {spread:.2f}"
    return f"{mean:.1e}"


# ---- the pictures


def draw_costs(run, rows: Rows) -> None:
    """Draws cost against cosine, a panel for each problem."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = min(3, len(problems))
    height = -(-len(problems) // columns)
    size = (4.6 * columns, 3.4 * height + 1)
    panels = study.panels(height, columns, size)
    for panel in panels.flat[len(problems) :]:
        panel.remove()
    shown: dict = {}  # labels and handles, one of each method
    for problem, panel in zip(problems, panels.flat, strict=False):
        draw_problem(
            [r for r in rows if r["problem"] == problem], methods, panel
        )
        handles, labels = panel.get_legend_handles_labels()
        shown |= zip(labels, handles, strict=True)
    for row in panels:
        row[0].set_ylabel("cosine to the exact hypergradient")
    panels[0, 0].figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=columns + 1,
        fontsize=8,
    )
    run.write_figure(panels[0, 0], "cost_against_cosine")


def draw_problem(rows: Rows, methods: list[str], panel) -> None:
    """Draws the rows of one problem.

    Args:
        rows: those of the problem.
        methods: names of all methods of the picture, which number the colors.
        panel: Matplotlib's axes.
    """
    for k, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        if not own:
            continue
        values = [row["cosine"] for row in own]
        panel.errorbar(
            np.mean([row["time"] for row in own]),
            np.mean(values),
            np.std(values),
            marker="os^Dv<>P"[k // 10 + k % 3],
            color=f"C{k % 10}",
            linestyle="none",
            label=method,
        )
    panel.set_title(textwrap.fill(rows[0]["title"], 50), fontsize=9)
    panel.set_xlabel("training and walk backward / training alone")
    lowest = min(row["cosine"] for row in rows)
    panel.set_ylim(min(-0.05, lowest - 0.05), 1.05)
    panel.set_xscale("log")
    panel.set_xticks([1, 1.5, 2, 3, 4, 6, 8])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.grid(alpha=0.3)


def draw_directions(run, rows: Rows) -> None:
    """Draws how near methods come to other draws, a panel a problem."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))[::-1]
    size = (2.2 + 2.6 * len(problems), 1.6 + 0.27 * len(methods))
    panels = study.panels(1, len(problems), size, sharey=True)[0]
    for problem, panel in zip(problems, panels, strict=True):
        own = [row for row in rows if row["problem"] == problem]
        for name, marker, label in (
            ("others", "o", "one training"),
            ("others_4", "D", "mean of four"),
        ):
            there = [(methods.index(r["method"]), r[name]) for r in own]
            places, values = zip(*there, strict=True)
            panel.plot(values, places, marker, alpha=0.6, label=label)
        panel.axvline(
            own[0]["ceiling"], color="0.4", ls=":", label="perfect direction"
        )
        panel.set_title(textwrap.fill(own[0]["title"], 30), fontsize=9)
        panel.set_xlabel("cosine to other draws")
        panel.grid(alpha=0.3)
    panels[0].set_yticks(range(len(methods)), methods)
    study.legend_below(panels[0])
    run.write_figure(panels[0], "other_draws")
