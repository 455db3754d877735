"""The main example, run as a user runs it."""

import os
import pathlib

import numpy as np
import pytest

from running import (
    AS_A_USERS,
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    forked,
    history,
    run_program,
)

DATA = os.environ.get("KERAS_DRMAD_DATA", "")


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "examples.weight_penalties", "--meta_iterations=0"
    )


@pytest.mark.slow
def test_digits_run_writes_its_folder(tmp_path):
    out = run_program(
        "examples.weight_penalties",
        tmp_path,
        "--meta_iterations=3",
        "--steps=200",
        "--draws=2",
        environment=AS_A_USERS,
    )
    folder = tmp_path / "weight_penalties" / "short"
    logs = history(folder)
    assert len(logs["val_loss"]) == 3
    assert "Verdict: " in out and "test_loss" in out
    assert "moved most: " in out and "On 2 new draws" in out
    assert (folder / "report.html").stat().st_size < 1e6
    with np.load(folder / "hyperparameters.npz") as arrays:
        assert arrays["l2"].shape == (3, 64 + 150)
        assert np.allclose(arrays["l2"].mean(1), logs["l2/mean"], rtol=1e-4)
    assert_folder_is_complete(
        folder,
        {
            "carries_over",
            "input_penalties",
            "penalties_by_layer",
            "test_error",
        },
        "--meta_iterations=3",
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path(DATA, "mnist.npz").is_file(),
    reason="KERAS_DRMAD_DATA names no folder with mnist.npz",
)
def test_mnist_nearly_halves_the_test_loss(tmp_path):
    run_program(
        "examples.weight_penalties",
        tmp_path,
        "--dataset=mnist",
        # Half as many steps as by default, and a fifth of the trainings.
        "--meta_iterations=4",
        "--steps=1000",
        "--draws=2",
        environment=AS_A_USERS,
    )
    logs = history(tmp_path / "weight_penalties" / "short")
    tuned = logs["test_loss"][np.argmin(logs["val_loss"])]
    assert tuned <= 0.55 * logs["test_loss"][0]


def test_run_name_that_is_taken_is_refused(tmp_path):
    (tmp_path / "weight_penalties" / "here").mkdir(parents=True)
    done = forked(
        "-m",
        "examples.weight_penalties",
        f"--save_dir={tmp_path}",
        "--run_name=here",
    )
    assert done.returncode != 0
    assert "run_name" in done.stderr
