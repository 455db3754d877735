"""The example of learned schedules, run as a user runs it."""

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    run_program,
)

NAME = "learning_rate_schedule"


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        f"examples.{NAME}", "--meta_iterations=0"
    )


@pytest.mark.slow
def test_digits_run_writes_its_folder(tmp_path):
    out = run_program(
        f"examples.{NAME}",
        tmp_path,
        "--meta_iterations=3",
        "--steps=20",
    )
    folder = tmp_path / NAME / "short"
    losses = history(folder)["hyper_loss"]
    assert len(losses) == 3
    assert f"{losses[0]:.4f}" in out
    assert f"{min(losses):.4f}" in out
    assert "328 hyperparameters" in out  # 20 * 8 * 2 + 8
    with np.load(folder / "hyperparameters.npz") as arrays:
        rates, momenta = arrays["learning_rate"], arrays["momentum"]
        assert rates.shape == momenta.shape == (3, 20, 8)
        assert arrays["initial_scale"].shape == (3, 8)
        assert np.allclose(arrays["initial_scale"][0], np.exp(-3))
        # alpha = exp(-1) in the paper's form
        assert np.allclose(rates[0] / (1 - momenta[0]), np.exp(-1))
        # Adam's first step is meta_rate, on the logarithms of the rates; less
        # where its epsilon counts beside the hypergradient.
        moved = np.abs(np.log(rates[1] / rates[0]))
        assert moved.max() == pytest.approx(0.04, rel=0.05)
    assert_folder_is_complete(folder, {"schedules"}, "--steps=20")
