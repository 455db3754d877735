"""How near each way back comes to the exact hypergradient, and at what cost.

    python -m benchmarks.fidelity
    python -m benchmarks.fidelity --problems=momentum_1,adam --seeds=1

For each problem, seed and method: the cosine of the angle to the exact
hypergradient (reverse mode in float64), of the whole and of the indirect part;
agreement of signs; the ratio of norms; how much one meta-step of fixed length
lowers the validation loss, over what the exact one's does; seconds over those
of the training alone; and copies of the state kept. Prints Markdown, and writes
`table.md`, `fidelity.csv` and a picture of cost against cosine.

The direct part is what a hyperparameter does in the last step alone, the
direction of `Truncated(1)`; the indirect part is the rest, orthogonal to it.
"""

import csv
import math
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Task(NamedTuple):
    """A training whose hyperparameters are differentiated.

    Attributes:
        title: str, what it is.
        T: int, the number of steps.
        batch_size: int.
        net: function that returns inputs and outputs.
        optimizer: function that returns the elementary optimizer.
        kinds: function that returns the hyperparameters.
        data: `(x, y)` for training and for validation.
    """

    title: str
    T: int
    batch_size: int
    net: Callable
    optimizer: Callable
    kinds: Callable
    data: tuple


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


def methods() -> dict[str, Any]:
    """Returns the methods by the names of their rows."""
    import keras_drmad as kd

    every = {
        "OneStep()": kd.OneStep(),
        "Implicit('neumann', 20)": kd.Implicit("neumann", 20),
        "Implicit('cg', 20)": kd.Implicit("cg", 20),
        "DrMAD()": kd.DrMAD(),
        "DrMAD(last=0.1), gauss_newton": kd.DrMAD(
            last=0.1, curvature="gauss_newton"
        ),
        "DrMAD(last=0.1, average=False)": kd.DrMAD(last=0.1, average=False),
        "DrMAD(last=1.0, average=False)": kd.DrMAD(
            0.1, last=1.0, average=False
        ),
        "DrMAD(1.0, average=False)": kd.DrMAD(1.0, average=False),
        "same, gauss_newton": kd.DrMAD(
            1.0, average=False, curvature="gauss_newton"
        ),
        "DrMAD(0.3, 39, end)": kd.DrMAD(0.3, 39, "end", last=0.3),
        "DrMAD(0.5, 39, end)": kd.DrMAD(0.5, 39, "end", last=0.5),
        "DrMAD(0.7, 39, end)": kd.DrMAD(0.7, 39, "end", last=0.7),
        "DrMAD(1.0, 39, end)": kd.DrMAD(1.0, 39, "end"),
        "DrMAD(1.0, 39, even)": kd.DrMAD(1.0, 39),
        "DrMAD(1.0, 127, end)": kd.DrMAD(1.0, 127, "end"),
        "Truncated(0.1)": kd.Truncated(0.1),
        "Truncated(0.5)": kd.Truncated(0.5),
        "ReverseMode('reversible')": kd.ReverseMode("reversible"),
        "ReverseMode('bfloat16')": kd.ReverseMode("bfloat16"),
        "ReverseMode('checkpointed')": kd.ReverseMode("checkpointed"),
        "ReverseMode()": kd.ReverseMode(),
        "DrMAD(last=0.1)": kd.DrMAD(last=0.1),
    }
    names = list(every)
    wanted = (
        names if FLAGS.rows is None else [names[int(k)] for k in FLAGS.rows]
    )
    return {name: every[name] for name in wanted}


# ---- problems


def images(flat: bool = True, centred: bool = False):
    """Returns `(x, y)` for training and for validation, MNIST or digits.

    Pixels are in [0, 1]; centred, minus the mean training image.
    """
    from examples import datasets

    path = pathlib.Path(FLAGS.data_dir or "", "mnist.npz")
    if FLAGS.data_dir and path.exists():
        found = datasets.load("mnist", FLAGS.data_dir, (10000, 2000, 1), 0)
    else:
        found = datasets.load("digits", None, (1200, 400, 1), 0)
    shape = (-1,) if flat else (*found.shape, 1)
    lowest = 0 if centred else found.train[0].min(axis=0)
    return tuple(
        ((x - lowest).reshape(len(x), *shape), y)
        for x, y in (found.train, found.validation)
    )


def tanh_net(inputs: int, scale: float | None = None):
    """Returns inputs and outputs of the papers' net, 50-50-50-10.

    Args:
        inputs: int, the number of pixels.
        scale: float, deviation of the initial weights; 1 / √inputs of each
            layer by default.
    """
    import keras

    initial = keras.initializers
    start: Any = initial.LecunNormal()
    if scale is not None:
        start = initial.RandomNormal(stddev=scale)
    x = first = keras.Input((inputs,))
    for _ in range(3):
        x = keras.layers.Dense(50, "tanh", kernel_initializer=start)(x)
    return first, keras.layers.Dense(10, kernel_initializer=start)(x)


def small_cnn(shape):
    """Returns inputs and outputs of a net with two convolutions."""
    import keras

    L = keras.layers
    x = first = keras.Input(shape)
    x = L.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    return first, L.Dense(10)(L.Flatten()(x))


def momentum(alpha: float, gamma: float) -> Callable:
    """Returns what makes v <- gamma v - (1 - gamma) g, w <- w + alpha v."""
    import keras

    return lambda: keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma)


def task(problem: str) -> Task:
    """Returns a problem by its name.

    Raises:
        ValueError: if there is none of that name.
    """
    import keras

    from keras_drmad.hyperparameters import L2, LearningRate

    def penalties(log_penalty):
        return lambda: [L2("unit", math.exp(log_penalty))]

    regimes = {  # T, optimizer, logarithm of the penalties
        "momentum_1": (2000, momentum(0.05, 0.95), -4),
        "momentum_2": (1000, momentum(0.1, 0.9), -7),
        "momentum_3": (500, momentum(0.5, 0.9), -9),
        "adam": (1000, lambda: keras.optimizers.Adam(1e-3), -7),
        "rmsprop": (1000, lambda: keras.optimizers.RMSprop(1e-3), -7),
        "paper_1": (2000, momentum(0.05, 0.95), -4),
    }
    if problem in regimes:
        T, optimizer, log_penalty = regimes[problem]
        of_paper = problem.startswith("paper")
        data = images(centred=of_paper)
        pixels = data[0][0].shape[1]
        scale = math.exp(-3) if of_paper else None
        title = f"L2 per unit, {_name(optimizer())}, T = {T}"
        if of_paper:
            title += ", the paper's start: small weights, a plateau first"
        return Task(
            title,
            T,
            50,
            lambda: tanh_net(pixels, scale),
            optimizer,
            penalties(log_penalty),
            data,
        )
    if problem == "rates":
        data = images()
        pixels = data[0][0].shape[1]
        return Task(
            "learning rate per layer, SGD(0.01, 0.9), T = 1000",
            1000,
            50,
            lambda: tanh_net(pixels),
            momentum(0.1, 0.9),
            lambda: [LearningRate("layer")],
            data,
        )
    if problem == "cnn":
        data = images(flat=False)
        return Task(
            "small CNN, L2 per unit, Adam(0.001), T = 300",
            300,
            50,
            lambda: small_cnn(data[0][0].shape[1:]),
            lambda: keras.optimizers.Adam(1e-3),
            penalties(-7),
            data,
        )
    if problem == "omniglot":
        return omniglot()
    raise ValueError(
        f"Invalid value for flag `problems`. Expected some of {PROBLEMS}. "
        f"Received: {problem!r}."
    )


def _name(optimizer) -> str:
    kind = type(optimizer).__name__
    rate = float(optimizer.learning_rate)
    gamma = getattr(optimizer, "momentum", 0)
    return f"{kind}({rate:.3g}{f', {gamma}' if gamma else ''})"


# ---- Omniglot: ten alphabets, ten nets, learned sharing

ALPHABETS = (33, 7, 16, 24, 25)  # the papers' five; the other five are turned


def omniglot() -> Task:
    """Returns the sharing problem: how alike the weights of tasks should be.

    As in Maclaurin et al. 2015, section 3.3, with smaller nets, and with the
    sharing in a penalty (a Gaussian prior on the tasks' weights with a learned
    inverse covariance S Sᵀ for each layer) in place of a transformation.
    """
    import keras
    import numpy as np

    with np.load(pathlib.Path(FLAGS.data_dir, "omniglot28.npz")) as arrays:
        images, alphabet = arrays["images"] / 255.0, arrays["alphabet"]
        character, drawer = arrays["character"], arrays["drawer"]

    def part(drawers, turned):
        """Returns (n, 784) and (n,) for each alphabet, n padded by cycles."""
        tasks = []
        for number in ALPHABETS:
            chosen = (alphabet == number) & np.isin(drawer, drawers)
            places = np.resize(np.flatnonzero(chosen), 330)
            x = images[places]
            x = np.rot90(x, axes=(1, 2)) if turned else x
            tasks.append((x.reshape(330, 784), character[places]))
        return tasks

    def data(drawers):
        tasks = part(drawers, False) + part(drawers, True)
        x, y = (np.stack(arrays, axis=1) for arrays in zip(*tasks, strict=True))
        return x.astype("float32"), y.astype("int32")

    def net():
        x = first = keras.Input((10, 784))
        x = _tasks_dense()(100, "tanh", name="bottom")(x)
        return first, _tasks_dense()(55, None, name="top")(x)

    return Task(
        "Omniglot, sharing between 10 alphabets, SGD(0.1, 0.9), T = 100",
        100,
        110,
        net,
        momentum(1.0, 0.9),
        lambda: [_sharing()()],
        (data(range(1, 11)), data((11, 12))),
    )


def _tasks_dense():
    """Returns the class of a dense layer for each of several tasks."""
    import keras

    class TasksDense(keras.layers.Layer):
        """Maps (batch, tasks, inputs) to (batch, tasks, units)."""

        def __init__(self, units, activation, name):
            super().__init__(name=name)
            self.units = units
            self.activation = keras.activations.get(activation)

        def build(self, shape):
            _, tasks, inputs = shape
            self.kernel = self.add_weight(
                shape=(tasks, inputs, self.units),
                initializer=keras.initializers.RandomNormal(stddev=0.05),
                name="kernel",
            )
            self.built = True

        def call(self, x):
            products = keras.ops.einsum("bti,tio->bto", x, self.kernel)
            return self.activation(products)

    return TasksDense


def _sharing():
    """Returns the class of the sharing hyperparameters."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_drmad.hyperparameters import Identity, Kind

    class Sharing(Kind):
        """Adds exp(-6) Σ_ij (S Sᵀ)_ij w_iᵀ w_j over tasks i, j, per layer."""

        transform = Identity()

        def __init__(self):
            super().__init__("sharing", None)

        def bind(self, model, optimizer):
            self._kernels = list(model.trainable_variables)
            count = self._kernels[0].shape[0]
            start = 1.5 * np.eye(count) - 0.5 / count
            self.raw = keras.Variable(
                np.stack([start] * len(self._kernels)),
                dtype=keras.config.floatx(),
                name="sharing",
            )

        def value(self):
            return tf.matmul(self.raw.value, self.raw.value, transpose_b=True)

        def penalty(self, raw, params):
            terms = []
            for S, kernel in zip(tf.unstack(raw), self._kernels, strict=True):
                w = tf.reshape(params[id(kernel)], [kernel.shape[0], -1])
                terms.append(
                    tf.reduce_sum(tf.square(tf.matmul(S, w, transpose_a=True)))
                )
            return math.exp(-6) * tf.add_n(terms)

    return Sharing


# ---- measurements


class Bench:
    """One problem: its model, its starts and its exact hypergradients.

    Attributes:
        task: the `Task`.
        starts: list of the initial weights, for each seed.
        exact: list of the exact hypergradients in float64, for each seed.
        direct: list of their direct parts.
    """

    def __init__(self, problem: str):
        """Computes the references."""
        import keras

        import keras_drmad as kd

        self.problem = problem
        self.task = task(problem)
        self.T = max(10, self.task.T // FLAGS.divide_steps)
        self.starts = []
        for seed in range(FLAGS.seeds):
            keras.utils.set_random_seed(seed)
            self.starts.append(keras.Model(*self.task.net()).get_weights())
        _set_precision("float64")
        try:
            seeds = range(FLAGS.seeds)
            self.exact, self.direct = (
                [self.hypergradient(model, k)[0] for k in seeds]
                for model in map(
                    self.model, (kd.ReverseMode(), kd.Truncated(1))
                )
            )
        finally:
            _set_precision("float32")
        self.alone = self.model(kd.DrMAD(1))
        self.hypergradient(self.alone, 0)  # traces and compiles

    def model(self, method: Any):
        """Returns a compiled model."""
        import keras

        import keras_drmad as kd

        model = kd.DrMADModel(*self.task.net())
        model.compile(
            optimizer=self.task.optimizer(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            hyperparameters=self.task.kinds(),
            hypergradient=method,
        )
        return model

    def arguments(self, seed: int) -> dict[str, Any]:
        """Returns the arguments of a training."""
        train, validation = self.task.data
        return {
            "x": train[0],
            "y": train[1],
            "batch_size": self.task.batch_size,
            "steps_per_epoch": self.T,
            "validation_data": validation,
            "validation_batch_size": 400,
            "seed": seed,
        }

    def hypergradient(self, model, seed: int):
        """Returns the raw hypergradient as one vector, and the record."""
        import numpy as np

        model.elementary_model.set_weights(self.starts[seed])
        record = model.hypergradient(**self.arguments(seed))
        flat = [np.ravel(g) for g in record.gradients.values()]
        return np.concatenate(flat).astype("float64"), record

    def loss_after(self, model, seed: int, direction) -> float:
        """Returns the validation loss after one meta-step of fixed length."""
        import numpy as np

        kinds = model.hyperparameters
        before = [h.raw.numpy() for h in kinds]
        step = FLAGS.meta_step * len(direction) ** 0.5
        step = step * direction / max(np.linalg.norm(direction), 1e-300)
        places = np.cumsum([x.size for x in before])[:-1]
        for h, x, part in zip(
            kinds, before, np.split(step, places), strict=True
        ):
            h.raw.assign(x - part.reshape(x.shape))
        try:
            return model.train_loss_at(**self.arguments(seed))
        except FloatingPointError:
            return math.inf
        finally:
            for h, x in zip(kinds, before, strict=True):
                h.raw.assign(x)

    def rows(self, name: str, method: Any) -> list[Row]:
        """Returns what is measured of one method, a row for each seed."""
        import numpy as np

        model = self.model(method)
        found = []
        self.hypergradient(model, 0)  # traces and compiles
        for seed in range(FLAGS.seeds):
            g, record = self.hypergradient(model, seed)
            exact, direct = self.exact[seed], self.direct[seed]
            base = record.validation_loss
            losses = [self.loss_after(model, seed, d) for d in (g, exact)]
            d = record.diagnostics
            _, alone = self.hypergradient(self.alone, seed)
            whole = sum(v for k, v in d.items() if k.startswith("seconds"))
            found.append(
                Row(
                    self.problem,
                    self.task.title,
                    name,
                    seed,
                    cosine=cosine(g, exact),
                    indirect=cosine(without(g, direct), without(exact, direct)),
                    signs=float(np.mean(np.sign(g) == np.sign(exact))),
                    norm=float(np.linalg.norm(g) / np.linalg.norm(exact)),
                    gain=(base - losses[0]) / (base - losses[1]),
                    time=whole / alone.diagnostics["seconds_there"],
                    copies=d["copies"],
                )
            )
        return found


def _set_precision(dtype: str) -> None:
    import keras

    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def cosine(a, b) -> float:
    """Returns the cosine of the angle between two vectors; nan for 0."""
    import numpy as np

    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else math.nan


def without(g, direct):
    """Returns the part of g that is orthogonal to another vector."""
    square = direct @ direct
    return g - (g @ direct) / square * direct if square > 0 else g


# ---- results


def markdown(rows: list[Row]) -> str:
    """Returns the table of a problem: means and deviations over seeds."""
    import numpy as np

    names = ("cosine", "indirect", "signs", "norm", "gain", "time", "copies")
    lines = [
        f"**{rows[0].title}**",
        "",
        f"| method | {' | '.join(names)} |",
        f"| --- |{' --- |' * len(names)}",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        cells = []
        for name in names:
            values = [getattr(r, name) for r in rows if r.method == method]
            mean, spread = np.mean(values), np.std(values)
            if name == "copies":
                cells.append(f"{mean:,.0f}")
            elif name == "time":
                cells.append(f"{mean:.2f}")
            elif abs(mean) < 100:
                cells.append(f"{mean:.2f} ± {spread:.2f}")
            else:
                cells.append(f"{mean:.1e}")
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def draw(rows: list[Row], path: pathlib.Path) -> None:
    """Draws cost against cosine, a panel for each problem."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    titles = {row.problem: row.title for row in rows}
    problems = list(titles)
    columns = min(3, len(problems))
    height = -(-len(problems) // columns)
    figure, panels = plt.subplots(
        height,
        columns,
        figsize=(4.6 * columns, 3.4 * height + 1),
        squeeze=False,
        layout="constrained",
    )
    labelled: set[str] = set()
    for panel in panels.flat[len(problems) :]:
        panel.remove()
    for problem, panel in zip(problems, panels.flat, strict=False):
        for k, method in enumerate(dict.fromkeys(r.method for r in rows)):
            own = [
                r for r in rows if (r.problem, r.method) == (problem, method)
            ]
            if not own:
                continue
            values = [r.cosine for r in own]
            panel.errorbar(
                np.mean([r.time for r in own]),
                np.mean(values),
                np.std(values),
                marker="os^Dv<>P"[k // 10 + k % 3],
                color=f"C{k % 10}",
                linestyle="none",
                label=None if method in labelled else method,
            )
            labelled.add(method)
        panel.set_title(textwrap.fill(titles[problem], 50), fontsize=9)
        panel.set_xlabel("training and way back / training alone")
        lowest = min(r.cosine for r in rows if r.problem == problem)
        panel.set_ylim(min(-0.05, lowest - 0.05), 1.05)
        panel.set_xscale("log")
        panel.set_xticks([1, 1.5, 2, 3, 4, 6, 8])
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.grid(alpha=0.3)
    for row in panels:
        row[0].set_ylabel("cosine to the exact hypergradient")
    figure.legend(loc="outside lower center", ncols=columns + 1, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def measure(problem: str) -> list[Row]:
    """Returns the rows of one problem."""
    bench = Bench(problem)
    found: list[Row] = []
    for name, method in methods().items():
        try:
            found += bench.rows(name, method)
        except ValueError as error:
            logging.info("%s, %s: %s", problem, name, error)
    return found


def measure_apart(problem: str, folder: pathlib.Path) -> list[Row]:
    """Returns the rows of one problem, measured in a process of its own.

    XLA's compiled programs of all methods and problems are too many for one.
    """
    flagfile = folder / "flags.txt"
    flagfile.write_text(FLAGS.flags_into_string())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.fidelity",
            f"--flagfile={flagfile}",
            f"--problems={problem}",
            f"--output={folder / problem}",
        ],
        check=True,
    )
    return read(folder / problem / "fidelity.csv")


def read(path: pathlib.Path) -> list[Row]:
    """Returns the rows that `write` wrote."""
    kinds = Row.__annotations__.values()
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [
        Row(*(kind(x) for kind, x in zip(kinds, row, strict=True)))
        for row in rows
    ]


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


def main(_):
    import warnings

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
        print(markdown(rows), flush=True)
        write(folder, rows)
        return
    rows = []
    for problem in problems:
        rows += measure_apart(problem, folder)
        write(folder, rows)
    print(f"Kept in {folder}")


if __name__ == "__main__":
    app.run(main)
