"""Learned strengths of augmentation beside those one would set or draw."""

from typing import Any

import keras
import numpy as np

import keras_drmad as kd
from examples import datasets
from examples.small_cnn import small_cnn

MEASURES = ("validation loss", "test loss", "test error, %")
BY_HAND = {
    "brightness": 0.1,  # of images in [0, 1]
    "contrast": 0.1,  # a logarithm of factors
    "rotation": 0.02,  # in turns
    "translation": 0.05,  # a part of the size
}
NONE = 1e-5  # a factor at which nothing is seen of them
FACTORS = (0.5, 1.0, 2.0, 4.0)
NEW = 1000  # seeds of trials begin here


def cell(
    dataset: str,
    data_dir: str | None,
    seed: int,
    draws: int,
    steps: int,
    meta_iterations: int,
) -> dict[str, np.ndarray]:
    """Learns strengths, and tries them and others on new draws.

    Args:
        dataset: str; `"digits"`, or the CIFAR-10 subset for any other.
        data_dir: as for `datasets.load`.
        seed: int, of data and tuning.
        draws: int, new weights and orders of each way.
        steps: int, T / 4.
        meta_iterations: int, how many trainings tune.

    Returns:
        Dict with `names` of the ways, and `values`, `(ways, draws, measures)`.
    """
    is_small = dataset == "digits"
    name, sizes = "cifar10", (1000, 2000, 1000)
    if is_small:
        name, sizes = "digits", (300, 500, 997)
    images = datasets.load(name, data_dir, sizes, seed).as_pictures()
    rate = 0.02 if is_small else 0.01
    model = model_of(images, rate, seed)
    training: dict[str, Any] = {
        "batch_size": 50,
        "steps_per_epoch": 4 * steps,
        "validation_data": images.validation,
        "validation_batch_size": 500,
    }
    model.fit(
        *images.train,
        **training,
        meta_iterations=meta_iterations,
        seed=seed,
        verbose=0,
    )
    others = {"none": scaled(NONE)}
    others |= {f"by hand, times {f:g}": scaled(f) for f in FACTORS}
    drawn = random_search(images, rate, training, meta_iterations, seed)
    others[f"random search, {meta_iterations} trainings"] = drawn
    results = model.check_hyperparameters(
        *images.train,
        **training,
        test_data=images.test,
        draws=draws,
        others=others,
        seed=seed,
        verbose=0,
    ).results
    order = [*others, "start", "found"]
    names = {"start": "where the tuning begins", "found": "ours"}
    return {
        "names": np.array([names.get(one, one) for one in order]),
        "values": np.array([measures(results[one]) for one in order]),
    }


def model_of(images, rate: float, seed: int) -> kd.DrMADModel:
    """Returns the net with half the strengths set by hand, compiled."""
    keras.utils.set_random_seed(seed)
    start: Any = {name: 0.5 * value for name, value in BY_HAND.items()}
    layer = kd.layers.ImageAugmentation(**start, name="augmentation")
    cnn = small_cnn(images.shape, images.classes)
    net = keras.Sequential([keras.Input(images.shape), layer, *cnn])
    model = kd.DrMADModel.from_model(net)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[],  # those in the layer are found
        hypergradient=kd.ReverseMode(),
        meta_optimizer=kd.SignDescent(0.25),
    )
    return model


def scaled(factor: float) -> dict[str, float]:
    """Returns the strengths set by hand, times a factor, by full names."""
    return {f"augmentation.{k}": factor * v for k, v in BY_HAND.items()}


def random_search(images, rate: float, training, trials: int, seed: int):
    """Returns the best of strengths drawn from 1/4 to 8 times those by hand."""
    model = model_of(images, rate, seed)
    random = np.random.default_rng(seed)
    tried = []
    for trial in range(trials):
        values = {
            name: strength * 2 ** random.uniform(-2, 3)
            for name, strength in scaled(1.0).items()
        }
        own = NEW * (seed + 1) + trial
        model.elementary_model.set_weights(
            model_of(images, rate, own).get_weights()
        )
        for h in model.hyperparameters:
            h.assign(values[h.name])
        loss = model.validation_loss_after(*images.train, **training, seed=own)
        tried.append((loss, trial, values))
    return min(tried, key=lambda one: one[:2])[2]


def measures(own) -> np.ndarray:
    """Returns `(draws, measures)` of a set of values."""
    error = 100 * (1 - own["test_accuracy"])
    return np.stack([own["val_loss"], own["test_loss"], error], axis=1)
