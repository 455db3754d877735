"""The example of auxiliary losses, run as a user runs it."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.hyperparameters import LossWeights
from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    run_program,
)

NAME = "auxiliary_losses"


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(f"studies.{NAME}", "--labeled=0")


def test_autograph_rewrites_the_weights_of_losses():
    """It warns of what it can't rewrite, annotated variables for one."""
    tf.autograph.to_graph(LossWeights.batch)


@pytest.mark.slow
def test_digits_run_tells_useful_from_harmful(tmp_path):
    out = run_program(
        f"studies.{NAME}",
        tmp_path,
        "--meta_iterations=4",
        "--steps=100",
        "--train_size=500",
        "--trials=1",
        "--seed=1",  # so few steps and examples tell in two of three draws
    )
    folder = tmp_path / NAME / "short"
    logs = history(folder)
    assert len(logs["val_loss"]) == 4
    # The other outputs do not count in validation.
    assert logs["val_loss"] == pytest.approx(logs["val_digit_loss"], rel=1e-5)
    with np.load(folder / "hyperparameters.npz") as arrays:
        weights = arrays["loss_weights"]
    assert weights.shape == (4, 3)
    assert np.allclose(weights[0], 1)
    assert weights[-1][1] > 1.2 * weights[-1][2]
    learned = re.search(r"learned weights +([\d., ]+?) +[\d.]+%", out)
    learned = np.array([float(w) for w in learned[1].split(",")])
    # One of Adam's steps further, printed with three digits.
    step = np.abs(np.log(learned / weights[-1]))
    assert 0.01 < step.max() < 0.3
    assert_folder_is_complete(folder, {"test_error", "weights"}, "--trials=1")
