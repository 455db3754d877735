"""A weight for each example, in the setting in which methods are compared."""

import math
from typing import Any

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from studies.plain_trainer import Trainer

MEASURES = ("steps", "validation accuracy", "test accuracy", "area")
SHOWN = MEASURES[1:3]
T = 10  # of the published trainings
LONGER = 150  # of those with a longer horizon
AGAIN = 20  # trainings of T = 10 after these
PLAIN = 300  # of the nets that are trained on data at last
NEW = 1000  # seeds of new draws begin here


def cell(
    dataset: str,
    data_dir: str | None,
    percent: int,
    seed: int,
    meta_iterations: int,
    patience: int,
    quick: int,
    longer: int,
) -> dict[str, np.ndarray]:
    """Treats wrong labels in each way.

    Returns:
        Dict with `names` of the ways; `values`, `(ways, measures)`, nan where a
        way has no such measure; `weights`, `(examples,)`, of T = 150; and
        `wrong`, which labels are.
    """
    is_small = dataset == "digits"
    sizes = (300, 300, 397) if is_small else (1000, 1000, 10000)
    images = datasets.load(dataset, data_dir, sizes, seed)
    given, wrong = images.with_wrong_labels(percent / 100, seed + 1)
    bench = Bench(images, given, wrong, seed)
    total = T * quick + LONGER * longer
    found = {
        "labels as given": bench.plain(images.train[0], given, total, seed)
    }
    found["as published: T = 10, Adam(0.1)"], _ = bench.tuned(
        T,
        meta_iterations,
        keras.optimizers.Adam(0.1),
        "continue",
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=patience)
        ],
    )
    found["T = 10, Adam(0.3)"], weights = bench.tuned(
        T, quick, keras.optimizers.Adam(0.3), "continue"
    )
    # Not as far as where the sigmoid is flat.
    found["then T = 150, sign steps of 1"], weights = bench.tuned(
        LONGER, longer, kd.SignDescent(1.0), "same", weights.clip(0.02, 0.98)
    )
    found["then T = 150, sign steps of 1"][0] += T * quick
    found["then T = 10 again"] = bench.continued(weights, AGAIN)
    found["then T = 10 again"][0] += found["then T = 150, sign steps of 1"][0]
    x, right, new = images.train[0], ~wrong, seed + NEW
    found["weights of T = 150, on a new draw"] = bench.plain(
        x, given, PLAIN, new, weights
    )
    clean_x, clean_y = images.validation
    found["the same, and the clean images"] = bench.plain(
        np.concatenate([x, clean_x]),
        np.concatenate([given, clean_y]),
        PLAIN,
        new,
        np.append(weights, np.ones(len(clean_y))),
    )
    found["clean images alone"] = bench.plain(*images.validation, PLAIN, new)
    for name in list(found)[-2:]:  # validation images are trained on
        found[name][1] = math.nan
    found["right labels alone, which nobody has"] = bench.plain(
        x[right], given[right], PLAIN, new
    )
    return {
        "names": np.array(list(found)),
        "values": np.array(list(found.values())),
        "weights": weights,
        "wrong": wrong,
    }


def net_of(images: datasets.Images) -> keras.Model:
    """Returns a new net of three convolutions of 8 channels."""
    x = first = keras.Input((math.prod(images.shape),))
    x = keras.layers.Reshape((*images.shape, 1))(x)
    for _ in range(3):
        x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(first, keras.layers.Dense(images.classes)(x))


class Bench:
    """A problem, and the ways to train on it, of one seed."""

    def __init__(self, images, given, wrong, seed):
        """Keeps what the ways share."""
        self.images, self.given, self.wrong = images, given, wrong
        self.seed = seed

    def tuned(
        self, steps, meta_iterations, rule, initial_weights, weights=0.5, **own
    ) -> tuple[list[float], np.ndarray]:
        """Returns measures of what `fit` returns, and the weights found.

        Args:
            steps: int, T.
            meta_iterations: int.
            rule: the meta-optimizer.
            initial_weights: str, of `fit`.
            weights: number or array, those of the examples at first.
            **own: further arguments of `fit`.
        """
        model = self.model(rule)
        model.hyperparameters[0].assign(weights)
        history = model.fit(
            steps_per_epoch=steps,
            meta_iterations=meta_iterations,
            initial_weights=initial_weights,
            keep="best",
            **self.training(),
            **own,
        ).history
        return (
            self.measures(model, steps * len(history["val_loss"])),
            np.array(model.hyperparameters[0].value()),
        )

    def continued(self, weights, meta_iterations: int) -> list[float]:
        """Returns measures of a net that goes on, with weights found before.

        Args:
            weights: `(examples,)`, found in trainings of `LONGER` steps, of
                which one comes first, as it was.
            meta_iterations: int, trainings of T that go on from there.
        """
        model = self.model(keras.optimizers.Adam(0.3))
        model.hyperparameters[0].assign(weights.clip(0.02, 0.98))
        training = self.training()
        model.fit(steps_per_epoch=LONGER, meta_iterations=0, **training)
        model.fit(
            steps_per_epoch=T,
            meta_iterations=meta_iterations,
            initial_weights="continue",
            keep="best",
            **training,
        )
        return self.measures(model, LONGER + T * meta_iterations)

    def model(self, rule) -> kd.DrMADModel:
        """Returns a new net, which is to learn a weight for each example."""
        keras.utils.set_random_seed(self.seed)
        model = kd.DrMADModel.from_model(net_of(self.images))
        model.compile(
            optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            hyperparameters=[
                kd.hyperparameters.ExampleWeights(len(self.given))
            ],
            hypergradient=kd.ReverseMode(),
            meta_optimizer=rule,
        )
        return model

    def training(self) -> dict[str, Any]:
        """Returns the arguments of `fit` that all trainings share."""
        return dict(
            x=self.images.train[0],
            y=self.given,
            batch_size=len(self.given),
            validation_data=self.images.validation,
            validation_batch_size=len(self.images.validation[1]),
            seed=self.seed,
            verbose=0,
        )

    def measures(self, model, steps: int) -> list[float]:
        """Returns steps, accuracies, and the area by the weights."""
        scores = [
            100 * model.evaluate(*part, batch_size=1000, verbose=0)[1]
            for part in (self.images.validation, self.images.test)
        ]
        weights = np.array(model.hyperparameters[0].value())
        return [steps, *scores, self.area(-weights)]

    def plain(
        self, x, y, steps: int, seed: int, weights: Any = None
    ) -> list[float]:
        """Returns measures of a plain training on the full batch."""
        keras.utils.set_random_seed(seed)
        trainer = Trainer(
            net_of(self.images), keras.optimizers.SGD(0.1, momentum=0.9), len(y)
        )
        trainer.train(x, y, steps, seed, weights)
        scores = [
            100 - trainer.scores(*part)[1]
            for part in (self.images.validation, self.images.test)
        ]
        return [steps, *scores, math.nan]

    def area(self, doubts: np.ndarray) -> float:
        """Returns the area under the ROC curve of finding wrong labels."""
        from sklearn import metrics

        return float(metrics.roc_auc_score(self.wrong, doubts))
