"""DrMAD beside exact reverse mode, in the benchmark's short form."""

import csv
import math

import pytest

from running import python

STEPS = (20, 80)
HIDDEN = 8
SIZES = (784, HIDDEN, HIDDEN, HIDDEN, 10)
WEIGHTS = sum((a + 1) * b for a, b in zip(SIZES, SIZES[1:], strict=False))


def run(save_dir, *flags: str):
    """Returns what a short run printed, and its rows by method and T."""
    done = python(
        "-m",
        "benchmarks.against_reverse_mode",
        f"--steps={','.join(map(str, STEPS))}",
        "--rounds=1",
        f"--hidden={HIDDEN}",
        "--nojit_compile",
        "--data_dir=",
        f"--save_dir={save_dir}",
        "--run_name=short",
        *flags,
    )
    assert done.returncode == 0, done.stderr
    folder = save_dir / "against_reverse_mode" / "short"
    assert (folder / "figures" / "against_reverse_mode.png").is_file()
    with (folder / "results.csv").open() as file:
        rows = {(r["method"], int(r["steps"])): r for r in csv.DictReader(file)}
    return done.stdout, rows


@pytest.mark.parametrize(
    "flag", ["--steps=5", "--steps=many", "--method=stored"]
)
def test_flags_are_refused(flag):
    done = python("-m", "benchmarks.against_reverse_mode", flag)
    assert done.returncode != 0
    assert flag.partition("=")[0] in done.stderr


@pytest.mark.slow
def test_bytes_kept(tmp_path):
    methods = ("papers", "stored", "bfloat16", "reversible_0.1")
    out, rows = run(
        tmp_path,
        "--noprocess_memory",
        # All states of the shorter training fit, those of the longer do not.
        f"--memory={60 * 8 * WEIGHTS}",
        *(f"--method={name}" for name in methods),
    )

    def column(name, key):
        return [float(rows[name, T][key]) for T in STEPS]

    # In float32: both ends of the weights; weights and velocity of each step.
    assert column("papers", "kept_bytes") == [2 * 4 * WEIGHTS] * 2
    states = [8 * WEIGHTS * T for T in STEPS]
    assert column("stored", "kept_bytes") == states
    assert column("bfloat16", "kept_bytes") == [n / 2 for n in states]
    assert math.isnan(column("stored", "seconds")[1])
    assert "Left out: stored, T = 80" in out
    copies = float(rows["stored", 20]["copies"])
    assert copies == pytest.approx(2 * 20, rel=1e-3)  # and the counters
    # Maclaurin et al.: log2(1 / momentum) bits for each weight and step.
    bits = column("reversible_0.1", "buffer_bits")
    assert bits == pytest.approx([math.log2(10)] * 2, rel=0.1)
    for name in methods[2:]:
        assert column(name, "reverse_steps_used") == list(STEPS)
        assert all(
            s > b > 0
            for s, b in zip(
                column(name, "seconds"),
                column(name, "seconds_back"),
                strict=True,
            )
        )


@pytest.mark.slow
def test_memory_of_processes(tmp_path):
    _, rows = run(tmp_path, "--method=papers", "--steps=20")
    (row,) = rows.values()
    assert float(row["peak"]) >= float(row["peak_alone"]) > 1e8
