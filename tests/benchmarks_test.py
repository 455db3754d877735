"""Benchmarks in their short form."""

import pytest

from benchmarks.growth import line
from running import forked


def cells(stdout):
    """Returns the cells of the last row of a table."""
    last = stdout.strip().splitlines()[-1]
    return [cell.strip() for cell in last.strip("|").split("|")]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["drmad", "exact"])
def test_loops_written_by_hand_give_the_same_hypergradient(method):
    done = forked(
        "-m",
        "benchmarks.floor",
        f"--methods={method}",
        "--steps=30",
        "--rounds=1",
        "--data_dir=",
    )
    assert done.returncode == 0, done.stderr
    name, *numbers = cells(done.stdout)
    assert name == method and len(numbers) == 9
    assert all(float(number) >= 0 for number in numbers)
    assert float(numbers[-1]) < 1e-5  # float32, sums in another order


@pytest.mark.slow
def test_compiling_is_timed():
    done = forked(
        "-m",
        "benchmarks.compiling",
        "--nets=gru",
        "--optimizers=sgd",
        "--steps=20",
        "--rounds=1",
    )
    assert done.returncode == 0, done.stderr
    net, optimizer, *_, least = cells(done.stdout)
    assert (net, optimizer) == ("gru", "sgd")
    assert 700 < int(least) <= 800  # a step has loops


@pytest.mark.slow
def test_steps_and_first_trainings_are_timed_beside_keras():
    done = forked(
        "-m",
        "benchmarks.beside_keras",
        "--nets=digits",
        "--lengths=10",
        "--steps=20",
        "--rounds=1",
    )
    assert done.returncode == 0, done.stderr
    steps, first = done.stdout.split("\n\n")
    for table, head in ((steps, ["digits"]), (first, ["digits", "10"])):
        row = cells(table)
        assert row[: len(head)] == head
        assert all(float(number) > 0 for number in row[len(head) :])


@pytest.mark.slow
def test_growth_is_measured(tmp_path):
    picture = tmp_path / "growth.png"
    done = forked(
        "-m",
        "benchmarks.growth",
        "--axes=penalties",
        "--axes=steps",
        "--most=1000",
        f"--picture={picture}",
    )
    assert done.returncode == 0, done.stderr
    table, lines = done.stdout.strip().split("\n\n")
    hyperparameters, steps, weights, seconds, _ = cells(table)
    assert (hyperparameters, steps) == ("1", "1,000")
    assert int(weights.replace(",", "")) > 9_000 and float(seconds) > 0
    # Of two rows the line goes through both.
    fixed, slope = line([1, 2], [3.0, 5.0])
    assert (fixed, slope) == pytest.approx((1, 2))
    assert lines.count("steps") == 2
    assert picture.stat().st_size > 1000
