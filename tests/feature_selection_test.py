"""Penalties of the columns of wide tables: the example, and the study."""

import re

import numpy as np
import pytest

from examples import tables
from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    rows_by,
    run_program,
)
from studies import wide_tables_problems

MODEL, MODELS = wide_tables_problems.model, {}


def model_of_kind(name, kind, steps):
    """Returns a model of each kind of penalty, compiled once in a process."""
    if kind not in MODELS:
        MODELS[kind] = MODEL(name, kind, steps)
    return MODELS[kind]


SHORT = ("--steps=20", "--meta_iterations=2", "--draws=2")
# Fewer rows and columns, fewer values of one penalty.
SMALL = {
    "examples.tables.SIZES": {"friedman": (200, 5, 40)},
    "examples.tables.TEST_ROWS": 300,
    "studies.wide_tables_problems.model": model_of_kind,
    "studies.wide_tables.GRID": (1e-6, 1e-2, 0.1),
    "studies.wide_tables.COUNTS": (5, 20),
}


@pytest.mark.parametrize(
    "program, flag",
    [
        ("examples.feature_selection", "--table=other"),
        ("studies.wide_tables", "--problems=other"),
    ],
)
def test_flags_are_answered_without_tensorflow(program, flag):
    assert_flag_is_refused_without_tensorflow(program, flag)


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables(name):
    table = tables.load(name, 1)
    (x, y), (_, y_test) = table.train, table.test
    n, useful, noise = tables.SIZES[name]
    assert x.shape == (n, useful + noise)
    assert table.matters.sum() == useful
    assert len(y_test) >= 140
    varies = x.std(0) > 0
    assert varies[useful:].all()
    np.testing.assert_allclose(x.mean(0, dtype="float64"), 0, atol=1e-5)
    np.testing.assert_allclose(x[:, varies].std(0), 1, rtol=1e-4)
    if table.classes:
        assert set(np.unique(y)) == set(range(table.classes))
        target = np.eye(table.classes)[y]
    else:
        target = y
        np.testing.assert_allclose(y.std(), 1, rtol=1e-4)
    # Noise is no more alike to the target than chance makes it.
    target = (target - target.mean(0)) / target.std(0)
    likeness = np.abs(x[:, ~table.matters].T @ target) / n
    assert likeness.mean() < 1 / n**0.5
    # Another seed is another draw, the same seed the same one.
    np.testing.assert_array_equal(tables.load(name, 1).train[0], x)
    assert not np.array_equal(tables.load(name, 2).train[0], x)


def test_the_first_columns_of_friedmans_are_those_of_its_function():
    x, y = tables.load("friedman", 0).train
    # Columns were uniform in [0, 1], but for what standardizing estimates.
    u = (x[:, :5] / 12**0.5 + 0.5).T
    f = 10 * np.sin(np.pi * u[0] * u[1]) + 20 * (u[2] - 0.5) ** 2
    f += 10 * u[3] + 5 * u[4]
    assert np.corrcoef(f, y[:, 0])[0, 1] > 0.95


def test_found_first_counts_those_among_the_first():
    matters = np.array([True, True, False, False])
    assert tables.found_first(np.array([3, 0, 2, 1]), matters) == 1
    assert tables.found_first(np.array([3, 2, 0, 1]), matters) == 2


@pytest.mark.parametrize(
    ("relevance", "expected"),
    [
        ([0, 0, 0, 0, 0], 4 / 5),  # k^2 / n
        ([0, 0, 0, 0, 1], 1 / 2),  # one place is left for four
        ([1, 0, 0, 0, 0], 1 + 1 / 4),
        ([1, 0, 1, 1, 0], 2 / 3),
    ],
)
def test_columns_that_tie_share_places(relevance, expected):
    matters = np.arange(5) < 2
    for turn in range(5):  # wherever they are
        found = tables.found_first(
            np.roll(relevance, turn), np.roll(matters, turn)
        )
        np.testing.assert_allclose(found, expected)


def test_problems_are_those_of_the_tables():
    assert set(wide_tables_problems.PROBLEMS) == set(tables.TABLES)


@pytest.mark.slow
def test_example_in_short_writes_its_folder(tmp_path):
    out = run_program(
        "examples.feature_selection",
        tmp_path,
        "--meta_iterations=5",
        "--steps=100",
        "--draws=2",
        constants={
            "examples.feature_selection.GRID": (1e-6, 0.1),
            "examples.tables.SIZES": {"friedman": (600, 5, 20)},
        },
    )
    folder = tmp_path / "feature_selection" / "short"
    assert len(history(folder)["val_loss"]) == 5
    with np.load(folder / "hyperparameters.npz") as arrays:
        assert arrays["l2"].shape == (5, 25)
    losses = dict(re.findall(r"^(\S.*?) {2,}(\d\.\d{3})", out, re.MULTILINE))
    assert len(losses) == 7
    # Already, after so few and short trainings.
    assert float(losses["a penalty a column"]) < float(losses["no penalty"])
    # Boosting is not blind to what bends, as in docs/results.md.
    assert float(losses["gradient boosting"]) < 0.14
    assert 0.25 < float(losses["lasso, cross-validated"]) < 0.28
    assert_folder_is_complete(
        folder, {"feature_selection"}, "--meta_iterations=5"
    )


@pytest.mark.slow
def test_study_in_small(tmp_path):
    flags = ("--problems=friedman", "--seeds=1", "--processes=0", *SHORT)
    out = run_program("studies.wide_tables", tmp_path, *flags, constants=SMALL)
    assert "0 of 1 parts are there" in out
    folder = tmp_path / "wide_tables" / "short"
    rows = rows_by(folder / "results.csv", "way")
    assert len(rows) == 13
    losses = {way: float(row["each loss"]) for way, row in rows.items()}
    assert losses["one L1, best by test"] <= losses["one L1"]
    # On columns that were chosen well a net needs fewer steps.
    for columns in ("on the right columns", "on the forest's first columns"):
        assert losses[columns] < losses["no penalty"]
    assert rows["a penalty a column"]["found"]
    assert not rows["one L1"]["found"]
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "test_losses",
        "penalties",
    }
