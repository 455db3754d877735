"""The sharing of weights between alphabets, in small, on made-up drawings."""

import csv
import os

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    forked,
    run_program,
)
from studies import omniglot

NAME = "omniglot_sharing"
CHARACTERS = {"One": 2, "Two_longer": 3}


@pytest.fixture
def data_dir(tmp_path):
    """Writes a file of random drawings, their order shuffled."""
    rows = [
        (k, character, drawer)
        for k, count in enumerate(CHARACTERS.values())
        for character in range(count)
        for drawer in range(1, 21)
    ]
    random = np.random.default_rng(0)
    random.shuffle(rows)
    alphabet, character, drawer = np.array(rows, "uint8").T
    images = random.integers(0, 256, (len(rows), 28, 28), "uint8")
    images[:, 0, 0] = 10 * alphabet + character
    images[:, 0, 1] = drawer
    np.savez(
        tmp_path / "omniglot28.npz",
        images=images,
        alphabet=alphabet,
        character=character,
        drawer=drawer,
        alphabet_names=np.array(list(CHARACTERS)),
    )
    return str(tmp_path)


def test_drawings_are_in_the_places_of_their_characters(data_dir):
    drawings = omniglot.load(data_dir, ["Two", "One"], seed=0)
    assert drawings.counts == [3, 2, 3, 2]
    assert drawings.images.shape == (15, 10, 28 * 28)
    np.testing.assert_allclose(drawings.images.mean((0, 1)), 0, atol=1e-6)
    # The marks in two corners, with the mean that was taken off put back.
    marks = 255 * (drawings.images[:, :5, :2] - drawings.images[0, 0, :2])
    codes = np.array([10, 11, 12, 0, 1])
    expected = np.broadcast_to(codes - 10, (15, 5))
    np.testing.assert_allclose(marks[..., 0], expected, atol=1e-3)
    drawers = np.broadcast_to(np.arange(15)[:, None], (15, 5))
    np.testing.assert_allclose(marks[..., 1], drawers, atol=1e-3)


def test_copies_are_turned_and_have_the_same_classes(data_dir):
    drawings = omniglot.load(data_dir, ["One", "Two"], seed=0)
    upright, turned = np.split(drawings.images.reshape(15, 10, 28, 28), 2, 1)
    # Where both are counted from one drawing, the mean image falls away.
    difference = upright[1] - upright[0]
    np.testing.assert_allclose(
        np.rot90(difference, axes=(1, 2)), turned[1] - turned[0], atol=1e-6
    )
    np.testing.assert_array_equal(drawings.labels[:5], drawings.labels[5:])
    assert len(set(drawings.labels[2:5])) == 3


def test_split_takes_so_many_of_each_character():
    images = np.arange(15 * 4).reshape(15, 4, 1)
    first, rest = omniglot.split(images, 12, [0])
    assert first.shape == (12, 4, 1) and rest.shape == (3, 4, 1)
    together = np.sort(np.concatenate([first, rest]), axis=0)
    np.testing.assert_array_equal(together, images)


@pytest.mark.parametrize("name", ["Three", ""])
def test_unknown_alphabets_are_refused(data_dir, name):
    with pytest.raises(ValueError, match="Two_longer"):
        omniglot.load(data_dir, [name], seed=0)


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(f"studies.{NAME}", "--momentum=2")


def test_missing_data_is_reported_before_work_starts(tmp_path):
    done = forked(
        "-m",
        f"studies.{NAME}",
        f"--data_dir={tmp_path}",
        f"--save_dir={tmp_path}",
    )
    assert done.returncode != 0
    assert "omniglot28.npz" in done.stderr
    assert "brendenlake/omniglot" in done.stderr
    assert not (tmp_path / NAME).exists()


@pytest.mark.slow
def test_study_keeps_each_cell(data_dir, tmp_path):
    out = run_program(
        f"studies.{NAME}",
        tmp_path,
        f"--data_dir={data_dir}",
        "--alphabets=One,Two",
        "--hidden=6",
        "--steps=4",
        "--meta_iterations=2",
        "--seeds=1",
        "--processes=0",
    )
    assert "0 of 4 parts are there" in out
    folder = tmp_path / NAME / "short"
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {"correlations", "losses"}

    def result(name):
        with np.load(folder / "results" / f"{name}_seed_0.npz") as arrays:
            return dict(arrays)

    identity, tied = np.eye(4), np.full((4, 4), 0.25)
    np.testing.assert_array_equal(result("separate")["last_T"], [identity] * 2)
    np.testing.assert_allclose(result("tied")["last_T"], [tied, identity])
    exact, drmad = result("reverse"), result("drmad")
    assert exact["T"].shape == (2, 2, 4, 4)
    np.testing.assert_allclose(exact["T"][0], [(identity + tied) / 2] * 2)
    # One step of gradient descent, at the rate of 0.2.
    norm = np.linalg.norm(exact["T"][1] - exact["T"][0]) / 0.2
    assert norm == pytest.approx(exact["hypergradient_norm"][0], rel=1e-2)
    # The first trainings are the same, the hypergradients are not.
    assert exact["val_loss"][0] == pytest.approx(drmad["val_loss"][0])
    assert not np.allclose(exact["last_T"], drmad["last_T"], atol=1e-6)
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = exact["last_test_loss"]
    assert rows[3]["test loss"].startswith(f"{loss:.3f}")


def test_environment_names_the_folder(data_dir, monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_DRMAD_DATA", data_dir)
    assert omniglot.load(None, ["One"], seed=0).tasks == ["One", "One, turned"]
