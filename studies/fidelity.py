"""How near each way back comes to the exact hypergradient, and at what cost.

    python -m studies.fidelity
    python -m studies.fidelity --problems=momentum_1,adam --seeds=1

For each problem, seed and method: the cosine of the angle to the exact
hypergradient (reverse mode in float64), of the whole and of the indirect part;
agreement of signs; the ratio of norms; how much one meta-step of fixed length
lowers the validation loss, over what the exact one's does; seconds over those
of the training alone; and copies of the state kept. Prints Markdown, and writes
`table.md`, `fidelity.csv` and a picture of cost against cosine.

The direct part is what a hyperparameter does in the last step alone, the
direction of `Truncated(1)`; the indirect part is the rest, orthogonal to it.
"""

import os
import pathlib
import subprocess
import sys
import warnings

from absl import app, flags, logging

FLAGS = flags.FLAGS

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
flags.DEFINE_list("problems", list(PROBLEMS), "Which problems.")
flags.DEFINE_list(
    "rows", None, "Which methods, by their numbers in the table from 0; all."
)
flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
flags.DEFINE_integer("divide_steps", 1, "Makes trainings shorter.", 1)
flags.DEFINE_float("meta_step", 0.1, "Root mean square of the meta-step.", 0)
flags.DEFINE_string(
    "data_dir",
    os.environ.get("KERAS_DRMAD_DATA"),
    "Folder with mnist.npz and omniglot28.npz; KERAS_DRMAD_DATA by default. "
    "Without them: scikit-learn's digits, and no Omniglot.",
)
flags.DEFINE_string("output", "saved_runs/fidelity", "Folder of the results.")


def measure(problem: str) -> list:
    """Returns the rows of one problem.

    Raises:
        ValueError: if there is none of that name.
    """
    from studies import fidelity_measurements, fidelity_problems

    if problem not in PROBLEMS:
        raise ValueError(
            f"Invalid value for flag `problems`. Expected some of {PROBLEMS}. "
            f"Received: {problem!r}."
        )
    task = fidelity_problems.task(problem, FLAGS.data_dir)
    task = task._replace(T=max(10, task.T // FLAGS.divide_steps))
    bench = fidelity_measurements.Bench(task, FLAGS.seeds, FLAGS.meta_step)
    every = fidelity_measurements.methods()
    names = list(every)
    if FLAGS.rows is not None:
        names = [names[int(k)] for k in FLAGS.rows]
    found = []
    for name in dict.fromkeys(names):  # once each
        try:
            found += bench.rows(name, every[name])
        except ValueError as error:
            logging.info("%s, %s: %s", problem, name, error)
    return found


def measure_apart(problem: str, folder: pathlib.Path) -> list:
    """Returns the rows of one problem, measured in a process of its own.

    XLA's compiled programs of all methods and problems are too many for one.
    """
    from studies import fidelity_report

    flagfile = folder / "flags.txt"
    flagfile.write_text(FLAGS.flags_into_string())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "studies.fidelity",
            f"--flagfile={flagfile}",
            f"--problems={problem}",
            f"--output={folder / problem}",
        ],
        check=True,
    )
    return fidelity_report.read(folder / problem / "fidelity.csv")


def main(_):
    import matplotlib

    matplotlib.use("Agg")

    from studies import fidelity_report as report

    warnings.simplefilter("ignore", RuntimeWarning)  # walks cut short
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    problems = list(FLAGS.problems)
    path = pathlib.Path(FLAGS.data_dir or "", "omniglot28.npz")
    if "omniglot" in problems and not (FLAGS.data_dir and path.exists()):
        logging.warning("No omniglot28.npz in --data_dir: left out.")
        problems.remove("omniglot")
    if len(problems) == 1:
        rows = measure(problems[0])
        print(report.markdown(rows), flush=True)
        report.write(folder, rows)
        return
    rows = []
    for problem in problems:
        rows += measure_apart(problem, folder)
        report.write(folder, rows)
    print(f"Kept in {folder}")


if __name__ == "__main__":
    app.run(main)
