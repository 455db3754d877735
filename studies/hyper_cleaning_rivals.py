"""Learned weights of examples beside what people use for wrong labels."""

import math

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.plain_trainer import Trainer
from studies.rivals_noisy_labels import net_of

MEASURES = ("area", "kept wrong, %", "test error, %")
SHOWN = ("area", "test error, %")
ORACLE = "the right labels alone, which nobody has"
NEW = 1000  # seeds of new draws begin here
SHORT = 100  # T, elementary steps of a training that tunes
CLEAN_NETS, CLEAN_STEPS = 4, 200
FOLDS = 5
ROUNDS = 2  # of nets that are trained on what others believe
# Odds of beliefs are taken to these powers: nets are too sure of themselves.
POWERS = {"cautious": 0.2, "as they are": 1.0}
# Learned weights are counted less at last, beside clean images of weight 1.
LESS = 0.75


def cell(
    dataset: str,
    data_dir: str | None,
    kind: str,
    percent: int,
    seed: int,
    draws: int,
    steps: int,
    trainings: int,
    smoothing: float,
) -> dict[str, np.ndarray]:
    """Treats wrong labels in each way, and tries each on new draws.

    Args:
        dataset: str, of `examples.datasets`.
        data_dir: as for `datasets.load`.
        kind: str, `"uniform"` or `"class"`: which labels the wrong ones are.
        percent: int, how many are wrong.
        seed: int, of data, wrong labels and tuning.
        draws: int, new weights and orders of each way.
        steps: int, of the trainings on new draws.
        trainings: int, how many tune.
        smoothing: float, of the labels in all trainings.

    Returns:
        Dict with `names` of the ways, and `values`, `(ways, measures)`; nan
        where a way has no such measure.
    """
    is_small = dataset == "digits"
    sizes = (1000, 100, 697) if is_small else (10000, 1000, 10000)
    images = datasets.load(dataset, data_dir, sizes, seed)
    given, wrong = images.with_wrong_labels(
        percent / 100, seed + 1, by_class=kind == "class"
    )
    bench = Bench(images, given, wrong, seed, draws, steps, smoothing)
    bench.rivals()
    bench.ours(bench.beliefs(), trainings)
    bench.oracle()
    return {
        "names": np.array(list(bench.found)),
        "values": np.array(list(bench.found.values())),
    }


def log_odds(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Returns the log odds that each given label is right, `(examples,)`.

    How often a class is called another one is estimated from the same
    probabilities, so that a kind of noise need not be known.

    Args:
        probabilities: `(examples, classes)`, of each example's class, by nets
            that did not learn its given label by heart.
        given: `(examples,)`, the labels.
    """
    rows = np.arange(len(given))
    called = probabilities.T @ np.eye(probabilities.shape[1])[given]
    called /= called.sum(axis=1, keepdims=True)
    joint = probabilities * called[:, given].T  # class and given label
    right = joint[rows, given]
    others = joint.sum(axis=1) - right
    return np.log(np.maximum(right, 1e-9) / np.maximum(others, 1e-9))


def believed(odds: np.ndarray, power: float) -> np.ndarray:
    """Returns weights in (0, 1) for log odds of being right."""
    return 1 / (1 + np.exp(-power * odds))


class Bench:
    """The ways to treat wrong labels, of one seed.

    Attributes:
        found: dict from the names of the ways to their measures.
    """

    def __init__(self, images, given, wrong, seed, draws, steps, smoothing):
        """Makes the trainer that all ways share, and nets of clean images."""
        self.images, self.given, self.wrong = images, given, wrong
        self.seed, self.draws, self.steps = seed, draws, steps
        self.x = images.train[0]
        self.batch_size = 100 if len(self.x) < 10000 else 500
        self.found: dict[str, list[float]] = {}
        self.trainer = Trainer(
            net_of(images),
            keras.optimizers.SGD(0.03, momentum=0.9),
            min(self.batch_size, len(images.validation[1])),
            smoothing,
        )
        self.clean = np.mean(
            [
                self.train(*images.validation, CLEAN_STEPS, NEW // 2 + k)
                for k in range(CLEAN_NETS)
            ],
            axis=0,
        )

    def train(self, x, y, steps: int, seed: int, weights=None) -> np.ndarray:
        """Trains a new net; returns each training image's probabilities."""
        keras.utils.set_random_seed(100 * NEW * self.seed + seed)
        self.trainer.start(net_of(self.images).get_weights())
        self.trainer.train(x, y, steps, seed, weights)
        return self.probabilities(self.x)

    def probabilities(self, x) -> np.ndarray:
        """Returns what the trained net says, `(examples, classes)`."""
        logits = self.trainer.net.predict(x, batch_size=1000, verbose=0)
        return np.array(keras.ops.softmax(logits.astype("float64")))

    def with_clean(self, weights: np.ndarray) -> tuple:
        """Returns the examples with a weight, and clean ones of weight 1."""
        clean_x, clean_y = self.images.validation
        kept = weights > 0
        return (
            np.concatenate([self.x[kept], clean_x]),
            np.concatenate([self.given[kept], clean_y]),
            np.append(weights[kept], np.ones(len(clean_y))),
        )

    def add(self, name, x, y, weights=None, doubts=None, kept=None):
        """Adds a way: tries data on new draws.

        Args:
            name: str.
            x: what to train on.
            y: labels.
            weights: `(n,)`, of these.
            doubts: `(examples,)`, by which wrong labels are found.
            kept: `(examples,)`, which examples are.

        Returns:
            Mean probabilities of the training images, by the nets trained.
        """
        found, errors = [], []
        for k in range(self.draws):
            found.append(self.train(x, y, self.steps, NEW + k, weights))
            errors.append(self.trainer.scores(*self.images.test)[1])
        self.found[name] = [
            math.nan if doubts is None else self.area(doubts),
            math.nan if kept is None else 100 * np.mean(self.wrong[kept]),
            float(np.mean(errors)),
        ]
        return np.mean(found, axis=0)

    def area(self, doubts: np.ndarray) -> float:
        """Returns the area under the ROC curve of finding wrong labels."""
        from sklearn import metrics

        return float(metrics.roc_auc_score(self.wrong, doubts))

    def add_kept(self, name, kept, doubts):
        """Adds a way that drops examples, and keeps the clean ones."""
        x, y, _ = self.with_clean(kept.astype(float))
        self.add(name, x, y, None, doubts, kept)

    def losses(self, probabilities) -> np.ndarray:
        """Returns the cross entropy of each given label."""
        return -np.log(probabilities[np.arange(len(self.given)), self.given])

    # ---- the ways

    def rivals(self) -> None:
        """Adds the ways that know no hypergradient."""
        x, y, _ = self.with_clean(np.ones(len(self.given)))
        self.add("all labels and the clean images", x, y)
        x, y = self.images.validation
        doubts = self.losses(self.clean)
        self.add("clean images alone", x, y, doubts=doubts)
        self.add_kept(
            "dropped: what clean nets doubt",
            self.clean.argmax(axis=1) == self.given,
            doubts,
        )
        x, y, _ = self.with_clean(np.ones(len(self.given)))
        early = self.losses(self.train(x, y, SHORT, NEW // 4))
        # The part of wrong labels is told, which is more than ours know.
        order = early.argsort()[: int((~self.wrong).sum())]
        kept = np.isin(np.arange(len(early)), order)
        self.add_kept("small losses of an early net", kept, early)
        self.add_cleanlab("cleanlab, cross-validated", self.cross_validated())
        self.add_cleanlab("cleanlab, by clean nets", self.clean)

    def beliefs(self) -> dict[str, np.ndarray]:
        """Adds weights by what nets believe of labels.

        Nets are trained on such weights, and say what to believe next.

        Returns:
            The last beliefs, weights in (0, 1), by their name.
        """
        found = {}
        for name, power in POWERS.items():
            odds = log_odds(self.clean, self.given)
            for k in range(ROUNDS):
                x, y, own = self.with_clean(believed(odds, power))
                again = self.train(x, y, self.steps, NEW // 3 + k, own)
                odds = log_odds(again, self.given)
            found[name] = believed(odds, power)
            self.add_weights(f"weights by belief, {name}", found[name])
        return found

    def oracle(self) -> None:
        """Adds the way that knows which labels are right."""
        x, y, _ = self.with_clean((~self.wrong).astype(float))
        self.add(ORACLE, x, y)

    def add_weights(self, name, weights) -> None:
        """Adds weights; the nets trained with them find the wrong labels."""
        x, y, own = self.with_clean(weights)
        odds = log_odds(self.add(name, x, y, own), self.given)
        self.found[name][0] = self.area(-odds)

    def cross_validated(self) -> np.ndarray:
        """Returns probabilities by nets that did not see the example."""
        random = np.random.default_rng(self.seed)
        folds = random.permutation(len(self.given)) % FOLDS
        found = np.zeros_like(self.clean)
        for k in range(FOLDS):
            x, y, _ = self.with_clean((folds != k).astype(float))
            said = self.train(x, y, CLEAN_STEPS, NEW // 5 + k)
            found[folds == k] = said[folds == k]
        return found

    def add_cleanlab(self, name, probabilities) -> None:
        """Adds what cleanlab drops, by the better of its two scores."""
        from cleanlab import filter as finding
        from cleanlab import rank

        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        issues = finding.find_label_issues(self.given, probabilities, n_jobs=1)
        scores = [
            -rank.get_label_quality_scores(
                self.given, probabilities, method=method
            )
            for method in ("self_confidence", "normalized_margin")
        ]
        self.add_kept(name, ~issues, max(scores, key=self.area))

    def ours(self, beliefs: dict[str, np.ndarray], trainings: int) -> None:
        """Adds weights that are learned by hypergradient.

        Args:
            beliefs: dict from names to weights in (0, 1), to begin with.
            trainings: int, how many tune.
        """
        keras.utils.set_random_seed(self.seed)
        model = kd.DrMADModel.from_model(net_of(self.images))
        kind = kd.hyperparameters.ExampleWeights(
            len(self.given), transform=kd.hyperparameters.Sigmoid(0, 2)
        )
        model.compile(
            optimizer=keras.optimizers.SGD(0.03, momentum=0.9),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            hyperparameters=[kind],
            hypergradient=kd.ReverseMode(),
            # One example's hypergradient is of the size of 1 / examples.
            meta_optimizer=keras.optimizers.SGD(0.5 * len(self.given)),
            jit_compile=True,
        )

        clean_x, clean_y = self.images.validation
        held_out = clean_x, np.eye(self.images.classes)[clean_y]
        # Smoothed where trainings see them; validation sees labels as they are.
        labels = np.eye(self.images.classes)[self.given]
        smoothing = self.trainer.smoothing
        labels = (1 - smoothing) * labels + smoothing / self.images.classes

        def learned(first) -> tuple[float, np.ndarray]:
            kind.assign(first)
            history = model.fit(
                self.x,
                labels,
                batch_size=self.batch_size,
                steps_per_epoch=SHORT,
                validation_data=held_out,
                validation_batch_size=len(clean_y),
                meta_iterations=trainings,
                keep="mean",
                seed=self.seed,
                verbose=0,
            ).history
            return history["val_loss"][-1], np.array(kind.value())

        _, from_one = learned(1.0)
        x, y, own = self.with_clean(from_one)
        self.add("learned weights, from 1", x, y, own, -from_one)
        # Apart from the ends, where the sigmoid is flat; by validation loss.
        _, weights = min(
            (
                learned(np.clip(2 * first, 0.02, 1.98))
                for first in beliefs.values()
            ),
            key=lambda pair: pair[0],
        )
        self.add_weights("learned weights, from belief", LESS * weights)
