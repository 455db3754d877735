"""The main example, run as a user runs it."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
DATA = os.environ.get("KERAS_DRMAD_DATA", "")


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "examples.weight_penalties", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def history(folder: pathlib.Path) -> dict[str, np.ndarray]:
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {k: np.array([float(row[k]) for row in rows]) for k in rows[0]}


def test_flags_are_answered_without_tensorflow():
    check = (
        "import sys, examples.weight_penalties as example\n"
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
        "--steps=200",
        f"--save_dir={tmp_path}",
        "--run_name=short",
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "weight_penalties" / "short"
    logs = history(folder)
    assert len(logs["val_loss"]) == 3
    assert f"{logs['test_loss'][0]:.4f}" in done.stdout
    with np.load(folder / "hyperparameters.npz") as arrays:
        assert arrays["l2"].shape == (3, 64 + 150)
        assert np.allclose(arrays["l2"].mean(1), logs["l2/mean"], rtol=1e-4)
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "input_penalties.png",
        "loss_along_line.png",
        "penalties_by_layer.png",
        "test_error.png",
    }
    for name in ("flags.txt", "model.keras", "saved_model", "tensorboard"):
        assert (folder / name).exists()
    assert "--meta_iterations=3" in (folder / "flags.txt").read_text()


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path(DATA, "mnist.npz").is_file(),
    reason="KERAS_DRMAD_DATA names no folder with mnist.npz",
)
def test_mnist_halves_the_test_loss(tmp_path):
    done = run("--dataset=mnist", f"--save_dir={tmp_path}", "--run_name=mnist")
    assert done.returncode == 0, done.stderr
    logs = history(tmp_path / "weight_penalties" / "mnist")
    tuned = logs["test_loss"][np.argmin(logs["val_loss"])]
    assert tuned <= 0.5 * logs["test_loss"][0]


def test_run_name_that_is_taken_is_refused(tmp_path):
    (tmp_path / "weight_penalties" / "here").mkdir(parents=True)
    done = run(f"--save_dir={tmp_path}", "--run_name=here")
    assert done.returncode != 0
    assert "run_name" in done.stderr
