"""The layers table: every layer that draws, and what all of them promise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from checks import assert_derivative, assert_exact_hypergradient
from closed_forms import exact_model
from drawing_layers import SHAPE, augmentation, hyperparameters, images, rewind
from keras_drmad import layers
from keras_drmad.layers.in_layers import find
from small_models import built_once

pytestmark = pytest.mark.usefixtures("float64")

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
def test_runs_in_loops_that_xla_compiles(name):
    layer = MAKE[name]()
    layer.build(SHAPE)
    state = layer.seed_generator.state
    raws = [h.raw for h in hyperparameters(layer).values()]

    @tf.function(jit_compile=True, autograph=False)
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


def arrays(model, seed=0):
    """Returns inputs and targets of a model, (x, y) and validation (x, y)."""
    random = np.random.default_rng(seed)
    shape = model.input_shape[1:]
    return [
        (random.normal(size=(12, *shape)), random.normal(size=(12, 2)))
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from names of nets to models, each as new."""
    return built_once(lambda name: exact_model(NETS[name](), []))


def assert_exact(model):
    (x, y), validation = arrays(model)
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


@pytest.mark.parametrize("name", NETS)
def test_reverse_mode_is_exact(model_of, name):
    assert_exact(model_of(name))


@pytest.mark.slow
def test_reverse_mode_is_exact_under_xla():
    # What else images are changed by is compiled in a loop above.
    assert_exact(exact_model(NETS["constant"](), [], jit_compile=True))


@pytest.mark.parametrize("name", ["dropout", "noise", "images"])
def test_validation_does_not_see_the_noise(model_of, name):
    model = model_of(name)
    (x, y), validation = arrays(model)
    arguments = dict(validation_data=validation, batch_size=4, seed=0)
    loss = model.validation_loss_after(x, y, **arguments)
    logs = model.fit(x, y, meta_iterations=0, verbose=0, **arguments).history
    quiet = np.mean(
        (model.predict(validation[0], verbose=0) - validation[1]) ** 2
    )
    np.testing.assert_allclose([loss, logs["val_loss"][-1]], quiet, rtol=1e-12)


def test_layers_of_one_name_in_inner_models_are_told_apart():
    x = inputs = keras.Input((3,))
    for name in "ab":
        inner = [keras.Input((3,)), layers.Dropout(0.2, name="drop")]
        x = keras.Sequential(inner, name=name)(x)
    found = find(keras.Model(inputs, keras.layers.Dense(1)(x)))
    assert [one.name for one in found] == ["drop.rate", "drop_1.rate"]
