"""The example of auxiliary losses, run as a user runs it."""

import csv
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAME = "auxiliary_losses"


def test_flags_are_answered_without_tensorflow():
    check = (
        f"import sys, examples.{NAME} as example\n"
        "try: example.app.run(example.main, ['x', '--labeled=0'])\n"
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
    assert "--labeled" in done.stderr


@pytest.mark.slow
def test_digits_run_tells_useful_from_harmful(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"examples.{NAME}",
            "--meta_iterations=4",
            "--steps=100",
            "--train_size=500",
            "--trials=1",
            f"--save_dir={tmp_path}",
            "--run_name=short",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # AutoGraph rewrites what it traces, without a complaint.
    assert "AutoGraph" not in done.stderr
    folder = tmp_path / NAME / "short"
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    # The other outputs do not count in validation.
    for row in rows:
        assert float(row["val_loss"]) == pytest.approx(
            float(row["val_digit_loss"]), rel=1e-5
        )
    with np.load(folder / "hyperparameters.npz") as arrays:
        weights = arrays["loss_weights"]
    assert weights.shape == (4, 3)
    assert np.allclose(weights[0], 1)
    assert weights[-1][1] > 1.2 * weights[-1][2]
    learned = re.search(r"learned weights +([\d., ]+?) +[\d.]+%", done.stdout)
    odd, random = map(float, learned[1].split(",")[1:])
    assert odd > weights[-1][1] and random < weights[-1][2]  # a step further
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "test_error.png",
        "weights.png",
    }
    for name in ("flags.txt", "model.keras", "saved_model", "tensorboard"):
        assert (folder / name).exists()
    assert "--trials=1" in (folder / "flags.txt").read_text()
