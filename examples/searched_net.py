"""A dense net of which few settings are searched, and the many learned."""

import math
from collections.abc import Mapping
from typing import Any

import keras

import keras_drmad as kd
from examples import datasets


def compiled_net(
    images: datasets.Images,
    layers: int,
    width: int,
    activation: str,
    optimizer: keras.Optimizer,
    seed: int,
) -> kd.DrMADModel:
    """Returns a net with an L2 penalty for each input of each layer.

    Args:
        images: what it is to classify.
        layers: int, hidden ones.
        width: int, of each of them.
        activation: str, of each of them.
        optimizer: any that Keras has.
        seed: int, of the weights.
    """
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((math.prod(images.shape),))
    hidden = inputs
    for _ in range(layers):
        hidden = keras.layers.Dense(width, activation)(hidden)
    model = kd.DrMADModel(inputs, keras.layers.Dense(images.classes)(hidden))
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[kd.hyperparameters.L2("input", initial=1e-3)],
    )
    optimizer.build(model.trainable_variables)  # or Keras warns of checkpoints
    return model


def in_words(settings: Mapping[str, Any]) -> str:
    """Returns the settings of a trial, but for those of other optimizers."""
    rate = f"{settings['optimizer'].lower()}_rate"
    words = [settings["optimizer"], f"{rate} {settings[rate]:.2g}"]
    for name in ("layers", "width", "activation"):
        words.append(f"{name} {settings[name]}")
    return ", ".join(words)


def use_log_scale(axes: Any) -> None:
    """Makes the vertical scale logarithmic, with numbers as one writes them."""
    axes.set_yscale("log", subs=[2, 3, 4, 5, 6, 8])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def training(images: datasets.Images, steps: int) -> dict[str, Any]:
    """Returns the arguments of `fit` that say how it trains and validates.

    Args:
        images: whose.
        steps: int, T.
    """
    return {
        "x": images.train[0],
        "y": images.train[1],
        "batch_size": 50,
        "steps_per_epoch": steps,
        "validation_data": images.validation,
        "validation_batch_size": 1000,
    }
