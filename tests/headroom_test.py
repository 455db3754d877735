"""Starts far off beside a grid and a tuner, in small."""

import numpy as np
import pytest

pytest.importorskip("optuna")

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)
from studies import headroom
from studies import headroom_trainings as trainings

RATES = (0.5, 1.0)  # of the grid
SMALL = (
    "--dataset=digits",
    "--seeds=1",
    "--factors=0.1",
    "--steps=10",
    "--budget=7",
    "--draws=2",
    "--hidden=2",
    "--processes=0",
)


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow("studies.headroom", "--steps=1")


@pytest.mark.slow
def test_study_in_small(tmp_path):
    constants = {"studies.headroom_trainings.RATES": RATES}
    run_program("studies.headroom", tmp_path, *SMALL, constants=constants)
    folder = tmp_path / "headroom" / "short"
    rows = rows_by(folder / "results.csv", "way")
    grid = len(RATES) * len(trainings.PENALTIES) * trainings.TRIES
    spent = {way: row["trainings spent"] for way, row in rows.items()}
    assert spent["best of the grid"] == str(grid)
    assert spent["best of Optuna's TPE"] == "6"
    # Two times T forward and T backward, and the last training.
    assert spent["x 0.1, exact"] == "7"
    # Five times T forward and T / 10 backward, and the last training.
    assert spent["x 0.1, DrMAD()"] == "7"
    losses = {k: float(r["test loss"].split()[0]) for k, r in rows.items()}
    assert losses["x 0.1, exact"] < losses["x 0.1, untuned"]
    assert losses["x 0.1, DrMAD()"] < losses["x 0.1, untuned"]
    results = folder / "results"
    with np.load(results / "exact_0.1_1.npz") as exact:
        first = exact["rates"][0]
        np.testing.assert_allclose(first, 0.1 * trainings.RATE, rtol=1e-5)
        assert exact["rates"].shape == (2, 3)
    with np.load(results / "DrMAD_0.1_1.npz") as approximate:
        assert approximate["rates"].shape == (5, 3)
    assert (folder / "figures" / "headroom.png").exists()


@pytest.mark.parametrize("method", ["exact", "DrMAD()"])
def test_meta_iterations_fill_the_budget(method):
    backward = {"exact": 1.0, "DrMAD()": 0.1}[method]
    for budget in (4, 45, 100):
        count = trainings.meta_iterations_within(budget, method)
        each = 1 + 2 * backward
        assert count * each + 1 <= budget < (count + 1) * each + 1


def test_errors_are_compared_on_the_same_draws():
    noise = np.array([[0.0, 3.0, -3.0], [6.0, 1.0, -1.0]])

    def record(name, seed, more):
        errors = 10.0 + noise[seed] + more
        values = np.stack([errors / 10, errors], axis=1)
        return {"names": [name], "values": [values], "spent": [3.0]}

    records = [
        record(name, seed, more)
        for seed in (0, 1)
        for name, more in (("best of the grid", 0.0), ("ours", 1.1))
    ]
    row = headroom.table(headroom.gathered(records))[1]
    assert row["way"] == "ours"
    assert row["over the grid's error, %"] == "+10.0 ± 0.0"
    assert row["in each seed"] == "+11.0, +9.2"
    assert row["worst draw, %"] == "17.1"
