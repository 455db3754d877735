"""The table of losses: each is that of one output of a model.

Its output has weights of its own, but for a class and its function, which share
them. A family of losses shares its targets.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers as L
from keras import losses

from conformance import (
    HELPERS,
    OWN,
    NotApplicable,
    Refused,
    Right,
    Row,
    assert_right,
    momentum,
    numbers,
)

N, CLASSES = 4, 3
PLACES = np.array([[0, 2, 1, 1], [1, 0, 2, 0]])  # of a step and of validation


class Group(NamedTuple):
    """Losses with targets of one kind.

    Attributes:
        targets: array, those of a step and of validation, on its first axis.
        activation: of the output.
        makes: dict from names to losses, as `compile` takes them; from a
            class to a function that returns one.
        shape: of the output, for an example.
    """

    targets: np.ndarray
    activation: Any
    makes: dict[str, Any]
    shape: tuple[int, ...] = (CLASSES,)


ONE_HOT = np.eye(CLASSES)[PLACES]
REAL = numbers(2, N, CLASSES, seed=5)
POSITIVE = np.exp(REAL)
GROUPS = {
    "numbers": Group(
        REAL,
        "linear",
        {
            "CosineSimilarity": losses.CosineSimilarity,
            "Huber": losses.Huber,
            "LogCosh": losses.LogCosh,
            "MeanAbsoluteError": losses.MeanAbsoluteError,
            "MeanAbsolutePercentageError": losses.MeanAbsolutePercentageError,
            "MeanSquaredError": losses.MeanSquaredError,
            "cosine_similarity": losses.cosine_similarity,
            "huber": losses.huber,
            "log_cosh": losses.log_cosh,
            "mean_absolute_error": losses.mean_absolute_error,
            "mean_absolute_percentage_error": (
                losses.mean_absolute_percentage_error
            ),
            "mean_squared_error": losses.mean_squared_error,
        },
    ),
    "positive numbers": Group(
        POSITIVE,
        "softplus",
        {
            "MeanSquaredLogarithmicError": losses.MeanSquaredLogarithmicError,
            "Poisson": losses.Poisson,
            "mean_squared_logarithmic_error": (
                losses.mean_squared_logarithmic_error
            ),
            "poisson": losses.poisson,
        },
    ),
    "signs": Group(
        2 * ONE_HOT - 1,
        "tanh",
        {
            "Hinge": losses.Hinge,
            "SquaredHinge": losses.SquaredHinge,
            "hinge": losses.hinge,
            "squared_hinge": losses.squared_hinge,
        },
    ),
    "binary": Group(
        ONE_HOT,
        "sigmoid",
        {
            "BinaryCrossentropy": losses.BinaryCrossentropy,
            "BinaryFocalCrossentropy": lambda: losses.BinaryFocalCrossentropy(
                apply_class_balancing=True
            ),
            "Dice": losses.Dice,
            "Tversky": losses.Tversky,
            "binary_crossentropy": losses.binary_crossentropy,
            "binary_focal_crossentropy": losses.binary_focal_crossentropy,
            "dice": losses.dice,
            "tversky": losses.tversky,
        },
    ),
    "distributions": Group(
        ONE_HOT,
        "softmax",
        {
            "CategoricalCrossentropy": losses.CategoricalCrossentropy,
            "CategoricalFocalCrossentropy": losses.CategoricalFocalCrossentropy,
            "CategoricalHinge": losses.CategoricalHinge,
            "KLDivergence": losses.KLDivergence,
            "categorical_crossentropy": losses.categorical_crossentropy,
            "categorical_focal_crossentropy": (
                losses.categorical_focal_crossentropy
            ),
            "categorical_hinge": losses.categorical_hinge,
            "kl_divergence": losses.kl_divergence,
        },
    ),
    "classes": Group(
        PLACES,
        "softmax",
        {
            "CategoricalGeneralizedCrossEntropy": (
                losses.CategoricalGeneralizedCrossEntropy
            ),
            "SparseCategoricalCrossentropy": (
                losses.SparseCategoricalCrossentropy
            ),
            "categorical_generalized_cross_entropy": lambda y, p: (
                losses.categorical_generalized_cross_entropy(y, p, 0.5)
            ),
            "sparse_categorical_crossentropy": (
                losses.sparse_categorical_crossentropy
            ),
        },
    ),
}
ANGLES = Group(
    PLACES,
    "tanh",
    {
        "Circle": lambda: losses.Circle(gamma=2.0),
        "circle": lambda y, p: losses.circle(y, p, gamma=2.0),
    },
)
PATHS = Group(
    PLACES[:, :, np.newaxis] + 1,
    "linear",
    {"CTC": losses.CTC, "ctc": losses.ctc},
    (5, 4),
)
NO_CIRCLE = "Its second derivative is nan, also where the loss is smooth."
NO_CTC = "TensorFlow cannot differentiate its gradient again."
LOSSES: dict[str, Row] = (
    {
        name: Right((group, name))
        for group in GROUPS.values()
        for name in group.makes
    }
    | {name: Refused(ANGLES, "is not finite", NO_CIRCLE) for name in ANGLES[2]}
    | {
        name: Refused(PATHS, "cannot differentiate", NO_CTC)
        for name in PATHS[2]
    }
    | {"Loss": NotApplicable(OWN)}
    | HELPERS
)


def check(group: Group, names: Sequence[str]) -> None:
    """Asserts that a model with these losses, one an output, is right."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    outputs, chosen, values = {}, {}, {}
    for name in names:
        formula = name.replace("_", "").lower()
        if formula not in values:
            x = L.Dense(int(np.prod(group.shape)), activation=group.activation)
            values[formula] = x(inputs)
        outputs[name] = L.Reshape(group.shape)(values[formula])
        make = group.makes[name]
        chosen[name] = make() if name[0].isupper() else make
    model = keras.Model(inputs, outputs)
    model.compile(momentum(), chosen)
    y, held_out = (dict.fromkeys(names, t) for t in group.targets)
    assert_right(model, (numbers(N, 2), y), (numbers(N, 2, seed=1), held_out))
