"""`tunable`: a model's own random layers, with strengths that are tuned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from conftest import reseed
from keras_drmad import tunable_model
from keras_drmad.training.redraw import Redraw

L = keras.layers


def images():
    """Returns a net of images with all that can be replaced, and more."""
    reseed()
    inputs = keras.Input((6, 6, 3))
    x = L.RandomFlip("horizontal", name="flip")(inputs)
    x = L.RandomRotation(0.05, name="turn")(x)
    x = L.RandomTranslation(0.1, 0.1, fill_mode="constant", name="shift")(x)
    x = L.RandomContrast((0.2, 0.2), value_range=(0, 1), name="contrast")(x)
    x = L.RandomBrightness(0.1, value_range=(-1, 1), name="light")(x)
    x = L.RandomZoom(0.1, name="zoom")(x)
    x = L.Conv2D(4, 3, activation="relu")(x)
    x = L.BatchNormalization()(x)
    x = L.SpatialDropout2D(0.25, name="maps")(x)
    x = L.Flatten()(x)
    x = L.GaussianNoise(0.3, name="noise")(x)
    x = L.Dropout(0.4, seed=3, name="drop")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="net")


def strengths(model):
    return {
        h.name: pytest.approx(float(h.value()), rel=1e-6)
        for h in compiled(model).hyperparameters
        if "." in h.name
    }


def compiled(model, **options):
    wrapped = kd.DrMADModel(model)
    wrapped.compile("sgd", "mse", hyperparameters="auto", **options)
    return wrapped


def given_weights(model):
    """Returns weights as `model` has them, none of which is a draw."""
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.uniform(0.1, 1, w.shape) for w in model.weights]
    )
    return model


def assert_infers_the_same(model, copy, x):
    ours, theirs = (each(x, training=False) for each in (copy, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_strengths_are_those_of_the_layers():
    model = given_weights(images())
    copy = kd.tunable(model)
    assert strengths(copy) == {
        "turn.rotation": 0.05,
        "shift.translation": 0.1,
        "contrast.contrast": 0.2,
        "light.brightness": 0.2,  # a tenth of the range
        "maps.rate": 0.25,
        "noise.stddev": 0.3,
        "drop.rate": 0.4,
    }
    assert copy.name == "net"
    names = [layer.name for layer in model.layers[1:]]
    assert [layer.name for layer in copy.layers[1:]] == names
    shift = copy.get_layer("shift")
    assert (shift.fill_mode, shift.fill_value) == ("constant", 0.0)
    assert copy.get_layer("maps").noise_shape == (None, 1, 1, None)
    assert copy.get_layer("drop").seed == 3
    x = np.random.default_rng(1).uniform(size=(4, 6, 6, 3))
    assert_infers_the_same(model, copy, x.astype("float32"))


def test_the_model_stays_as_it_is():
    model = given_weights(images())
    before = model.get_weights()
    copy = kd.tunable(model)
    for variable in copy.weights:
        variable.assign(variable * 0 + 0.5)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(model.get_layer("drop"), L.Dropout)


def test_masks_are_those_of_dropout():
    """As the temperature falls: of whole maps, of entries of one seed."""
    model = given_weights(images())
    copy = kd.tunable(model)
    for name, shape in (("maps", (5, 4, 4, 8)), ("drop", (5, 9))):
        ones = np.ones(shape, "float32")
        layer = copy.get_layer(name)
        hard = np.round(layer(ones, training=True) * (1 - layer.rate.initial))
        if name == "maps":
            np.testing.assert_array_equal(hard, hard[:, :1, :1] * ones)
        rates = [
            1 - np.round(layer(ones, training=True) * 0.6).mean()
            for _ in range(200)
        ]
        theirs = [
            np.mean(model.get_layer(name)(ones, training=True) == 0)
            for _ in range(200)
        ]
        assert np.mean(rates) == pytest.approx(np.mean(theirs), abs=0.03)


def test_contrast_and_brightness_draw_from_the_ranges_of_keras():
    model = images()
    copy = kd.tunable(model)
    x = np.random.default_rng(1).uniform(0.3, 0.7, (500, 6, 6, 1))
    x = x.astype("float32")
    for name in ("contrast", "light"):
        ours, theirs = (
            np.array(m.get_layer(name)(x, training=True)) for m in (copy, model)
        )
        found = [(y - x).mean((1, 2, 3)) for y in (ours, theirs)]
        if name == "contrast":
            before = x.std((1, 2, 3))
            found = [y.std((1, 2, 3)) / before for y in (ours, theirs)]
        for q in (2, 25, 50, 75, 98):
            a, b = (np.percentile(one, q) for one in found)
            assert a == pytest.approx(b, abs=0.04), name


# ---- models of all kinds


def test_sequential_and_nested_models():
    inner = keras.Sequential([keras.Input((5,)), L.Dense(4), L.Dropout(0.2)])
    inputs = keras.Input((5,))
    shared = L.Dense(5, name="shared")
    x = inner(shared(shared(inputs)))
    model = given_weights(keras.Model(inputs, L.Dense(1)(x)))
    copy = kd.tunable(model)
    assert len(strengths(copy)) == 1
    assert len(copy.weights) == len(model.weights) + 1
    x = np.random.default_rng(1).normal(size=(3, 5)).astype("float32")
    assert_infers_the_same(model, copy, x)


@keras.saving.register_keras_serializable("tests")
class Block(L.Layer):
    """A layer with a net and dropout inside."""

    def __init__(self, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.net = keras.Sequential([L.Dense(4), L.GaussianNoise(0.2)])
        self.drop = L.Dropout(rate, name="inside")

    def build(self, input_shape):
        self.net.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=False):
        x = self.net(inputs, training=training)
        return self.drop(x, training=training)

    def get_config(self):
        return super().get_config() | {"rate": self.rate}


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model with a block inside."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.block = Block()
        self.head = L.Dense(units)
        self.units = units

    def call(self, inputs, training=False):
        return self.head(self.block(inputs, training=training))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def subclassed():
    model = Subclassed()
    model(np.ones((2, 5), "float32"))
    return given_weights(model)


def with_block():
    inputs = keras.Input((5,))
    return given_weights(keras.Model(inputs, L.Dense(2)(Block()(inputs))))


@pytest.mark.parametrize("make", [with_block, subclassed])
def test_layers_inside_a_users_own(make):
    model = make()
    copy = kd.tunable(model)
    assert type(copy) is type(model)
    x = np.random.default_rng(1).normal(size=(3, 5)).astype("float32")
    assert_infers_the_same(model, copy, x)
    assert {name.split(".")[1] for name in strengths(copy)} == {
        "rate",
        "stddev",
    }
    # The layers that were replaced are gone.
    assert not any(one.make for one in tunable_model.replacements(copy))
    assert np.std(copy(x, training=True) - copy(x, training=False)) > 0


NUMBERS = np.random.default_rng(0).normal(50, 9, (6, 3)).astype("float32")
ADAPTED = {
    "statistics": (L.Normalization, NUMBERS),
    "bins": (lambda: L.Discretization(num_bins=3), NUMBERS),
    "words": (
        L.StringLookup,
        np.array([["a", "b"], ["c", "b"]], object),
    ),
    "texts": (
        lambda: L.TextVectorization(output_sequence_length=2),
        np.array(["a b", "c b"], object),
    ),
}


@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize("is_adapted", [True, False])
def test_what_layers_were_adapted_to_stays(name, is_adapted):
    make, x = ADAPTED[name]
    first, x = make(), tf.constant(x)
    if is_adapted:
        first.adapt(x)
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    seen = L.Reshape((-1,))(first(inputs))
    if name != "statistics":
        seen = L.Flatten()(L.Embedding(9, 2)(seen))
    outputs = L.Dense(2)(L.Dropout(0.2)(seen))
    model = keras.Model(inputs, outputs)
    copy = kd.tunable(model)
    for one in (model, copy) if not is_adapted else ():
        one.layers[1].adapt(x)
    np.testing.assert_array_equal(copy(x), model(x))


def test_layers_of_this_package_stay():
    inputs = keras.Input((5,))
    x = kd.layers.Dropout(0.3, name="ours")(inputs)
    x = L.Dropout(0.2, name="theirs")(x)
    model = keras.Model(inputs, L.Dense(2)(x))
    model.get_layer("ours").rate.raw.assign(1.5)
    copy = kd.tunable(model)
    assert set(strengths(copy)) == {"ours.rate", "theirs.rate"}
    assert float(copy.get_layer("ours").rate.raw) == 1.5


# ---- what no config has


@pytest.mark.parametrize("graph", [keras.Sequential, keras.Model])
def test_a_compiled_model_needs_no_loss_that_keras_knows(graph):
    """Compile, then wrap: the copy is not compiled, and the model still is."""
    layers = [keras.Input((5,)), L.Dropout(0.2), L.Dense(1)]
    if graph is keras.Sequential:
        model = keras.Sequential(layers)
    else:
        model = keras.Model(layers[0], layers[2](layers[1](layers[0])))
    optimizer = keras.optimizers.SGD(lambda: 0.1)
    model.compile(optimizer, lambda y, y_pred: (y - y_pred) ** 2)
    assert not kd.tunable(model).compiled
    assert model.compiled and model.optimizer is optimizer


@keras.saving.register_keras_serializable("tests")
class Bare(L.Layer):
    """A layer without a `get_config`, with a body and dropout inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.body = L.Dense(4, name="body", kernel_constraint="non_neg")
        self.drop = L.Dropout(0.3)

    def build(self, input_shape):
        self.body.build(input_shape)
        super().build(input_shape)

    def call(self, x, training=False):
        return self.drop(self.body(x), training=training)


def bare():
    inputs = keras.Input((5,))
    x = Bare(name="own", dtype="mixed_float16")(inputs)
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3), L.Dense(3)])
    return keras.Model(inputs, L.Dense(2, name="head")(inner(x)))


def test_names_and_numbers_of_a_layer_without_a_config():
    copy = kd.tunable(bare()).get_layer("own")
    assert copy.body.kernel.path == "own/body/kernel"
    assert copy.dtype_policy.name == "mixed_float16"


@pytest.mark.parametrize(
    "freeze",
    [
        lambda model: model.get_layer("own").body,
        lambda model: model.get_layer("own"),
        lambda model: model.layers[2],
        lambda model: model.layers[2].layers[0],
        lambda model: model.get_layer("head"),
        lambda model: model.get_layer("head").kernel,
    ],
    ids=["in a layer", "a layer", "a model", "in a model", "head", "a weight"],
)
def test_what_was_frozen_stays_frozen(freeze):
    model = bare()
    freeze(model).trainable = False
    model.layers[2].layers[1].trainable = True  # within what is frozen
    copy = kd.tunable(model)
    assert [v.trainable for v in model.weights] == [
        v.trainable for v in copy.weights if "learned_value" not in v.path
    ]
    shapes = [[v.shape for v in m.trainable_variables] for m in (model, copy)]
    assert shapes[0] == shapes[1]


class Summed(keras.regularizers.Regularizer):
    """A regularizer of one's own, without a config."""

    def __call__(self, x):
        return keras.ops.sum(x)


def test_regularizers_and_constraints_that_were_given_later():
    model = bare()
    body, head = model.get_layer("own").body, model.get_layer("head")
    head.kernel.regularizer = keras.regularizers.L2(0.1)
    head.bias.constraint = keras.constraints.NonNeg()
    body.bias.regularizer = Summed()
    body.kernel.constraint = None
    copy = kd.tunable(model)
    ours = [v for v in copy.weights if "learned_value" not in v.path]
    for v, theirs in zip(ours, model.weights, strict=True):
        assert v.regularizer is theirs.regularizer
        assert v.constraint is theirs.constraint
    # Those of the constructor, which may hold values, are each one's own.
    again = kd.tunable(given := bare()).get_layer("own").body.kernel
    assert again.constraint is not given.get_layer("own").body.kernel.constraint


@keras.saving.register_keras_serializable("tests")
class Drawn(L.Layer):
    """Keeps its initializers in containers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = L.Dropout(0.3)
        draw = keras.initializers.RandomNormal
        self.of = {"a": draw(), "b": [draw()], "c": (draw(), 3)}

    def build(self, input_shape):
        for name, one in zip("abc", self.of.values(), strict=True):
            one = one[0] if isinstance(one, (list, tuple)) else one
            setattr(self, name, self.add_weight((5,), one, name=name))

    def call(self, x, training=False):
        return self.drop(x * (self.a + self.b + self.c), training=training)


def test_weights_are_drawn_anew_as_those_of_the_model():
    """Each that holds its draw; what was trained or loaded stays."""
    inputs = keras.Input((3, 5))
    x = L.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = L.Bidirectional(L.LSTM(2))(Drawn()(x))
    model = keras.Model(inputs, L.Dense(2, name="head")(x))
    words = [
        Redraw(m, m.trainable_variables).words()
        for m in (model, kd.tunable(model))
    ]
    assert words[0] == words[1]
    assert "(12 of 19 variables) are drawn anew" in words[0]
    assert "stay" not in words[0]
    head = model.get_layer("head")
    head.kernel.assign(head.kernel + 0.1)
    copy = kd.tunable(model)
    redraw = Redraw(copy, copy.trainable_variables)
    assert "'head/kernel' stays as it is" in redraw.words()
    np.testing.assert_array_equal(copy.get_layer("head").kernel, head.kernel)
    drawn = redraw.draw(1)
    assert [v is not None for v in drawn] == redraw.drawn


# ---- used


def test_fit_tunes_them_and_saves(tmp_path):
    inputs = keras.Input((5,))
    x = L.Dropout(0.3, name="drop")(L.Dense(6, activation="tanh")(inputs))
    plain = keras.Model(inputs, L.Dense(1)(x))
    model = kd.DrMADModel.from_model(plain, tunable=True)
    model.compile(
        "sgd",
        "mse",
        hyperparameters="auto",
        meta_optimizer=kd.SignDescent(0.1),
        jit_compile=False,
    )
    x = np.random.default_rng(0).normal(size=(16, 5))
    y = x[:, :1]
    data = dict(validation_data=(x, y), meta_iterations=1, verbose=0, seed=0)
    model.fit(x, y, 8, 2, **data)
    (rate,) = (h for h in model.hyperparameters if h.name == "drop.rate")
    assert float(rate.value()) != pytest.approx(0.3, abs=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_the_summary_says_what_it_would_find():
    said = []
    compiled(images()).hyperparameter_summary(print_fn=said.append)
    (text,) = said
    assert "`keras_drmad.tunable(model)` would find:" in text
    assert "turn (RandomRotation): its rotation, 0.05 now" in text
    assert "flip (RandomFlip): has no strength to tune here" in text
    compiled(kd.tunable(images())).hyperparameter_summary(print_fn=said.append)
    assert "would find" not in said[1]


# ---- what stays


@pytest.mark.parametrize(
    "layer, words",
    [
        (L.Dropout(0.0), "its rate is 0"),
        (L.GaussianNoise(0.0), "its stddev is 0"),
        (L.RandomRotation((-0.1, 0.2)), "(-0.1, 0.2) is not symmetric"),
        (L.RandomTranslation(0.1, 0.2), "height and width differ"),
        (L.RandomContrast(0.0), "its factor is 0"),
        (L.RandomZoom(0.1), "has no strength to tune here"),
        (L.AlphaDropout(0.1), "has no strength to tune here"),
        (
            L.RandomRotation(0.1, data_format="channels_first"),
            "channels first",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_can_not_be_replaced_is_said(layer, words):
    shape = (4, 4, 3) if "random" in layer.name else (5,)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(ValueError, match="no layer whose strength") as error:
        kd.tunable(model)
    assert f"{layer.name} ({type(layer).__name__}): " in str(error.value)
    assert words in str(error.value)


def test_bad_arguments():
    with pytest.raises(TypeError, match="`model`.*Received: 3"):
        kd.tunable(3)
    with pytest.raises(ValueError, match="Expected a built model"):
        kd.tunable(keras.Sequential([L.Dropout(0.1)]))
    with pytest.raises(ValueError, match="There is no random layer in it"):
        kd.tunable(keras.Sequential([keras.Input((3,)), L.Dense(1)]))
    with pytest.raises((TypeError, ValueError), match="`tunable`"):
        kd.DrMADModel.from_model(images(), tunable=1)

    class NoConfig(L.Layer):
        def __init__(self, function):
            super().__init__()

        def call(self, inputs):
            return inputs

    inputs = keras.Input((5,))
    model = keras.Model(inputs, NoConfig(abs)(L.Dropout(0.1)(inputs)))
    with pytest.raises(ValueError, match="`get_config`"):
        kd.tunable(model)


# ---- where a user's own layer keeps them


@keras.saving.register_keras_serializable("tests")
class Listed(L.Layer):
    """Random layers in a list, and one under two names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = [L.Dense(4), L.Dense(3)]
        self.drops = [L.Dropout(0.3), L.Dropout(0.1)]
        self.noise = L.GaussianNoise(0.2)
        self.also = self.noise

    def call(self, x, training=False):
        for dense, drop in zip(self.dense, self.drops, strict=True):
            x = drop(dense(x), training=training)
        return self.also(self.noise(x, training=training), training=training)


@keras.saving.register_keras_serializable("tests")
class Kept(L.Layer):
    """Keeps a random layer in a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"drop": L.Dropout(0.3, name="kept")}

    def call(self, x, training=False):
        return self.parts["drop"](x, training=training)


def test_layers_in_a_list_and_under_two_names():
    inputs = keras.Input((5,))
    model = given_weights(keras.Model(inputs, L.Dense(2)(Listed()(inputs))))
    copy = kd.tunable(model)
    found = [x.expected for x in strengths(copy).values()]
    np.testing.assert_allclose(sorted(found), [0.1, 0.2, 0.3], rtol=1e-6)
    layer = copy.layers[1]
    assert layer.also is layer.noise
    x = np.random.default_rng(1).normal(size=(3, 5)).astype("float32")
    assert_infers_the_same(model, copy, x)


def test_what_stays_in_a_users_own_layer_is_said():
    inputs = keras.Input((5,))
    x = Kept()(inputs)
    with pytest.raises(ValueError, match="'kept'. A layer of a class"):
        kd.tunable(keras.Model(inputs, x))
    model = keras.Model(inputs, L.Dropout(0.2, name="free")(x))
    with pytest.warns(UserWarning, match="stay as they are: 'kept'"):
        copy = kd.tunable(model)
    assert isinstance(copy.get_layer("free"), kd.layers.Dropout)


def test_dropout_of_attention_stays():
    inputs = keras.Input((4, 5))
    x = L.MultiHeadAttention(2, 3, dropout=0.3)(inputs, inputs)
    with pytest.raises(ValueError, match="is inside of attention"):
        kd.tunable(keras.Model(inputs, x))
