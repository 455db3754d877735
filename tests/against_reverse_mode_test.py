"""DrMAD beside exact reverse mode, in the benchmark's short form."""

import csv
import functools
import math

import pytest

from benchmarks import against_reverse_mode_report as report
from benchmarks import against_reverse_mode_trainings as trainings
from examples.saved_run import SavedRun
from running import (
    assert_flag_is_refused_without_tensorflow,
    forks_of_program,
    run_program,
)

METHODS = ("papers", "stored", "bfloat16", "reversible_0.1")
STEPS = (20, 80)
HIDDEN = 8
SIZES = (784, HIDDEN, HIDDEN, HIDDEN, 10)
WEIGHTS = sum((a + 1) * b for a, b in zip(SIZES, SIZES[1:], strict=False))
# All but the states of the longer training fit, stored as they are.
MEMORY = 60 * 8 * WEIGHTS


@pytest.fixture(scope="module")
def results():
    """What methods took in trainings on noise, the program's `Results`."""
    new, data, rows = trainings.Competitor, trainings.images(None), []
    once = functools.cache(lambda name, **net: new(name, data, **net))
    with pytest.MonkeyPatch.context() as patch:
        # A model is compiled once for both lengths.
        patch.setattr(
            trainings, "Competitor", lambda name, _, **net: once(name, **net)
        )
        for T in STEPS:
            timed = trainings.time_all(
                METHODS,
                T,
                rounds=1,
                memory=MEMORY,
                data_dir=None,
                hidden=HIDDEN,
                learning_rate=2e-4,
                jit_compile=False,
            )
            rows += report.rows_of(METHODS, T, timed, memory={})
    return report.Results(rows, {name: f"<{name}>" for name in METHODS})


@pytest.mark.parametrize(
    "flag", ["--steps=5", "--steps=many", "--method=stored"]
)
def test_flags_are_answered_without_tensorflow(flag):
    assert_flag_is_refused_without_tensorflow(
        "benchmarks.against_reverse_mode", flag
    )


@pytest.mark.slow
def test_bytes_kept(results):
    def column(name, key):
        return results.of(name, key).tolist()

    # In float32: both ends of the weights; weights and velocity of each step.
    assert column("papers", "kept_bytes") == [2 * 4 * WEIGHTS] * 2
    states = [8 * WEIGHTS * T for T in STEPS]
    assert column("stored", "kept_bytes") == states
    assert column("bfloat16", "kept_bytes") == [n / 2 for n in states]
    assert math.isnan(column("stored", "seconds")[1])
    assert "Left out: <stored>, T = 80" in report.notes(results, MEMORY)
    copies = column("stored", "copies")[0]
    # Weights and counters; velocities are not kept.
    assert copies == pytest.approx(STEPS[0], rel=1e-3)
    # Maclaurin et al.: log2(1 / momentum) bits for each weight and step.
    bits = column("reversible_0.1", "buffer_bits")
    assert bits == pytest.approx([math.log2(10)] * 2, rel=0.1)
    for name in METHODS[2:]:
        assert column(name, "reverse_steps_used") == list(STEPS)
        assert all(
            s > b > 0
            for s, b in zip(
                column(name, "seconds"),
                column(name, "seconds_backward"),
                strict=True,
            )
        )


@pytest.mark.slow
def test_report_does_without_what_was_not_measured(results, tmp_path):
    assert "| <stored> | 20 | 80 |" in report.tables(results)  # times DrMAD's
    assert "| <papers> | - | - |" in report.tables(results)  # of the process
    assert "20 to 80 times less" in report.claims(results)
    run = SavedRun(tmp_path, "against_reverse_mode", "short")
    report.draw(run, results)
    assert (run.folder / "figures" / "against_reverse_mode.png").is_file()


@pytest.mark.slow
def test_program_measures_time_and_memory(tmp_path):
    out = run_program(
        "benchmarks.against_reverse_mode",
        tmp_path,
        "--steps=10",
        "--rounds=1",
        f"--hidden={HIDDEN}",
        "--nojit_compile",
        "--data_dir=",
        "--method=papers",
        # The time is taken in a process of its own, the memory in this one.
        constants={
            "benchmarks.against_reverse_mode.MEMORY_CELLS": 0,
            "multiprocessing.get_context": forks_of_program,
        },
    )
    folder = tmp_path / "against_reverse_mode" / "short"
    assert {path.stem for path in (folder / "results").iterdir()} == {
        "time_10",
        "memory_10_papers",
    }
    with (folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["seconds"]) > float(row["seconds_backward"]) > 0
    assert float(row["peak"]) > 1e8
    assert "| DrMAD, the paper's | 1 |" in out
    assert (folder / "figures" / "against_reverse_mode.png").is_file()
