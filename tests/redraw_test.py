"""Which variables hold their initializers' draws, and new draws of them."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad.training.randomness import hashed
from keras_drmad.training.redraw import Redraw
from redrawn_layers import LAYERS, ROW, SEQUENCE
from redraws import assert_fresh, is_number, model_of, numbers, redraw_of
from small_models import compiled, hidden

layers = keras.layers
initializers = keras.initializers


IN_OTHER_DTYPES = (
    "Dense, RandomNormal bias",
    "Dense, orthogonal",
    "SeparableConv2D",
    "LSTM, RandomNormal bias",
    "EinsumDense",
    "SpectralNormalization",
)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_keras(name):
    assert_drawn(*LAYERS[name])


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
@pytest.mark.parametrize("name", IN_OTHER_DTYPES)
def test_layers_of_keras_in_other_dtypes(name, dtype):
    assert_drawn(*LAYERS[name], dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_variables_of_half_precision(dtype):
    assert_drawn(*LAYERS["Dense"], dtype)


def assert_drawn(make, shape, count, dtype="float32"):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = model_of(make(), shape=shape)
    finally:
        keras.config.set_dtype_policy(before)
    redraw = redraw_of(model)
    assert sum(redraw.drawn) == count, redraw.words()
    for variable, drawn, fixed in zip(
        redraw.variables, redraw.drawn, redraw.fixed, strict=True
    ):
        assert drawn + fixed == is_number(variable), variable.path
    assert_fresh(redraw)
    assert "stay" not in redraw.words()


@pytest.mark.parametrize("name", LAYERS)
def test_all_layers_of_keras_stay_where_they_were_loaded(name):
    make, shape, _ = LAYERS[name]
    model = model_of(make(), shape=shape)
    for variable in filter(is_number, model.variables):
        noise = np.random.normal(size=variable.shape)
        variable.assign(variable + 1e-5 * noise)
    redraw = redraw_of(model)
    assert not any(redraw.drawn) and not any(redraw.fixed)
    assert all(value is None for value in redraw.draw(0))


SEEDED = {
    "Dense": (lambda one: layers.Dense(4, kernel_initializer=one), ROW),
    "LSTM": (lambda one: layers.LSTM(4, kernel_initializer=one), SEQUENCE),
    "EinsumDense": (
        lambda one: layers.EinsumDense(
            "abc,cde->abde", (6, 2, 3), kernel_initializer=one
        ),
        SEQUENCE,
    ),
    "bias": (
        lambda one: layers.Dense(4, None, True, "zeros", one),
        ROW,
    ),
}


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("kind", ["HeUniform", "GlorotNormal", "RandomNormal"])
def test_a_model_built_with_the_seeds_has_the_very_draws(name, kind):
    make, shape = SEEDED[name]
    kind = getattr(initializers, kind)
    redraw = redraw_of(model_of(make(kind()), shape=shape))
    k = redraw.drawn.index(True)
    again = model_of(make(kind(seed=hashed(5, k))), shape=shape)
    np.testing.assert_array_equal(again.variables[k], redraw.draw(5)[k])


def test_the_bias_of_an_lstm_keeps_its_ones():
    layer = layers.LSTM(3, bias_initializer="random_normal")
    redraw = redraw_of(model_of(layer, shape=SEQUENCE))
    values = numbers(redraw.draw(0))
    bias = values[2]
    np.testing.assert_array_equal(bias[3:6], 1)
    again = initializers.RandomNormal(seed=hashed(0, 2))
    np.testing.assert_array_equal(bias[:3], again((3,)))
    np.testing.assert_array_equal(bias[6:], again((6,)))


# ---- determinism


def test_draws_follow_the_seed_and_nothing_else():
    redraw = redraw_of(model_of(layers.Dense(4), layers.Dense(4)))
    first, again, other = (numbers(redraw.draw(seed)) for seed in (1, 1, 2))
    redraw.variables[0].assign(redraw.variables[0] * 2)
    late = numbers(redraw.draw(1))
    for k in (0, 2):
        np.testing.assert_array_equal(first[k], again[k])
        np.testing.assert_array_equal(first[k], late[k])
        assert np.all(first[k] != other[k])


def test_one_seed_in_several_layers_gives_several_draws():
    shared = initializers.GlorotUniform()
    pairs = (
        [shared, shared],
        [initializers.HeNormal(3), initializers.HeNormal(3)],
    )
    for pair in pairs:
        model = model_of(
            *(layers.Dense(5, kernel_initializer=one) for one in pair)
        )
        np.testing.assert_array_equal(*[model.weights[k] for k in (0, 2)])
        assert_fresh(redraw_of(model))


# ---- models


class Nested(keras.Model):
    """A subclassed model without a config, of which one half is a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.parts = {"head": [layers.Dense(3)]}

    def call(self, x):
        return self.parts["head"][0](self.inner(x))

    def get_config(self):
        raise NotImplementedError


def test_subclassed_and_nested_models():
    model = Nested(
        Nested(model_of(layers.Dense(4), layers.LayerNormalization()))
    )
    model(np.zeros((2, *ROW)))
    redraw = redraw_of(model)
    assert sum(redraw.drawn) == 3 and sum(redraw.fixed) == 5
    assert_fresh(redraw)


def test_a_loaded_body_stays_under_a_new_head(tmp_path):
    def body():
        return model_of(layers.Dense(4), layers.BatchNormalization())

    trained, model = body(), Nested(body())
    for variable in trained.variables:
        noise = np.random.normal(size=variable.shape)
        variable.assign(variable + 0.1 * noise)
    trained.save_weights(tmp_path / "body.weights.h5")
    model(np.zeros((2, *ROW)))
    model.inner.load_weights(tmp_path / "body.weights.h5")
    redraw = redraw_of(model)
    (head,) = model.parts["head"]
    drawn = [
        v.path for v, d in zip(model.variables, redraw.drawn, strict=True) if d
    ]
    assert drawn == [head.kernel.path]
    assert redraw.words().startswith(
        "12 of 47 trainable numbers (1 of 6 variables) are drawn anew, 3 begin "
    )
    assert "and 3 more stay as they are" in redraw.words()


def test_weights_that_fit_creates_late():
    model = keras.Sequential([layers.Dense(4), layers.LayerNormalization()])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(np.ones((4, 5)), np.ones((4, 4)), verbose=0)
    assert redraw_of(model).drawn == [True, False, False, False]


def test_weights_of_low_rank():
    layer = layers.Dense(4)
    model = model_of(layer)
    layer.enable_lora(8)
    redraw = Redraw(model, model.trainable_variables)
    # The bias, a he_uniform that Keras names by a string, and zeros.
    assert redraw.drawn == [False, True, False]
    assert redraw.fixed == [True, False, True]


def test_frozen_layers_that_nobody_asks_for():
    frozen = layers.Dense(4, trainable=False)
    model = model_of(frozen, layers.Dense(3))
    frozen.kernel.assign(frozen.kernel + 1)
    redraw = Redraw(model, model.trainable_variables)
    assert redraw.words() == (
        "12 of 15 trainable numbers (1 of 2 variables) are drawn anew, 3 begin "
        "as initializers set them."
    )


def test_trained_models_stay():
    model = hidden()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    redraw = Redraw(model, model.trainable_variables)
    assert not any(redraw.drawn)


def test_tied_weights_are_drawn_once():
    class Tied(layers.Layer):
        def __init__(self, of):
            super().__init__()
            self.of = of

        def build(self, shape):
            self.kernel = self.of.kernel

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.kernel))

    dense = layers.Dense(4, use_bias=False)
    model = model_of(dense, Tied(dense))
    redraw = Redraw(model, [dense.kernel, dense.kernel])
    assert redraw.drawn == [True, True]
    first, second = redraw.draw(0)
    np.testing.assert_array_equal(first, second)
    assert "20 of 20 trainable numbers (1 of 1 variables)" in redraw.words()


@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="new in Keras 3.12"
)
def test_a_reversible_embedding_is_drawn():
    class Ends(layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = layers.ReversibleEmbedding(7, 3)

        def call(self, x):
            return self.table(self.table(x), reverse=True)

    model = model_of(Ends(), shape=(2,))
    assert redraw_of(model).drawn == [True]
    model = model_of(layers.Embedding(7, 3), shape=(2,))
    assert redraw_of(model).drawn == [True]


def test_the_model_of_hyperparameters():
    model = compiled(hidden())
    redraw = Redraw(model, model.trainable_variables)
    assert redraw.drawn == [True, False] * 2
    assert redraw.words().endswith("begin as initializers set them.")


def test_values_that_layers_learn_are_no_weights_that_stay():
    model = model_of(kd.layers.Dropout(0.3), layers.Dense(3))
    words = redraw_of(model).words()
    assert "are drawn anew" in words and "stay" not in words


def test_variables_that_a_model_does_not_own_stay():
    model = model_of(layers.Dense(2))
    loose = keras.Variable(np.random.normal(size=(3, 3)), name="loose")
    redraw = Redraw(model, [loose, *model.variables])
    assert redraw.drawn == [False, True, False]
    assert "'loose' stays as it is" in redraw.words()
