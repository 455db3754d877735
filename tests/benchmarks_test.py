"""Benchmarks in their short form."""

import importlib.util
import json

import numpy as np
import pytest

from benchmarks import scale_model
from benchmarks.growth import line
from running import PopenInFork, forked, python, run_in_fork


def cells(stdout):
    """Returns the cells of the last row of a table."""
    last = stdout.strip().splitlines()[-1]
    return [cell.strip() for cell in last.strip("|").split("|")]


@pytest.mark.slow
def test_loops_written_by_hand_give_the_same_hypergradient():
    methods = "drmad", "exact"
    done = forked(
        "-m",
        "benchmarks.floor",
        *(f"--methods={method}" for method in methods),
        "--steps=30",
        "--rounds=1",
        "--data_dir=",
        constants={"benchmarks.floor_loops.SIZES": (784, 20, 10)},
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.strip().splitlines()[-2:]
    for method, row in zip(methods, rows, strict=True):
        name, *numbers = cells(row)
        assert name == method and len(numbers) == 9
        assert all(float(number) >= 0 for number in numbers)
        assert float(numbers[-1]) < 1e-5  # float32, sums in another order


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag, module", [("jax", "jax"), ("torch", "torchopt")]
)
def test_other_libraries_give_the_same_hypergradient(flag, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs keras_drmad[{flag}]")
    done = python(
        "-m",
        "benchmarks.floor",
        f"--{flag}",
        "--methods=exact",
        "--steps=30",
        "--rounds=1",
        "--data_dir=",
    )
    assert done.returncode == 0, done.stderr
    rivals = np.reshape(cells(done.stdout)[10:], (-1, 3)).astype(float)
    assert len(rivals) == (1 if flag == "jax" else 2)
    assert (rivals[:, 2] < 1e-5).all()


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
def test_the_first_words_are_timed():
    done = forked(
        "-m",
        "benchmarks.first_line",
        "--programs=tabular",
        "--rounds=1",
        constants={"subprocess.Popen": PopenInFork},
    )
    assert done.returncode == 0, done.stderr
    for row in done.stdout.splitlines()[1:]:
        times = [float(x) for x in row.split(",")[1].split()[1::2]]
        assert len(times) == 4
        assert times == sorted(times)


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


def test_a_process_times_its_arrangement():
    done = forked(
        "-m",
        "benchmarks.scale",
        "--arrangement=half",
        "--nets=small",
        "--steps=12",
        "--rounds=1",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])["small"]
    assert found["weights"] == 64 * 64 + 64 + 64 * 10 + 10
    assert all(value > 0 for value in found.values())


def test_the_price_of_sums_is_found():
    latency, link = 3e-4, 2e9
    found = {"one": {}, "half": {}, "workers": {}}
    for k, weights in enumerate((1e3, 1e5, 1e6)):
        net, compute = str(k), 1e-3 * (k + 1)
        once = scale_model.all_reduce(4 * weights, 2, latency, link)
        found["one"][net] = {"weights": weights}
        found["half"][net] = {"forward": compute, "backward": 2 * compute}
        found["workers"][net] = {
            "forward": compute + once,
            "backward": 2 * compute + 2 * once,
        }
    fitted = scale_model.fitted(found, ["0", "1", "2"])
    assert fitted == pytest.approx((latency, link), rel=1e-6)


def test_a_forecast_for_one_device_is_its_computation():
    job = scale_model.Job(1000, 1, 1e6, 100, 10)
    numbers = {"latency": 1e-3, "link": 1e9, "flops": 1e9}
    one = scale_model.steps(job, 1, **numbers)
    assert one == pytest.approx((0.1, 0.1 * scale_model.RATIO))
    four = scale_model.steps(job, 4, **numbers)
    # 6 messages each time, and 3/2 of the bytes of one or of two sums.
    once = 6e-3 + 1.5 * 4000 / 1e9
    twice = once + 6e-3 + 1.5 * 4040 / 1e9
    assert four == pytest.approx(
        (0.025 + once, 0.025 * scale_model.RATIO + twice)
    )
    assert scale_model.pays_until(job, **numbers) == 8


@pytest.mark.slow
def test_steps_first_trainings_and_streams_are_timed_beside_keras():
    done = forked(
        "-m",
        "benchmarks.beside_keras",
        "--nets=digits",
        "--lengths=10",
        "--steps=20",
        "--rounds=1",
        # As Keras comes, and one other way.
        constants={
            "benchmarks.beside_keras.FITS": ((1, "auto"), (50, False)),
        },
    )
    assert done.returncode == 0, done.stderr
    steps, first, streams = done.stdout.split("\n\n")
    heads = (
        (steps, ["digits"]),
        (first, ["digits", "10"]),
        (streams, ["digits", "clock"]),
    )
    for table, head in heads:
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
        constants={"subprocess.run": run_in_fork},
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
