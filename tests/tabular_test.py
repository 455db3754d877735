"""Penalties of columns against cross-validation, in small."""

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)
from studies import tabular_problems

SMALL = (
    "--problems=cancer",
    "--seeds=1",
    "--steps=20",
    "--meta_iterations=2",
    "--folds=2",
    "--processes=0",
)
# Scikit-learn's, with fewer strengths of their penalties.
CROSS_VALIDATED = {
    "L2, cross-validated": {"l1_ratios": (0,), "Cs": 2},
    "L1, cross-validated": {
        "l1_ratios": (1,),
        "Cs": 2,
        "solver": "liblinear",
    },
    "elastic net, cross-validated": {
        "l1_ratios": (0.5, 1.0),
        "Cs": [0.01, 0.1],
        "solver": "saga",
        "max_iter": 100,
        "tol": 1e-2,
    },
}


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.tabular", "--problems=other"
    )


@pytest.mark.parametrize(
    "problem,shape,matters,tested",
    [("synthetic", (600, 500), 10, 2000), ("cancer", (300, 330), 30, 269)],
)
def test_problems(problem, shape, matters, tested):
    table = tabular_problems.load(problem, 1)
    x, y = table.train
    assert x.shape == shape
    assert set(np.unique(y)) == {0, 1}
    half = x[: len(x) // 2].astype("float64")
    np.testing.assert_allclose(half.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(half.std(0), 1, rtol=1e-5)
    assert len(table.test[1]) == tested
    assert table.matters.sum() == matters
    # The others are noise: no more alike to y than chance makes them.
    likeness = np.abs(x.T @ (y - y.mean())) / len(y) / y.std()
    assert likeness[~table.matters].mean() < 1 / len(y) ** 0.5
    again = tabular_problems.load(problem, 1)
    np.testing.assert_array_equal(again.train[0], x)


def test_scores_of_a_sure_and_right_answer():
    table = tabular_problems.load("cancer", 0)
    right, y = table.matters, table.test[1]
    scores = tabular_problems.scores(table, y, -1.0 * right, 1.0 - right)
    assert scores["loss"] == pytest.approx(0, abs=1e-6)
    assert scores["error"] == 0
    assert (scores["area"], scores["area_of_penalties"]) == (1, 1)


@pytest.mark.slow
def test_study_in_small(tmp_path):
    constants = {"studies.tabular.CROSS_VALIDATED": CROSS_VALIDATED}
    out = run_program("studies.tabular", tmp_path, *SMALL, constants=constants)
    assert "0 of 1 parts are there" in out
    folder = tmp_path / "tabular" / "short"
    rows = rows_by(folder / "results.csv", "penalty")
    assert len(rows) == 6
    assert all(0 < float(row["loss_of_seeds"]) < 1 for row in rows.values())
    for row in rows.values():
        assert 0 < float(row["area_of_seeds"]) < 1
        has_many = row["penalty"].endswith("a column")
        assert (row["area_of_penalties"] != "-") == has_many
    with np.load(folder / "results" / "cancer_0.npz") as arrays:
        assert arrays["penalties, L1 a column"].shape == (330,)
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "scores",
        "penalties",
    }
