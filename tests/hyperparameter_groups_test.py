"""Which weights share a hyperparameter."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from closed_forms import bound, penalty, tanh_net
from keras_drmad.hyperparameters import L2, LearningRate


def paper_net():
    inputs = x = keras.Input((784,))
    for _ in range(3):
        x = layers.Dense(50, activation="tanh")(x)
    return inputs, layers.Dense(10)(x)


@pytest.mark.parametrize(
    "per, biases, count",
    [
        ("all", False, None),
        ("layer", False, 4),
        ("layer", True, 4),
        ("tensor", False, 4),
        ("tensor", True, 8),
        ("input", False, 784 + 50 + 50 + 50),
        ("input", True, 784 + 50 + 50 + 50 + 4),
        ("weight", False, 784 * 50 + 2 * 50 * 50 + 50 * 10),
        ("weight", True, 784 * 50 + 2 * 50 * 50 + 50 * 10 + 160),
    ],
)
def test_counts_on_the_net_of_the_paper(per, biases, count):
    kind, _ = bound(L2(per, biases=biases), paper_net())
    assert tuple(kind.raw.shape) == (() if count is None else (count,))


def test_kernel_and_bias_are_tensors_apart():
    kind, model = bound(L2("tensor", biases=True))
    weights = [np.full(v.shape, 1.0) for v in model.trainable_variables]
    model.set_weights(weights)
    values = 0.5 ** np.arange(len(weights))
    kind.assign(values)
    sizes = [w.size for w in weights]
    assert penalty(kind, model) == pytest.approx(values @ sizes, rel=1e-5)
    by_layer = kind.by_layer(values)
    assert list(by_layer) == ["a", "b"]
    np.testing.assert_array_equal(np.concatenate([*by_layer.values()]), values)


def test_a_learning_rate_for_each_tensor_and_step():
    kind, model = bound(LearningRate("tensor", schedule="step", steps=3))
    values = 0.1 + np.arange(12.0).reshape(3, 4)
    kind.assign(values)
    for k, variable in enumerate(model.trainable_variables):
        for t in range(3):
            rate = kind.number(
                kind.raw.value, "learning_rate", variable, None, tf.constant(t)
            )
            assert rate.shape == ()
            assert float(rate) == pytest.approx(values[t, k], rel=1e-5)


UNITS = {
    "dense": ((5,), lambda: layers.Dense(3), 5),
    "dense-in-sequence": ((7, 5), lambda: layers.Dense(3), 5),
    "convolution": ((9, 5), lambda: layers.Conv1D(3, 2), 5),
    "convolution-2d": ((9, 9, 5), lambda: layers.Conv2D(3, 2), 5),
    "transposed": ((9, 5), lambda: layers.Conv1DTranspose(3, 2), 5),
    "transposed-2d": ((9, 9, 5), lambda: layers.Conv2DTranspose(3, 2), 5),
    "depthwise": ((9, 9, 5), lambda: layers.DepthwiseConv2D(2), 5),
    "embedding": ((7,), lambda: layers.Embedding(11, 3), 11),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_the_inputs_of_a_layer(name):
    shape, layer, count = UNITS[name]
    layer, inputs = layer(), keras.Input(shape)
    kind, model = bound(L2("input"), (inputs, layer(inputs)))
    assert tuple(kind.raw.shape) == (count,)
    # Only the coefficient of input 1, on the axis of the inputs.
    kernel = model.get_weights()[0]
    axis = kernel.shape.index(count)
    kind.assign(np.where(np.arange(count) == 1, 1.0, 1e-30))
    expected = np.sum(np.square(kernel.take(1, axis)))
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)


# ---- the two sides of a kernel

# Shape of the inputs, layer, entries for inputs, entries for outputs.
SIDES = {
    "dense": ((5,), lambda: layers.Dense(3), 5, 3),
    "dense-in-sequence": ((7, 5), lambda: layers.Dense(3), 5, 3),
    "convolution": ((4, 5), lambda: layers.Conv1D(3, 2), 5, 3),
    "convolution-2d": ((4, 4, 5), lambda: layers.Conv2D(3, 2), 5, 3),
    "transposed": ((3, 5), lambda: layers.Conv1DTranspose(3, 2), 5, 3),
    "transposed-2d": ((3, 3, 5), lambda: layers.Conv2DTranspose(3, 2), 5, 3),
    "depthwise": (
        (4, 5),
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=3),
        5,
        15,
    ),
    "depthwise-2d": (
        (3, 3, 2),
        lambda: layers.DepthwiseConv2D(2, depth_multiplier=3),
        2,
        6,
    ),
    "einsum": (
        (2, 5),
        lambda: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"),
        5,
        3,
    ),
    "einsum-transposed": (
        (2, 5),
        lambda: layers.EinsumDense("...c,dc->...d", 3, bias_axes="d"),
        5,
        3,
    ),
    "einsum-to-heads": (
        (2, 5),
        lambda: layers.EinsumDense(
            "abc,cde->abde", (None, 2, 3), bias_axes="de"
        ),
        5,
        6,
    ),
    "einsum-of-heads": (
        (2, 2, 5),
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 3), bias_axes="e"),
        10,
        3,
    ),
    "embedding": ((2,), lambda: layers.Embedding(11, 3), 11, 3),
}


def entries(kind, variable):
    """Returns the entry of each weight of a variable, by a kind's number."""
    count = kind.raw.shape[0]
    kind.assign(1.0 + np.arange(count))
    rates = kind.number(
        kind.raw.value, "learning_rate", variable, None, tf.constant(0)
    )
    found = np.broadcast_to(rates, variable.shape) - 1
    return np.round(found).astype(int)


def of_one_layer(kind, name):
    """Returns a kind bound to a model of one layer, and the layer."""
    shape, make, *_ = SIDES[name]
    layer, inputs = make(), keras.Input(shape)
    bound(kind, (inputs, layer(inputs)))
    return kind, layer


def acts(layer, x):
    """Returns which weights each output hears, bools `(outputs, *w.shape)`."""
    with tf.GradientTape(persistent=True) as tape:
        outputs = tf.unstack(tf.reshape(layer(x), [-1]))
    weights = [v.value for v in layer.trainable_variables]
    rows = [tape.gradient(y, weights) for y in outputs]
    return [
        np.stack([tf.convert_to_tensor(one) for one in column]) != 0
        for column in zip(*rows, strict=True)
    ]


def inputs_of(layer, shape, count, k=None):
    """Returns inputs of ones, or of ones for input k of `count` alone."""
    if isinstance(layer, layers.Embedding):
        return tf.constant([range(count) if k is None else [k]])
    ones = np.ones(count) if k is None else np.eye(count)[k]
    x = np.tile(ones, int(np.prod(shape)) // count)
    return tf.constant(x.reshape(1, *shape), "float32")


@pytest.mark.parametrize("name", SIDES)
def test_an_entry_for_each_unit_is_that_of_the_weights_behind_it(name):
    shape, _, inputs, units = SIDES[name]
    kind, layer = of_one_layer(LearningRate("output"), name)
    assert tuple(kind.raw.shape) == (units,)
    found = acts(layer, inputs_of(layer, shape, inputs))
    for variable, outputs in zip(layer.trainable_variables, found, strict=True):
        # Outputs are (..., units): which unit hears a weight.
        unit = outputs.reshape(-1, units, *variable.shape).any(axis=0)
        assert (unit.sum(axis=0) == 1).all()
        np.testing.assert_array_equal(
            entries(kind, variable), unit.argmax(axis=0)
        )


@pytest.mark.parametrize("name", SIDES)
def test_an_entry_for_each_input_is_that_of_the_weights_that_meet_it(name):
    shape, _, inputs, _ = SIDES[name]
    kind, layer = of_one_layer(LearningRate("input"), name)
    kernel, *biases = layer.trainable_variables
    assert tuple(kind.raw.shape) == (inputs + len(biases),)
    found = entries(kind, kernel)
    for k in range(inputs):
        outputs, *_ = acts(layer, inputs_of(layer, shape, inputs, k))
        np.testing.assert_array_equal(found == k, outputs.any(axis=0))
    for bias in biases:
        assert (entries(kind, bias) == inputs).all()


def test_a_penalty_for_each_unit_is_that_of_its_weights_and_its_bias():
    kind, model = bound(L2("output", biases=True))
    assert tuple(kind.raw.shape) == (3 + 2,)
    for v in model.trainable_variables:
        v.assign(np.random.default_rng(0).normal(size=v.shape))
    values = np.linspace(0.1, 0.5, 5)
    kind.assign(values)
    a, b = model.get_layer("a"), model.get_layer("b")
    sums = [
        np.sum(np.square(layer.kernel), axis=0) + np.square(layer.bias)
        for layer in (a, b)
    ]
    expected = values @ np.concatenate(sums)
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)
    by_layer = kind.by_layer(values)
    np.testing.assert_array_equal(by_layer["a"], values[:3])
    np.testing.assert_array_equal(by_layer["b"], values[3:])
    kernels, _ = bound(L2("output"), model)
    assert tuple(kernels.raw.shape) == (3 + 2,)


class Scaled(layers.Layer):
    """A dense layer with a scale and a shift of each unit, and one of all."""

    def build(self, shape):
        self.shift = self.add_weight((3,), name="shift")
        self.kernel = self.add_weight((shape[-1], 3), name="kernel")
        self.scale = self.add_weight((3,), name="scale")
        self.factor = self.add_weight((), name="factor")

    def call(self, x):
        return self.factor * (x @ self.kernel * self.scale + self.shift)


# Shape of the inputs, layer, entries of each weight for `per="output"`; equal
# where weights share theirs.
SHARED = {
    "a layer of one's own": ((5,), Scaled, ["a3", "a3", "a3", "b1"]),
    "no kernel": ((5,), layers.BatchNormalization, ["a5", "b5"]),
    "two kernels": (
        (4, 5),
        lambda: layers.SeparableConv1D(3, 2),
        ["a5", "b3", "c3"],
    ),
    "recurrent": ((4, 5), lambda: layers.GRU(2), ["a6", "b6", "c12"]),
    "a bias of some axes": (
        (2, 5),
        lambda: layers.EinsumDense(
            "abc,cde->abde", (None, 4, 3), bias_axes="e"
        ),
        ["a12", "b3"],
    ),
    "a bias in another order": (
        (2, 5),
        lambda: layers.EinsumDense(
            "abc,ced->abde", (None, 3, 3), bias_axes="de"
        ),
        ["a9", "b9"],
    ),
    "without a bias": ((5,), lambda: layers.Dense(3, use_bias=False), ["a3"]),
}


@pytest.mark.parametrize("name", SHARED)
def test_which_weights_share_the_entries_of_units(name):
    shape, make, expected = SHARED[name]
    layer, inputs = make(), keras.Input(shape)
    kind, _ = bound(LearningRate("output"), (inputs, layer(inputs)))
    total = sum(int(one[1:]) for one in set(expected))
    assert tuple(kind.raw.shape) == (total,)
    found = [set(entries(kind, v).flat) for v in layer.trainable_variables]
    for one, its in zip(expected, found, strict=True):
        assert len(its) == int(one[1:])
        for other, others in zip(expected, found, strict=True):
            assert its == others if one == other else not its & others


def test_a_unit_has_two_sides():
    with pytest.raises(ValueError, match=r"'input'.*'output'.*per='unit'"):
        L2(per="unit")


# ---- which layers


def test_normalization_layers_are_left_out_with_the_biases():
    inputs = keras.Input((4,))
    x = layers.BatchNormalization()(layers.Dense(3)(inputs))
    net = inputs, layers.Dense(2)(x)
    assert bound(L2("layer"), net)[0].raw.shape == (2,)
    assert bound(L2("layer", biases=True), net)[0].raw.shape == (3,)


def test_frozen_layers_are_left_out():
    model = keras.Model(*tanh_net())
    model.get_layer("a").trainable = False
    assert bound(L2("input"), model)[0].raw.shape == (3,)


def test_layers_by_object():
    model = keras.Model(*tanh_net())
    kind, _ = bound(L2("input", layers=model.get_layer("b")), model)
    assert kind.raw.shape == (3,)


@pytest.mark.parametrize(
    "chosen, count",
    [("a", 4), ("b", 3), ("a|b", 7), ("[ab]", 7), (["a", "b"], 7), (None, 7)],
)
def test_layers_by_name_or_pattern(chosen, count):
    assert bound(L2("input", layers=chosen))[0].raw.shape == (count,)


def test_layers_by_the_path_of_a_nested_one():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="x")], name="inner"
    )
    inputs = keras.Input((4,))
    net = inputs, layers.Dense(2, name="y")(inner(inputs))
    for chosen in ("inner", "x", "inner/x"):
        assert bound(L2("input", layers=chosen), net)[0].raw.shape == (4,)


class Namesakes(keras.Model):
    """Two layers of one name, which only a subclassed model may have."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3, name="d")
        self.second = layers.Dense(2, name="d")

    def call(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize(
    "per, count", [("layer", 2), ("input", 4 + 3), ("weight", 4 * 3 + 3 * 2)]
)
def test_layers_of_one_name_share_nothing(per, count):
    model = Namesakes()
    model(np.zeros((1, 4)))
    kind, _ = bound(L2(per), model)
    assert kind.raw.shape == (count,)
    values = np.linspace(0.1, 0.9, count)
    kind.assign(values)
    a, b = model.first.kernel.numpy(), model.second.kernel.numpy()
    shapes = {
        "layer": [(), ()],
        "input": [(4, 1), (3, 1)],
        "weight": [(4, 3), (3, 2)],
    }[per]
    first, second = np.split(values, [int(np.prod(shapes[0]))])
    expected = np.sum(first.reshape(shapes[0]) * a**2)
    expected += np.sum(second.reshape(shapes[1]) * b**2)
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chosen", ["c", "dense.*", ["a", "c"], "A", ""])
def test_layers_that_match_nothing(chosen):
    with pytest.raises(ValueError, match="`layers`.*matches none.*: a, b"):
        bound(L2(layers=chosen))


def test_a_layer_of_another_model():
    stranger = keras.Model(*tanh_net()).get_layer("a")
    with pytest.raises(ValueError, match="`layers`"):
        bound(L2(layers=stranger))


def test_layers_of_another_type():
    with pytest.raises(TypeError, match="`layers`.*3"):
        bound(L2(layers=[3]))
