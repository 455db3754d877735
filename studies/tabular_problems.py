"""Small tables with many columns that do not matter, for studies."""

from __future__ import annotations  # TensorFlow waits for good flags

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

# Training rows; half of them to validate on. Penalties at first, and bounds.
ROWS = {"synthetic": 600, "cancer": 300}
NOISE = 300  # columns of noise beside those of the cancer data
INITIAL, BOUNDS = 1e-2, (1e-6, 10.0)


class Table(NamedTuple):
    """A problem of two classes.

    Attributes:
        train: `(x, y)`, rows `(n, columns)` and classes `(n,)`, 0 or 1.
        test: the same, held out.
        matters: `(columns,)` bool, the columns that have to do with y.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    matters: np.ndarray


def load(problem: str, seed: int) -> Table:
    """Returns a problem, standardized by half of the training rows.

    Args:
        problem: `"synthetic"`, 500 columns of which 10 matter, 600 rows and
            2,000 for the test; or `"cancer"`, the 30 columns of scikit-learn's
            breast cancer data and 300 of noise, 300 rows and 269 for the test.
        seed: int, of the draw.
    """
    from sklearn import datasets

    random = np.random.default_rng(seed)
    if problem == "synthetic":
        x, y = datasets.make_classification(
            n_samples=2600,
            n_features=500,
            n_informative=10,
            n_redundant=0,
            shuffle=False,
            random_state=seed,
        )
        matters = np.arange(500) < 10
    else:
        x, y = datasets.load_breast_cancer(return_X_y=True)
        order = random.permutation(len(y))
        x, y = x[order], y[order]
        matters = np.arange(x.shape[1] + NOISE) < x.shape[1]
        x = np.hstack([x, random.normal(size=(len(x), NOISE))])
    order = random.permutation(len(y))
    x, y = x[order], y[order].astype("int32")
    n = ROWS[problem]
    x -= x[: n // 2].mean(0)
    x /= x[: n // 2].std(0)
    x = x.astype("float32")
    return Table((x[:n], y[:n]), (x[n:], y[n:]), matters)


def regression(columns: int) -> keras.Model:
    """Returns a new logistic regression, whose output is a logit."""
    import keras

    inputs = keras.Input((columns,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def trained_by() -> dict[str, Any]:
    """Returns the arguments of `compile` that say how it trains."""
    import keras

    return {
        "optimizer": keras.optimizers.Adam(0.01),
        "loss": keras.losses.BinaryCrossentropy(from_logits=True),
    }


def scores(
    table: Table,
    probabilities: np.ndarray,
    coefficients: np.ndarray,
    penalties: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns test log loss, test error in percent, and areas.

    Args:
        table: the problem.
        probabilities: `(n,)`, of class 1, of the test rows.
        coefficients: `(columns,)`, of the regression.
        penalties: `(columns,)`, one for each coefficient; `None` where all have
            the same.

    Returns:
        Dict with `loss`, `error`, and two areas under the ROC curve, of finding
        the columns that matter: `area`, by coefficients far from 0, and
        `area_of_penalties`, by small penalties, nan where all are the same.
    """
    from sklearn import metrics

    y = table.test[1]
    return {
        "loss": metrics.log_loss(y, probabilities),
        "error": 100 * np.mean((probabilities > 0.5) != y),
        "area": metrics.roc_auc_score(table.matters, np.abs(coefficients)),
        "area_of_penalties": np.nan
        if penalties is None
        else metrics.roc_auc_score(table.matters, -penalties),
    }
