"""The example of learned schedules, run as a user runs it."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAME = "learning_rate_schedule"


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"examples.{NAME}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_flags_are_answered_without_tensorflow():
    check = (
        f"import sys, examples.{NAME} as example\n"
        "try: example.app.run(example.main, ['x', '--momentum=2'])\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules, 'imported TensorFlow'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--momentum" in done.stderr


@pytest.mark.slow
def test_digits_run_writes_its_folder(tmp_path):
    done = run(
        "--meta_iterations=3",
        "--steps=20",
        "--train_size=400",
        f"--save_dir={tmp_path}",
        "--run_name=short",
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / NAME / "short"
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["hyper_loss"]) for row in rows]
    assert len(losses) == 3
    assert f"{losses[0]:.4f}" in done.stdout
    assert f"{min(losses):.4f}" in done.stdout
    assert "328 hyperparameters" in done.stdout  # 20 * 8 * 2 + 8
    with np.load(folder / "hyperparameters.npz") as arrays:
        rates, momenta = arrays["learning_rate"], arrays["momentum"]
        assert rates.shape == momenta.shape == (3, 20, 8)
        assert arrays["initial_scale"].shape == (3, 8)
        assert np.allclose(arrays["initial_scale"][0], np.exp(-3))
        # alpha = exp(-1) in the paper's form
        assert np.allclose(rates[0] / (1 - momenta[0]), np.exp(-1))
        # Adam's first step is meta_rate, on the logarithms of the rates.
        moved = np.abs(np.log(rates[1] / rates[0]))
        assert moved.max() == pytest.approx(0.04, rel=0.01)
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "initial_scales.png",
        "losses.png",
        "schedules.png",
    }
    for name in ("flags.txt", "model.keras", "saved_model", "tensorboard"):
        assert (folder / name).exists()
    assert "--steps=20" in (folder / "flags.txt").read_text()
