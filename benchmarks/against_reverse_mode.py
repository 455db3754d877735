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
rate is small, as time does not depend on it, and a walk back along a line
would be cut short with a greater one. The same command with the same
`--run_name` goes on where it was killed.
"""

import math
import os
import pathlib
import re
import time

from absl import app, flags

FLAGS = flags.FLAGS

METHODS = {
    "drmad": "DrMAD()",
    "papers": "DrMAD, the paper's",
    "full": "DrMAD, R = T",
    "stored": "stored",
    "bfloat16": "bfloat16",
    "checkpointed": "checkpointed",
    "reversible_0.1": "reversible, momentum 0.1",
    "reversible_0.9": "reversible, momentum 0.9",
}
PAPERS = "papers"  # the base of ratios

flags.DEFINE_string(
    "data_dir",
    os.environ.get("KERAS_DRMAD_DATA"),
    "Folder with mnist.npz; KERAS_DRMAD_DATA by default.",
)
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
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")
flags.register_validator(
    "steps",
    lambda steps: all(T.isdigit() and int(T) >= 10 for T in steps),
    "Expected numbers of steps, at least 10.",
)
flags.register_validator(
    "method",
    lambda methods: PAPERS in methods,
    f"Expected {PAPERS} among them, the base of all ratios.",
)

# Timed by method and round, and said by each method of itself.
TIMED = ("seconds", "seconds_back")
SAID = ("copies", "reverse_steps", "reverse_steps_used", "buffer_bits")
MEMORY_CELLS = 2  # at a time: they do not disturb each other


def method_and_momentum(name: str):
    """Returns the method of a name, and the momentum of the training."""
    import keras_drmad as kd

    if name.startswith("reversible"):
        return kd.ReverseMode("reversible"), float(name.split("_")[1])
    methods = {
        "drmad": kd.DrMAD(),
        PAPERS: kd.DrMAD(0.1, last=1.0, average=False),
        "full": kd.DrMAD(1.0, average=False),
    }
    return methods.get(name) or kd.ReverseMode(name), 0.1


# ---- one training


class Competitor:
    """A compiled model with its data.

    Attributes:
        model: the `DrMADModel`.
    """

    def __init__(
        self,
        name: str,
        data,
        hidden: int,
        learning_rate: float,
        jit_compile: bool,
    ):
        """Builds the net.

        Args:
            name: str, one of `METHODS`.
            data: `(x, y)` for training and for validation.
            hidden: int, units of each hidden layer.
            learning_rate: alpha of v <- gamma v - (1 - gamma) g, w <- w +
                alpha v.
            jit_compile: bool, whether XLA compiles the loops.
        """
        import keras

        import keras_drmad as kd

        keras.utils.set_random_seed(0)
        self.data = data
        start = keras.initializers.RandomNormal(stddev=math.exp(-3))
        x = first = keras.Input((784,))
        for _ in range(3):
            x = keras.layers.Dense(hidden, "tanh", kernel_initializer=start)(x)
        x = keras.layers.Dense(10, kernel_initializer=start)(x)
        self.model = kd.DrMADModel(first, x)
        method, gamma = method_and_momentum(name)
        self.model.compile(
            optimizer=keras.optimizers.SGD(learning_rate * (1 - gamma), gamma),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            hyperparameters=[kd.hyperparameters.L2("unit", math.exp(-4))],
            hypergradient=method,
            jit_compile=jit_compile,
        )

    def kept_bytes(self, T: int) -> float:
        """Returns the bytes that the method keeps in a training of T steps."""
        from keras_drmad.adjoint import State

        weights = [v.value for v in self.model.trainable_variables]
        velocities = weights  # of their sizes
        state = State(weights, velocities, [])
        return self.model.method.nbytes(T, state)

    def warm_up(self, T: int) -> None:
        """Compiles all that T steps need, with as few steps as will do."""
        steps = next(
            t for t in range(10, T + 1) if self._loops(t) == self._loops(T)
        )
        self.train(steps)
        self.hypergradient(steps)

    def _loops(self, T: int):
        """Returns what XLA compiles the way back for: kinds and lengths."""
        from keras_drmad import batches

        way_back = self.model.method.trajectory(T)
        cuts = way_back.cuts(T) if way_back.keeps_chunks else ()
        chunks = batches.divide(
            way_back.iterations(T), batches.CHUNK_SIZE, cuts
        )
        return way_back.traced_by, set(map(len, chunks))

    def train(self, T: int) -> None:
        """Trains, and computes the validation loss."""
        self.model.train_loss_at(**self._arguments(T))

    def hypergradient(self, T: int) -> dict[str, float]:
        """Returns the diagnostics of one hypergradient."""
        return self.model.hypergradient(**self._arguments(T)).diagnostics

    def _arguments(self, T: int):
        (x, y), validation = self.data
        return {
            "x": x,
            "y": y,
            "batch_size": 50,
            "steps_per_epoch": T,
            "validation_data": validation,
            "validation_batch_size": 1000,
        }


def images(data_dir: str | None):
    """Returns `(x, y)` for training and for validation, MNIST or noise."""
    import numpy as np

    from examples import datasets

    if data_dir:
        found = datasets.load("mnist", data_dir, (15000, 5000, 1), 0)
        return found.train, found.validation
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 0.5, (20000, 784)).astype("float32")
    y = random.integers(0, 10, 20000).astype("int32")
    return (x[:15000], y[:15000]), (x[15000:], y[15000:])


# ---- cells, each in a process of its own


def time_all(
    names: list[str],
    T: int,
    rounds: int,
    memory: int,
    data_dir: str | None,
    **net,
):
    """Times methods.

    Args:
        names: list of str, the methods'.
        T: int, the steps of a training.
        rounds: int.
        memory: int, bytes; methods that would keep more are left out.
        data_dir: str, for `images`.
        **net: the other arguments of `Competitor`.

    Returns:
        Dict of arrays: `alone` `(rounds,)`, seconds of the training alone;
        `TIMED`, `(methods, rounds)`; `SAID` and `kept_bytes`, `(methods,)`;
        nan for methods that were left out.
    """
    import numpy as np

    data = images(data_dir)
    models = [Competitor(name, data, **net) for name in names]
    kept = np.array([model.kept_bytes(T) for model in models])
    found: dict[str, np.ndarray] = {
        key: np.full((len(names), rounds), np.nan) for key in TIMED
    }
    found |= {key: np.full(len(names), np.nan) for key in SAID}
    found |= {"alone": np.zeros(rounds), "kept_bytes": kept}
    fits = np.flatnonzero(kept <= memory)
    for k in fits:
        models[k].warm_up(T)
    alone = models[names.index(PAPERS)]
    for r in range(rounds):
        found["alone"][r] = _seconds(alone.train, T)[0]
        for k in fits:
            seconds, d = _seconds(models[k].hypergradient, T)
            found["seconds"][k, r] = seconds
            found["seconds_back"][k, r] = d["seconds_back"]
            for key in SAID:
                found[key][k] = d.get(key, np.nan)
    return found


def _seconds(function, T: int):
    """Returns how long a call took, and what it returned."""
    begin = time.perf_counter()
    returned = function(T)
    return time.perf_counter() - begin, returned


def measure_memory(
    name: str, T: int, memory: int, data_dir: str | None, **net
) -> dict[str, float]:
    """Measures a process's peak of resident memory.

    The peak is set back once all is compiled. Still the process holds what
    importing and compiling left, and a small need is met from that: so the
    peak after a training alone is the measure for that of the hypergradient.

    Args:
        name: str, the method's.
        T: int, the steps of a training.
        memory: int, bytes; nothing is done for a method that would keep more.
        data_dir: str, for `images`.
        **net: the other arguments of `Competitor`.

    Returns:
        Dict of bytes: `alone` and `with_hypergradient`.
    """
    model = Competitor(name, images(data_dir), **net)
    if model.kept_bytes(T) > memory:
        return {"alone": math.nan, "with_hypergradient": math.nan}
    model.warm_up(T)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    model.train(T)
    alone = _peak_bytes()
    model.hypergradient(T)
    return {"alone": alone, "with_hypergradient": _peak_bytes()}


def _peak_bytes() -> float:
    text = pathlib.Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", text)
    return 1024.0 * int(kilobytes)


# ---- results


def rows_of(names: list[str], T: int, timed, memory) -> list[dict]:
    """Returns a row for each method.

    Args:
        names: list of str, the methods'.
        T: int.
        timed: what `time_all` returned.
        memory: dict from names to what `measure_memory` returned.
    """
    import numpy as np

    rows = []
    for k, name in enumerate(names):
        peaks = memory.get(name, {})
        rows.append(
            {
                "steps": T,
                "method": name,
                "momentum": method_and_momentum(name)[1],
                "rounds": len(timed["alone"]),
                "seconds_alone": np.median(timed["alone"]),
                **{key: np.median(timed[key][k]) for key in TIMED},
                **{key: timed[key][k] for key in (*SAID, "kept_bytes")},
                "peak_alone": peaks.get("alone", math.nan),
                "peak": peaks.get("with_hypergradient", math.nan),
            }
        )
    return rows


class Results:
    """The rows of all T.

    Attributes:
        rows: list of dicts.
        names: list of str, the methods'.
        steps: list of int, every T.
    """

    def __init__(self, rows: list[dict]):
        self.rows = rows
        self.names = list(dict.fromkeys(row["method"] for row in rows))
        self.steps = list(dict.fromkeys(row["steps"] for row in rows))

    def of(self, name: str, key: str):
        """Returns a column of one method, an entry for each T, or nan."""
        import numpy as np

        if name not in self.names:
            return np.full(len(self.steps), np.nan)
        found = [row[key] for row in self.rows if row["method"] == name]
        return np.array(found, float)

    def ratio(self, name: str, key: str, base: str):
        """Returns a method's column over another's."""
        return self.of(name, key) / self.of(base, key)

    def process_bytes(self, name: str):
        """Returns by how much the way back raised the peak of the process."""
        return self.of(name, "peak") - self.of(name, "peak_alone")


def table(title: str, results: Results, column) -> str:
    """Returns Markdown, a row for each method and a column for each T.

    Args:
        title: str.
        results: `Results`.
        column: function from a method's name to numbers for each T.
    """
    heads = [f"T = {T:,}" for T in results.steps]
    lines = [
        f"| {' | '.join([title, *heads])} |",
        f"| --- |{' ---: |' * len(heads)}",
    ]
    for name in results.names:
        cells = [_number(x) for x in column(name)]
        lines.append(f"| {' | '.join([METHODS[name], *cells])} |")
    return "\n".join([*lines, ""])


def _number(x: float) -> str:
    if math.isnan(x):
        return "-"
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def tables(results: Results) -> str:
    """Returns all tables."""
    of, ratio = results.of, results.ratio
    parts = {
        "seconds of one hypergradient": lambda name: of(name, "seconds"),
        "training and way back / training alone": lambda name: (
            of(name, "seconds") / of(name, "seconds_alone")
        ),
        "seconds / seconds of the paper's DrMAD": lambda name: ratio(
            name, "seconds", PAPERS
        ),
        "seconds of the way back / those of the paper's DrMAD": lambda name: (
            ratio(name, "seconds_back", PAPERS)
        ),
        "MB kept for the way back": lambda name: of(name, "kept_bytes") / 1e6,
        "bytes kept / bytes kept by DrMAD": lambda name: ratio(
            name, "kept_bytes", PAPERS
        ),
        "process: MB over the peak of training alone": lambda name: (
            results.process_bytes(name) / 1e6
        ),
        "process: whole peak, MB": lambda name: of(name, "peak") / 1e6,
    }
    return "\n".join(
        table(title, results, column) for title, column in parts.items()
    )


def claims(results: Results) -> str:
    """Returns the paper's claims beside what was measured."""
    ratio = results.ratio
    slower = _range(ratio("reversible_0.1", "seconds", PAPERS))
    slower_back = _range(ratio("reversible_0.1", "seconds_back", PAPERS))
    stored = _range(ratio("stored", "kept_bytes", PAPERS))
    reversible = _range(ratio("reversible_0.1", "kept_bytes", PAPERS))
    lines = [
        "The paper: 45 times faster than reverse mode at momentum 0.1. Here: "
        f"{slower} times faster than reversible learning, {slower_back} times "
        "in the way back alone.",
        "The paper: at least 100 times less memory. Here: "
        f"{stored} times less than all states stored, {reversible} times less "
        "than reversible learning at momentum 0.1.",
    ]
    for name in results.names:
        if name.startswith("reversible"):
            momentum = results.of(name, "momentum")[0]
            lines.append(
                f"Information buffer at momentum {momentum}: "
                f"{_range(results.of(name, 'buffer_bits'))} bits for each "
                f"weight and step; log2(1/momentum) is "
                f"{math.log2(1 / momentum):.3f}."
            )
    return "\n".join(lines)


def _range(values) -> str:
    """Returns the least and the greatest of numbers, nan left out."""
    import numpy as np

    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    low, high = (f"{x:.3g}" for x in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def notes(results: Results, memory: int) -> str:
    """Returns what was left out, and which walks were cut short."""
    from keras_drmad.memory import in_words

    lines = []
    for row in results.rows:
        which = f"{METHODS[row['method']]}, T = {row['steps']:,}"
        if math.isnan(row["seconds"]):
            lines.append(
                f"Left out: {which} keeps {in_words(row['kept_bytes'])}, and "
                f"--memory allows {in_words(memory)}."
            )
        elif row["reverse_steps_used"] < row["reverse_steps"]:
            lines.append(
                f"Cut short: {which} walked {row['reverse_steps_used']:.0f} of "
                f"{row['reverse_steps']:.0f} steps back."
            )
    return "\n".join(lines)


def draw(run, results: Results) -> None:
    """Draws seconds, bytes kept and the process's memory against T."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(13, 5.2), layout="constrained")
    seconds, kept, process = panels
    alone = results.of(PAPERS, "seconds_alone")
    style = {"color": "black", "linestyle": ":", "label": "training alone"}
    seconds.plot(results.steps, alone, **style)
    for k, name in enumerate(METHODS):
        if name not in results.names:
            continue
        columns = {
            seconds: results.of(name, "seconds"),
            kept: results.of(name, "kept_bytes") / 1e6,
            process: results.process_bytes(name) / 1e6,
        }
        for panel, column in columns.items():
            panel.plot(
                results.steps,
                column,
                color=f"C{k}",
                marker="os^Dv<>P"[k],
                markersize=5,
                alpha=0.85,
                label=METHODS[name] if panel is seconds else None,
            )
    titles = {
        seconds: ("Time of one hypergradient", "seconds"),
        kept: ("Kept for the way back", "MB"),
        process: ("Process: peak over training alone", "MB"),
    }
    for panel, (title, unit) in titles.items():
        if not any((line.get_ydata() > 0).any() for line in panel.lines):
            panel.remove()  # no axis of logarithms without numbers above 0
            continue
        panel.set_title(title)
        panel.set_xlabel("T, steps of the training")
        panel.set_ylabel(unit)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(results.steps, [f"{T:,}" for T in results.steps])
        panel.tick_params("x", rotation=45)
        panel.xaxis.set_minor_formatter("")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5)
    run.write_figure(seconds, "against_reverse_mode")


def measured(run, memory: int) -> list[dict]:
    """Returns a row for each T and method, measured now or before."""
    from examples import study

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
    timed = study.run_cells(run, time_all, timing, processes=1)
    peaks: dict[str, dict] = {}
    if FLAGS.process_memory:
        cells = {
            f"memory_{T}_{name}": {"name": name, "T": T, **common}
            for T in every_T
            for name in names
        }
        peaks = study.run_cells(run, measure_memory, cells, MEMORY_CELLS)
    rows = []
    for T in every_T:
        own = {name: peaks.get(f"memory_{T}_{name}", {}) for name in names}
        rows += rows_of(names, T, timed[f"time_{T}"], own)
    return rows


def main(_):
    from keras_drmad import memory as memory_lib
    from keras_drmad.saved_run import SavedRun

    images(FLAGS.data_dir)  # its error, if any, before work starts
    memory = (
        memory_lib.checked_bytes(FLAGS.memory)
        if FLAGS.memory
        else memory_lib.available_bytes() // 2
    )
    run = SavedRun(
        FLAGS.save_dir, "against_reverse_mode", FLAGS.run_name, resume=True
    )
    run.write_flags(FLAGS, "steps")
    results = Results(measured(run, memory))
    run.write_table(results.rows, "results")
    draw(run, results)
    print(tables(results))
    print(claims(results))
    print(notes(results, memory))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
