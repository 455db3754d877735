"""The folder of a run, and studies that are gone on with."""

import csv

import numpy as np
import pytest
from absl import flags

from examples.saved_run import SavedRun
from studies import study


def values_of(steps: int, save_dir: str) -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_integer("steps", 1, "", flag_values=values)
    flags.DEFINE_string("save_dir", "", "", flag_values=values)
    values(["program", f"--steps={steps}", f"--save_dir={save_dir}"])
    return values


def square(x):
    return {"square": x * x}


def fail(x):
    raise ArithmeticError(f"not to be called with {x}")


def test_run_that_is_there_is_refused_unless_it_is_resumed(tmp_path):
    first = SavedRun(str(tmp_path), "study", "run")
    first.write_result("one", {"a": np.arange(3), "b": 2.5})
    with pytest.raises(FileExistsError, match="run_name"):
        SavedRun(str(tmp_path), "study", "run")
    again = SavedRun(str(tmp_path), "study", "run", resume=True)
    assert again.has_result("one") and not again.has_result("two")
    np.testing.assert_array_equal(again.result("one")["a"], [0, 1, 2])
    assert again.result("one")["b"] == 2.5


def test_other_flags_are_refused_but_not_other_places(tmp_path):
    run = SavedRun(str(tmp_path), "study", "run")
    run.write_flags(values_of(5, "here"), "steps")
    assert (run.folder / "flags.txt").read_text() == "--steps=5\n"
    run.write_flags(values_of(5, "there"), "steps")
    with pytest.raises(ValueError, match=r"--steps=5.*Received.*--steps=6"):
        run.write_flags(values_of(6, "here"), "steps")


def test_result_that_was_being_written_does_not_count(tmp_path):
    run = SavedRun(str(tmp_path), "study", "run")

    class Killed:
        def __array__(self, dtype=None, copy=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.write_result("one", {"a": np.ones(3), "b": Killed()})
    assert not run.has_result("one")


def test_table_has_a_row_for_each(tmp_path):
    run = SavedRun(str(tmp_path), "study", "run")
    run.write_table([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "results")
    with (run.folder / "results.csv").open() as file:
        assert [row["b"] for row in csv.DictReader(file)] == ["x", "y"]


@pytest.mark.slow
def test_study_computes_what_is_missing(tmp_path, capfd):
    run = SavedRun(str(tmp_path), "study", "run")
    run.write_result("two", {"square": 4})
    cells = {"two": {"x": 2}, "three": {"x": 3}}
    results = study.run_cells(run, square, cells, processes=1)
    assert {k: int(v["square"]) for k, v in results.items()} == {
        "two": 4,
        "three": 9,
    }
    assert "1 of 2 parts are there" in capfd.readouterr().out
    assert study.run_cells(run, fail, cells, 1).keys() == cells.keys()
    for processes in (0, 1):
        with pytest.raises(ArithmeticError, match="with 4"):
            study.run_cells(run, fail, cells | {"four": {"x": 4}}, processes)
    results = study.run_cells(run, square, cells | {"five": {"x": 5}}, 0)
    assert results["five"]["square"] == 25


def test_mean_and_deviation():
    # Of the numbers themselves, as the bands of pictures are: not 1.414.
    assert study.mean_and_deviation([1, 3]) == "2.000 ± 1.000"
    assert study.mean_and_deviation(np.array([0.25]), 1) == "0.2 ± 0.0"


def test_cells_are_gathered_by_what_they_share_beside_the_seed():
    results = {
        "a_4_0": 1,
        "a_4_1": 2,
        "b_seed_0": 3,
        "a_20_0": 4,
        "b_seed_10": 5,
    }
    assert study.by_seed(results) == {"a_4": [1, 2], "b": [3, 5], "a_20": [4]}


def test_best_so_far_leaves_out_what_diverged():
    losses = np.array([3.0, np.nan, 2.0, 2.5])
    best = study.best_so_far(losses, np.array([30.0, 1.0, 50.0, 20.0]))
    assert best.tolist() == [30, 30, 50, 50]


def test_cosine():
    a, b = np.array([3.0, 4.0]), np.array([-4.0, 3.0])
    assert study.cosine(a, 2 * a) == pytest.approx(1)
    assert study.cosine(a, b) == pytest.approx(0)
    assert np.isnan(study.cosine(a, 0 * a))
