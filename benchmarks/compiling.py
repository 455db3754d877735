"""From how many steps on XLA gains more than it costs to compile for it.

    python -m benchmarks.compiling
    python -m benchmarks.compiling --nets=digits,gru --threads=0

For each net and optimizer, with XLA and without: the seconds of the first
hypergradient beyond those of the next one (tracing and compiling), and of a
step forward and backward; and the number of steps at which both have cost the
same, beside the number from which on `jit_compile="auto"` takes XLA
(`seam.traits.pays`). All in one process, in turn; seconds of the processor, as
machines do other work.
"""

import bisect
import os
import statistics
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.nets import TASKS, Task, ends

FLAGS = flags.FLAGS
NETS = ("digits", "mnist", "wide", "gru", "attention")
flags.DEFINE_multi_enum("nets", NETS, [*TASKS], "Which nets; once for each.")
flags.DEFINE_multi_enum(
    "optimizers", ("sgd", "adam"), ("sgd", "adam"), "Which optimizers."
)
flags.DEFINE_integer("steps", 200, "T of the longer trainings.", 20)
flags.DEFINE_integer("rounds", 3, "Trainings of each length timed.", 1)
flags.DEFINE_integer("threads", 1, "Of each operation; 0 for all.", 0)
SHORT = 10


def model_of(task: Task, optimizer: str, jit_compile: bool) -> Any:
    """Returns a compiled model that tunes a penalty a unit of each input."""
    import keras

    import keras_drmad as kd

    model = kd.DrMADModel(*ends(task))
    model.compile(
        keras.optimizers.get(optimizer),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2("layer")],
        hypergradient=kd.ReverseMode(),
        jit_compile=jit_compile,
        self_check=False,
    )
    return model


def seconds(task: Task, model: Any) -> tuple[float, float]:
    """Returns the seconds of tracing and compiling, and of a step."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20 * task.batch_size, *task.shape))
    y = generator.integers(0, 10, len(x))
    held_out = x[: task.batch_size], y[: task.batch_size]

    def once(steps: int) -> float:
        begin = time.process_time()
        model.hypergradient(
            x,
            y,
            batch_size=task.batch_size,
            steps_per_epoch=steps,
            validation_data=held_out,
        )
        return time.process_time() - begin

    def median(steps: int) -> float:
        return statistics.median(once(steps) for _ in range(FLAGS.rounds))

    first, short = once(SHORT), median(SHORT)
    once(FLAGS.steps)  # other pages, which are compiled apart
    step = (median(FLAGS.steps) - short) / (FLAGS.steps - SHORT)
    return first - short, step


def least(model: Any) -> str:
    """Returns from how many steps on `jit_compile="auto"` takes XLA."""
    from keras_drmad.seam import traits

    problem = model._assembly.problem
    if not problem.suits_xla:
        return "never"
    steps = range(1, traits.PAYS_FROM + 1)
    least = bisect.bisect_left(steps, True, key=problem.gains_by_xla)
    return f"{steps[least]:,}"


def main(_) -> None:
    """Prints a table, a row for each net and optimizer."""
    if FLAGS.threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(FLAGS.threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(FLAGS.threads)
    print("| net | optimizer | first call, s | with XLA | a step, ms |", end="")
    print(" with XLA | even after | auto takes XLA from |")
    print("| --- | --- " + "| ---: " * 6 + "|")
    for name in FLAGS.nets:
        for optimizer in FLAGS.optimizers:
            models = [
                model_of(TASKS[name], optimizer, jit) for jit in (False, True)
            ]
            plain, xla = (seconds(TASKS[name], model) for model in models)
            price, gain = xla[0] - plain[0], plain[1] - xla[1]
            even = f"{price / gain:,.0f}" if gain > 0 else "never"
            print(
                f"| {name} | {optimizer} | {plain[0]:.1f} | {xla[0]:.1f} | "
                f"{1e3 * plain[1]:.2f} | {1e3 * xla[1]:.2f} | {even} | "
                f"{least(models[0])} |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
