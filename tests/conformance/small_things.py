"""The tables of activations, regularizers, constraints and initializers.

Each is that of one branch of a model. Activations share the weights before
them, the others have kernels of their own; weights behind them are shared.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import activations, constraints, initializers, regularizers
from keras import layers as L

from conformance import (
    HELPERS,
    OWN,
    NotApplicable,
    Right,
    Row,
    assert_right,
    momentum,
    numbers,
)
from keras_drmad import versions

ACTIVATIONS: dict[str, Row] = {
    name: Right(getattr(activations, name))
    for name in (
        "celu",
        "elu",
        "exponential",
        "gelu",
        "glu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "log_softmax",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softmax",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "sparsemax",
        "squareplus",
        "tanh",
        "tanh_shrink",
    )
} | HELPERS
ACTIVATIONS["threshold"] = Right(lambda x: activations.threshold(x, 0.1, 0.2))
REGULARIZERS: dict[str, Row] = {
    "L1": Right(lambda: regularizers.L1(0.1)),
    "L1L2": Right(lambda: regularizers.L1L2(0.1, 0.1)),
    "L2": Right(lambda: regularizers.L2(0.1)),
    "OrthogonalRegularizer": Right(
        lambda: regularizers.OrthogonalRegularizer(0.1)
    ),
    "Regularizer": NotApplicable(OWN),
} | HELPERS
# Bounds that the first step meets.
CONSTRAINTS: dict[str, Row] = {
    "Constraint": NotApplicable(OWN),
    "MaxNorm": Right(lambda: constraints.MaxNorm(0.5)),
    "MinMaxNorm": Right(lambda: constraints.MinMaxNorm(0.5, 0.8, 0.5)),
    "NonNeg": Right(lambda: constraints.NonNeg()),
    "UnitNorm": Right(lambda: constraints.UnitNorm()),
} | HELPERS
RANDOM = {
    "GlorotNormal": Right(initializers.GlorotNormal),
    "GlorotUniform": Right(initializers.GlorotUniform),
    "HeNormal": Right(initializers.HeNormal),
    "HeUniform": Right(initializers.HeUniform),
    "LecunNormal": Right(initializers.LecunNormal),
    "LecunUniform": Right(initializers.LecunUniform),
    "Orthogonal": Right(initializers.Orthogonal),
    "RandomNormal": Right(initializers.RandomNormal),
    "RandomUniform": Right(initializers.RandomUniform),
    "TruncatedNormal": Right(initializers.TruncatedNormal),
    "VarianceScaling": Right(initializers.VarianceScaling),
}
INITIALIZERS: dict[str, Row] = (
    RANDOM
    | {
        "Constant": Right(lambda: initializers.Constant(0.5)),
        "Identity": Right(initializers.Identity),
        "Initializer": NotApplicable(OWN),
        "Ones": Right(initializers.Ones),
        "STFT": NotApplicable("Makes fixed kernels, for `STFTSpectrogram`."),
        "Zeros": Right(initializers.Zeros),
    }
    | HELPERS
)


def branches(make: Callable[[Any], Sequence]) -> keras.Model:
    """Returns a compiled model of branches, which a function makes of x."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    outputs = make(inputs)
    y = L.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    model = keras.Model(inputs, L.Dense(2, activation="tanh")(y))
    model.compile(momentum(), "mse")
    return model


def with_activations(names: Sequence[str]) -> keras.Model:
    def make(x):
        x = L.Dense(4)(x)
        return [L.Lambda(ACTIVATIONS[name].make)(x) for name in names]

    return branches(make)


def with_weights(argument: str, table: dict[str, Any]) -> Callable:
    """Returns a function of names to a model with an argument of each."""

    def model_of(names: Sequence[str]) -> keras.Model:
        return branches(
            lambda x: [
                L.Dense(3, **{argument: table[name].make()})(x)
                for name in names
            ]
        )

    return model_of


RTOL = 1e-7  # sees a share of a gradient
IN_FLOAT32 = ["OrthogonalRegularizer"]  # computes in it, whatever comes
if versions.installed("keras") < (3, 15):
    IN_FLOAT32.append("L1")


class Family(NamedTuple):
    """Rows that are tested in one model.

    Attributes:
        table: dict, the rows.
        model_of: function of names that returns a compiled model.
    """

    table: dict[str, Row]
    model_of: Callable[[Sequence[str]], keras.Model]


FAMILIES = {
    "activations": Family(ACTIVATIONS, with_activations),
    "regularizers": Family(
        REGULARIZERS, with_weights("kernel_regularizer", REGULARIZERS)
    ),
    "constraints": Family(
        CONSTRAINTS, with_weights("kernel_constraint", CONSTRAINTS)
    ),
    "initializers": Family(
        INITIALIZERS, with_weights("kernel_initializer", INITIALIZERS)
    ),
}


def data(seed: int = 0) -> tuple:
    """Returns x and y of four examples."""
    return numbers(4, 4, seed=seed), numbers(4, 2, seed=seed + 2)


def check(family: Family, names: Sequence[str]) -> None:
    """Asserts that a model of these is right."""
    model = family.model_of(names)
    assert_right(model, data(), data(seed=1), rtol=RTOL)
