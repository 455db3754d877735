"""`layers.ImageAugmentation`, against SciPy's and NumPy's own movements."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from checks import relative_error
from drawing_layers import (
    SHAPE,
    STRENGTHS,
    augmentation,
    draws,
    hyperparameters,
    images,
    rewind,
)
from keras_drmad import layers
from keras_drmad.layers.image_augmentation import augmented
from keras_drmad.layers.sampling import moved

pytestmark = pytest.mark.usefixtures("float64")


def turned(x, turns, fill_value=None):
    turns = np.full(len(x), float(turns))
    return moved(tf.constant(x), tf.constant(turns), None, fill_value).numpy()


def shifted(x, down, right, fill_value=None):
    shifts = np.tile([float(down), float(right)], (len(x), 1))
    return moved(tf.constant(x), None, tf.constant(shifts), fill_value).numpy()


def test_brightness_and_contrast_by_hand():
    x = images()
    u = draws((len(x), 5), minval=-1, maxval=1)
    layer = augmentation(brightness=0.3, contrast=0.7)
    for image, v, y in zip(x, u, layer(x, training=True), strict=True):
        mean = image.mean()
        expected = mean + np.exp(0.7 * v[1]) * (image - mean) + 0.3 * v[0]
        np.testing.assert_allclose(y, expected, rtol=1e-10)


@pytest.mark.parametrize("fill_mode", ["nearest", "constant"])
def test_rotation_and_translation_as_scipy_interpolates(fill_mode):
    x = images()
    _, height, width, channels = SHAPE
    u = draws((len(x), 5), minval=-1, maxval=1)
    layer = augmentation(
        rotation=0.4, translation=0.3, fill_mode=fill_mode, fill_value=0.7
    )
    y = layer(x, training=True)
    rows, columns = np.mgrid[:height, :width].astype(float)
    middle = (height - 1) / 2, (width - 1) / 2
    for image, v, moved_image in zip(x, u, y, strict=True):
        angle = 2 * np.pi * 0.4 * v[2]
        down = rows - middle[0] - 0.3 * v[3] * height
        right = columns - middle[1] - 0.3 * v[4] * width
        r = middle[0] + np.cos(angle) * down + np.sin(angle) * right
        k = middle[1] - np.sin(angle) * down + np.cos(angle) * right
        mode = {"constant": "grid-constant"}.get(fill_mode, fill_mode)
        for c in range(channels):
            expected = ndimage.map_coordinates(
                image[..., c], [r, k], order=1, mode=mode, cval=0.7
            )
            np.testing.assert_allclose(
                moved_image[..., c], expected, atol=1e-12
            )


@pytest.mark.parametrize("turns", [0.03, -0.1, 0.4])
def test_turns_as_scipy_rotates(turns):
    x = images()
    expected = ndimage.rotate(
        x, 360 * turns, (1, 2), reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(turned(x, turns, 0.0), expected, atol=1e-12)


@pytest.mark.parametrize("down, right", [(0.1, 0.3), (-0.2, 0.05)])
def test_shifts_as_scipy_shifts(down, right):
    x = images()
    pixels = (0, down * SHAPE[1], right * SHAPE[2], 0)
    expected = ndimage.shift(x, pixels, order=1, mode="nearest")
    np.testing.assert_allclose(shifted(x, down, right), expected, atol=1e-12)


@pytest.mark.parametrize("quarters", [-1, 1, 2, 3])
@pytest.mark.parametrize("size", [4, 5])
def test_quarter_turns_as_numpy_turns(quarters, size):
    x = np.random.default_rng(0).normal(size=(2, size, size, 3))
    expected = np.rot90(x, quarters, (1, 2))
    np.testing.assert_allclose(turned(x, quarters / 4), expected, atol=1e-12)


def test_shifts_whole_pixels_exactly():
    x = np.random.default_rng(0).normal(size=(2, 8, 4, 3))
    y = shifted(x, 0.25, -0.25, 7.0)  # down by two rows, left by one column
    np.testing.assert_array_equal(y[:, 2:, :-1], x[:, :-2, 1:])
    assert (y[:, :2] == 7).all() and (y[:, :, -1] == 7).all()


def test_what_is_far_outside_is_filled():
    x = images()
    assert (shifted(x, 1e6, 0.0, 7.0) == 7).all()
    np.testing.assert_array_equal(
        shifted(x, 1e6, 0.0), np.broadcast_to(x[:, :1], SHAPE)
    )


def test_weak_augmentation_tends_to_the_identity():
    x = images()
    far = []
    for strength in (1e-2, 1e-4, 1e-6):
        layer = augmentation(**dict.fromkeys(STRENGTHS, strength))
        far.append(np.abs(layer(x, training=True) - x).max())
    np.testing.assert_allclose(far[1:], np.array(far[:2]) / 100, rtol=0.1)


@pytest.mark.parametrize("fill_value", [None, 0.3])
def test_augments_under_xla_as_without(fill_value):
    x = tf.constant(images())
    u = tf.unstack(tf.constant(draws((len(x), 5), minval=-1, maxval=1)), axis=1)

    def gradients(strengths):
        with tf.GradientTape() as tape:
            tape.watch([x, *strengths])
            y = augmented(x, u, *strengths, fill_value=fill_value)
            loss = tf.reduce_sum(tf.sin(y))
        return y, tape.gradient(loss, [x, *strengths])

    strengths = [tf.constant(s, x.dtype) for s in (0.1, 0.2, 0.3, 0.4)]
    compiled = tf.function(gradients, jit_compile=True, autograph=False)
    assert relative_error(compiled(strengths), gradients(strengths)) < 1e-12


def test_switched_off_strengths_leave_the_draws_of_others():
    x = images()
    some = augmentation(contrast=0.1)
    others = augmentation(
        brightness=1e-9, contrast=0.1, rotation=1e-9, translation=1e-9
    )
    both = [layer(x, training=True) for layer in (some, others)]
    np.testing.assert_allclose(*both, atol=1e-6)
    assert list(hyperparameters(some)) == ["contrast"]


def test_augmentation_of_nothing_is_the_identity():
    layer = augmentation()
    np.testing.assert_array_equal(layer(images(), training=True), images())


def test_integer_images_become_floats():
    layer = layers.ImageAugmentation(seed=1)
    x = (np.abs(images()) * 50).astype("uint8")
    floats = layer(x.astype("float64"), training=True)
    rewind(layer)
    np.testing.assert_array_equal(layer(x, training=True), floats)


# ---- bad arguments


@pytest.mark.parametrize(
    "make, error, words",
    [
        (
            lambda: layers.ImageAugmentation(brightness=0),
            ValueError,
            "`brightness`.*None",
        ),
        (
            lambda: layers.ImageAugmentation(contrast=[0.1, 0.2]),
            TypeError,
            "`contrast`.*a number",
        ),
        (
            lambda: layers.ImageAugmentation(bounds=(0, 1)),
            TypeError,
            "`bounds`.*dict",
        ),
        (
            lambda: layers.ImageAugmentation(bounds={"hue": (0, 1)}),
            ValueError,
            "`bounds`.*hue",
        ),
        (
            lambda: layers.ImageAugmentation(
                rotation=None, bounds={"rotation": (0, 1)}
            ),
            ValueError,
            "`bounds`.*not None",
        ),
        (
            lambda: layers.ImageAugmentation(fill_mode="wrap"),
            ValueError,
            "`fill_mode`.*'nearest', 'constant'.*'wrap'",
        ),
        (
            lambda: layers.ImageAugmentation(fill_value=np.nan),
            ValueError,
            "`fill_value`",
        ),
        (
            lambda: layers.ImageAugmentation()(np.ones((2, 64))),
            ValueError,
            r"batch, height, width, channels.*\(2, 64\).*Reshape",
        ),
    ],
)
def test_bad_arguments_are_told(make, error, words):
    with pytest.raises(error, match=words):
        make()
