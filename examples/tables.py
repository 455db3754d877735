"""Tables with many useless columns, and scikit-learn's models for them."""

import time
import warnings
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

TABLES = {
    "friedman": "Friedman's function of 5 columns, and 200 of noise",
    "classes": "make_classification: 10 columns matter, and 190 do not",
    "digits": "scikit-learn's digits, and 300 columns of noise",
    "diabetes": "scikit-learn's diabetes data, and 300 columns of noise",
    "cancer": "scikit-learn's breast cancer data, and 300 columns of noise",
}
# Training rows, columns that matter, columns of noise.
SIZES = {
    "friedman": (600, 5, 200),
    "classes": (1000, 10, 190),
    "digits": (600, 64, 300),
    "diabetes": (300, 10, 300),
    "cancer": (300, 30, 300),
}
CLASSES = {"classes": 2, "digits": 10, "cancer": 2}
TEST_ROWS = 2000  # of tables that are made, not loaded


class Table(NamedTuple):
    """A table, of which the first columns matter.

    Attributes:
        train: `(x, y)`, rows `(n, columns)`; targets `(n, 1)` with a variance
            of 1, or classes `(n,)`.
        test: the same, held out.
        matters: `(columns,)` bool.
        classes: int, 0 for regression.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    matters: np.ndarray
    classes: int


def load(name: str, seed: int) -> Table:
    """Returns a draw of a table, standardized by its training rows.

    Args:
        name: of `TABLES`.
        seed: int, of the rows, of the noise, and of what is made.
    """
    from sklearn import datasets

    random, (n, useful, noise) = np.random.default_rng(seed), SIZES[name]
    classes = CLASSES.get(name, 0)
    if name == "friedman":
        x, y = datasets.make_friedman1(
            n + TEST_ROWS, useful + noise, noise=1.0, random_state=seed
        )
    elif name == "classes":
        x, y = datasets.make_classification(
            n_samples=n + TEST_ROWS,
            n_features=useful + noise,
            n_informative=useful,
            n_redundant=0,
            shuffle=False,
            random_state=seed,
        )
    else:
        loaders = {
            "digits": datasets.load_digits,
            "diabetes": datasets.load_diabetes,
            "cancer": datasets.load_breast_cancer,
        }
        x, y = loaders[name](return_X_y=True)
        x = np.hstack([x, random.normal(size=(len(x), noise))])
    order = random.permutation(len(y))
    x, y = x[order], y[order]
    scale = x[:n].std(0)
    # Some pixels of the digits are never inked.
    x = ((x - x[:n].mean(0)) / np.where(scale > 0, scale, 1)).astype("float32")
    if classes:
        y = y.astype("int32")
    else:
        y = ((y - y[:n].mean()) / y[:n].std()).astype("float32")[:, np.newaxis]
    matters = np.arange(useful + noise) < useful
    return Table((x[:n], y[:n]), (x[n:], y[n:]), matters, classes)


class Fitted(NamedTuple):
    """What a model of scikit-learn's gave.

    Attributes:
        loss: float, test log loss, or mean squared error.
        error: float, test error in percent; nan for regression.
        relevance: `(columns,)`, how much it makes of each column.
        seconds: float, of the processor, to fit it.
    """

    loss: float
    error: float
    relevance: np.ndarray
    seconds: float


def fit_rivals(table: Table, names: Collection[str] = ()) -> dict[str, Fitted]:
    """Returns what models of scikit-learn's give, the lasso first.

    They have all training rows; those that cross-validate divide them by
    themselves.

    Args:
        table: the table.
        names: of some of the models; all by default.
    """
    from sklearn import exceptions, inspection, metrics

    (x, y), (x_test, y_test) = table.train, table.test
    y, y_test = np.ravel(y), np.ravel(y_test)
    found = {}
    for name, model in _rivals(table.classes).items():
        if names and name not in names:
            continue
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            model.fit(x, y)
        seconds = time.process_time() - begin
        if table.classes:
            loss = metrics.log_loss(y_test, model.predict_proba(x_test))
            error = 100 * np.mean(model.predict(x_test) != y_test)
        else:
            loss, error = np.mean((model.predict(x_test) - y_test) ** 2), np.nan
        if hasattr(model, "coef_"):
            relevance = np.abs(np.atleast_2d(model.coef_)).max(0)
        elif hasattr(model, "feature_importances_"):
            relevance = model.feature_importances_
        else:
            # On the training rows, as there are no others for this: all of
            # them may be right, whatever is permuted, but never as sure.
            relevance = inspection.permutation_importance(
                model,
                x,
                y,
                scoring="neg_log_loss" if table.classes else None,
                n_repeats=1,
                random_state=0,
            ).importances_mean
        found[name] = Fitted(loss, error, relevance, seconds)
    return found


def _rivals(classes: int) -> dict[str, Any]:
    from sklearn import ensemble, linear_model

    if not classes:
        return {
            "lasso, cross-validated": linear_model.LassoCV(cv=5),
            "elastic net, cross-validated": linear_model.ElasticNetCV(
                cv=5, l1_ratio=[0.1, 0.5, 0.9, 1.0]
            ),
            "gradient boosting": ensemble.HistGradientBoostingRegressor(
                random_state=0
            ),
            "random forest": ensemble.RandomForestRegressor(
                300, max_features=1 / 3, random_state=0
            ),
        }
    return {
        "lasso, cross-validated": linear_model.LogisticRegressionCV(
            cv=5,
            l1_ratios=(1,),
            solver="liblinear" if classes == 2 else "saga",
            scoring="neg_log_loss",
            max_iter=300,
            tol=1e-3,
            use_legacy_attributes=False,
            random_state=0,
        ),
        "gradient boosting": ensemble.HistGradientBoostingClassifier(
            random_state=0
        ),
        "random forest": ensemble.RandomForestClassifier(300, random_state=0),
    }


def found_first(relevance: np.ndarray, matters: np.ndarray) -> float:
    """Returns how many of the columns that matter are among as many first.

    Columns that tie for the last places share them: the count is what chance
    would give in the mean.

    Args:
        relevance: `(columns,)`, larger for a column held to matter more.
        matters: `(columns,)` bool.
    """
    count = matters.sum()
    last = np.sort(relevance)[-count]
    above, tied = relevance > last, relevance == last
    left = count - above.sum()
    return float(matters[above].sum() + left * matters[tied].mean())
