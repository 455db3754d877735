"""Learned weights of examples beside simpler ways to treat wrong labels."""

import math
from typing import Any

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.plain_trainer import Trainer

MEASURES = ("area", "kept wrong, %", "test loss", "test error, %")
# How weights are learned; `None` for plain gradient steps.
RULES = {
    "weights by plain gradient steps": None,
    "weights by the default rule": 3.0,
    "weights by a quarter of its reach": 0.75,
}
ORACLE = "the right half alone"  # nobody has it
NEW = 1000  # seeds of new draws begin here


def cell(
    dataset: str,
    data_dir: str | None,
    seed: int,
    draws: int,
    steps: int,
    longer: int,
    meta_iterations: int,
) -> dict[str, np.ndarray]:
    """Treats half wrong labels in each way, and tries each on new draws.

    Args:
        dataset: str, of `examples.datasets`.
        data_dir: as for `datasets.load`.
        seed: int, of data, wrong labels and tuning.
        draws: int, new weights and orders of each way.
        steps: int, T of the trainings that tune.
        longer: int, how often T the trainings on new draws take.
        meta_iterations: int, how many trainings tune.

    Returns:
        Dict with `names` of the ways, and `values`, `(ways, draws, measures)`;
        nan where a way has no such measure.
    """
    is_small = dataset == "digits"
    sizes = (1000, 100, 697) if is_small else (10000, 1000, 10000)
    images = datasets.load(dataset, data_dir, sizes, seed)
    given, wrong = images.with_wrong_labels(0.5, seed + 1)
    batch_size = 100 if is_small else 500
    tuned = {
        name: learned_weights(
            images, given, batch_size, steps, meta_iterations, seed, reach
        )
        for name, reach in RULES.items()
    }
    keras.utils.set_random_seed(seed)
    bench = Bench(images, given, wrong, batch_size, steps, seed)
    found = bench.ways(tuned, longer, draws, meta_iterations)
    return {
        "names": np.array(list(found)),
        "values": np.array(list(found.values())),
    }


def net_of(images) -> keras.Model:
    """Returns the net that all ways train."""
    inputs = keras.Input((math.prod(images.shape),))
    hidden = keras.layers.Dense(100, "relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(images.classes)(hidden))


def learned_weights(
    images, given, batch_size, steps, meta_iterations, seed, reach
) -> np.ndarray:
    """Returns the weights that hypergradients find, `(examples,)`.

    Args:
        images: `datasets.Images`.
        given: the labels as given.
        batch_size: int.
        steps: int, see `cell`.
        meta_iterations: int, see `cell`.
        seed: int, see `cell`.
        reach: float, of `SignConsensus`; `None` for plain gradient steps.
    """
    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(net_of(images))
    weights = kd.hyperparameters.ExampleWeights(
        len(given), initial=1.0, transform=kd.hyperparameters.Sigmoid(0, 2)
    )
    # One example's hypergradient is of the size of 1 / examples.
    rule: Any = keras.optimizers.SGD(0.5 * len(given))
    if reach is not None:
        rule = kd.SignConsensus(reach=reach)
    model.compile(
        optimizer=keras.optimizers.SGD(0.03, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[weights],
        meta_optimizer=rule,
    )
    model.fit(
        images.train[0],
        given,
        batch_size=batch_size,
        steps_per_epoch=steps,
        validation_data=images.validation,
        validation_batch_size=1000,
        meta_iterations=meta_iterations,
        keep="best" if reach is None else "mean",
        seed=seed,
        verbose=0,
    )
    return np.array(model.hyperparameters[0].value())


class Bench:
    """The ways to treat wrong labels, of one seed."""

    def __init__(self, images, given, wrong, batch_size, steps, seed):
        """Makes the trainer that all ways share."""
        self.images, self.given, self.wrong = images, given, wrong
        self.steps, self.seed = steps, seed
        self.trainer = Trainer(
            net_of(images),
            keras.optimizers.SGD(0.03, momentum=0.9),
            min(batch_size, len(images.validation[1])),
        )

    def ways(self, tuned, longer: int, draws: int, nets: int):
        """Returns `(draws, measures)` of each way, by its name.

        Args:
            tuned: dict from names to weights that hypergradients found.
            longer: int, see `cell`.
            draws: int, see `cell`.
            nets: int, how many the way with several clean nets may train.
        """
        x, given, right = self.images.train[0], self.given, ~self.wrong
        small = self.images.validation
        clean = [self.doubts(small[0], small[1], k) for k in range(nets)]
        early = self.doubts(x, given, 0)
        found: dict[str, list] = {}
        ends = [self.lengths(seed, longer) for seed in self.seeds(draws)]
        found["labels as given"] = [self.row(end[-1][2:]) for end in ends]
        best = [min(end)[2:] for end in ends]
        found["labels as given, best length"] = [self.row(b) for b in best]

        def add(name, *data, area=math.nan, kept=math.nan):
            found[name] = [
                self.row(self.test(seed, longer, *data), area, kept)
                for seed in self.seeds(draws)
            ]

        add("the clean data alone", *small)
        add("all labels and the clean data", *self.with_clean(x, given))
        for name, (losses, agrees) in {
            "kept by an early net": early,
            "kept by a clean net": clean[0],
            f"kept by {nets} clean nets": (
                np.mean([losses for losses, _ in clean], axis=0),
                np.mean([agrees for _, agrees in clean], axis=0) > 0.5,
            ),
        }.items():
            add(
                name,
                *self.with_clean(x[agrees], given[agrees]),
                area=self.area(losses),
                kept=100 * np.mean(self.wrong[agrees]),
            )
        for name, weights in tuned.items():
            data = self.with_clean(x, given, weights)
            add(name, *data, area=self.area(-weights))
        add(ORACLE, *self.with_clean(x[right], given[right]))
        return found

    def seeds(self, draws: int) -> range:
        """Returns the seeds of the new draws, the same for all ways."""
        first = NEW * (self.seed + 1)
        return range(first, first + draws)

    def begin(self, seed: int) -> None:
        """Draws the first weights anew."""
        keras.utils.set_random_seed(seed)
        self.trainer.start(net_of(self.images).get_weights())

    def doubts(self, x, y, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns each training label's loss by a net trained for T steps.

        Args:
            x: what to train on.
            y: the labels of that.
            k: int, the number of the net.

        Returns:
            Losses, and whether the net's class is the label given.
        """
        seed = NEW // 2 + 100 * self.seed + k
        self.begin(seed)
        self.trainer.train(x, y, self.steps, seed)
        losses, classes = self.trainer.losses(self.images.train[0], self.given)
        return losses, classes == self.given

    def with_clean(self, x, y, weights=None) -> tuple:
        """Returns data to train on, and the clean data beside."""
        clean_x, clean_y = self.images.validation
        both = np.concatenate([x, clean_x]), np.concatenate([y, clean_y])
        if weights is None:
            return both
        return *both, np.append(weights, np.ones(len(clean_y)))

    def lengths(self, seed: int, longer: int) -> list[tuple]:
        """Returns validation error and loss, test loss and error by length."""
        self.begin(seed)
        found = []
        for k in range(longer):
            data = self.images.train[0], self.given
            self.trainer.train(*data, self.steps, seed + 100 * k)
            loss, error = self.trainer.scores(*self.images.validation)
            test = self.trainer.scores(*self.images.test)
            found.append((error, loss, *test))
        return found

    def test(self, seed: int, longer: int, x, y, weights=None):
        """Returns test loss and error of a training on data."""
        self.begin(seed)
        self.trainer.train(x, y, longer * self.steps, seed, weights)
        return self.trainer.scores(*self.images.test)

    def area(self, doubts: np.ndarray) -> float:
        """Returns the area under the ROC curve of finding wrong labels."""
        from sklearn import metrics

        return float(metrics.roc_auc_score(self.wrong, doubts))

    @staticmethod
    def row(scores, area: float = math.nan, kept: float = math.nan):
        """Returns the measures of a draw, in the order of `MEASURES`."""
        return [area, kept, *scores]
