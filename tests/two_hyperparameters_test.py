"""The example with two hyperparameters: its numbers are those of trainings."""

import re

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    forked,
    run_program,
)

NAME = "two_hyperparameters"


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(f"studies.{NAME}", "--momentum=2")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Returns what a short run printed, its trainings and its surface."""
    folder = tmp_path_factory.mktemp("runs")
    out = run_program(
        f"studies.{NAME}",
        folder,
        "--steps=30",
        "--reverse_steps=0.1",
        "--processes=0",
        "--points=3",  # -9, -4.5 and 0
        "--log_penalties=-4.5",
        "--log_penalties=-9",
    )
    run = folder / NAME / "short"
    assert (run / "figures" / f"{NAME}.png").exists()
    parts = []
    for name in ("meta_training", "surface"):
        with np.load(run / "results" / f"{name}.npz") as arrays:
            parts.append(dict(arrays))
    return out, *parts


@pytest.mark.slow
def test_way_forward_is_that_of_the_meta_training(short_run):
    _, found, _ = short_run
    assert found["way_forward"].shape == (2, 31, 2)
    ends = found["way_forward"][:, [0, -1]]
    np.testing.assert_allclose(ends, found["ends"], rtol=1e-5)


@pytest.mark.slow
def test_way_backward_lies_on_the_line(short_run):
    _, found, _ = short_run
    for back, (w_0, w_T) in zip(
        found["way_backward"], found["ends"], strict=True
    ):
        # R = 3 of T = 30 steps, at the iterations 29, 19 and 9.
        beta = (back - w_0) / (w_T - w_0)
        np.testing.assert_allclose(
            beta, np.array([[29, 29], [19, 19], [9, 9]]) / 30, rtol=1e-4
        )


@pytest.mark.slow
def test_surface_holds_the_meta_trainings_losses(short_run):
    _, found, surface = short_run
    place = surface["places"].tolist().index
    loss = surface["losses"][place(-9), place(-4.5)]
    np.testing.assert_allclose(loss, found["val_loss"][0], rtol=1e-5)


@pytest.mark.slow
def test_meta_steps_follow_drmad(short_run):
    out, found, _ = short_run
    steps = np.diff(found["log_penalties"], axis=0)
    np.testing.assert_allclose(steps, -20 * found["drmad"], rtol=1e-3)
    drmad, exact = found["drmad"], found["exact"]
    cosines = (drmad * exact).sum(axis=1) / (
        np.linalg.norm(drmad, axis=1) * np.linalg.norm(exact, axis=1)
    )
    printed = re.findall(r"\| [12] \|.* (\S+) \|$", out, re.MULTILINE)
    np.testing.assert_allclose(list(map(float, printed)), cosines, atol=1e-4)


# Programs define flags of the same names, so each has a process of its own.
LOSS = """
import keras
import numpy as np
from studies import two_hyperparameters as example

(x, y), _ = example.load(["mean area", "mean texture"], 50, 10, seed=1)
weights = np.array([[0.5, -2.0], [3.0, 4.0]])
losses = example.loss_at(weights, x, y)
for w, loss in zip(weights, losses):
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    np.testing.assert_allclose(loss, entropy(y, x @ w[:, None]), rtol=1e-5)
"""


def test_drawn_loss_is_that_of_training():
    done = forked("-c", LOSS)
    assert done.returncode == 0, done.stderr
