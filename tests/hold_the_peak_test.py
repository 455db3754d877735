"""Continued trainings with wrong labels, in small."""

import csv

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_program

WAYS, MEASURES, META_ITERATIONS = 4, 4, 6


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.hold_the_peak", "--meta_iterations=1"
    )


@pytest.mark.slow
def test_what_fit_returns_is_the_best_on_the_way(tmp_path):
    run_program(
        "studies.hold_the_peak",
        tmp_path,
        "--dataset=digits",
        "--seeds=1",
        "--noise=40",
        f"--meta_iterations={META_ITERATIONS}",
        "--patience=1",
        "--processes=0",
    )
    folder = tmp_path / "hold_the_peak" / "short"
    with np.load(folder / "results" / "40_seed_0.npz") as arrays:
        names = arrays["names"].tolist()
        curves, kept = arrays["curves"], arrays["kept"]
    assert curves.shape == (WAYS, MEASURES, META_ITERATIONS)
    for place in (0, 1):  # those that `fit` tuned
        assert "learned" in names[place]
        best = curves[place, 0].argmin()
        np.testing.assert_allclose(
            kept[place], curves[place][:, best], rtol=1e-4
        )
    with (folder / "hold_the_peak.csv").open() as file:
        assert len(list(csv.DictReader(file))) == WAYS
    assert (folder / "figures" / "test_accuracy.png").exists()
