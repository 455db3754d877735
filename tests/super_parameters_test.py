"""The search for a meta learning rate, run as a user runs it."""

import csv
import json

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_example

SHORT = (
    "--hidden=4",
    "--steps=20",
    "--seeds=1",
    "--meta_iterations=2",
    "--rates=0.1,1000",
    "--trials=6",
    "--processes=0",
)


@pytest.mark.parametrize("flag", ["--rates=1,0.1", "--rates=a,b", "--trials=0"])
def test_flags_are_answered_without_tensorflow(flag):
    assert_flag_is_refused_without_tensorflow("super_parameters", flag)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_search_and_sweep(workers, tmp_path):
    flags = *SHORT, f"--workers={workers}"
    out = run_example("super_parameters", tmp_path, *flags)
    folder = tmp_path / "super_parameters" / "short"
    assert (folder / "figures" / "rates.png").exists()
    with np.load(folder / "results" / "search_seed_0.npz") as arrays:
        rates, rate = arrays["rates"], arrays["rate"]
        lowers = arrays["val_loss"] < arrays["start_loss"]
    # Each draw was tried once, and the first good one was taken.
    trials = [
        json.loads(path.read_text())
        for path in (folder / "searches" / "seed_0").glob("trial_*/trial.json")
    ]
    tried = [t["hyperparameters"]["values"]["l2/rate"] for t in trials]
    assert sorted(tried) == sorted(rates)
    assert len(set(tried)) == len(tried)
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    assert lowers.any()
    assert rate == rates[np.argmax(lowers)]
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rate"] for row in rows] == [
        "0.1",
        "1000",
        "best of these",
        f"found: {rate:.3g}",
    ]
    assert rows[-1]["val_loss"] in out
    again = run_example("super_parameters", tmp_path, *flags)  # draws only
    assert "1 of 1 parts are there" in again
    assert "3 of 3 parts are there" in again
