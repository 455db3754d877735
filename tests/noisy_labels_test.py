"""The example of wrong labels, run as a user runs it."""

import csv
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAME = "noisy_labels"


def test_flags_are_answered_without_tensorflow():
    check = (
        f"import sys, examples.{NAME} as example\n"
        "try: example.app.run(example.main, ['x', '--wrong=2'])\n"
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
    assert "--wrong" in done.stderr


@pytest.mark.slow
def test_digits_run_finds_wrong_labels(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"examples.{NAME}",
            "--meta_iterations=3",
            "--steps=40",
            "--longer=2",
            "--train_size=500",
            f"--save_dir={tmp_path}",
            "--run_name=short",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / NAME / "short"
    with (folder / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    with np.load(folder / "hyperparameters.npz") as arrays:
        weights = arrays["example_weights"]
    assert weights.shape == (3, 500)
    assert np.allclose(weights[0], 1)
    # Chance would be 0.5, with a standard deviation of 0.026.
    area = float(re.search(r"ROC curve is ([\d.]+)\. ", done.stdout)[1])
    assert area > 0.8
    # One row for each way to treat the labels.
    assert len(re.findall(r"\d%\s+[\d.]+%$", done.stdout, re.MULTILINE)) == 5
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "smallest_weights.png",
        "test_error.png",
        "weights.png",
    }
    for name in ("flags.txt", "model.keras", "saved_model", "tensorboard"):
        assert (folder / name).exists()
    assert "--steps=40" in (folder / "flags.txt").read_text()


def test_wrong_labels_are_wrong():
    from absl.testing import flagsaver

    from examples import noisy_labels

    if not noisy_labels.FLAGS.is_parsed():
        noisy_labels.FLAGS(["x"])
    labels = np.arange(1000) % 10
    with flagsaver.flagsaver(wrong=0.3):
        given, wrong = noisy_labels.with_wrong_labels(labels, 10)
    assert wrong.sum() == 300
    np.testing.assert_array_equal(given != labels, wrong)
    assert set(given) == set(range(10))
