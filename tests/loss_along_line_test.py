"""The example of losses along the line, run as a user runs it."""

import csv

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_program
from small_nets import one_stage

NAME = "loss_along_line"


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(f"studies.{NAME}", "--nets=other")


@pytest.mark.slow
def test_digits_run_says_where_each_loss_rises(tmp_path):
    out = run_program(
        f"studies.{NAME}",
        tmp_path,
        "--seeds=1",
        "--rates=0.1",
        "--steps=10",
        "--points=9",
        "--processes=0",
        constants={"studies.residual_net.residual_net": one_stage},
    )
    folder = tmp_path / NAME / "short"
    assert (folder / "figures" / f"{NAME}.png").exists()
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["net"] for row in rows[::2]] == ["mlp", "cnn", "resnet"]
    for row in rows:
        with np.load(folder / f"results/{row['net']}_0.1_0.npz") as arrays:
            losses, places = arrays[row["loss"]], arrays["alphas"]
        # -0.5, -0.25, 0, ..., 1, 1.25, 1.5
        way = losses[2:7]
        rise = max(
            later - earlier
            for k, earlier in enumerate(way)
            for later in way[k:]
        )
        assert np.isclose(float(row["height"]), rise)
        assert np.isclose(float(row["fall"]), way[0] - way[-1])
        assert float(row["minimum_alpha"]) == places[losses.argmin()]
        # Untrained nets know nothing, with normalization as well.
        assert np.isclose(float(row["first_loss"]), np.log(10), atol=0.7)
        assert f"| {row['net']} | 0.1 |" in out
