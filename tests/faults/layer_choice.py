"""The argument `layers`: what chooses no layer, or more than was meant."""

import keras
import numpy as np

from checks import relative_error
from conformance import assert_all_right
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


def boxed(x, name, outer, inner, deeper):
    """Returns what a box makes of x; a deeper one is within a model."""
    box = Box(outer, inner, name=name)
    if deeper:
        part = keras.Input(x.shape[1:])
        box = keras.Model(part, box(part), name=f"of_{name}")
    return box(x)


def net(outer=0.0, inner=0.0, deeper=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = boxed(inputs, "box", outer, inner, deeper)
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


# A box and its inner layer, whose losses are chosen by what is said last.
CHOSEN = {
    "of a layer that has layers": ({"outer": 0.5}, "a"),
    "of a layer, its layer adds the loss": ({"inner": 0.5}, "b"),
    "of a layer within, by its path": ({"inner": 0.5}, "c/inner"),
    "of both together": ({"outer": 0.5, "inner": 0.5}, "d"),
    "in a model within": ({"outer": 0.5, "deeper": True}, "e"),
    "of a model within": ({"outer": 0.5, "deeper": True}, "of_f"),
}


def boxes(names, factor=1.0):
    """Returns a model with a box for each name, behind each other."""
    keras.utils.set_random_seed(1)
    inputs = h = keras.Input((4,))
    for name in names:
        options, layers = CHOSEN[name]
        h = boxed(
            h,
            layers.split("/")[0].removeprefix("of_"),
            factor * options.get("outer", 0.0),
            factor * options.get("inner", 0.0),
            options.get("deeper", False),
        )
    return keras.Model(inputs, keras.layers.Dense(1, name="last")(h))


@members(KIND, {f"LossWeights {', '.join(CHOSEN)}": CHOSEN})
def weighs_losses_of_layers(chosen):
    assert_all_right([*chosen], weighs_losses)


def weighs_losses(names):
    theirs = boxes(names, 3.0)
    theirs.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    theirs.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    layers = [CHOSEN[name][1] for name in names]
    ours = wrapped(
        boxes(names),
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
