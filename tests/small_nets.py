"""Nets for studies in small, in place of theirs, which take long to trace."""

import keras

from examples import tanh_net as papers

L = keras.layers


def one_stage(shape, classes, blocks, channels):
    """Returns what a residual net begins and ends with, two kernels."""
    inputs = keras.Input(shape)
    x = L.Conv2D(channels, 3, 2, "same", use_bias=False, name="first")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="first_norm")(x))
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(classes, name="last")(x))


def one_convolution(shape, classes):
    """Returns a net for images with one convolution."""
    return keras.Sequential([keras.Input(shape), *convolved(shape, classes)])


def convolved(shape, classes):
    """Returns the layers of such a net."""
    return [
        L.Conv2D(4, 3, 2, "same", activation="relu"),
        L.Flatten(),
        L.Dense(classes),
    ]


def one_hidden(inputs, hidden, *args, **options):
    """Returns the papers' net with its first hidden layer alone."""
    return papers.tanh_net(inputs, hidden[:1], *args, **options)
