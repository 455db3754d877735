"""The deep net's study, in its short form on digits."""

import os
import pathlib

import numpy as np
import pytest

from running import forked, rows_by
from small_nets import one_stage

SHORT = (
    "--dataset=digits",
    "--blocks=1",
    "--channels=4",
    "--steps=5",
    "--meta_iterations=2",
    "--methods=exact",
    "--compared=drmad",
    "--grid_rates=1,3",
    "--grid_penalties=1",
    "--seeds=1",
    "--processes=0",
)


def run_study(save_dir: pathlib.Path, *flags: str):
    return forked(
        "-m",
        "studies.deep_net",
        f"--save_dir={save_dir}",
        "--run_name=short",
        *flags,
        constants={"studies.deep_net_trainings.residual_net": one_stage},
    )


def result(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / "results" / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.mark.slow
def test_short_form(tmp_path):
    done = run_study(tmp_path, *SHORT)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "deep_net" / "short"
    grid, exact, drmad = (
        result(folder, f"{name}_0") for name in ("grid", "exact", "drmad")
    )
    # All begin with the same training, and the exact walk visits every step.
    start = grid["results"][0]
    for record in (exact, drmad):
        assert record["val_loss"][0] == pytest.approx(start[0], rel=1e-3)
        assert record["test_loss"][0] == pytest.approx(start[2], rel=1e-3)
    assert exact["reverse_steps_used"].tolist() == [5, 5]
    assert drmad["reverse_steps_used"].tolist() == [1]
    if np.argmin(grid["results"][:, 0]) == 0:  # the start twice, from new
        assert grid["final_best"] == pytest.approx(grid["final_start"])
    for kind in ("l2", "learning_rate"):
        assert exact[f"value_{kind}"].shape == (2, 2)  # a number a kernel
        step = np.diff(np.log(exact[f"value_{kind}"]), axis=0)[0]
        assert np.array_equal(
            np.sign(step), -np.sign(exact[f"first_{kind}"])
        )  # the one that is kept is the one that was followed

    rows = rows_by(folder / "results.csv", "method")
    assert rows["exact, checkpointed"]["cosine, l2"] == "1.00 ± 0.00"
    assert f"{start[0]:.3f}" in rows["the start"]["validation loss"]
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "cost",
        "hyperparameters",
        "meta_iterations",
    }


def test_missing_data_are_named_before_work_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_DRMAD_DATA", raising=False)
    done = run_study(tmp_path, f"--data_dir={tmp_path}")
    assert done.returncode != 0
    assert os.fspath(tmp_path / "cifar10_jpeg_5k1k.npz") in done.stderr
    assert not (tmp_path / "deep_net").exists()
