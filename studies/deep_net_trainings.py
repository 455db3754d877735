"""What one process of the deep net's study does."""

import time

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.papers import drmad_of_paper
from studies.residual_net import residual_net

# (training, validation, test), and what pixels are averaged over.
SIZES = {"cifar10": (4000, 1000, 1000), "digits": (1000, 400, 397)}
POOL = {"cifar10": 2, "digits": 1}
WITHIN = 30.0  # learned rates stay within this factor of the start's
KINDS = {"l2": "L2 coefficient", "learning_rate": "learning rate"}


def method_of(name: str):
    """Returns a method by the name that flags give it."""
    return {
        "drmad": drmad_of_paper(),
        "anchors": kd.DrMAD(1.0, anchors=39, spacing="end"),
        "exact": kd.ReverseMode("checkpointed"),
        "last_tenth": kd.DrMAD(last=0.1),
        "anchors_last": kd.DrMAD(0.3, anchors=39, spacing="end", last=0.3),
    }[name]


def images(dataset: str, data_dir: str | None, seed: int):
    """Returns `(x, y)` for training, validation and test, and the classes."""
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
            method: of the hypergradient.
            settings: dict of dataset, data_dir, blocks, channels, optimizer,
                T, batch_size and seed.
            learning_rate: float, of all layers at the start.
            penalty: float, of all layers at the start.
            meta_step: float.
        """
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
        self.meta_optimizer = FirstKept(meta_step)
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
        history = self.model.fit(
            *self.train,
            validation_data=self.validation,
            validation_batch_size=250,
            meta_iterations=meta_iterations,
            initial_weights="same",
            keep="last",
            seed=self.seed,
            callbacks=callbacks,
            **self.arguments,
        ).history
        return {name: np.array(row) for name, row in history.items()}

    def set(self, values) -> None:
        """Sets hyperparameters: by names, values for each layer or for all."""
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
    if name == "adam":
        return keras.optimizers.Adam(learning_rate)
    return keras.optimizers.SGD(learning_rate, momentum=0.9)


def has_kernel(layer) -> bool:
    """Returns whether a layer is one of those that are tuned."""
    return isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))


class FirstKept(keras.optimizers.Adam):
    """Adam that keeps the first gradients that it is given, in `first`."""

    first: list = []

    def apply(self, grads, trainable_variables=None):
        self.first = self.first or [np.array(g) for g in grads]
        super().apply(grads, trainable_variables)


class Clock(keras.callbacks.Callback):
    """Records the seconds of each meta-iteration."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.begin)


def tune(method: str, meta_iterations: int, meta_step: float, **settings):
    """Tunes by one method; returns the record of each training.

    Beside it the first hypergradient, and, if hyperparameters moved, what a
    final training with the best ones by validation loss gives.
    """
    start = {k: settings.pop(k) for k in ("learning_rate", "penalty")}
    bench = Bench(method_of(method), settings, **start, meta_step=meta_step)
    watch, recorder = Clock(), kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*bench.test, batch_size=250)
    diagnostics = kd.callbacks.Diagnostics()
    callbacks = [watch, held_out, recorder, diagnostics]
    record = bench.fit(meta_iterations, callbacks)
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
