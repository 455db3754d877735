"""Penalties for all, for each layer, for each unit, one after the other."""

import csv

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    forked,
    run_program,
)


@pytest.mark.parametrize("flag", ["--meta_iterations=10,5", "--methods=stored"])
def test_flags_are_refused(flag):
    assert_flag_is_refused_without_tensorflow(
        "studies.penalties_in_stages", flag
    )


@pytest.mark.slow
def test_each_stage_begins_where_the_one_before_ended(tmp_path):
    out = run_program(
        "studies.penalties_in_stages",
        tmp_path,
        "--dataset=digits",
        "--methods=reverse",
        "--meta_iterations=2,1,1",
        "--seeds=1",
        "--hidden=10",
        "--size=200",
        "--steps=10",
        "--processes=0",
    )
    folder = tmp_path / "penalties_in_stages" / "short"
    with np.load(folder / "results" / "reverse_seed_0.npz") as arrays:
        losses, means = arrays["test_loss"], arrays["mean_log_l2"]
    # One penalty, moved by the sign of its hypergradient; then finer ones.
    np.testing.assert_allclose(means[0], -4.0, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.diff(means[:3])), 0.1, rtol=1e-3)
    assert abs(means[3] - means[2]) <= 0.1 + 1e-6
    with (folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["start"] == f"{losses[0]:.4f} ± 0.0000" and row["start"] in out
    assert row["last, per all"].startswith(f"{losses[1]:.4f} ")
    assert row["last, per input"].startswith(f"{losses[3]:.4f} ")
    assert row["log L2, per layer"] == f"{means[2]:.2f}"
    assert (folder / "figures" / "stages.png").exists()


# Programs define flags of the same names, so each has a process of its own.
SPREAD = """
import numpy as np
import keras_drmad as kd
from studies import penalties_in_stages
from examples.tanh_net import tanh_net

model = kd.DrMADModel.from_model(tanh_net(4, [3], 2, 0.1))
finer = kd.hyperparameters.L2("input")
model.compile("sgd", "mse", hyperparameters=[finer])
by_layer = {"hidden_1": np.array([0.5]), "output": np.array([0.25])}
got = penalties_in_stages.spread(by_layer, finer)
np.testing.assert_array_equal(got, [0.5] * 4 + [0.25] * 3)
got = penalties_in_stages.spread({"all layers": np.array([2.0])}, finer)
np.testing.assert_array_equal(got, [2.0] * 7)
"""


def test_finer_penalties_start_at_the_coarser_ones():
    done = forked("-c", SPREAD)
    assert done.returncode == 0, done.stderr
