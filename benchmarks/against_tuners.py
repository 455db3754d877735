"""Compares gradients with KerasTuner, at one budget of elementary steps.

    python -m benchmarks.against_tuners --data_dir=FOLDER --run_name=mnist

Tunes 1, 4, 20 and 934 L2 coefficients of the paper's 784-50-50-50-10 net: one
for all weights, one for each layer, for each of five groups of every layer's
inputs, for each input. DrMAD and exact reverse mode, against KerasTuner's
`RandomSearch` and `BayesianOptimization`. Fu et al. say that Bayesian
optimization serves up to about 20 hyperparameters.

All train alike: T steps on 1,000 images, with the same weights, order of data
and compiled loop for all methods of a seed. With so few images a penalty
matters: the best single one, 0.003, takes the validation loss of seed 100 from
0.69 to 0.62; with 15,000 the best one is none. All coefficients lie in [1e-6,
0.1] and start at its geometric middle, which is the tuners' first trial. The
tuners see the validation loss only.

What is spent are forward steps, and for each reverse step `REVERSE_COST`. By
KerasTuner's default Bayesian optimization begins with three random trials for
each hyperparameter, which within such a budget is random search for 20 or
more: here it begins with 10 trials at most.

The "s of search" are all of processor time but those of forward steps: walks
back, a Gaussian process and its suggestions, validation (the same for all); no
compilation. A search that took `--search_minutes` of them ends. `--meta_step`,
for all counts and both gradients, was chosen by a look at seed 100.

The same command goes on where it was killed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags, logging

FLAGS = flags.FLAGS

LABELS = {
    "drmad": "DrMAD",
    "reverse": "exact reverse mode",
    "random": "RandomSearch",
    "bayesian": "BayesianOptimization",
}
flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "Which images.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with mnist.npz or TFDS's data; KERAS_DRMAD_DATA by default.",
)
flags.DEFINE_multi_enum(
    "methods", list(LABELS), list(LABELS), "Which; once for each."
)
flags.DEFINE_list(
    "counts",
    ["1", "4", "20", "934"],
    "Numbers of coefficients: 1, a multiple of the 4 layers, or all inputs.",
)
flags.DEFINE_integer("seeds", 3, "Of data, weights and searches.", 1)
flags.DEFINE_integer("first_seed", 0, "The first of them.", 0)
flags.DEFINE_integer("steps", 2000, "T, elementary steps of a training.", 10)
flags.DEFINE_integer("budget", 32, "What is spent, in trainings.", 2)
flags.DEFINE_float("meta_step", 0.3, "Step of the log coefficients.", 0)
flags.DEFINE_float(
    "search_minutes", 3, "Most processor time outside of trainings.", 0
)
flags.DEFINE_integer(
    "processes", 1, "Searches at a time; 0: in this process.", 0
)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")

# (training, validation, test)
SIZES = {"mnist": (1000, 5000, 5000), "digits": (200, 800, 797)}
HIDDEN = (50, 50, 50)
BOUNDS = (1e-6, 1e-1)
START = math.sqrt(BOUNDS[0] * BOUNDS[1])
# Forward steps that take as long: `python -m benchmarks.meta_iteration`.
REVERSE_COST = 1.2
RANDOM_TRIALS = 10


# ---- 1, 4, 20, ... or as many coefficients as a net has inputs of layers


def groups_of_rows(rows: Sequence[int], count: int) -> list:
    """Returns the group of each row of each kernel, as arrays.

    Args:
        rows: how many each kernel has.
        count: int, of groups: 1, as many for each kernel, or one for each row.

    Raises:
        ValueError: if it is none of these.
    """
    import numpy as np

    if count == 1:
        return [np.zeros(n, int) for n in rows]
    shares = rows
    if count != sum(rows):
        shares = [count // len(rows)] * len(rows)
    fits = all(0 < k <= n for k, n in zip(shares, rows, strict=True))
    if sum(shares) != count or not fits:
        raise ValueError(
            "Invalid value for flag `counts`. Expected 1, a multiple of "
            f"{len(rows)} up to {len(rows) * min(rows)}, or {sum(rows)}. "
            f"Received: {count}."
        )
    starts = np.cumsum([0, *shares[:-1]])
    return [
        start + np.arange(n) * k // n
        for start, k, n in zip(starts, shares, rows, strict=True)
    ]


def grouped_l2(count: int):
    """Returns a penalty with `count` coefficients for groups of inputs."""
    import tensorflow as tf

    import keras_drmad as kd

    class GroupedL2(kd.hyperparameters.Kind):
        """Adds Σ coefficient · w², of the group of a weight's input."""

        transform = kd.hyperparameters.Log()

        def bind(self, model, optimizer):
            self._kernels = [
                v for v in model.trainable_variables if v.name == "kernel"
            ]
            rows = [kernel.shape[0] for kernel in self._kernels]
            self._groups = groups_of_rows(rows, count)
            self.create((count,), START)

        def penalty(self, raw, params):
            coefficients = self.transform.value(raw)
            return tf.add_n(
                [
                    tf.tensordot(
                        tf.gather(coefficients, group),
                        tf.reduce_sum(tf.square(params[id(kernel)]), axis=1),
                        axes=1,
                    )
                    for kernel, group in zip(
                        self._kernels, self._groups, strict=True
                    )
                ]
            )

    return GroupedL2("l2", BOUNDS)


# ---- one search


def build_model(images, method: str, count: int, meta_step: float):
    """Returns the paper's net as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd
    from examples.tanh_net import tanh_net

    net = tanh_net(
        math.prod(images.shape), HIDDEN, images.classes, math.exp(-3)
    )
    alpha, gamma = 0.05, 0.95
    model = kd.DrMADModel.from_model(net)
    model.compile(
        # Keras's velocity has the rate in it, and no factor 1 - gamma.
        optimizer=keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[grouped_l2(count)],
        hypergradient=kd.ReverseMode() if method == "reverse" else kd.DrMAD(),
        meta_optimizer=kd.SignDescent(meta_step),
    )
    return model


def meter(test, steps: int, budget: int):
    """Returns a callback that records trainings until the budget is spent."""
    import time

    import keras_drmad as kd

    class Meter(kd.callbacks.HeldOut):
        """Keeps what each training reached, and what it took.

        Attributes:
            records: list of dicts, one for each training.
        """

        def __init__(self) -> None:
            super().__init__(*test, batch_size=1000)
            self.records: list[dict[str, float]] = []
            self._spent = 0.0
            # In processor time: other programs may keep the machine busy.
            self._begin = time.process_time()
            self._trained = 0.0  # seconds of forward steps
            self._tested = 0.0  # seconds of looking at test data

        def search_seconds(self) -> float:
            """Returns all so far but those of forward steps and tests."""
            passed = time.process_time() - self._begin
            return passed - self._trained - self._tested

        def on_epoch_begin(self, epoch, logs=None):
            self._first = time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            self._last = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            logs = dict(logs)
            begin = time.process_time()
            super().on_epoch_end(epoch, logs)
            self._tested += time.process_time() - begin
            self._trained += self._last - self._first
            self._spent += steps
            self.records.append(
                {
                    "steps": self._spent,
                    "val_loss": logs["val_loss"],
                    "val_error": 1 - logs["val_accuracy"],
                    "test_loss": logs["test_loss"],
                    "test_error": 1 - logs["test_accuracy"],
                    "search_seconds": self.search_seconds(),
                }
            )
            self._spent += REVERSE_COST * logs.get("reverse_steps_used", 0)
            if self._spent + steps > budget * steps:
                self.model.stop_training = True

    return Meter()


def oracle(method: str, count: int, seed: int, most_trials: int, is_late):
    """Returns KerasTuner's search, which begins at `START`.

    Args:
        is_late: function that says whether to end the search.
    """
    import keras_tuner as kt

    class Begun(kt.Oracle):
        """Begins at the defaults, and ends when it is late."""

        def populate_space(self, trial_id):
            if not self.trials:
                values = {hp.name: hp.default for hp in self.get_space().space}
                return {"status": "RUNNING", "values": values}
            if is_late():
                return {"status": "STOPPED"}
            return super().populate_space(trial_id)

    class Random(Begun, kt.oracles.RandomSearchOracle):
        """`RandomSearch`."""

    class Bayesian(Begun, kt.oracles.BayesianOptimizationOracle):
        """`BayesianOptimization`."""

    space = kt.HyperParameters()
    for name in names(count):
        space.Float(name, *BOUNDS, sampling="log", default=START)
    options: dict[str, Any] = {
        "objective": kt.Objective("val_loss", "min"),
        "max_trials": most_trials,
        "hyperparameters": space,
        "seed": seed + 1,  # KerasTuner takes 0 for none
    }
    if method == "random":
        return Random(**options)
    points = min(3 * count, RANDOM_TRIALS)
    return Bayesian(**options, num_initial_points=points)


def names(count: int) -> list[str]:
    """Returns KerasTuner's names of the coefficients."""
    return [f"l2_{k}" for k in range(count)]


def restart_of(model):
    """Returns a function that gives back the weights and a new optimizer."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]

    def restart() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return restart


def search_by_trials(model, oracle, restart, arguments) -> None:
    """Trains with what KerasTuner asks for, until it ends.

    Args:
        model: a `DrMADModel` with one kind of hyperparameters.
        oracle: of KerasTuner.
        restart: function, see `restart_of`.
        arguments: those of `fit`.
    """
    import tempfile

    import keras_tuner as kt
    import numpy as np

    (l2,) = model.hyperparameters
    order = names(l2.raw.shape[0])

    class Search(kt.Tuner):
        """Trains in this package's compiled loop."""

        def run_trial(self, trial, **_):
            values = [trial.hyperparameters.values[name] for name in order]
            l2.assign(np.clip(values, *BOUNDS))  # they are rounded
            restart()  # `fit` would go on with the optimizer's velocity
            history = model.fit(**arguments, meta_iterations=0).history
            return {"val_loss": history["val_loss"][0]}

    with tempfile.TemporaryDirectory() as folder:
        Search(oracle=oracle, directory=folder).search(verbose=0)


def search(
    method: str,
    count: int,
    seed: int,
    dataset: str,
    data_dir: str | None,
    steps: int,
    budget: int,
    meta_step: float,
    search_minutes: float,
) -> dict[str, Any]:
    """Runs one method; returns the record of each training, as arrays."""
    import keras
    import numpy as np

    from examples import datasets

    images = datasets.load(dataset, data_dir, SIZES[dataset], seed)
    keras.utils.set_random_seed(seed)
    model = build_model(images, method, count, meta_step)
    is_tuner = method in ("random", "bayesian")
    arguments = {
        "x": images.train[0],
        "y": images.train[1],
        "batch_size": 50,
        "steps_per_epoch": steps,
        "validation_data": images.validation,
        "validation_batch_size": 1000,
        "seed": seed,
        "verbose": 0,
    }
    restart = restart_of(model)
    model.fit(**arguments, meta_iterations=0 if is_tuner else 1)  # compiles
    restart()
    record = meter(images.test, steps, budget)
    arguments["callbacks"] = [record]
    if is_tuner:

        def is_late() -> bool:
            return record.search_seconds() > 60 * search_minutes

        tuner = oracle(method, count, seed, budget, is_late)
        search_by_trials(model, tuner, restart, arguments)
    else:
        model.fit(**arguments, meta_iterations=budget)
    return {
        key: np.array([one[key] for one in record.records])
        for key in record.records[0]
    }


# ---- what comes out


def best_so_far(result: Mapping[str, Any], key: str):
    """Returns an entry of the training with the lowest loss so far.

    Args:
        result: of `search`.
        key: str, the name of the entry.
    """
    import numpy as np

    loss = result["val_loss"]
    is_best = loss == np.minimum.accumulate(loss)
    places = np.maximum.accumulate(np.where(is_best, np.arange(len(loss)), 0))
    return result[key][places]


def draw(run, results: Mapping[tuple, Sequence[Mapping[str, Any]]]) -> None:
    """Writes the picture of losses against steps spent."""
    import numpy as np
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    counts = sorted({count for _, count in results})
    figure, panels = plt.subplots(
        2,
        len(counts),
        figsize=(1 + 3.2 * len(counts), 6.5),
        layout="constrained",
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for (method, count), cells in results.items():
        column = panels[:, counts.index(count)]
        ends = [cell["steps"][-1] for cell in cells]
        grid = np.linspace(cells[0]["steps"][0], min(ends), 400)
        for key, axes in zip(("val_loss", "test_loss"), column, strict=True):
            rows = [
                best_so_far(cell, key)[
                    np.searchsorted(cell["steps"], grid, side="right") - 1
                ]
                for cell in cells
            ]
            color = f"C{list(LABELS).index(method)}"
            plots.mean_and_band(
                grid / 1000,
                np.array(rows),
                axes,
                LABELS[method],
                color=color,
            )
            axes.plot(grid[-1] / 1000, np.mean(rows, 0)[-1], "o", color=color)
    for count, axes in zip(counts, panels[0], strict=True):
        axes.set_title(f"{count} coefficient{'s' if count > 1 else ''}")
    for axes in panels[1]:
        axes.set_xlabel("thousands of elementary steps spent")
    panels[0, 0].set_ylabel("best validation loss so far")
    panels[1, 0].set_ylabel("test loss of the same training")
    figure.suptitle(
        "Best of all trainings so far: mean and standard deviation over seeds; "
        "dots where searches end"
    )
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(LABELS),
    )
    run.write_figure(panels[0, 0], "losses_against_steps")


def table(results: Mapping[tuple, Sequence[Mapping[str, Any]]]) -> list[dict]:
    """Returns means and standard deviations over seeds, at the end."""
    import numpy as np

    def row(count, method, cells):
        def words(key: str, digits: int, factor: float = 1) -> str:
            values = [factor * best_so_far(cell, key)[-1] for cell in cells]
            spread = np.std(values, ddof=min(1, len(values) - 1))
            return f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}"

        lengths = sorted({len(cell["steps"]) for cell in cells})
        seconds = [cell["search_seconds"][-1] for cell in cells]
        return {
            "coefficients": count,
            "method": method,
            "trainings": " to ".join(map(str, lengths[:1] + lengths[1:][-1:])),
            "validation loss": words("val_loss", 4),
            "test loss": words("test_loss", 4),
            "validation error, %": words("val_error", 2, 100),
            "test error, %": words("test_error", 2, 100),
            "s of search": f"{np.mean(seconds):.0f}",
        }

    begun = [
        {key: values[:1] for key, values in cell.items()}
        for cell in next(iter(results.values()))
    ]
    return [row("any", "the start", begun)] + [
        row(count, LABELS[method], cells)
        for (method, count), cells in results.items()
    ]


def main(_):
    import matplotlib

    from examples import datasets, study
    from keras_drmad.saved_run import SavedRun

    matplotlib.use("Agg")
    logging.set_verbosity(logging.WARNING)
    counts = [int(count) for count in FLAGS.counts]
    data = FLAGS.dataset, FLAGS.data_dir
    images = datasets.load(*data, SIZES[FLAGS.dataset], 0)  # is it there?
    for count in counts:
        groups_of_rows([math.prod(images.shape), *HIDDEN], count)
    run = SavedRun(FLAGS.save_dir, "against_tuners", FLAGS.run_name, True)
    run.write_flags(FLAGS, "search_minutes")
    seeds = range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    cells = {
        f"{method}_{count}_{seed}": {
            "method": method,
            "count": count,
            "seed": seed,
            "dataset": FLAGS.dataset,
            "data_dir": FLAGS.data_dir,
            "steps": FLAGS.steps,
            "budget": FLAGS.budget,
            "meta_step": FLAGS.meta_step,
            "search_minutes": FLAGS.search_minutes,
        }
        for count in counts
        for method in FLAGS.methods
        for seed in seeds
    }
    found = study.run_cells(run, search, cells, FLAGS.processes)
    results = {
        (method, count): [found[f"{method}_{count}_{k}"] for k in seeds]
        for count in counts
        for method in FLAGS.methods
    }
    draw(run, results)
    study.report(run, table(results), "results")


if __name__ == "__main__":
    app.run(main)
