"""The example of wrong labels, run as a user runs it."""

import re

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    python,
    run_program,
)

NAME = "noisy_labels"


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(f"examples.{NAME}", "--wrong=2")


@pytest.mark.slow
def test_digits_run_finds_wrong_labels(tmp_path):
    out = run_program(
        f"examples.{NAME}",
        tmp_path,
        "--meta_iterations=3",
        "--steps=40",
        "--longer=2",
    )
    folder = tmp_path / NAME / "short"
    assert len(history(folder)["val_loss"]) == 3
    with np.load(folder / "hyperparameters.npz") as arrays:
        weights = arrays["example_weights"]
    assert weights.shape == (3, 1000)
    assert np.allclose(weights[0], 1)
    # Chance would be 0.5, with a standard deviation of 0.018.
    area = float(re.search(r"ROC curve is ([\d.]+)\. ", out)[1])
    assert area > 0.8
    # One row for each way to treat the labels.
    assert len(re.findall(r"\d%\s+[\d.]+%$", out, re.MULTILINE)) == 5
    assert_folder_is_complete(folder, {"weights"}, "--steps=40")


# Programs define flags of the same names, so each has a process of its own.
WRONG_LABELS = """
import numpy as np
from examples import noisy_labels

noisy_labels.FLAGS(["x", "--wrong=0.3"])
labels = np.arange(1000) % 10
given, wrong = noisy_labels.with_wrong_labels(labels, 10)
assert wrong.sum() == 300
np.testing.assert_array_equal(given != labels, wrong)
assert set(given) == set(range(10))
"""


def test_wrong_labels_are_wrong():
    done = python("-c", WRONG_LABELS)
    assert done.returncode == 0, done.stderr
