"""The example of wrong labels, run as a user runs it."""

import re

import numpy as np
import pytest

from examples import datasets
from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
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


def test_wrong_labels_are_wrong():
    labels = np.arange(1000) % 10
    data = np.zeros((1000, 4), "float32"), labels
    images = datasets.Images(data, data, data, (2, 2), 10, np.zeros(4))
    given, wrong = images.with_wrong_labels(0.3, seed=1)
    assert wrong.sum() == 300
    np.testing.assert_array_equal(given != labels, wrong)
    assert set(given) == set(range(10))


def test_wrong_labels_by_class_are_the_next_class():
    labels = np.arange(1000) % 10
    data = np.zeros((1000, 4), "float32"), labels
    images = datasets.Images(data, data, data, (2, 2), 10, np.zeros(4))
    given, wrong = images.with_wrong_labels(0.2, seed=1, by_class=True)
    assert wrong.sum() == 200
    np.testing.assert_array_equal(given[~wrong], labels[~wrong])
    np.testing.assert_array_equal(given[wrong], (labels[wrong] + 1) % 10)
