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
