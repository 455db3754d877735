"""How near each method comes to the exact hypergradient, and at what cost.

    python -m studies.fidelity
    python -m studies.fidelity --problems=momentum_1 --problems=adam --seeds=1

For each problem, seed and method: the cosine of the angle to the exact
hypergradient (reverse mode in float64), of the whole and of the indirect part;
agreement of signs; the ratio of norms; how much one meta-step of fixed length
lowers the validation loss, over what the exact one's does; seconds over those
of the training alone; and copies of the state kept.

Besides, how near the method comes to other draws of weights and batches: each
seed has four trainings, and the cosine to the mean exact hypergradient of
`--other_draws` further ones is taken of each (their mean: `others`), and of the
mean of the four (`others_4`). `sum` is the part of these trainings in which the
sum of all entries has the sign that the further ones' sum has. `ceiling` is the
cosine that the mean of infinitely many draws would have to the mean of these:
what the best of all directions could reach.

Prints Markdown, and writes `table.md`, `other_draws.md`, `fidelity.csv` and two
pictures. Every problem has a process of its own: compiled programs of all are
too many for one.

The direct part is what a hyperparameter does in the last step alone, the
direction of `Truncated(1)`; the indirect part is the rest, orthogonal to it.
"""

import os
import pathlib
import warnings
from typing import Any

import numpy as np
from absl import app, flags, logging

from studies import study

FLAGS = flags.FLAGS
study.define_flags(seeds=3)

PROBLEMS = (
    "momentum_1",
    "momentum_2",
    "momentum_3",
    "adam",
    "rmsprop",
    "paper_1",
    "few",
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


def main(_):
    settings = cells()
    from studies import fidelity_report as report

    run = study.begin("fidelity")
    rows: list[dict[str, Any]] = []
    tables, rankings = [], []
    for columns in study.run_cells(run, measure, settings).values():
        entries = zip(*columns.values(), strict=True)
        own = [dict(zip(columns, row, strict=True)) for row in entries]
        tables.append(report.markdown(own))
        rankings.append(report.ranking(own))
        rows += own
    (run.folder / "table.md").write_text("\n".join(tables))
    rankings = [report.summary(rows), *rankings]
    (run.folder / "other_draws.md").write_text("\n".join(rankings))
    run.write_table(rows, "fidelity")
    report.draw_costs(run, rows)
    report.draw_directions(run, rows)
    print("\n".join([*tables, "# To other draws", "", *rankings]))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
