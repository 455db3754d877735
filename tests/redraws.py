"""Models to be drawn anew, and what new draws must fulfil."""

import keras
import numpy as np

from keras_drmad.training.redraw import Redraw

ROW = (5,)


def model_of(*several, shape=ROW):
    """Returns a model of layers, one after the other."""
    return keras.Sequential([keras.Input(shape), *several])


def redraw_of(model):
    return Redraw(model, model.variables)


def numbers(values):
    return [None if v is None else np.asarray(v) for v in values]


def assert_fresh(redraw, seed=0):
    """The draws are new, differ, and look like the first ones."""
    drawn = numbers(redraw.draw(seed))
    flat = []
    for variable, is_drawn, new in zip(
        redraw.variables, redraw.drawn, drawn, strict=True
    ):
        assert is_drawn == (new is not None)
        if new is None:
            continue
        old = variable.numpy()
        assert new.dtype == old.dtype and new.shape == old.shape
        assert np.mean(new != old) > 0.5
        small, large = sorted([new.std(), old.std()])
        assert large < small * (1 + 9 / np.sqrt(2 * old.size))
        flat.append(new.ravel())
    for k, new in enumerate(flat):
        for other in flat[:k]:
            size = min(len(new), len(other))
            assert np.abs(np.corrcoef(new[:size], other[:size])[0, 1]) < 0.999


def is_number(variable):
    return "float" in variable.dtype


class Own(keras.layers.Layer):
    """A layer with a weight of its own."""

    def __init__(self, initializer="glorot_uniform", units=20, keep=None):
        super().__init__()
        self.units = units
        self._made = [initializer]
        self.kept = keep

    def build(self, shape):
        self.w = self.add_weight(
            shape=(shape[-1], self.units),
            initializer=self._made.pop(),  # the layer keeps none
        )
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        return keras.ops.matmul(x, self.w) + self.b
