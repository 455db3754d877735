"""Layers in one model, each a branch of it.

All branches share the weights before the layers and those after them, so that
a wrong derivative shows in its share of their gradients: a small one, where
others are large, which `rtol` has to see. Layers for images stand first, as
users put them: what pixels have no part in the gradient.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers as L

from conformance import assert_right, momentum, numbers


class Group(NamedTuple):
    """Layers that are tested in one model.

    Attributes:
        shape: of what the layers are given.
        makes: dict from a layer's name to a function that returns a function
            of x; layers within one another have the same, and one branch.
        is_first: bool, whether the layers stand before all weights.
        dtype: str, the policy; float32 where TensorFlow or Keras has no other.
        note: str, what a reader should know of all.
        rtol: float, of derivatives.
        scale: float, of what comes after the layers, whose tanh would be flat
            of pixels.
    """

    shape: tuple[int, ...]
    makes: dict[str, Callable[[], Callable]]
    is_first: bool = False
    dtype: str = "float64"
    note: str = ""
    rtol: float = 1e-7
    scale: float = 1.0


def model_of(group: Group, names: Sequence[str]) -> keras.Model:
    """Returns a model with a branch for each layer, compiled."""
    keras.utils.set_random_seed(1)
    size = int(np.prod(group.shape))
    inputs = x = keras.Input((size,) if group.is_first else (2,))
    if not group.is_first:
        x = L.Dense(size, activation="tanh")(x)
    x = L.Reshape(group.shape)(x)
    makes = dict.fromkeys(group.makes[name] for name in names)
    outputs = [L.Flatten()(make()(x)) for make in makes]
    y = L.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    total = L.Dense(2, activation="tanh")(L.Rescaling(group.scale)(y))
    model = keras.Model(inputs, total)
    model.compile(momentum(), "mse")
    return model


def check(group: Group, names: Sequence[str]) -> None:
    """Asserts that a model of these layers is right."""
    model = model_of(group, names)
    shape = (4, *model.input_shape[1:])
    dtype = model.compute_dtype
    x, held_out = numbers(*shape), numbers(*shape, seed=1)
    if group.is_first:
        x, held_out = 127 + 40 * x, 127 + 40 * held_out
    y, held_out_y = numbers(4, 2, seed=2), numbers(4, 2, seed=3)
    assert_right(
        model,
        (x.astype(dtype), y.astype(dtype)),
        (held_out.astype(dtype), held_out_y.astype(dtype)),
        group.rtol,
    )
