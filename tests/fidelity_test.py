"""The comparison of all methods, in its short form."""

import csv

import numpy as np
import pytest

from running import forked
from small_nets import one_hidden
from studies import fidelity_measurements

DRMAD, EXACT = 3, 20  # rows of the table


@pytest.mark.slow
def test_short_form(tmp_path):
    done = forked(
        "-m",
        "studies.fidelity",
        "--problems=momentum_2",
        "--problems=omniglot",
        "--seeds=2",
        "--divide_steps=20",
        "--other_draws=2",
        f"--rows={DRMAD},{EXACT}",
        f"--save_dir={tmp_path}",
        "--run_name=short",
        "--processes=0",
        "--data_dir=",
        constants={"studies.fidelity_problems.tanh_net": one_hidden},
    )
    assert done.returncode == 0, done.stderr
    assert "No omniglot28.npz" in done.stderr
    folder = tmp_path / "fidelity" / "short"
    with open(folder / "fidelity.csv") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 4  # two seeds of two methods, one problem
    cosines = {row["method"]: float(row["cosine"]) for row in found}
    assert cosines["ReverseMode()"] == pytest.approx(1, abs=1e-4)
    assert cosines["DrMAD()"] < 0.9999
    # Other draws are others: not even the exact one has their direction.
    others = [float(row["others"]) for row in found]
    assert all(0.2 < other < 0.9999 for other in others)
    of_four = [float(row["others_4"]) for row in found]
    assert np.mean(of_four) > np.mean(others)
    ceilings = {float(row["ceiling"]) for row in found}
    assert len(ceilings) == 1
    assert max(of_four) < ceilings.pop() < 1
    # Each training's exact sum has the sign of the others' in most.
    sums = {row["method"]: float(row["sum"]) for row in found}
    assert sums["ReverseMode()"] > 0.5
    gains = [float(r["gain"]) for r in found if r["method"] == "ReverseMode()"]
    assert gains == pytest.approx([1, 1], abs=0.02)
    table = (folder / "table.md").read_text()
    assert all(f"`{method}`" in table for method in cosines)
    ranking = (folder / "other_draws.md").read_text()
    assert all(f"`{method}`" in ranking for method in cosines)
    for name in ("cost_against_cosine", "other_draws"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5_000


def test_ceiling_is_the_cosine_to_the_mean_of_all_draws():
    random = np.random.default_rng(0)
    draws = 0.2 + random.normal(size=(20, 2000))
    mean = draws.mean(axis=0)
    expected = mean.sum() / np.linalg.norm(mean) / 2000**0.5
    assert fidelity_measurements.ceiling(draws) == pytest.approx(
        expected, abs=0.02
    )
    assert np.isnan(fidelity_measurements.ceiling(draws[:1]))
