"""What initializers draw with, global or their own, and what goes on."""

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from redraws import assert_fresh, model_of, redraw_of

layers = keras.layers
initializers = keras.initializers


def untouched():
    """Returns what all global generators would give next."""
    generator = tf.random.get_global_generator()
    key = keras.src.random.seed_generator.global_seed_generator()
    return [
        random.getstate(),
        [np.array(part) for part in np.random.get_state()[1:]],
        np.array(generator.state),
        np.array(key.state),
    ]


@pytest.mark.filterwarnings("ignore")
def test_no_generator_goes_on():
    own = np.random.default_rng(0)
    counted = keras.random.SeedGenerator(3)

    def with_all(shape, dtype=None):
        values = tf.random.normal(shape) + keras.random.normal(shape)
        values += tf.random.get_global_generator().normal(shape)
        values += np.random.normal(size=shape) + random.random()
        return tf.cast(values, dtype) + own.normal()

    model = model_of(
        layers.Dense(4, kernel_initializer=with_all),
        layers.Dense(4, kernel_initializer=initializers.HeNormal(counted)),
    )
    before = untouched(), own.bit_generator.state, np.array(counted.state)
    weights = model.get_weights()
    redraw = redraw_of(model)
    redraw.draw(0)
    assert redraw.drawn == [False, False, True, False]
    after = untouched(), own.bit_generator.state, np.array(counted.state)
    for one, other in zip(
        tf.nest.flatten(before), tf.nest.flatten(after), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    path = model.weights[0].path
    assert f"'{path}' stays as it is" in redraw.words()


@pytest.mark.filterwarnings("ignore")
def test_operations_of_tensorflow_go_on_as_if_nothing_was_drawn():
    def function(shape, dtype=None):
        return tf.random.normal(shape, dtype=dtype)

    model = model_of(layers.Dense(4, kernel_initializer=function))
    keras.utils.set_random_seed(0)
    tf.random.normal([2])
    expected = tf.random.normal([2])
    keras.utils.set_random_seed(0)
    tf.random.normal([2])
    redraw_of(model).draw(0)
    np.testing.assert_array_equal(tf.random.normal([2]), expected)


# ---- initializers of one's own


class Half(initializers.Initializer):
    """Half of what another initializer gives."""

    def __init__(self, of):
        self.of = of

    def __call__(self, shape, dtype=None):
        return 0.5 * self.of(shape, dtype=dtype)


class ByNumpy(initializers.Initializer):
    def __init__(self, seed):
        self.my_seed = seed

    def __call__(self, shape, dtype=None):
        values = np.random.default_rng(self.my_seed).normal(size=shape)
        return tf.cast(values, dtype)


def closed(seed):
    def initializer(shape, dtype=None):
        return keras.random.normal(shape, seed=seed, dtype=dtype)

    return initializer


def around(inner):
    return lambda shape, dtype=None: 2 * inner(shape, dtype=dtype)


def counting():
    generator = keras.random.SeedGenerator(7)
    return lambda shape, dtype=None: keras.random.uniform(
        shape, dtype=dtype, seed=generator
    )


def constant_seed(shape, dtype=None):
    return keras.random.normal(shape, dtype=dtype, seed=11)


OWN = {
    "subclass that wraps": lambda: Half(initializers.HeNormal()),
    "subclass with a seed": lambda: ByNumpy(3),
    "bound method": lambda: ByNumpy(3).__call__,
    "closure over a seed": lambda: closed(3),
    "closure over an initializer": lambda: around(initializers.HeNormal()),
    "closure over a generator": counting,
    "partial": lambda: functools.partial(keras.random.normal, seed=3),
    "partial of a subclass": lambda: functools.partial(ByNumpy(3)),
    "SeedGenerator": lambda: initializers.HeNormal(
        keras.random.SeedGenerator()
    ),
    "a dict": lambda: {"class_name": "HeNormal", "config": {"seed": 3}},
    "a class": lambda: initializers.HeNormal,
}


@pytest.mark.parametrize("name", OWN)
def test_initializers_of_ones_own(name):
    shared = OWN[name]()
    model = model_of(
        *(layers.Dense(5, kernel_initializer=shared) for _ in range(3))
    )
    redraw = redraw_of(model)
    assert redraw.drawn == [True, False] * 3
    assert_fresh(redraw)
    assert redraw_of(model).drawn == redraw.drawn


def test_a_function_that_always_gives_the_same_starts_there_again():
    values = np.random.normal(size=(5, 4))
    for initializer in (constant_seed, values, initializers.Constant(0.3)):
        model = model_of(layers.Dense(4, kernel_initializer=initializer))
        assert redraw_of(model).fixed == [True, True]
