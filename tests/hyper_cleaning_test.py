"""Data hyper-cleaning beside the field, in small."""

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    python,
    rows_by,
    run_program,
)
from studies import hyper_cleaning_rivals


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.hyper_cleaning", "--patience=0"
    )


def test_the_study_says_that_cleanlab_is_missing(tmp_path):
    done = python(
        "-c",
        "import sys\n"
        "import importlib.util as util\n"
        "import studies.hyper_cleaning as program\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda n: None if n == 'cleanlab' else find(n)\n"
        f"program.app.run(program.main, ['x', '--save_dir={tmp_path}'])\n",
    )
    assert done.returncode == 1
    assert "pip install 'keras_drmad[studies]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_log_odds_are_those_of_a_closed_form():
    # Class 0 is called 1 in a quarter of the cases, class 1 always 1.
    known = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    given = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    unsure = np.array([[0.5, 0.5]] * 8)
    called = known.T @ np.eye(2)[given] / 4
    np.testing.assert_allclose(called, [[0.75, 0.25], [0, 1]])
    odds = hyper_cleaning_rivals.log_odds(known, given)
    assert (odds[given == 0] > 15).all() and (odds[4:] > 15).all()
    assert odds[3] < -15
    # Nets that know nothing leave the share of the given class.
    odds = hyper_cleaning_rivals.log_odds(unsure, given)
    np.testing.assert_allclose(odds, 0, atol=1e-12)
    np.testing.assert_allclose(hyper_cleaning_rivals.believed(odds, 1), 0.5)


@pytest.mark.slow
def test_longer_horizons_in_small(tmp_path):
    run_program(
        "studies.hyper_cleaning",
        tmp_path,
        "--parts=published",
        "--dataset=digits",
        "--seeds=1",
        "--noise=50",
        "--meta_iterations=4",
        "--quick=2",
        "--longer=2",
        "--processes=0",
        constants={
            "studies.hyper_cleaning_published.LONGER": 50,
            "studies.hyper_cleaning_published.AGAIN": 2,
            "studies.hyper_cleaning_published.PLAIN": 20,
        },
    )
    folder = tmp_path / "hyper_cleaning" / "short"
    rows = rows_by(folder / "published.csv", "way")

    def number(way, column):
        return float(rows[way][column].split()[0])

    longer = "then T = 150, sign steps of 1"
    assert number(longer, "steps") == 2 * 10 + 2 * 50
    again = number(longer, "steps") + 50 + 2 * 10
    assert number("then T = 10 again", "steps") == again
    assert number("labels as given", "steps") == 2 * 10 + 2 * 50
    assert number(longer, "area") > 0.6  # chance: 0.5 ± 0.03
    assert (folder / "figures" / "published.png").exists()


@pytest.mark.slow
def test_rivals_in_small(tmp_path):
    pytest.importorskip("cleanlab", reason="an extra of the studies")
    run_program(
        "studies.hyper_cleaning",
        tmp_path,
        "--parts=rivals",
        "--dataset=digits",
        "--seeds=1",
        "--kinds=class",
        "--wrong=20",
        "--draws=1",
        "--steps=100",
        "--trainings=2",
        "--smoothing=0.1",
        "--processes=0",
    )
    folder = tmp_path / "hyper_cleaning" / "short"
    with np.load(folder / "results" / "rivals, class, 20 %_0.npz") as arrays:
        values = dict(zip(arrays["names"], arrays["values"], strict=True))
    assert len(values) == 11
    for way in ("cleanlab, by clean nets", "learned weights, from belief"):
        assert values[way][0] > 0.9  # area
    ends = [values[way][2] for way in ("clean images alone",)]
    assert values["learned weights, from belief"][2] < min(ends)
    assert (folder / "figures" / "rivals.png").exists()
