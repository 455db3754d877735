"""Omniglot: ten alphabets, ten nets, learned sharing of their weights.

As in Maclaurin et al. 2015, section 3.3, with smaller nets, and with the
sharing in a penalty (a Gaussian prior on the tasks' weights with a learned
inverse covariance S Sᵀ for each layer) in place of a transformation.
"""

import math
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import Hyperparameter, Identity

ALPHABETS = (33, 7, 16, 24, 25)  # the papers' five; the other five are turned


def data(data_dir: str):
    """Returns `(x, y)` for training and for validation.

    x is `(330, 10, 784)` in [0, 1], y `(330, 10)`; an alphabet with fewer
    drawings than 330 repeats them in cycles.

    Args:
        data_dir: the folder with `omniglot28.npz`.
    """
    with np.load(pathlib.Path(data_dir, "omniglot28.npz")) as file:
        arrays = dict(file)
    return _of(arrays, range(1, 11)), _of(arrays, (11, 12))


def _of(arrays, drawers):
    """Returns x and y of some people's drawings."""
    tasks = _tasks(arrays, drawers, False) + _tasks(arrays, drawers, True)
    x, y = (np.stack(parts, axis=1) for parts in zip(*tasks, strict=True))
    return x.astype("float32"), y.astype("int32")


def _tasks(arrays, drawers, turned: bool):
    """Returns `(330, 784)` and `(330,)` for each alphabet."""
    tasks = []
    for number in ALPHABETS:
        chosen = arrays["alphabet"] == number
        chosen &= np.isin(arrays["drawer"], drawers)
        places = np.resize(np.flatnonzero(chosen), 330)
        x = arrays["images"][places] / 255.0
        x = np.rot90(x, axes=(1, 2)) if turned else x
        tasks.append((x.reshape(330, 784), arrays["character"][places]))
    return tasks


def net():
    """Returns inputs and outputs of ten nets, 100-55."""
    x = first = keras.Input((10, 784))
    x = TasksDense(100, "tanh", name="bottom")(x)
    return first, TasksDense(55, None, name="top")(x)


class TasksDense(keras.layers.Layer):
    """Maps (batch, tasks, inputs) to (batch, tasks, units)."""

    def __init__(self, units, activation, name):
        super().__init__(name=name)
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        _, tasks, inputs = shape
        self.kernel = self.add_weight(
            shape=(tasks, inputs, self.units),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="kernel",
        )
        self.built = True

    def call(self, x):
        products = keras.ops.einsum("bti,tio->bto", x, self.kernel)
        return self.activation(products)


class Sharing(Hyperparameter):
    """Adds exp(-6) Σ_ij (S Sᵀ)_ij w_iᵀ w_j over tasks i, j, per layer."""

    transform = Identity()

    def __init__(self):
        super().__init__("sharing", None)

    def bind(self, model, optimizer):
        self._kernels = list(model.trainable_variables)
        count = self._kernels[0].shape[0]
        start = 1.5 * np.eye(count) - 0.5 / count
        self.raw = keras.Variable(
            np.stack([start] * len(self._kernels)),
            dtype=keras.config.floatx(),
            name="sharing",
        )

    def value(self):
        return tf.matmul(self.raw.value, self.raw.value, transpose_b=True)

    def penalty(self, raw, params):
        terms = []
        for S, kernel in zip(tf.unstack(raw), self._kernels, strict=True):
            w = tf.reshape(params[id(kernel)], [kernel.shape[0], -1])
            terms.append(
                tf.reduce_sum(tf.square(tf.matmul(S, w, transpose_a=True)))
            )
        return math.exp(-6) * tf.add_n(terms)
