"""`layers.GaussianNoise`: noise of a learned size."""

import keras
import numpy as np
import pytest

from drawing_layers import SHAPE, images
from keras_drmad import layers

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("stddev", [0.2, [0.2, 0.5]])
def test_noise_by_hand(stddev):
    x = images()
    generator = keras.random.SeedGenerator(1)
    epsilon = keras.random.normal(SHAPE, dtype="float64", seed=generator)
    y = layers.GaussianNoise(stddev, seed=1)(x, training=True)
    np.testing.assert_allclose(y, x + np.array(stddev) * epsilon, rtol=1e-12)


# ---- bad arguments


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: layers.GaussianNoise(-1), ValueError, "`stddev`.*stddev=-1"),
        (lambda: layers.GaussianNoise(np.nan), ValueError, "`stddev`"),
        (lambda: layers.GaussianNoise(True), TypeError, "`stddev`"),
        (
            lambda: layers.GaussianNoise(np.ones((2, 3)))(np.ones((2, 3))),
            ValueError,
            "`stddev`",
        ),
    ],
)
def test_bad_arguments_are_told(make, error, words):
    with pytest.raises(error, match=words):
        make()
