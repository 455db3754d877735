"""Learned schedules of rates and momenta beside those one would set."""

import math
from typing import Any

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from examples.tanh_net import tanh_net
from studies.plain_trainer import Trainer

MEASURES = ("training loss", "test loss", "test error, %")
ALPHA, BETA, SCALE = math.exp(-1), 0.5, math.exp(-3)  # where all begin
NEW = 1000  # seeds of new draws begin here
BATCH_SIZE = 200
GLOROT = "glorot_uniform"
# Names to: first weights, momentum (`None`: Adam), has a cosine decay, rates.
GRIDS: dict[str, Any] = {
    "one rate, momentum .5, the paper's first weights": (
        (SCALE, 0.5, False),
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2],
    ),
    "one rate, Nesterov's momentum .9": (
        (GLOROT, 0.9, False),
        [0.02, 0.05, 0.1, 0.2, 0.4, 0.8],
    ),
    "Nesterov's momentum .9, cosine decay": (
        (GLOROT, 0.9, True),
        [0.02, 0.05, 0.1, 0.2, 0.4, 0.8],
    ),
    "Adam, one rate": (
        (GLOROT, None, False),
        [0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
    ),
    "Adam, cosine decay": (
        (GLOROT, None, True),
        [0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
    ),
}
MOMENTA = (None, 0.8, 0.9, 0.95)  # of the random search


def cell(
    dataset: str,
    data_dir: str | None,
    seed: int,
    draws: int,
    steps: int,
    meta_iterations: int,
) -> dict[str, np.ndarray]:
    """Learns schedules, and tries them and others on new draws.

    Args:
        dataset: str, of `examples.datasets`.
        data_dir: as for `datasets.load`.
        seed: int, of data and tuning.
        draws: int, new weights and orders of each way.
        steps: int, T.
        meta_iterations: int, how many trainings tune.

    Returns:
        Dict with `names` of the ways, and `values`, `(ways, draws, measures)`.
    """
    is_small = dataset == "digits"
    sizes = (1000, 400, 397) if is_small else (10000, 10000, 10000)
    images = datasets.load(dataset, data_dir, sizes, seed)
    found = learned(images, steps, meta_iterations, seed, draws)
    bench = Bench(images, steps)
    new = range(NEW * (seed + 1), NEW * (seed + 1) + draws)
    rivals = {}
    for name, ((start, momentum, decays), rates) in GRIDS.items():
        tried = [
            bench.scores(start, momentum, decays, 0.0, rate, new)
            for rate in rates
        ]
        rivals[name] = min(tried, key=lambda own: own[:, 0].mean())
    name = f"random search, {meta_iterations} trainings"
    rivals[name] = bench.random_search(meta_iterations, seed, new)
    found = {"untuned": found["start"]} | rivals | {"ours": found["found"]}
    return {
        "names": np.array(list(found)),
        "values": np.array(list(found.values())),
    }


def learned(
    images, steps: int, meta_iterations: int, seed: int, draws: int
) -> dict[str, np.ndarray]:
    """Returns the measures on new draws before and after tuning."""
    keras.utils.set_random_seed(seed)
    pixels = math.prod(images.shape)
    # First weights of deviation 1, which `InitialScale` multiplies.
    net = tanh_net(pixels, [50] * 3, images.classes, start=1.0, bias_start=1.0)
    model = kd.DrMADModel.from_model(net)
    schedule: Any = {"per": "tensor", "schedule": "step", "steps": steps}
    model.compile(
        optimizer=keras.optimizers.SGD(ALPHA * (1 - BETA), momentum=BETA),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.LearningRate(**schedule),
            kd.hyperparameters.Momentum(**schedule),
            kd.hyperparameters.InitialScale("tensor", SCALE, biases=True),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=keras.optimizers.Adam(0.04),
    )
    training = {
        "batch_size": BATCH_SIZE,
        "steps_per_epoch": steps,
        "validation_data": images.train,  # the training loss is minimized
        "validation_batch_size": 1000,
        "seed": seed,
        "verbose": 0,
    }
    model.fit(
        *images.train, **training, meta_iterations=meta_iterations, keep="best"
    )
    check = model.check_hyperparameters(
        *images.train, **training, test_data=images.test, draws=draws
    )
    return {
        name: np.stack(
            [
                own["val_loss"],
                own["test_loss"],
                100 * (1 - own["test_accuracy"]),
            ],
            axis=1,
        )
        for name, own in check.results.items()
    }


class Bench:
    """Trainings of one seed's images with rates that one would set."""

    def __init__(self, images, steps: int):
        """Makes a trainer for each optimizer."""
        self.images, self.steps = images, steps
        self.starts: dict = {}  # first weights, by their kind and seed
        self.trainers = {
            m: Trainer(self.net(GLOROT), optimizer(m), BATCH_SIZE)
            for m in (*MOMENTA, 0.5)
        }

    def net(self, start) -> keras.Model:
        """Returns a new net, with biases of the kernels' scale or of 0."""
        pixels = math.prod(self.images.shape)
        biases = start if isinstance(start, float) else 0.0
        return tanh_net(pixels, [50] * 3, self.images.classes, start, biases)

    def start(self, start, seed: int) -> list[np.ndarray]:
        """Returns first weights, drawn once for each kind and seed."""
        if (start, seed) not in self.starts:
            keras.utils.set_random_seed(seed)
            self.starts[start, seed] = self.net(start).get_weights()
        return self.starts[start, seed]

    def scores(self, start, momentum, decays, warm_up, rate, seeds):
        """Returns the measures of trainings from these seeds.

        Args:
            start: deviation or initializer of the first weights.
            momentum: float; `None` for Adam.
            decays: bool, by a cosine to 0.
            warm_up: float, the part of the steps in which the rate rises.
            rate: float, the highest.
            seeds: iterable of int.
        """
        trainer = self.trainers[momentum]
        rates = rate * shape_of_rates(self.steps, decays, warm_up)
        found = []
        for seed in seeds:
            trainer.start(self.start(start, seed))
            trainer.train(*self.images.train, self.steps, seed, rates=rates)
            training, _ = trainer.scores(*self.images.train)
            found.append([training, *trainer.scores(*self.images.test)])
        return np.nan_to_num(np.array(found), nan=np.inf)

    def random_search(self, trials: int, seed: int, new) -> np.ndarray:
        """Returns the measures on new draws of the best of some trials."""
        random = np.random.default_rng(seed)
        tried = []
        for trial in range(trials):
            momentum = MOMENTA[random.integers(len(MOMENTA))]
            low, high = (-3, -1.3) if momentum is None else (-2, 0)
            decays, warm_up = bool(random.integers(2)), random.uniform(0, 0.3)
            settings = decays, warm_up, 10 ** random.uniform(low, high)
            own = [NEW // 2 + trial]
            loss = self.scores(GLOROT, momentum, *settings, own)[0, 0]
            tried.append((loss, trial, momentum, settings))
        _, _, momentum, settings = min(tried, key=lambda one: one[:2])
        return self.scores(GLOROT, momentum, *settings, new)


def optimizer(momentum: float | None) -> keras.Optimizer:
    """Returns Adam, or SGD with Nesterov's momentum (plain at .5)."""
    if momentum is None:
        return keras.optimizers.Adam(0.001)
    nesterov = momentum > BETA
    return keras.optimizers.SGD(0.1, momentum=momentum, nesterov=nesterov)


def shape_of_rates(steps: int, decays: bool, warm_up: float) -> np.ndarray:
    """Returns rates over the highest one, `(steps,)`."""
    time = (np.arange(steps) + 0.5) / steps
    shape = np.minimum(1, time / max(warm_up, 1e-9))
    after = np.clip((time - warm_up) / (1 - warm_up), 0, 1)
    return shape * (0.5 + 0.5 * np.cos(np.pi * after) if decays else 1)
