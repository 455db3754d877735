"""The paper's MNIST experiment in small, killed and gone on with."""

import csv
import pathlib

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    forked,
    run_program,
)

SMALL = (
    "--dataset=digits",
    "--meta_iterations=2",
    "--seeds=1",
    "--hidden=8",
    "--processes=0",
)


def table(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.penalties_study", "--curves=other:40"
    )


@pytest.mark.slow
def test_study_keeps_each_tuning_and_goes_on(tmp_path):
    flags = *SMALL, "--curves=drmad:40,reverse:40,one:40", "--momenta=0.9:0.3"
    out = run_program("studies.penalties_study", tmp_path, *flags)
    assert "0 of 3 parts are there" in out
    folder = tmp_path / "penalties_study" / "short"
    kept = sorted((folder / "results").iterdir())
    assert [path.stem for path in kept] == [
        "drmad_40_momentum_0.9_seed_0",
        "one_40_momentum_0.9_seed_0",
        "reverse_40_momentum_0.9_seed_0",
    ]
    with np.load(kept[0]) as arrays:
        log_l2, accuracy = arrays["log_l2"], arrays["test_accuracy"]
    assert log_l2.shape == (2, 64 + 8)
    np.testing.assert_allclose(log_l2[0], -4.4, rtol=1e-6)
    moved = np.abs(log_l2[1] + 4.4)
    # Pixels that are always 0 have no weights that learn.
    still = np.isclose(moved, 0, atol=1e-5)
    assert still.sum() <= 5
    np.testing.assert_allclose(moved[~still], 0.14, rtol=1e-4)
    rows = table(folder / "results.csv")
    assert float(rows[0]["last_error"]) == pytest.approx(
        100 * (1 - accuracy[-1]), abs=0.01
    )
    assert float(rows[1]["correlation_with_exact"]) == 1
    assert (folder / "figures" / "figure_8.png").exists()

    kept[1].unlink()
    before = kept[0].stat().st_mtime
    out = run_program("studies.penalties_study", tmp_path, *flags)
    assert "2 of 3 parts are there" in out
    assert kept[1].exists() and kept[0].stat().st_mtime == before


def test_missing_data_is_reported_before_work_starts(tmp_path):
    done = forked(
        "-c",
        "import sys, unittest.mock\n"
        "import tensorflow_datasets as tfds\n"
        "from studies import penalties_study as study\n"
        "broken = unittest.mock.patch.object(\n"
        "    tfds, 'load', side_effect=OSError('no network'))\n"
        "with broken: study.app.run(study.main, ['x', '--run_name=short',\n"
        f"    '--data_dir={tmp_path}', '--save_dir={tmp_path}'])\n",
    )
    assert done.returncode != 0
    assert "mnist.npz" in done.stderr and "tfds build mnist" in done.stderr
    assert not (tmp_path / "penalties_study").exists()


# Programs define flags of the same names, so each has a process of its own.
PERSISTENCE = """
import numpy as np
from studies.penalties_study import persistence

# One coefficient goes down all the way, one turns at each step.
log_l2 = np.array([[0, 0], [-1, 1], [-2, 0], [-3, 1]], float)
assert persistence(log_l2[:, :1]) == 1
assert persistence(log_l2[:, 1:]) == -1
assert persistence(log_l2) == 0
assert np.isnan(persistence(log_l2[:2]))
"""


def test_persistence_of_steps():
    done = forked("-c", PERSISTENCE)
    assert done.returncode == 0, done.stderr
