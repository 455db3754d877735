"""The argument `layers`: what chooses no layer, or more than was meant."""

import keras
import numpy as np

from checks import relative_error
from faults import (
    RIGHT,
    assert_right_by_differences,
    members,
    refused,
    wrapped,
)
from keras_drmad import hyperparameters as kinds

KIND = "the argument layers"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 4))
Y = GENERATOR.normal(size=(8, 1))


class Box(keras.layers.Layer):
    """A layer with a layer inside; either may add a loss."""

    def __init__(self, outer=0.0, inner=0.0, **kwargs):
        super().__init__(**kwargs)
        self.outer = outer
        self.inner = keras.layers.Dense(
            3,
            activity_regularizer=Squares(inner) if inner else None,
            name="inner",
        )

    def call(self, x):
        h = self.inner(x)
        if self.outer:
            self.add_loss(self.outer * keras.ops.mean(h**2))
        return h


class Squares(keras.regularizers.Regularizer):
    """The mean of squares: Keras divides an activity's loss by the batch."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * keras.ops.sum(x**2)


def net(outer=0.0, inner=0.0, deeper=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    box = Box(outer, inner, name="box")
    if deeper:
        part = keras.Input((4,))
        box = keras.Model(part, box(part), name="part")
    h = box(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="last")(h))


@members(
    KIND,
    {
        f"{kind.__name__}(layers={layers!r})": (kind, layers)
        for kind in (
            kinds.L2,
            kinds.LearningRate,
            kinds.InitialScale,
            kinds.LossWeights,
        )
        for layers in ("*dense", "(", "last)", "[a", [], ["last", "("])
        if not (kind is kinds.LossWeights and layers == [])
    }
    | {
        "WeightDecay(layers=())": (kinds.WeightDecay, ()),
        "L1(layers='')": (kinds.L1, ""),
        "Momentum(layers=[[]])": (kinds.Momentum, [[]]),
        "LossWeights(layers=[3])": (kinds.LossWeights, [3]),
    },
)
def chooses_nothing(case):
    kind, layers = case
    optimizer = keras.optimizers.SGD(0.1, 0.5, weight_decay=0.01)
    return refused(
        lambda: wrapped(net(0.5), optimizer, "mse", [kind(layers=layers)]),
        "`layers`",
        "Expected",
    )


@members(
    KIND,
    {
        "a name that is no regular expression": ("a+b(", "a+b("),
        "a path": ("box/inner", "inner"),
        "a part of a path, with all inside": ("box", "inner"),
        "a regular expression": ("inn.*", "inner"),
    },
)
def chooses_weights(case):
    layers, name = case
    keras.utils.set_random_seed(1)
    if "(" in name:
        inputs = keras.Input((4,))
        model = keras.Model(inputs, keras.layers.Dense(1, name=name)(inputs))
    else:
        model = net(deeper=True)
    wrapper = wrapped(model, "sgd", "mse", [kinds.L2(layers=layers)])
    (chosen,) = wrapper.hyperparameters[0].place.weights
    (found,) = [v for v in model.trainable_variables if id(v) == chosen]
    assert found.path.split("/")[-2] == name
    return RIGHT


@members(
    KIND,
    {
        "LossWeights of a layer that has layers": ({"outer": 0.5}, "box"),
        "LossWeights of a layer, its layer adds the loss": (
            {"inner": 0.5},
            "box",
        ),
        "LossWeights of a layer within a layer": ({"inner": 0.5}, "inner"),
        "LossWeights of a layer within, by its path": (
            {"inner": 0.5},
            "box/inner",
        ),
        "LossWeights of both together": ({"outer": 0.5, "inner": 0.5}, "box"),
        "LossWeights in a model within": (
            {"outer": 0.5, "deeper": True},
            "box",
        ),
        "LossWeights of a model within": (
            {"outer": 0.5, "deeper": True},
            "part",
        ),
    },
)
def weighs_losses_of_layers(case):
    options, layers = case
    tripled = {k: v if k == "deeper" else 3 * v for k, v in options.items()}
    theirs = net(**tripled)
    theirs.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    theirs.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    ours = wrapped(
        net(**options),
        keras.optimizers.SGD(0.1),
        "mse",
        [kinds.LossWeights(3.0, layers=layers)],
    )
    ours.fit(X, Y, batch_size=4, shuffle=False, verbose=0, meta_iterations=0)
    error = relative_error(ours.get_weights(), theirs.get_weights())
    assert error < 1e-9, error


@members(
    KIND, {"hypergradient of LossWeights of a layer that has layers": "box"}
)
def right_by_differences(layers):
    model = wrapped(
        net(0.5, 0.5),
        keras.optimizers.SGD(0.1),
        "mse",
        [kinds.LossWeights(3.0, layers=layers)],
    )
    assert_right_by_differences(
        model, X, Y, batch_size=4, epochs=1, validation_data=(X * 0.9, Y)
    )


@members(
    KIND,
    {
        "LossWeights of a layer and of one inside": ["box", "inner"],
        "LossWeights of all layers, by a pattern": "box|inner",
    },
)
def weighs_a_loss_twice(layers):
    return refused(
        lambda: wrapped(
            net(0.5, 0.5), "sgd", "mse", [kinds.LossWeights(layers=layers)]
        ),
        "`layers`",
        "inner",
        "box",
    )
