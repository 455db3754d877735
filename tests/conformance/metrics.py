"""The table of metrics: all in one model, each of an output that suits it."""

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import metrics as M
from keras import ops

from conformance import HELPERS, OWN, NotApplicable, Right, Row, numbers


def rounded(x):
    """Rounds, with the gradient of the identity."""
    return x + ops.stop_gradient(ops.round(x) - x)


CLASSES = 3
LABELS = np.random.default_rng(6).integers(0, CLASSES, 12)
X = numbers(12, 4)
# By output: its targets, its activation and the loss that trains it.
OUTPUTS = {
    "numbers": (numbers(12, CLASSES, seed=5), "linear", "mse"),
    "positive": (np.exp(numbers(12, 2, seed=7)), "softplus", "mse"),
    "whole": (np.round(numbers(12, 2, seed=9)), rounded, "mse"),
    "signs": (np.sign(numbers(12, 1, seed=8)), "tanh", "hinge"),
    "binary": (np.eye(CLASSES)[LABELS], "sigmoid", "binary_crossentropy"),
    "one_hot": (np.eye(CLASSES)[LABELS], "softmax", "categorical_crossentropy"),
    "classes": (LABELS, "softmax", "sparse_categorical_crossentropy"),
}


def of(output: str, *makes: Any) -> dict[str, Row]:
    """Returns rows of metrics of one output.

    Args:
        output: str, which.
        *makes: classes, functions, or functions that return a metric together
            with its class, `(class, function)`.
    """
    rows: dict[str, Row] = {}
    for make in makes:
        kind, make = make if isinstance(make, tuple) else (make, make)
        rows[kind.__name__] = Right((output, make))
    return rows


METRICS: dict[str, Row] = (
    of(
        "numbers",
        M.ConcordanceCorrelation,
        M.CosineSimilarity,
        M.LogCoshError,
        M.MeanAbsoluteError,
        M.MeanAbsolutePercentageError,
        (M.MeanMetricWrapper, lambda: M.MeanMetricWrapper(M.huber)),
        M.MeanSquaredError,
        M.PearsonCorrelation,
        M.R2Score,
        M.RootMeanSquaredError,
        M.concordance_correlation,
        M.huber,
        M.log_cosh,
        M.mean_absolute_error,
        M.mean_absolute_percentage_error,
        M.mean_squared_error,
        M.pearson_correlation,
    )
    | of(
        "positive",
        M.MeanSquaredLogarithmicError,
        M.Poisson,
        M.mean_squared_logarithmic_error,
        M.poisson,
    )
    | of("whole", M.Accuracy)
    | of("signs", M.Hinge, M.SquaredHinge, M.hinge, M.squared_hinge)
    | of(
        "binary",
        M.AUC,
        M.BinaryAccuracy,
        M.BinaryCrossentropy,
        (M.BinaryIoU, lambda: M.BinaryIoU([0, 1], threshold=0.4)),
        M.FalseNegatives,
        M.FalsePositives,
        M.Precision,
        (M.PrecisionAtRecall, lambda: M.PrecisionAtRecall(0.5)),
        M.Recall,
        (M.RecallAtPrecision, lambda: M.RecallAtPrecision(0.3)),
        (M.SensitivityAtSpecificity, lambda: M.SensitivityAtSpecificity(0.5)),
        (M.SpecificityAtSensitivity, lambda: M.SpecificityAtSensitivity(0.5)),
        M.TrueNegatives,
        M.TruePositives,
        M.binary_accuracy,
        M.binary_crossentropy,
        M.binary_focal_crossentropy,
    )
    | of(
        "one_hot",
        M.CategoricalAccuracy,
        M.CategoricalCrossentropy,
        M.CategoricalHinge,
        M.F1Score,
        (M.FBetaScore, lambda: M.FBetaScore(average="macro", beta=2.0)),
        M.KLDivergence,
        (M.OneHotIoU, lambda: M.OneHotIoU(CLASSES, [0, 2])),
        (M.OneHotMeanIoU, lambda: M.OneHotMeanIoU(CLASSES)),
        (M.TopKCategoricalAccuracy, lambda: M.TopKCategoricalAccuracy(2)),
        M.categorical_accuracy,
        M.categorical_crossentropy,
        M.categorical_focal_crossentropy,
        M.categorical_hinge,
        M.kl_divergence,
        M.top_k_categorical_accuracy,
    )
    | of(
        "classes",
        (M.IoU, lambda: M.IoU(CLASSES, [0, 2], sparse_y_pred=False)),
        (M.MeanIoU, lambda: M.MeanIoU(CLASSES, sparse_y_pred=False)),
        M.SparseCategoricalAccuracy,
        M.SparseCategoricalCrossentropy,
        (
            M.SparseTopKCategoricalAccuracy,
            lambda: M.SparseTopKCategoricalAccuracy(2),
        ),
        M.sparse_categorical_accuracy,
        M.sparse_categorical_crossentropy,
        M.sparse_top_k_categorical_accuracy,
    )
    | {
        "Mean": NotApplicable("Takes values, not targets and outputs."),
        "Metric": NotApplicable(OWN),
        "Sum": NotApplicable("Takes values, not targets and outputs."),
    }
    | HELPERS
)


def net() -> keras.Model:
    """Returns a model with an output for each kind of targets."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    outputs = {}
    for name, (targets, activation, _) in OUTPUTS.items():
        units = CLASSES if targets.ndim == 1 else targets.shape[1]
        layer = L.Dense(units, activation=activation, name=name)
        outputs[name] = layer(inputs)
    return keras.Model(inputs, outputs)


def arguments() -> dict[str, Any]:
    """Returns loss and metrics, as `compile` takes them."""
    chosen: dict[str, list] = {name: [] for name in OUTPUTS}
    for name, row in METRICS.items():
        if isinstance(row, Right):
            output, make = row.make
            metric = make() if name[0].isupper() else make
            if isinstance(metric, M.Metric):
                metric.name = name
            chosen[output].append(metric)
    losses = {name: loss for name, (_, _, loss) in OUTPUTS.items()}
    return {"loss": losses, "metrics": chosen}


def data(start: int, stop: int) -> tuple:
    """Returns x and y of some examples."""
    y = {name: targets[start:stop] for name, (targets, *_) in OUTPUTS.items()}
    return X[start:stop], y
