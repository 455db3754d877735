"""What the tests of layers that draw share: images, and the numbers drawn."""

import keras
import numpy as np

from keras_drmad import layers
from keras_drmad.layers.image_augmentation import STRENGTHS

SHAPE = (3, 6, 5, 2)  # heights and widths differ, and one is even


def images(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE)


def hyperparameters(layer):
    """Returns a dict from an attribute to its `LearnedValue`."""
    names = ("rate", "stddev", *STRENGTHS)
    found = {name: getattr(layer, name, None) for name in names}
    return {name: h for name, h in found.items() if h is not None}


def rewind(layer):
    """Lets the next draw of a layer be its first."""
    layer.seed_generator.state.assign([1, 0])


def draws(shape, **kwargs):
    """Returns the numbers that a layer with seed 1 draws first."""
    generator = keras.random.SeedGenerator(1)
    uniform = keras.random.uniform(
        shape, dtype="float64", seed=generator, **kwargs
    )
    return uniform.numpy()


def augmentation(**strengths):
    """Returns a layer whose strengths are those given, all others off."""
    arguments = dict.fromkeys(STRENGTHS) | dict(seed=1) | strengths
    return layers.ImageAugmentation(**arguments)
