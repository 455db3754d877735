"""What one process of the study of schedules from nothing does."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.lenet import lenet
from studies.plain_trainer import Trainer
from studies.residual_net import residual_net
from studies.rivals_schedule import shape_of_rates

NEW = 1000  # seeds of new draws begin here
BATCH_SIZE = 50
OFF = 100.0
ADAMW, SGD = "AdamW", "SGD, momentum .9"
SCHEDULE_FREE = "ScheduleFreeAdamW"
# Of the trial on digits: (training, validation, test).
DIGITS = (1000, 400, 397)


class Problem(NamedTuple):
    """A net, its images, and what is usual for it.

    Attributes:
        dataset: str, of `examples.datasets`.
        sizes: numbers of training, validation and test images.
        pool: int, over how many pixels a side images are averaged.
        rate: float, a usual rate of AdamW, in the middle of its grid.
        sgd_rate: float, a usual rate of SGD with momentum .9, likewise.
        optimizer: str, `"adamw"` or `"sgd"`, whose numbers are learned.
    """

    dataset: str
    sizes: tuple[int, int, int]
    pool: int
    rate: float
    sgd_rate: float
    optimizer: str = "adamw"

    def net(self, shape, classes: int) -> keras.Model:
        """Returns a new net."""
        if self.dataset == "mnist":
            return lenet(shape, classes)
        net = residual_net(shape, classes, blocks=1, channels=8)
        for layer in net.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # 0.99 lags behind so short a training
        return net


MNIST = Problem("mnist", (5000, 2000, 10000), 1, 0.008, 0.1)
PROBLEMS = {
    "lenet": MNIST,
    "lenet_sgd": MNIST._replace(optimizer="sgd"),
    "resnet": Problem("cifar10", (4000, 1000, 1000), 2, 0.008, 0.1),
}
DECAY = 0.004  # Keras's default of AdamW


class Bench:
    """A problem's images and nets of a seed."""

    def __init__(self, problem: str, digits: bool, data_dir, seed: int):
        """Loads the images."""
        self.problem, self.seed = PROBLEMS[problem], seed
        dataset, sizes, pool = self.problem[:3]
        if digits:
            dataset, sizes, pool = "digits", DIGITS, 1
        images = datasets.load(dataset, data_dir, sizes, seed)
        self.images = images.as_pictures(centred=True)
        self.classes = images.classes
        self.train, self.validation, self.test = (
            (_pooled(x, pool), y) for x, y in self.images[:3]
        )

    def net(self, seed: int) -> keras.Model:
        """Returns a net with weights of a seed."""
        keras.utils.set_random_seed(seed)
        return self.problem.net(self.train[0].shape[1:], self.classes)

    @property
    def new(self) -> range:
        """Seeds of new draws, as many as anybody asks for."""
        return range(NEW * (self.seed + 1), NEW * (self.seed + 2))


def cell(kind: str, problem: str, digits: bool, data_dir, seed, **settings):
    """Runs one cell; see `rivals`, `momenta` and `ours`."""
    bench = Bench(problem, digits, data_dir, seed)
    functions: dict[str, Callable] = {
        "rivals": rivals,
        "momenta": momenta,
        "ours": ours,
    }
    return functions[kind](bench, **settings)


def check_data(problem: str, digits: bool, data_dir) -> None:
    """Checks that the images are there, before work starts.

    Raises:
        FileNotFoundError: if they are not.
    """
    if not digits:
        dataset, sizes = PROBLEMS[problem][:2]
        datasets.load(dataset, data_dir, sizes, 0)


# ---- ours


def ours(
    bench: Bench,
    steps: int,
    draws: int,
    knots: int,
    meta_iterations: int,
    start: str,
    rule: str,
) -> dict[str, Any]:
    """Learns rate, momentum and decay; judges them on new draws.

    Returns:
        Dict with `names` of the ways; their `values` `(ways, draws, 2)` of test
        loss and error; the `steps` forward and backward that each spent, but
        for those of trainings that diverged and began again; the history of
        validation losses, of `rates` `(meta_iterations, knots)` and of
        trainings `past_edge`; and the rates `found`, `momentum` and `decay`.
    """
    kinds = kd.hyperparameters
    model = kd.DrMADModel.from_model(bench.net(bench.seed))
    model.compile(
        optimizer=_first_optimizer(bench.problem, start),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kinds.LearningRate(schedule="piecewise", knots=knots),
            kinds.Momentum(),
            kinds.WeightDecay(bounds=(1e-6, 1.0)),
        ],
        meta_optimizer={
            "SignConsensus()": kd.SignConsensus,
            "SignDescent(0.1)": lambda: kd.SignDescent(0.1),
        }[rule](),
        jit_compile=False,  # XLA takes minutes for convolutions on a CPU
    )
    training: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "steps_per_epoch": steps,
        "validation_data": bench.validation,
        "validation_batch_size": 500,
        "verbose": 0,
    }
    recorder = kd.callbacks.HyperparameterHistory()
    history = model.fit(
        *bench.train,
        **training,
        meta_iterations=meta_iterations,
        seed=bench.seed,
        callbacks=[recorder],
    ).history
    check = model.check_hyperparameters(
        *bench.train,
        **training,
        test_data=bench.test,
        draws=draws,
        seed=bench.new[0],
    )
    values = [
        np.stack([own["test_loss"], 100 * (1 - own["test_accuracy"])], axis=1)
        for own in (check.results["start"], check.results["found"])
    ]
    rate, momentum, decay = (h.value().numpy() for h in model.hyperparameters)
    return {
        "names": np.array([f"{start}, untuned", f"{start}, {rule}"]),
        "values": _with_chance(np.array(values), bench.classes),
        "steps": steps * np.array([[0, 0], [meta_iterations] * 2]),
        "val_loss": np.array(history["val_loss"]),
        "rates": np.array(recorder.values["learning_rate"]),
        "past_edge": np.array(model.diagnostics["past_edge"]),
        "found": rate,
        "momentum": momentum,
        "decay": decay,
    }


def _first_optimizer(problem: Problem, start: str) -> keras.Optimizer:
    """Returns the optimizer with which a tuning begins."""
    is_sgd = problem.optimizer == "sgd"
    rate = problem.sgd_rate if is_sgd else problem.rate
    momentum, decay = 0.9, DECAY
    if start == "from nothing":
        rate, momentum, decay = rate / OFF, 0.01, decay / OFF
    else:
        rate = rate * OFF
    if is_sgd:
        return keras.optimizers.SGD(rate, momentum=momentum, weight_decay=decay)
    return keras.optimizers.AdamW(rate, beta_1=momentum, weight_decay=decay)


# ---- rivals


def rivals(
    bench: Bench, steps: int, draws: int, grid: int, tries: int
) -> dict[str, Any]:
    """Judges the best of each rival's grid on new draws.

    Returns:
        As `ours` does; and the rates `chosen`.
    """
    ways = [(name, decays) for name in (ADAMW, SGD) for decays in (True, False)]
    if hasattr(keras.optimizers, SCHEDULE_FREE):  # from Keras 3.14 on
        ways.append((SCHEDULE_FREE, False))
    else:
        print(f"Keras {keras.__version__} has no {SCHEDULE_FREE}: left out")
    found = [
        _best_of_grid(bench, name, decays, 0.9, steps, draws, grid, tries)
        for name, decays in ways
    ]
    shapes = {True: "a cosine schedule", False: "a constant rate"}
    return {
        "names": np.array(
            [f"{name}, {shapes[is_cos]}" for name, is_cos in ways]
        ),
        "values": np.array([values for _, _, values in found]),
        "steps": np.array([[steps * grid * tries, 0]] * len(ways)),
        "chosen": np.array([rate for _, rate, _ in found]),
    }


def momenta(
    bench: Bench,
    steps: int,
    draws: int,
    grid: int,
    tries: int,
    further: Sequence[float],
) -> dict[str, Any]:
    """Judges AdamW with a cosine, the best of rates and of several momenta.

    Args:
        further: list of float, momenta beside .9.

    Returns:
        As `rivals` does; and the momentum `chosen_momentum`.
    """
    each = [0.9, *further]
    found = [
        _best_of_grid(bench, ADAMW, True, beta, steps, draws, grid, tries)
        for beta in each
    ]
    best = int(np.argmin([loss for loss, _, _ in found]))
    spent = steps * grid * tries * len(each)
    return {
        "names": np.array([f"{ADAMW}, a cosine schedule, grid of momenta"]),
        "values": found[best][2][None],
        "steps": np.array([[spent, 0]]),
        "chosen": np.array([found[best][1]]),
        "chosen_momentum": np.array(each[best]),
    }


def _best_of_grid(
    bench, name, decays, momentum, steps, draws, grid, tries
) -> tuple[float, float, np.ndarray]:
    """Returns the best loss of a grid, its rate, and measures on new draws."""
    trainer = Trainer(
        bench.net(bench.seed), _optimizer(name, momentum), BATCH_SIZE
    )
    middle = bench.problem.sgd_rate if name == SGD else bench.problem.rate
    rates = middle * 2.0 ** (np.arange(grid) - (grid - 1) // 2 - 1)
    shape = shape_of_rates(steps, decays, 0.0)
    first = bench.seed * NEW + NEW // 2
    losses = [
        _scores(
            bench,
            trainer,
            rate * shape,
            range(first, first + tries),
            bench.validation,
        )[:, 0].mean()
        for rate in rates
    ]
    losses = np.nan_to_num(losses, nan=np.inf)
    best = int(np.argmin(losses))
    values = _scores(
        bench, trainer, rates[best] * shape, bench.new[:draws], bench.test
    )
    return (
        float(losses[best]),
        float(rates[best]),
        _with_chance(values, bench.classes),
    )


def _optimizer(name: str, momentum: float) -> keras.Optimizer:
    if name == SGD:
        return keras.optimizers.SGD(0.1, momentum=momentum, weight_decay=DECAY)
    # Found by name: an older Keras has no `ScheduleFreeAdamW`.
    return getattr(keras.optimizers, name)(
        0.001, beta_1=momentum, weight_decay=DECAY
    )


def _scores(bench: Bench, trainer: Trainer, rates, seeds, data) -> np.ndarray:
    """Returns loss and error of trainings from seeds, `(seeds, 2)`."""
    found = []
    for seed in seeds:
        trainer.start(bench.net(seed).get_weights())
        _begin_iterates(trainer)
        trainer.train(*bench.train, len(rates), seed, rates=rates)
        found.append(trainer.scores(*data))
    return np.array(found)


def _begin_iterates(trainer: Trainer) -> None:
    """Begins the iterates of a schedule-free optimizer at the first weights.

    As Keras does where the optimizer is built. (A net is judged as Keras leaves
    it, with the weights y of the last gradient. The averages x that the paper
    has in mind cannot be had from Keras 3.15 on TensorFlow: its
    `momentum_old` is the variable itself, so has the new value when it is
    read.)
    """
    if type(trainer.optimizer).__name__ == SCHEDULE_FREE:
        slots = trainer.optimizer.variables
        iterates = [slot for slot in slots if slot.path.endswith("momentum")]
        weights = trainer.net.trainable_variables
        for iterate, weight in zip(iterates, weights, strict=True):
            iterate.assign(weight)


def _with_chance(values: np.ndarray, classes: int) -> np.ndarray:
    """Returns losses and errors; those of chance where a training diverged."""
    chance = np.log(classes), 100 * (1 - 1 / classes)
    return np.where(np.isfinite(values), values, chance)


def _pooled(x: np.ndarray, pool: int) -> np.ndarray:
    """Returns pictures averaged over squares of `pool` pixels a side."""
    n, height, width, channels = x.shape
    shape = (n, height // pool, pool, width // pool, pool, channels)
    return x.reshape(shape).mean(axis=(2, 4))
