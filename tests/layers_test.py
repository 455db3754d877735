"""Layers with learned strengths: dropout, noise, image augmentation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from checks import (
    assert_derivative,
    assert_exact_hypergradient,
    relative_error,
)
from closed_forms import exact_model
from keras_drmad import layers
from keras_drmad.layers.dropout import kept_parts
from keras_drmad.layers.image_augmentation import STRENGTHS, augmented
from keras_drmad.layers.in_layers import find
from keras_drmad.layers.sampling import moved

pytestmark = pytest.mark.usefixtures("float64")

SHAPE = (3, 6, 5, 2)  # heights and widths differ, and one is even
MAKE = {
    "dropout": lambda **kwargs: layers.Dropout(0.3, seed=1, **kwargs),
    "dropout_by_unit": lambda **kwargs: layers.Dropout(
        [0.3, 0.6], temperature=0.5, bounds=(None, 0.9), seed=1, **kwargs
    ),
    "noise": lambda **kwargs: layers.GaussianNoise(0.2, seed=1, **kwargs),
    "noise_by_unit": lambda **kwargs: layers.GaussianNoise(
        [0.2, 0.5], bounds=(0.1, None), seed=1, **kwargs
    ),
    "images": lambda **kwargs: layers.ImageAugmentation(seed=1, **kwargs),
    "images_in_part": lambda **kwargs: layers.ImageAugmentation(
        brightness=None,
        contrast=0.3,
        rotation=None,
        translation=0.2,
        bounds={"contrast": (0.1, 1.0)},
        fill_mode="constant",
        fill_value=0.5,
        seed=1,
        **kwargs,
    ),
}
every_layer = pytest.mark.parametrize("name", MAKE)


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


def augmentation(**arguments):
    """Returns a layer whose strengths are those given, all others off."""
    arguments = dict.fromkeys(STRENGTHS) | dict(seed=1) | arguments
    return layers.ImageAugmentation(**arguments)


def draws(shape, **kwargs):
    """Returns the numbers that a layer with seed 1 draws first."""
    generator = keras.random.SeedGenerator(1)
    uniform = keras.random.uniform(
        shape, dtype="float64", seed=generator, **kwargs
    )
    return uniform.numpy()


def turned(x, turns, fill_value=None):
    turns = np.full(len(x), float(turns))
    return moved(tf.constant(x), tf.constant(turns), None, fill_value).numpy()


def shifted(x, down, right, fill_value=None):
    shifts = np.tile([float(down), float(right)], (len(x), 1))
    return moved(tf.constant(x), None, tf.constant(shifts), fill_value).numpy()


# ---- every layer


@every_layer
def test_is_the_identity_in_inference(name):
    x = images()
    layer = MAKE[name]()
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert np.abs(layer(x, training=True) - x).max() > 0.1


@every_layer
def test_draws_anew_each_time_and_again_from_the_same_state(name):
    x, layer = images(), MAKE[name]()
    first, second = layer(x, training=True), layer(x, training=True)
    rewind(layer)
    again = layer(x, training=True)
    np.testing.assert_array_equal(again, first)
    assert np.abs(second - first).max() > 0.01
    assert "seed_generator_state" in [v.name for v in layer.variables]


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_has_the_precision_of_its_policy(name, dtype):
    layer = MAKE[name](dtype=dtype)
    y = layer(images(), training=True)
    assert y.dtype == layer.compute_dtype and y.shape == SHAPE
    assert np.isfinite(tf.cast(y, "float64")).all()
    for h in hyperparameters(layer).values():
        assert h.raw.dtype == layer.variable_dtype
    spec = layer.compute_output_spec(keras.Input(SHAPE[1:]))
    assert (spec.shape, spec.dtype) == ((None, *SHAPE[1:]), y.dtype)
    assert layer.compute_output_shape(SHAPE) == SHAPE


@every_layer
def test_config_round_trip(name):
    layer = MAKE[name]()
    config = layer.get_config()
    for h in hyperparameters(layer).values():
        h.raw.assign_add(tf.ones_like(h.raw))  # what is learned is no config
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert copy.get_config() == layer.get_config() == config
    for attribute, h in hyperparameters(copy).items():
        np.testing.assert_allclose(h.value(), config[attribute])


@every_layer
def test_saved_model_keeps_what_was_learned(name, tmp_path):
    inputs = keras.Input(SHAPE[1:])
    layer = MAKE[name](name="noisy")
    model = keras.Model(inputs, layer(inputs))
    for h in hyperparameters(layer).values():
        h.raw.assign_add(0.1 * tf.ones_like(h.raw))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    learned, saved = map(hyperparameters, (loaded.get_layer("noisy"), layer))
    assert learned.keys() == saved.keys()
    for attribute, h in learned.items():
        np.testing.assert_array_equal(h.value(), saved[attribute].value())
    assert {h.name for h in find(loaded)} == {f"noisy.{k}" for k in saved}


def test_export_serves_inference(tmp_path):
    x = images()
    model = keras.Sequential([keras.Input(SHAPE[1:])])
    for make in MAKE.values():
        model.add(make())
    model.export(str(tmp_path), verbose=False)
    np.testing.assert_array_equal(tf.saved_model.load(tmp_path).serve(x), x)


@pytest.mark.parametrize("name", ["dropout", "noise", "images"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_runs_in_compiled_loops(name, jit_compile):
    layer = MAKE[name]()
    layer.build(SHAPE)
    state = layer.seed_generator.state
    raws = [h.raw for h in hyperparameters(layer).values()]

    @tf.function(jit_compile=jit_compile)
    def slope(x, raw):
        """Differentiates three calls, one after the other."""

        def body(t, y, seed):
            pairs = [(state, seed), *zip(raws, raw, strict=True)]
            with keras.StatelessScope(pairs) as scope:
                y = layer(y, training=True)
            return t + 1, y, scope.get_current_value(state)

        with tf.GradientTape() as tape:
            tape.watch(raw)
            start = tf.constant(0), x, tf.convert_to_tensor(state.value)
            _, y, seed = tf.while_loop(
                lambda t, *_: t < 3, body, start, maximum_iterations=3
            )
            total = tf.reduce_sum(y**2)
        return tape.gradient(total, raw), seed

    gradients, seed = slope(
        tf.constant(images()), [tf.convert_to_tensor(r) for r in raws]
    )
    for gradient in gradients:
        assert np.isfinite(gradient).all() and np.abs(gradient).min() > 0
    assert seed[1] == 3


@every_layer
def test_derivatives_of_strengths_are_those_of_differences(name):
    layer, x = MAKE[name](), tf.constant(images())

    def f():
        rewind(layer)
        return tf.reduce_sum(tf.sin(layer(x, training=True)))

    f()
    for h in hyperparameters(layer).values():
        with tf.GradientTape() as tape:
            tape.watch(h.raw.value)
            y = f()
        gradient = tape.gradient(y, h.raw.value)
        # A short step: interpolation has kinks, a pixel apart.
        assert_derivative(lambda: float(f()), [h.raw], [gradient], step=1e-6)


@every_layer
def test_second_derivatives_are_those_of_differences(name):
    """Of the derivatives with respect to x, in x and in the strengths."""
    layer, d = MAKE[name](), tf.constant(images(1))
    x = tf.Variable(images())
    raws = [h.raw for h in hyperparameters(layer).values()]

    def slope():
        rewind(layer)
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(tf.sin(layer(x, training=True)))
        return tf.reduce_sum(d * tape.gradient(y, x))

    slope()
    variables = [x, *(raw.value for raw in raws)]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        s = slope()
    gradients = tape.gradient(s, variables)
    for variable, gradient in zip([x, *raws], gradients, strict=True):
        assert_derivative(
            lambda: float(slope()), [variable], [gradient], step=1e-6
        )


# ---- dropout


@pytest.mark.parametrize("rate", [0.3, [0.3, 0.6]])
def test_dropout_by_hand(rate):
    x, u, p = images(), draws(SHAPE), np.array(rate)
    z = (np.log(p) - np.log(1 - p) + np.log(u) - np.log(1 - u)) / 0.4
    z = 1 / (1 + np.exp(-z))
    y = layers.Dropout(rate, temperature=0.4, seed=1)(x, training=True)
    np.testing.assert_allclose(y, x * (1 - z) / (1 - p), rtol=1e-10)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_dropout_drops_its_rate_on_average(rate):
    u = (np.arange(100_000) + 0.5) / 100_000
    kept = kept_parts(tf.constant(rate, "float64"), tf.constant(u), 0.1)
    bias = np.pi**2 / 6 * 0.1**2 * rate * (1 - rate) * (1 - 2 * rate)
    np.testing.assert_allclose(1 - np.mean(kept), rate + bias, atol=1e-4)
    np.testing.assert_allclose(np.mean(kept < 0.5), rate, atol=1e-5)


def test_dropout_keeps_the_mean_of_its_inputs():
    x = np.ones((100, 1000))
    y = layers.Dropout(0.25, seed=1)(x, training=True)
    error = 4 * np.std(y) / np.sqrt(x.size)
    np.testing.assert_allclose(np.mean(y), 1, atol=error + 0.002)


def test_dropout_tends_to_zeros_and_ones():
    u = np.random.default_rng(0).uniform(size=10_000)
    rate = tf.constant(0.3, "float64")
    far = []
    for temperature in (1.0, 0.1, 0.01, 1e-4):
        kept = kept_parts(rate, tf.constant(u), temperature).numpy()
        far.append(np.abs(kept - (u < 0.7)).mean())
        np.testing.assert_array_equal(kept > 0.5, u < 0.7)
    assert np.all(np.diff(far) < 0) and far[-1] < 1e-4


def test_dropout_of_a_draw_of_zero_is_finite():
    rate = tf.constant(0.3)
    with tf.GradientTape() as tape:
        tape.watch(rate)
        kept = kept_parts(rate, tf.constant(0.0), 0.1)
    assert (kept, tape.gradient(kept, rate)) == (1, 0)


def test_noise_shape_is_that_of_keras():
    x = np.ones((4, 5, 6))
    shared = layers.Dropout(0.5, noise_shape=(None, 1, 6), seed=1)
    y = shared(x, training=True).numpy()
    np.testing.assert_array_equal(y, y[:, :1] * x)
    assert len(np.unique(y)) == 4 * 6
    assert shared.get_config()["noise_shape"] == (None, 1, 6)


# ---- noise


@pytest.mark.parametrize("stddev", [0.2, [0.2, 0.5]])
def test_noise_by_hand(stddev):
    x = images()
    generator = keras.random.SeedGenerator(1)
    epsilon = keras.random.normal(SHAPE, dtype="float64", seed=generator)
    y = layers.GaussianNoise(stddev, seed=1)(x, training=True)
    np.testing.assert_allclose(y, x + np.array(stddev) * epsilon, rtol=1e-12)


# ---- images


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
    compiled = tf.function(gradients, jit_compile=True)(strengths)
    assert relative_error(compiled, gradients(strengths)) < 1e-12


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


# ---- hypergradients


def dense_net(layer):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    return inputs, keras.layers.Dense(2, name="b")(layer(x))


def image_net(layer):
    """Weights before the layer too: x depends on them."""
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Dense(2, activation="tanh", name="a")(inputs)
    x = keras.layers.Flatten()(layer(x))
    return inputs, keras.layers.Dense(2, name="b")(x)


NETS = {
    "dropout": lambda: dense_net(layers.Dropout(0.3, temperature=0.5)),
    "dropout_by_unit": lambda: dense_net(
        layers.Dropout([0.2, 0.3, 0.4], temperature=0.5)
    ),
    "noise": lambda: dense_net(layers.GaussianNoise(0.3)),
    "images": lambda: image_net(
        augmentation(
            brightness=0.3, contrast=0.3, rotation=0.1, translation=0.1
        )
    ),
    "constant": lambda: image_net(
        augmentation(rotation=0.1, fill_mode="constant", fill_value=0.2)
    ),
}


def arrays(net, seed=0):
    """Returns inputs and targets of a net, (x, y) and validation (x, y)."""
    random = np.random.default_rng(seed)
    shape = net[0].shape[1:]
    return [
        (random.normal(size=(12, *shape)), random.normal(size=(12, 2)))
        for _ in range(2)
    ]


@pytest.mark.parametrize("name", NETS)
def test_reverse_mode_is_exact(name):
    net = NETS[name]()
    model = exact_model(net, [])
    (x, y), validation = arrays(net)
    assert_exact_hypergradient(
        model,
        x,
        y,
        4,
        2,
        validation_data=validation,
        step=1e-6,
        rtol=1e-5,
    )


@pytest.mark.slow
def test_reverse_mode_is_exact_under_xla():
    net = NETS["images"]()
    model = exact_model(net, [], jit_compile=True)
    (x, y), validation = arrays(net)
    assert_exact_hypergradient(
        model,
        x,
        y,
        4,
        2,
        validation_data=validation,
        step=1e-6,
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["dropout", "noise", "images"])
def test_validation_does_not_see_the_noise(name):
    net = NETS[name]()
    model = exact_model(net, [])
    (x, y), validation = arrays(net)
    arguments = dict(validation_data=validation, batch_size=4, seed=0)
    loss = model.validation_loss_after(x, y, **arguments)
    logs = model.fit(x, y, meta_iterations=0, verbose=0, **arguments).history
    quiet = np.mean(
        (model.predict(validation[0], verbose=0) - validation[1]) ** 2
    )
    np.testing.assert_allclose([loss, logs["val_loss"][-1]], quiet, rtol=1e-12)


# ---- bad arguments


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: layers.Dropout(0.0), ValueError, "`rate`.*above 0.*rate=0.0"),
        (lambda: layers.Dropout(1), ValueError, "`rate`.*below 1"),
        (lambda: layers.Dropout([0.5, 1.5]), ValueError, "`rate`"),
        (lambda: layers.Dropout("much"), TypeError, "`rate`.*'much'"),
        (lambda: layers.Dropout(None), TypeError, "`rate`"),
        (
            lambda: layers.Dropout(0.5, bounds=(0.6, 0.9)),
            ValueError,
            r"`rate`.*\[0.6, 0.9\]",
        ),
        (lambda: layers.Dropout(bounds=(0, 2)), ValueError, "`bounds`"),
        (lambda: layers.Dropout(temperature=0), ValueError, "`temperature`"),
        (
            lambda: layers.Dropout(temperature="hot"),
            TypeError,
            "`temperature`.*'hot'",
        ),
        (
            lambda: layers.Dropout(temperature=np.inf),
            ValueError,
            "`temperature`",
        ),
        (lambda: layers.Dropout(noise_shape="ab"), ValueError, "`noise_shape`"),
        (lambda: layers.Dropout(noise_shape=(0,)), ValueError, "`noise_shape`"),
        (
            lambda: layers.Dropout(noise_shape=(1, 2))(np.ones((2, 3))),
            ValueError,
            r"`noise_shape`.*\(2, 3\)",
        ),
        (
            lambda: layers.Dropout(noise_shape=(1,))(np.ones((2, 3))),
            ValueError,
            "`noise_shape`",
        ),
        (
            lambda: layers.Dropout([0.5, 0.5])(np.ones((2, 3))),
            ValueError,
            r"`rate`.*\(2,\).*\(2, 3\)",
        ),
        (lambda: layers.Dropout(seed=0.5), TypeError, "`seed`.*0.5"),
        (lambda: layers.GaussianNoise(-1), ValueError, "`stddev`.*stddev=-1"),
        (lambda: layers.GaussianNoise(np.nan), ValueError, "`stddev`"),
        (lambda: layers.GaussianNoise(True), TypeError, "`stddev`"),
        (
            lambda: layers.GaussianNoise(np.ones((2, 3)))(np.ones((2, 3))),
            ValueError,
            "`stddev`",
        ),
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
