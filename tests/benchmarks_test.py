"""Benchmarks in their short form."""

import pytest

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
def test_backups_are_timed():
    done = forked(
        "-m",
        "benchmarks.backups",
        "--methods=drmad",
        "--steps=20",
        "--rounds=2",
    )
    assert done.returncode == 0, done.stderr
    name, *numbers = cells(done.stdout)
    assert name == "drmad" and len(numbers) == 5
    assert all(float(number) >= 0 for number in numbers)
    assert int(numbers[2]) >= 4  # forward, validation, backward, the outcome
