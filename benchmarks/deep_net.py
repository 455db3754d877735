"""Tunes a deep residual net by several ways back, against what hands can do.

The paper leaves open whether DrMAD serves deep nets. Here a ResNet-20 with
BatchNormalization, trained by Adam on the CIFAR-10 subset at half its
resolution, gets an L2 penalty and a learning rate for each layer with a kernel;
each way back tunes them from the same start. Beside them: the start, and the
best of a small grid of one penalty and one rate for all layers. (By SGD with
momentum the exact adjoint grows a million times and more in the first 60 steps
of this net: `--optimizer=sgd --learning_rate=0.01` shows what that does.)

    python -m benchmarks.deep_net --data_dir=FOLDER --run_name=cifar10

At the end what each found trains a net of new weights on training and
validation images together, as one would to ship it. The same command goes on
where it was killed. DrMAD() has no row of its own: as soon as rates are tuned,
it is the paper's walk, one step in ten of the whole line.
"""

import os
import pathlib
import time

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "cifar10", ["cifar10", "digits"], "Which images.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with cifar10_jpeg_5k1k.npz; KERAS_DRMAD_DATA by default.",
)
flags.DEFINE_integer("blocks", 3, "Residual blocks in each of 3 stages.", 1)
flags.DEFINE_integer("channels", 8, "Channels of the first stage.", 1)
flags.DEFINE_integer("steps", 300, "T, elementary steps.", 1)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", 1)
flags.DEFINE_enum(
    "optimizer", "adam", ["adam", "sgd"], "Adam, or SGD with momentum 0.9."
)
flags.DEFINE_float("learning_rate", 1e-3, "At the start.", 0)
flags.DEFINE_float("penalty", 1e-4, "L2 coefficients at the start.", 0)
flags.DEFINE_integer("meta_iterations", 7, "Trainings of each way back.", 2)
flags.DEFINE_float("meta_step", 0.35, "Step on the logarithms, by Adam.", 0)
flags.DEFINE_list(
    "methods", ["drmad", "anchors", "exact"], "Ways back that tune."
)
flags.DEFINE_list(
    "compared",
    ["last_tenth", "anchors_last"],
    "Ways back of which only the first hypergradient is compared.",
)
flags.DEFINE_list(
    "grid_rates", ["0.3", "1", "3", "10"], "Factors on the rate, for the grid."
)
flags.DEFINE_list(
    "grid_penalties", ["0.1", "1", "10"], "Factors on the penalty."
)
flags.DEFINE_integer("seeds", 2, "Of data, weights and batches.", 1)
flags.DEFINE_integer("processes", 1, "Cells at a time; 0: in this process.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")

# (training, validation, test), and what pixels are averaged over.
SIZES = {"cifar10": (4000, 1000, 1000), "digits": (1000, 400, 397)}
POOL = {"cifar10": 2, "digits": 1}
WITHIN = 30.0  # learned rates stay within this factor of the start's
LABELS = {
    "drmad": "DrMAD, the paper's line",
    "anchors": "DrMAD, 39 lines, all steps",
    "exact": "exact, checkpointed",
    "last_tenth": "DrMAD(last=0.1)",
    "anchors_last": "DrMAD, 39 lines, last 0.3",
}
COLORS = {"drmad": "C0", "anchors": "C1", "exact": "C2", "grid": "0.4"}
KINDS = {"l2": "L2 coefficient", "learning_rate": "learning rate"}


def way_back(name: str):
    """Returns a method by its name in `LABELS`."""
    import keras_drmad as kd

    return {
        "drmad": kd.DrMAD(0.1, last=1.0, average=False),
        "anchors": kd.DrMAD(1.0, anchors=39, spacing="end"),
        "exact": kd.ReverseMode("checkpointed"),
        "last_tenth": kd.DrMAD(last=0.1),
        "anchors_last": kd.DrMAD(0.3, anchors=39, spacing="end", last=0.3),
    }[name]


# ---- one cell: a training or several, in a process of its own


def images(dataset: str, data_dir: str | None, seed: int):
    """Returns `(x, y)` for training, validation and test, and the classes."""
    from examples import datasets

    found = datasets.load(dataset, data_dir, SIZES[dataset], seed)
    height, width, *channels = found.shape
    pool = POOL[dataset]
    shape = (-1, height // pool, pool, width // pool, pool, *(channels or [1]))

    def small(x):
        return x.reshape(shape).mean(axis=(2, 4))

    parts = (found.train, found.validation, found.test)
    return [(small(x), y) for x, y in parts], found.classes


def new_net(shape, classes: int, blocks: int, channels: int, seed: int):
    """Returns a residual net with weights of a seed."""
    import keras

    from examples.residual_net import residual_net

    keras.utils.set_random_seed(seed)
    net = residual_net(shape, classes, blocks, channels)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.99 lags behind so short a training
    return net


class Bench:
    """A model, its start and its data; what the cells have in common."""

    def __init__(self, method, settings, learning_rate, penalty, meta_step):
        """Compiles the model.

        Args:
            method: the way back.
            settings: dict of dataset, data_dir, blocks, channels, optimizer,
                T, batch_size and seed.
            learning_rate: float, of all layers at the start.
            penalty: float, of all layers at the start.
            meta_step: float.
        """
        import keras

        import keras_drmad as kd

        self.seed, self.T = settings["seed"], settings["T"]
        (self.train, self.validation, self.test), classes = images(
            settings["dataset"], settings["data_dir"], self.seed
        )
        size = settings["blocks"], settings["channels"]
        shape = self.train[0].shape[1:]
        net = new_net(shape, classes, *size, self.seed)
        self.start = net.get_weights()
        other = new_net(shape, classes, *size, 1000 + self.seed)
        self.other_start = other.get_weights()
        bounds = learning_rate / WITHIN, learning_rate * WITHIN
        layers = [layer.name for layer in net.layers if has_kernel(layer)]
        self.model = kd.DrMADModel.from_model(net)
        self.meta_optimizer = first_kept(meta_step)
        self.model.compile(
            elementary_optimizer(settings["optimizer"], learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            hyperparameters=[
                kd.hyperparameters.L2("layer", penalty, bounds=(1e-8, 1.0)),
                kd.hyperparameters.LearningRate(
                    "layer", layers=layers, bounds=bounds
                ),
            ],
            hypergradient=method,
            meta_optimizer=self.meta_optimizer,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.new_optimizer = [v.numpy() for v in self.model.optimizer.variables]
        self.arguments = {
            "batch_size": settings["batch_size"],
            "steps_per_epoch": self.T,
            "verbose": 0,
        }

    def fit(self, meta_iterations: int, callbacks):
        """Tunes from the start; returns the history, as arrays."""
        import numpy as np

        history = self.model.fit(
            *self.train,
            validation_data=self.validation,
            validation_batch_size=250,
            meta_iterations=meta_iterations,
            restore_best=False,
            seed=self.seed,
            callbacks=callbacks,
            **self.arguments,
        ).history
        return {name: np.array(row) for name, row in history.items()}

    def set(self, values) -> None:
        """Sets hyperparameters: by names, values for each layer or for all."""
        import numpy as np

        for kind in self.model.hyperparameters:
            raw = np.log(values[kind.name])
            kind.raw.assign(np.broadcast_to(raw, kind.raw.shape))

    def trained(self) -> list[float]:
        """Trains from the start; returns validation and test results."""
        if not self._trains(self.start, self.train, self.seed):
            return [float("nan")] * 4
        return [*self._results(self.validation), *self._results(self.test)]

    def final(self) -> list[float]:
        """Trains new weights on all but test images; returns test results."""
        import numpy as np

        pairs = zip(self.train, self.validation, strict=True)
        both = tuple(np.concatenate(pair) for pair in pairs)
        if not self._trains(self.other_start, both, 1000 + self.seed):
            return [float("nan")] * 2
        return self._results(self.test)

    def _trains(self, weights, data, seed: int) -> bool:
        """Trains by a new optimizer; returns whether it stayed finite."""
        self.model.elementary_model.set_weights(weights)
        for variable, value in zip(
            self.model.optimizer.variables, self.new_optimizer, strict=True
        ):  # as any `fit`, this one would go on with the velocity
            variable.assign(value)
        try:
            self.model.fit(
                *data, meta_iterations=0, seed=seed, **self.arguments
            )
        except FloatingPointError:  # it diverged
            return False
        return True

    def _results(self, data) -> list[float]:
        """Returns loss and error, without penalties."""
        found = self.model.evaluate(
            *data, batch_size=250, verbose=0, return_dict=True
        )
        return [found["loss"], 1 - found["accuracy"]]


def elementary_optimizer(name: str, learning_rate: float):
    """Returns the optimizer of the net."""
    import keras

    if name == "adam":
        return keras.optimizers.Adam(learning_rate)
    return keras.optimizers.SGD(learning_rate, momentum=0.9)


def has_kernel(layer) -> bool:
    """Returns whether a layer is one of those that are tuned."""
    import keras

    return isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))


def first_kept(step: float):
    """Returns Adam that keeps the first gradients it is given, in `first`."""
    import keras
    import numpy as np

    class FirstKept(keras.optimizers.Adam):
        first: list = []

        def apply(self, grads, trainable_variables=None):
            self.first = self.first or [np.array(g) for g in grads]
            super().apply(grads, trainable_variables)

    return FirstKept(step)


def clock():
    """Returns a callback that records the seconds of each meta-iteration."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.begin)

    return Clock()


def tune(method: str, meta_iterations: int, meta_step: float, **settings):
    """Tunes by one way back; returns the record of each training.

    Beside it the first hypergradient, and, if hyperparameters moved, what a
    final training with the best ones by validation loss gives.
    """
    import numpy as np

    import keras_drmad as kd

    start = {k: settings.pop(k) for k in ("learning_rate", "penalty")}
    bench = Bench(way_back(method), settings, **start, meta_step=meta_step)
    watch, recorder = clock(), kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*bench.test, batch_size=250)
    record = bench.fit(meta_iterations, [watch, held_out, recorder])
    record["seconds"] = np.array(watch.seconds)
    for kind, gradient in zip(KINDS, bench.meta_optimizer.first, strict=True):
        record[f"first_{kind}"] = gradient
    values = recorder.values
    if meta_iterations > 1:
        best = int(np.argmin(record["val_loss"]))
        bench.set({kind: values[kind][best] for kind in KINDS})
        record["final"] = np.array(bench.final())
    record |= {f"value_{kind}": values[kind] for kind in KINDS}
    record["layers"] = np.array(
        list(bench.model.hyperparameters[0].by_layer(values["l2"]))
    )
    return {name.replace("/", "_"): row for name, row in record.items()}


def search(rates: list[float], penalties: list[float], **settings):
    """Trains at the start, then at each point of a grid; nothing is tuned.

    Returns:
        Dict of `points` (n, 2), rate and penalty; their `results` (n, 4), loss
        and error in validation and test; `seconds` of a training; and what a
        final training gives with the start's and with the best point's.
    """
    import numpy as np

    import keras_drmad as kd

    start = settings.pop("learning_rate"), settings.pop("penalty")
    bench = Bench(kd.DrMAD(), settings, *start, meta_step=0.1)
    grid = [(start[0] * a, start[1] * b) for a in rates for b in penalties]
    points = [start] + [p for p in grid if not np.allclose(p, start)]
    results, seconds = [], []

    def use(point):
        bench.set(dict(zip(("learning_rate", "l2"), point, strict=True)))

    for point in points:
        use(point)
        begin = time.perf_counter()
        results.append(bench.trained())
        seconds.append(time.perf_counter() - begin)
    record = {"points": points, "results": results, "seconds": seconds}
    best = int(np.nanargmin(np.array(results)[:, 0]))
    for name, k in (("start", 0), ("best", best)):
        use(points[k])
        record[f"final_{name}"] = bench.final()
    return {name: np.array(row) for name, row in record.items()}


def cell(kind: str, **settings):
    """Runs one cell; see `tune` and `search`."""
    return tune(**settings) if kind == "tune" else search(**settings)


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = {
        "dataset": FLAGS.dataset,
        "data_dir": FLAGS.data_dir,
        "blocks": FLAGS.blocks,
        "channels": FLAGS.channels,
        "optimizer": FLAGS.optimizer,
        "T": FLAGS.steps,
        "batch_size": FLAGS.batch_size,
        "learning_rate": FLAGS.learning_rate,
        "penalty": FLAGS.penalty,
    }
    counts = dict.fromkeys(FLAGS.compared, 1)
    counts |= dict.fromkeys(FLAGS.methods, FLAGS.meta_iterations)
    found = {}
    for seed in range(FLAGS.seeds):
        own = common | {"seed": seed}
        found[f"grid_{seed}"] = own | {
            "kind": "search",
            "rates": [float(factor) for factor in FLAGS.grid_rates],
            "penalties": [float(factor) for factor in FLAGS.grid_penalties],
        }
        for method, count in counts.items():
            found[f"{method}_{seed}"] = own | {
                "kind": "tune",
                "method": method,
                "meta_iterations": count,
                "meta_step": FLAGS.meta_step,
            }
    return found


# ---- tables and pictures


def by_method(results) -> dict[str, list]:
    """Returns the records of each method, and of the grid, by seed."""
    names = ["grid", *FLAGS.methods, *FLAGS.compared]
    seeds = range(FLAGS.seeds)
    return {name: [results[f"{name}_{s}"] for s in seeds] for name in names}


def rows_of(records, name: str):
    """Returns `(seeds, meta_iterations)`; nan where a training diverged."""
    import numpy as np

    rows = np.full((len(records), FLAGS.meta_iterations), np.nan)
    for row, record in zip(rows, records, strict=True):
        row[: len(record[name])] = record[name]
    return rows


def test_curves(records):
    """Returns `(seeds, meta_iterations)` of test losses, and of errors."""
    return (
        rows_of(records, "test_loss"),
        100 * (1 - rows_of(records, "test_accuracy")),
    )


def trainings(records, grid):
    """Returns the cost of each meta-iteration, in trainings, by seed.

    The median over meta-iterations, without what compiling took once.
    """
    import numpy as np

    return np.array(
        [
            np.median(record["seconds"]) / np.median(plain["seconds"])
            for record, plain in zip(records, grid, strict=True)
        ]
    )


def cosine(a, b) -> float:
    """Returns the cosine of the angle between two vectors; nan for 0."""
    import numpy as np

    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else float("nan")


def said(values, digits: int = 3) -> str:
    """Returns mean and standard deviation, in words."""
    import numpy as np

    values = np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def row(method: str, records, found) -> dict[str, str]:
    """Returns the row of a way back in the table."""
    import numpy as np

    best = [int(np.argmin(r["val_loss"])) for r in records]
    tuned = len(records[0]["val_loss"]) > 1

    def change(values, digits):
        first = said([v[0] for v in values], digits)
        last = said([v[k] for v, k in zip(values, best, strict=True)], digits)
        return f"{first} → {last}" if tuned else "-"

    errors = [100 * (1 - r["test_accuracy"]) for r in records]
    exact = found.get("exact", records)
    cost = FLAGS.meta_iterations * trainings(records, found["grid"])
    growth = np.concatenate([r["adjoint_growth"] for r in records])
    used = np.concatenate([r["reverse_steps_used"] for r in records])
    return {
        "method": LABELS[method],
        "validation loss": change([r["val_loss"] for r in records], 3),
        "test loss": change([r["test_loss"] for r in records], 3),
        "test error, %": change(errors, 1),
        "final test error, %": (
            said([100 * r["final"][1] for r in records], 1) if tuned else "-"
        ),
        "cost, trainings": said(cost, 1) if tuned else "-",
        "memory, copies": f"{records[0]['copies'][0]:.0f}",
        **{
            f"cosine, {kind}": said(
                [
                    cosine(r[f"first_{kind}"], e[f"first_{kind}"])
                    for r, e in zip(records, exact, strict=True)
                ],
                2,
            )
            for kind in KINDS
        },
        "adjoint growth": f"{growth.min():.3g} to {growth.max():.3g}",
        "reverse steps": f"{used.min():.0f} to {used.max():.0f}",
    }


def plain_rows(grid, columns) -> list[dict[str, str]]:
    """Returns the rows of the start and of the grid's best point."""
    import numpy as np

    best = [int(np.nanargmin(r["results"][:, 0])) for r in grid]
    found = []
    for name, places, cost in (
        ("start", [0] * len(grid), 1),
        ("best", best, len(grid[0]["points"])),
    ):
        chosen = np.array(
            [r["results"][k] for r, k in zip(grid, places, strict=True)]
        )
        label = "the start" if name == "start" else "best of the grid"
        finals = [100 * r[f"final_{name}"][1] for r in grid]
        found.append(
            dict.fromkeys(columns, "-")
            | {
                "method": label,
                "validation loss": said(chosen[:, 0]),
                "test loss": said(chosen[:, 2]),
                "test error, %": said(100 * chosen[:, 3], 1),
                "final test error, %": said(finals, 1),
                "cost, trainings": str(cost),
            }
        )
    return found


def table(found) -> list[dict[str, str]]:
    """Returns the rows of the table."""
    ways = [
        row(name, records, found)
        for name, records in found.items()
        if name != "grid"
    ]
    return plain_rows(found["grid"], ways[0]) + ways


def best_so_far(losses, values):
    """Returns the value at the lowest loss until each place, `(n,)`."""
    import numpy as np

    places = [int(np.nanargmin(losses[: k + 1])) for k in range(len(losses))]
    return np.asarray(values)[places]


def two_axes(title: str, xlabel: str):
    """Returns axes of test loss and test error."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    figure.suptitle(title)
    for one, name in zip(axes, ("test loss", "test error, %"), strict=True):
        one.set_xlabel(xlabel)
        one.set_ylabel(name)
    return axes


def legend_below(axes) -> None:
    """Puts one legend for all axes of a figure below them."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels)
    )


def draw_meta_iterations(run, found) -> None:
    """Writes what each training reached."""
    import numpy as np
    from matplotlib import ticker

    from keras_drmad import plots

    axes = two_axes(
        "The net of each meta-iteration, mean and deviation over seeds",
        "meta-iteration",
    )
    grid = found["grid"]
    best = [r["results"][np.nanargmin(r["results"][:, 0])] for r in grid]
    levels = np.mean(best, axis=0)[2:] * (1, 100)
    places = np.arange(1, FLAGS.meta_iterations + 1)
    for k, one in enumerate(axes):
        for name in FLAGS.methods:
            plots.mean_and_band(
                places,
                test_curves(found[name])[k],
                one,
                LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        one.axhline(
            levels[k], color=COLORS["grid"], ls="--", label="best of the grid"
        )
        one.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    legend_below(axes[0])
    run.write_figure(axes[0], "meta_iterations")


def draw_cost(run, found) -> None:
    """Writes the test results of the best by validation, against the cost."""
    import numpy as np

    from keras_drmad import plots

    axes = two_axes(
        "Best so far by validation loss, against the cost",
        "cost, in plain trainings",
    )
    grid = found["grid"]
    for k, one in enumerate(axes):
        for name in FLAGS.methods:
            records = found[name]
            losses = rows_of(records, "val_loss")
            pairs = zip(losses, test_curves(records)[k], strict=True)
            cost = trainings(records, grid).mean()
            plots.mean_and_band(
                cost * np.arange(1, FLAGS.meta_iterations + 1),
                np.array([best_so_far(*pair) for pair in pairs]),
                one,
                LABELS[name],
                color=COLORS[name],
                marker=".",
            )
        found_by_grid = [
            best_so_far(r["results"][:, 0], r["results"][:, 2 + k])
            for r in grid
        ]
        plots.mean_and_band(
            np.arange(1, len(grid[0]["points"]) + 1),
            np.array(found_by_grid) * (1, 100)[k],
            one,
            "grid of one rate and one penalty",
            color=COLORS["grid"],
            marker=".",
        )
    legend_below(axes[0])
    run.write_figure(axes[0], "cost")


def draw_hyperparameters(run, found) -> None:
    """Writes the best penalties and rates of each layer, in order of depth."""
    import numpy as np
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    figure, axes = plt.subplots(
        2, 1, figsize=(9, 7), sharex=True, layout="constrained"
    )
    figure.suptitle("What was learned for each layer, from first to last")
    for (kind, label), one in zip(KINDS.items(), axes, strict=True):
        for name in FLAGS.methods:
            rows = [
                r[f"value_{kind}"][np.argmin(r["val_loss"])]
                for r in found[name]
            ]
            plots.mean_and_band(
                np.arange(len(rows[0])),
                np.array(rows),
                one,
                LABELS[name],
                log=True,
                color=COLORS[name],
                marker=".",
            )
        first = found[FLAGS.methods[0]][0][f"value_{kind}"][0, 0]
        one.axhline(first, color="0.4", ls=":", label="the start")
        one.set_yscale("log")
        one.set_ylabel(label)
    layers = found[FLAGS.methods[0]][0]["layers"]
    axes[1].set_xticks(
        np.arange(len(layers)), layers, rotation=90, fontsize="small"
    )
    legend_below(axes[0])
    run.write_figure(axes[0], "hyperparameters")


def check_data(data_dir: str | None) -> None:
    """Checks that the images are there, before work starts.

    Raises:
        FileNotFoundError: if they are not.
    """
    from examples import datasets

    folder = data_dir or os.environ.get("KERAS_DRMAD_DATA") or ""
    path = pathlib.Path(folder, datasets.FILES["cifar10"])
    if FLAGS.dataset == "cifar10" and not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}. Pass a folder that holds {path.name}, of "
            "Keras's keys x_train, y_train, x_test and y_test, as --data_dir, "
            "or use --dataset=digits."
        )


def main(_):
    import matplotlib

    from examples import study
    from keras_drmad.saved_run import SavedRun

    matplotlib.use("Agg")
    logging.set_verbosity(logging.WARNING)
    check_data(FLAGS.data_dir)
    run = SavedRun(FLAGS.save_dir, "deep_net", FLAGS.run_name, resume=True)
    run.write_flags(FLAGS, "dataset")
    found = by_method(study.run_cells(run, cell, cells(), FLAGS.processes))
    draw_meta_iterations(run, found)
    draw_cost(run, found)
    draw_hyperparameters(run, found)
    study.report(run, table(found), "results")


if __name__ == "__main__":
    app.run(main)
