"""Times DrMAD beside exact reverse mode, and measures the memory of each.

    python -m benchmarks.against_reverse_mode
    python -m benchmarks.against_reverse_mode --steps=1000,2000 --rounds=5

The paper's MNIST net, 784-50-50-50-10 with one L2 penalty for each unit, and
trainings of T steps. For each T one process times a training alone and one
hypergradient by each method, after a warm-up, in rounds that alternate between
them, so that a busy machine disturbs all alike. Then each method has a process
of its own for each T, whose peak of resident memory is measured (on Linux).
Prints ratios as Markdown; writes results.csv and a picture.

Without `mnist.npz` (`--data_dir=`) data is noise of MNIST's shape. The learning
rate is small, as time does not depend on it, and a walk backward along a line
would be cut short with a greater one. The same command with the same
`--run_name` goes on where it was killed.
"""

import os

from absl import app, flags

from examples import saved_run
from studies import study

FLAGS = flags.FLAGS

METHODS = {
    "drmad": "DrMAD()",
    "papers": "DrMAD, the paper's",  # the base of ratios
    "full": "DrMAD, R = T",
    "stored": "stored",
    "bfloat16": "bfloat16",
    "checkpointed": "checkpointed",
    "reversible_0.1": "reversible, momentum 0.1",
    "reversible_0.9": "reversible, momentum 0.9",
}
MEMORY_CELLS = 2  # at a time: they do not disturb each other

saved_run.define_flags()
FLAGS.set_default("data_dir", os.environ.get("KERAS_DRMAD_DATA"))
flags.DEFINE_list(
    "steps",
    ["500", "1000", "2000", "5000", "10000", "20000"],
    "T, elementary steps, ascending.",
)
flags.DEFINE_integer(
    "rounds", 3, "How often each is timed; fewer where T is above 3,000.", 1
)
flags.DEFINE_multi_enum(
    "method", list(METHODS), list(METHODS), "Which methods; repeat the flag."
)
flags.DEFINE_bool(
    "process_memory", True, "Measure the memory of processes too."
)
flags.DEFINE_bool("jit_compile", True, "Whether XLA compiles the loops.")
flags.DEFINE_integer("hidden", 50, "Units of each hidden layer.", 1)
flags.DEFINE_float("learning_rate", 2e-4, "alpha of the paper's update.", 0)
flags.DEFINE_string(
    "memory",
    None,
    'Such as "8GB": what would keep more is left out; by default half of what '
    "is free.",
)
flags.register_validator(
    "steps",
    lambda steps: all(T.isdigit() and int(T) >= 10 for T in steps),
    "Expected numbers of steps, at least 10.",
)
flags.register_validator(
    "method",
    lambda methods: "papers" in methods,
    "Expected papers among them, the base of all ratios.",
)


def measured(run, memory: int) -> list[dict]:
    """Returns a row for each T and method, measured now or before."""
    from benchmarks import against_reverse_mode_report as report
    from benchmarks import against_reverse_mode_trainings as trainings

    names, every_T = list(FLAGS.method), [int(T) for T in FLAGS.steps]
    common = {
        "memory": memory,
        "data_dir": FLAGS.data_dir,
        "hidden": FLAGS.hidden,
        "learning_rate": FLAGS.learning_rate,
        "jit_compile": FLAGS.jit_compile,
    }
    timing = {
        f"time_{T}": {
            "names": names,
            "T": T,
            "rounds": max(1, min(FLAGS.rounds, 10_000 // T)),
            **common,
        }
        for T in every_T
    }
    timed = study.run_cells(run, trainings.time_all, timing, processes=1)
    peaks: dict[str, dict] = {}
    if FLAGS.process_memory:
        cells = {
            f"memory_{T}_{name}": {"name": name, "T": T, **common}
            for T in every_T
            for name in names
        }
        peaks = study.run_cells(
            run, trainings.measure_memory, cells, MEMORY_CELLS
        )
    rows = []
    for T in every_T:
        own = {name: peaks.get(f"memory_{T}_{name}", {}) for name in names}
        rows += report.rows_of(names, T, timed[f"time_{T}"], own)
    return rows


def main(_):
    from benchmarks import against_reverse_mode_report as report
    from keras_drmad import arguments
    from keras_drmad.methods import memory as memory_lib

    memory = (
        arguments.nbytes("memory", FLAGS.memory)
        if FLAGS.memory
        else memory_lib.available_bytes() // 2
    )
    run = study.begin("against_reverse_mode")
    results = report.Results(measured(run, memory), METHODS)
    run.write_table(results.rows, "results")
    report.draw(run, results)
    print(report.tables(results))
    print(report.claims(results))
    print(report.notes(results, memory))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
