"""The search for a meta learning rate, run as a user runs it."""

import csv
import json
import shutil
import time

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    forks_of_program,
    run_program,
)

SHORT = (
    "--hidden=4",
    "--steps=20",
    "--seeds=1",
    "--meta_iterations=2",
    "--rates=0.1,1000",
    "--search_meta_iterations=2",
    "--trials=3",
    "--processes=0",
)


@pytest.mark.parametrize("flag", ["--rates=1,0.1", "--rates=a,b", "--trials=0"])
def test_flags_are_answered_without_tensorflow(flag):
    assert_flag_is_refused_without_tensorflow("studies.super_parameters", flag)


class Forks:
    """Stands for `multiprocessing`'s context in the program."""

    def __init__(self, method):
        self.context = forks_of_program(method)

    def Process(self, **options):
        return self.context.Process(target=hurried, kwargs=options)


def hurried(target, args, kwargs):
    """Takes part in a search; KerasTuner's chief sleeps for 20 s by turns."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, 0.1))
    target(*args, **kwargs)


@pytest.fixture(scope="module")
def save_dir(tmp_path_factory):
    """A search and a sweep in one process."""
    path = tmp_path_factory.mktemp("alone")
    run_program("studies.super_parameters", path, *SHORT)
    return path


def search(save_dir) -> dict[str, np.ndarray]:
    """Returns what the search found."""
    folder = save_dir / "super_parameters" / "short"
    with np.load(folder / "results" / "search_seed_0.npz") as arrays:
        return dict(arrays)


def tried(save_dir) -> list[float]:
    """Returns the rates of all trials, each of which is complete."""
    folder = save_dir / "super_parameters" / "short" / "searches" / "seed_0"
    paths = folder.glob("trial_*/trial.json")
    trials = [json.loads(path.read_text()) for path in paths]
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    return [t["hyperparameters"]["values"]["l2/rate"] for t in trials]


@pytest.mark.slow
def test_each_draw_is_tried_once_and_the_first_good_one_taken(save_dir):
    found = search(save_dir)
    lowers = found["val_loss"] < found["start_loss"]
    assert sorted(tried(save_dir)) == sorted(found["rates"])
    assert lowers.any()
    assert found["rate"] == found["rates"][np.argmax(lowers)]


@pytest.mark.slow
def test_goes_on_and_compares_with_the_sweep(save_dir):
    out = run_program(
        "studies.super_parameters", save_dir, *SHORT
    )  # draws only
    assert "1 of 1 parts are there" in out
    assert "3 of 3 parts are there" in out
    folder = save_dir / "super_parameters" / "short"
    assert (folder / "figures" / "rates.png").exists()
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rate"] for row in rows] == [
        "0.1",
        "1000",
        "best of these",
        f"found: {search(save_dir)['rate']:.3g}",
    ]
    assert rows[-1]["val_loss"] in out


@pytest.mark.slow
def test_workers_find_the_same(save_dir, tmp_path):
    # The sweep is there already.
    kept = "super_parameters/short/results"
    shutil.copytree(
        save_dir / kept,
        tmp_path / kept,
        ignore=shutil.ignore_patterns("search_*"),
    )
    run_program(
        "studies.super_parameters",
        tmp_path,
        *SHORT,
        "--workers=2",
        constants={"multiprocessing.get_context": Forks},
    )
    assert search(tmp_path)["rate"] == search(save_dir)["rate"]
    rates = tried(tmp_path)
    assert sorted(rates) == sorted(search(tmp_path)["rates"])
    assert len(set(rates)) == len(rates)
