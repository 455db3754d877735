"""The example of learned augmentation, and the data it reads."""

import numpy as np
import pytest

from examples import datasets
from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    run_program,
)

STRENGTHS = ["brightness", "contrast", "rotation", "translation"]


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "examples.augmentation", "--meta_step=-1"
    )


@pytest.mark.slow
def test_short_run_writes_its_folder(tmp_path):
    out = run_program(
        "examples.augmentation",
        tmp_path,
        "--meta_iterations=2",
        "--epochs=4",
        "--trials=1",
    )
    folder = tmp_path / "augmentation" / "short"
    assert len(history(folder)["val_loss"]) == 2

    rows = {line[:10].strip(): line.split() for line in out.split("\n")}
    assert rows["none"][1:5] == ["-"] * 4
    assert rows["by hand"][2:6] == ["0.1000", "0.1000", "0.0200", "0.0500"]
    with np.load(folder / "hyperparameters.npz") as arrays:
        values = [arrays[f"augmentation.{name}"] for name in STRENGTHS]
    start = [float(value[0]) for value in values]
    np.testing.assert_allclose(start, [0.05, 0.05, 0.01, 0.025], rtol=1e-5)
    assert all(value[1] != value[0] for value in values), "nothing was learned"
    # The mean over the last quarter: of two, the last one.
    assert rows["learned"][1:5] == [f"{value[1]:.4f}" for value in values]

    assert_folder_is_complete(
        folder,
        {"augmented_images"},
        "--meta_iterations=2",
    )


def test_cifar_has_test_images_of_its_own(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 4, 4, 3)).astype("uint8")
    labels = np.arange(30) % 10
    np.savez(
        tmp_path / "cifar10_jpeg_5k1k.npz",
        x_train=images[:20],
        y_train=labels[:20],
        x_test=images[20:],
        y_test=labels[20:],
    )
    loaded = datasets.load("cifar10", str(tmp_path), (12, 8, 9), seed=0)
    assert loaded.shape == (4, 4, 3) and loaded.classes == 10

    def places(part):
        """Returns where in the file the images of a part are."""
        x, y = part
        pixels = (x + loaded.mean) * images.max()
        apart = np.abs(pixels[:, None] - images.reshape(1, 30, -1)).max(axis=2)
        found = apart.argmin(axis=1)
        assert apart.min(axis=1).max() < 1e-3
        np.testing.assert_array_equal(y, labels[found])
        return set(found)

    train, validation, test = map(places, loaded[:3])
    assert train | validation == set(range(20))
    assert len(test) == 9 and min(test) >= 20
    with pytest.raises(ValueError, match="20 examples, and 10 for the test"):
        datasets.load("cifar10", str(tmp_path), (12, 8, 11), seed=0)
    with pytest.raises(ValueError, match="20 examples, and 10 for the test"):
        datasets.load("cifar10", str(tmp_path), (12, 9, 9), seed=0)
