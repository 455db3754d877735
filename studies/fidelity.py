"""How near each method comes to the exact hypergradient, and at what cost.

    python -m studies.fidelity
    python -m studies.fidelity --problems=momentum_1 --problems=adam --seeds=1

For each problem, seed and method: the cosine of the angle to the exact
hypergradient (reverse mode in float64), of the whole and of the indirect part;
the cosine to the mean exact hypergradient of other draws of weights and
batches, of one training and of the mean over four; agreement of signs; the
ratio of norms; how much one meta-step of fixed length lowers the validation
loss, over what the exact one's does; seconds over those of the training alone;
and copies of the state kept. Prints Markdown, and writes `table.md`,
`fidelity.csv` and a picture of cost against cosine. Every problem has a process
of its own: compiled programs of all are too many for one.

The direct part is what a hyperparameter does in the last step alone, the
direction of `Truncated(1)`; the indirect part is the rest, orthogonal to it.
"""

import os
import pathlib
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

from studies import study

FLAGS = flags.FLAGS
study.define_flags(seeds=3)
Rows = Sequence[dict[str, Any]]

PROBLEMS = (
    "momentum_1",
    "momentum_2",
    "momentum_3",
    "adam",
    "rmsprop",
    "paper_1",
    "rates",
    "cnn",
    "omniglot",
)
flags.DEFINE_multi_enum(
    "problems", PROBLEMS, PROBLEMS, "Which problems; once for each."
)
flags.DEFINE_list(
    "rows", None, "Which methods, by their numbers in the table from 0; all."
)
flags.DEFINE_integer("divide_steps", 1, "Makes trainings shorter.", 1)
flags.DEFINE_integer(
    "other_draws", 6, "Of which the mean exact hypergradient is taken.", 1
)
flags.DEFINE_float("meta_step", 0.1, "Root mean square of the meta-step.", 0)


def measure(
    problem: str,
    data_dir: str,
    rows: list[int],
    seeds: int,
    divide_steps: int,
    meta_step: float,
    other_draws: int,
) -> dict[str, np.ndarray]:
    """Returns the columns of one problem, an entry for each method and seed."""
    from studies import fidelity_measurements as measurements
    from studies import fidelity_problems

    warnings.simplefilter("ignore", RuntimeWarning)  # walks cut short
    task = fidelity_problems.task(problem, data_dir)
    task = task._replace(T=max(10, task.T // divide_steps))
    bench = measurements.Bench(task, seeds, meta_step, other_draws)
    every = measurements.methods()
    names = [list(every)[k] for k in rows] if rows else list(every)
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(names):  # once each
        try:
            found += bench.rows(name, every[name])
        except ValueError as error:
            logging.info("%s, %s: %s", problem, name, error)
    return {key: np.array([row[key] for row in found]) for key in found[0]}


def cells() -> dict[str, dict]:
    """Returns the settings of each problem whose data exist."""
    data_dir = FLAGS.data_dir
    if data_dir is None:
        data_dir = os.environ.get("KERAS_DRMAD_DATA", "")
    problems = list(FLAGS.problems)
    is_there = pathlib.Path(data_dir, "omniglot28.npz").exists()
    if "omniglot" in problems and not (data_dir and is_there):
        logging.warning("No omniglot28.npz in --data_dir: left out.")
        problems.remove("omniglot")
    common = study.values("seeds", "divide_steps", "meta_step", "other_draws")
    common |= {"data_dir": data_dir, "rows": study.whole("rows")}
    return {problem: {**common, "problem": problem} for problem in problems}


# ---- the table


def markdown(rows: Rows) -> str:
    """Returns the table of a problem: means and deviations over seeds."""
    names = [
        *("cosine", "indirect", "others", "others_4"),
        *("signs", "norm", "gain", "time", "copies"),
    ]
    lines = [
        f"**{rows[0]['title']}**",
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
    if name == "time":
        return f"{mean:.2f}"
    if abs(mean) < 100:
        return f"{mean:.2f} ± {spread:.2f}"
    return f"{mean:.1e}"


# ---- the picture


def draw(run, rows: Rows) -> None:
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


def main(_):
    settings = cells()
    run = study.begin("fidelity")
    rows: list[dict[str, Any]] = []
    tables = []
    for columns in study.run_cells(run, measure, settings).values():
        entries = zip(*columns.values(), strict=True)
        own = [dict(zip(columns, row, strict=True)) for row in entries]
        tables.append(markdown(own))
        rows += own
    (run.folder / "table.md").write_text("\n".join(tables))
    run.write_table(rows, "fidelity")
    draw(run, rows)
    print("\n".join(tables))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
