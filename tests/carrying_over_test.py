"""The comparison of meta-optimizers, in small."""

import keras
import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)
from small_nets import one_hidden
from studies import carrying_over_cells as cells

SMALL = (
    "--cells=digits:main:1,digits:drmad:1",
    "--meta_iterations=2",
    "--draws=2",
    "--divide_steps=20",
    "--processes=0",
)


@pytest.mark.parametrize(
    "cell",
    ["mnist_1000:main", "other:main:5", "cnn:main:0", "cnn:main:3-1"],
)
def test_flags_are_answered_without_tensorflow(cell):
    assert_flag_is_refused_without_tensorflow(
        "studies.carrying_over", f"--cells={cell}"
    )


@pytest.mark.parametrize(
    "text, seeds",
    [("3", [0, 1, 2]), ("2-4", [2, 3, 4]), ("2-2", [2]), ("2-", []), ("x", [])],
)
def test_seeds_of_a_cell(text, seeds):
    assert cells.seeds_of(text) == seeds


@pytest.mark.slow
def test_study_in_small(tmp_path):
    constants = {"studies.carrying_over_problems.tanh_net": one_hidden}
    out = run_program(
        "studies.carrying_over", tmp_path, *SMALL, constants=constants
    )
    assert "0 of 2 parts are there" in out
    folder = tmp_path / "carrying_over" / "short"
    rows = rows_by(folder / "digits.csv", "rule")
    # untuned, the grid, four rules, and the same by another method
    assert len(rows) == 10
    assert rows["SignConsensus()"]["minus the default's"] == "-"
    with np.load(folder / "results" / "digits-main_0.npz") as arrays:
        names, values = arrays["names"].tolist(), arrays["values"]
        assert arrays["val_loss"].shape == (len(names), 2)
        is_returned = np.isfinite(arrays["returned"][:, 0])
    assert names[0] == "start"
    assert is_returned.sum() == 4
    np.testing.assert_allclose(values[0], 3.2e-4, rtol=1e-5)
    best = min(float(r["validation loss"].split()[0]) for r in rows.values())
    grid = rows["one value, best of a grid"]["validation loss"]
    assert best <= float(grid.split()[0])
    assert (folder / "figures" / "test_loss.png").exists()


@pytest.mark.slow
def test_rules_of_one_process_do_not_know_of_each_other():
    from studies import carrying_over_tunings as tunings

    settings = {
        "problem": "digits",
        "data_dir": None,
        "method": "drmad",
        "has_grid": False,
        "seed": 1,
        "draws": 2,
        "meta_iterations": 3,
        "divide_steps": 20,
    }
    name = "SignConsensus()"
    after = tunings.cell(rules=["Adam(0.3), mean", name], **settings)
    alone = tunings.cell(rules=[name], **settings)
    for key in ("values", "returned", "test_loss"):
        np.testing.assert_array_equal(after[key][2], alone[key][1])


@pytest.mark.slow
def test_area_of_weights_of_examples():
    from studies import carrying_over_problems as problems
    from studies import carrying_over_tunings as tunings

    matters = np.array([True, False, True, False])
    task = problems.digits_penalties(None, 0)._replace(matters=matters)
    values = np.array([4.0, 1.0, 2.0, 3.0])  # three pairs of four in order
    assert tunings.area(task._replace(is_high=True), values) == 0.75
    assert tunings.area(task, values) == 0.25  # low ones are to matter
    assert tunings.area(task, np.ones(4)) == 0.5


# The signs of the gradients of one entry, and the steps against them.
COURSE = [
    (+1, -0.3),
    (+1, -0.36),
    (-1, 0.0),  # the sign turned: half the size, and no step
    (-1, +0.18),
    (-1, +0.216),
    (0, 0.0),
    (-1, +0.216),
]


def test_rprop_grows_and_halves_its_steps():
    from studies import rprop

    optimizer = rprop.Rprop(0.3)
    variable = keras.Variable([1.0, 1.0], dtype="float64")
    optimizer.build([variable])
    expected = np.ones(2)
    for sign, step in COURSE:
        # The size of a gradient does not matter.
        optimizer.apply([np.array([1e-9, -1e3]) * sign])
        expected += [step, -step]
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_rprop_has_a_largest_step():
    from studies import rprop

    optimizer = rprop.Rprop(0.3, largest=0.4)
    variable = keras.Variable([0.0], dtype="float64")
    optimizer.build([variable])
    for _ in range(4):
        optimizer.apply([np.ones(1)])
    # .3, .36, and twice the largest
    np.testing.assert_allclose(variable.numpy(), [-1.46], rtol=1e-6)


def test_names_are_those_of_rules_and_problems():
    from studies import carrying_over_problems as problems
    from studies import carrying_over_report as report
    from studies import carrying_over_tunings as tunings

    for method, rules in cells.GROUPS.values():
        assert method in tunings.METHODS
        assert set(rules) <= set(tunings.RULES)
    used = {r for _, rules in cells.GROUPS.values() for r in rules}
    assert used == set(tunings.RULES)
    assert set(cells.CHOICES) == set(problems.PROBLEMS)
    assert set(report.TITLES) == set(problems.PROBLEMS)
    assert set(report.METHODS) == set(tunings.METHODS)


def record(names, test_losses):
    """Returns what a cell gives, with two draws that differ by .2."""
    losses = np.add.outer(test_losses, [-0.1, 0.1])
    return {
        "names": np.array(names),
        "val_loss": losses,
        "test_loss": losses,
        "test_accuracy": 0.5 + 0 * losses,
        "returned": np.full((len(names), 2), np.nan),
        "values": np.zeros((len(names), 3)),
    }


def test_summary_compares_rules_seed_by_seed():
    from studies import carrying_over_report as report

    names = ["start", "SignConsensus()", "grid 0.1"]
    results = {
        "cnn-main_0": record(names, [1.0, 0.5, 0.75]),
        "cnn-main_1": record(names, [3.0, 0.75, 4.0]),
        "cnn-rivals_1": record(["start", "other"], [3.0, 1.0]),
        "digits-drmad_0": record(["start", "SignConsensus()"], [1.0, 0.5]),
    }
    cells = {
        name: {
            "problem": name.split("-")[0],
            "method": "drmad" if "drmad" in name else "exact",
            "seed": int(name[-1]),
        }
        for name in results
    }
    rows = report.summary(report.by_problem(results, cells))
    # The start, as good as one value of the grid, is the best in the second.
    assert [tuple(row.values()) for row in rows] == [
        ("SignConsensus()", "0.625 (2)"),
        ("untuned", "+1.375 ± 0.875"),
        ("one value, best of a grid", "+1.250 ± 1.000"),
        ("other", "+0.250 (1)"),
    ]
