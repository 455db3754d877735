"""How time and memory grow: with hyperparameters, with steps, with weights.

    python -m benchmarks.growth
    python -m benchmarks.growth --picture=growth.png
    python -m benchmarks.growth --axes=steps --most=10000

Each row is one hypergradient of `DrMAD(1.0)`, in a process of its own: T steps
forward and T backward of a net with dense layers, without XLA. What grows is
the number of weighted examples; of weights with a penalty each; of weights with
one penalty for all; or of steps. `--most` ends each axis earlier. Seconds are
those of a second call, on the processor; MiB are the peak of the process beyond
what it had before the model and the data. Below the table stands the straight
line through the rows of each axis, by least squares of relative distances.
"""

import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
AXES = {
    "examples": (10**3, 10**4, 10**5, 10**6, 10**7),
    "penalties": (10**4, 10**5, 10**6, 10**7),
    "weights": (10**4, 10**5, 10**6, 10**7),
    "steps": (100, 1_000, 10_000, 100_000),
}
flags.DEFINE_multi_enum("axes", [*AXES], [*AXES], "What grows; once for each.")
flags.DEFINE_integer("most", 10**7, "The largest number.", 1)
flags.DEFINE_string("picture", None, "A file for a picture, such as x.png.")
flags.DEFINE_string("run", None, "A `Case` as JSON; prints its row as JSON.")
BATCH, INPUTS, EXAMPLES, SHORT = 50, 10, 1_000, 20


class Case(NamedTuple):
    """One hypergradient.

    Attributes:
        axis: str, what grows.
        number: int, how many there are of it.
    """

    axis: str
    number: int

    def of(self, axis: str, default: int) -> int:
        """Returns how many there are of what another axis has."""
        return self.number if axis == self.axis else default

    @property
    def steps(self) -> int:
        """T."""
        is_net = self.axis in ("penalties", "weights")
        return self.of("steps", SHORT if is_net else 100)

    @property
    def examples(self) -> int:
        """How many there are to train on."""
        return self.of("examples", EXAMPLES)


def model_of(case: Case) -> Any:
    """Returns a compiled net."""
    import keras

    import keras_drmad as kd

    # Two layers: INPUTS * n + n * n weights and some.
    count = case.of("weights", case.of("penalties", 10**4))
    units = max(1, round((INPUTS**2 / 4 + count) ** 0.5 - INPUTS / 2))
    inputs = keras.Input((INPUTS,))
    h = keras.layers.Dense(units, "tanh")(inputs)
    h = keras.layers.Dense(units, "tanh")(h)
    model = kd.DrMADModel(inputs, keras.layers.Dense(1)(h))
    kinds = {
        "examples": lambda: kd.hyperparameters.ExampleWeights(case.examples),
        "penalties": lambda: kd.hyperparameters.L2("weight", initial=1e-4),
    }
    one = kinds.get(case.axis, lambda: kd.hyperparameters.L2("all"))()
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        "mse",
        hyperparameters=[one],
        hypergradient=kd.DrMAD(1.0),
        jit_compile=False,
        self_check=False,
    )
    return model


def measured(case: Case) -> dict[str, float]:
    """Returns the numbers of a case."""
    import resource

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    small = Case("steps", SHORT)
    run(model_of(small), small, SHORT)  # what TensorFlow takes in any case
    before = peak()
    model = model_of(case)
    run(model, case, min(case.steps, SHORT))  # compiles
    begin = time.process_time()
    run(model, case, case.steps)
    took = time.process_time() - begin
    return {
        "hyperparameters": sum(
            int(np.prod(h.raw.shape)) for h in model.hyperparameters
        ),
        "steps": case.steps,
        "weights": model.count_params(),
        "seconds": took,
        "MiB": peak() - before,
    }


def run(model: Any, case: Case, steps: int) -> None:
    """Asks for a hypergradient of a training of so many steps."""
    generator = np.random.default_rng(0)
    x = generator.random((case.examples, INPUTS), "float32")
    model.hypergradient(
        x,
        x[:, :1],
        BATCH,
        steps_per_epoch=steps,
        validation_data=(x[:BATCH], x[:BATCH, :1]),
    )


def line(numbers: list[float], values: list[float]) -> tuple[float, float]:
    """Returns the constant and the slope of the line nearest to values."""
    x, y = np.array(numbers, float), np.array(values, float)
    rows = np.stack([1 / y, x / y], axis=1)  # relative distances
    (fixed, slope), *_ = np.linalg.lstsq(rows, np.ones(len(y)), rcond=None)
    return float(fixed), float(slope)


def numbers_of(axis: str, rows: list[dict[str, float]]) -> list[float]:
    """Returns what grew from row to row."""
    counted = axis in ("steps", "weights")
    return [row[axis if counted else "hyperparameters"] for row in rows]


def in_a_process(case: Case) -> dict[str, float]:
    """Returns the numbers of a case, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth"]
    command += [f"--run={json.dumps(case)}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def draw(rows: dict[str, list[dict[str, float]]], path: str) -> None:
    """Draws the seconds and the memory over each number."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((4 * len(rows), 6), layout="constrained")
    axes = figure.subplots(2, len(rows), squeeze=False)
    for column, (axis, found) in enumerate(rows.items()):
        numbers = numbers_of(axis, found)
        for row, name in enumerate(("seconds", "MiB")):
            plot = axes[row][column]
            values = [one[name] for one in found]
            plot.loglog(numbers, values, "o")
            plot.set_ylim(min(values) / 3, 3 * max(values))
            if len(numbers) > 1:
                fixed, slope = line(numbers, values)
                dense = np.geomspace(numbers[0], numbers[-1], 100)
                plot.loglog(dense, fixed + slope * dense)
            plot.set_xlabel(axis)
            plot.set_ylabel(name)
    figure.savefig(path)


def main(_) -> None:
    """Prints a table, and a line for each axis."""
    if FLAGS.run:
        print(json.dumps(measured(Case(*json.loads(FLAGS.run)))))
        return
    names = ("hyperparameters", "steps", "weights", "seconds", "MiB")
    print("| " + " | ".join(names) + " |")
    print("| " + "---: | " * len(names))
    rows: dict[str, list[dict[str, float]]] = {}
    for axis in FLAGS.axes:
        for number in AXES[axis]:
            if number > FLAGS.most:
                continue
            row = in_a_process(Case(axis, number))
            rows.setdefault(axis, []).append(row)
            cells = [f"{row[name]:,.0f}" for name in names]
            cells[3] = f"{row['seconds']:.2f}"
            print(f"| {' | '.join(cells)} |", flush=True)
    print()
    for axis, found in rows.items():
        for name in ("seconds", "MiB") if len(found) > 1 else ():
            numbers = numbers_of(axis, found)
            fixed, slope = line(numbers, [row[name] for row in found])
            print(f"{name} = {fixed:.3g} + {slope:.3g} * {axis}")
    if FLAGS.picture:
        draw(rows, FLAGS.picture)


if __name__ == "__main__":
    app.run(main)
