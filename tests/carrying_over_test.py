"""The comparison of meta-optimizers, in small."""

import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)

SMALL = (
    "--cells=digits:main:1,digits:exact:1",
    "--meta_iterations=2",
    "--draws=2",
    "--divide_steps=20",
    "--processes=0",
)


@pytest.mark.parametrize("cell", ["mnist_1000:main", "other:main:5"])
def test_flags_are_answered_without_tensorflow(cell):
    assert_flag_is_refused_without_tensorflow(
        "studies.carrying_over", f"--cells={cell}"
    )


@pytest.mark.slow
def test_study_in_small(tmp_path):
    out = run_program("studies.carrying_over", tmp_path, *SMALL)
    assert "0 of 2 parts are there" in out
    folder = tmp_path / "carrying_over" / "short"
    rows = rows_by(folder / "digits.csv", "rule")
    # untuned, the grid, four rules, and three of these by another method
    assert len(rows) == 9
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
    assert "2 of 2 parts are there" in run_program(
        "studies.carrying_over", tmp_path, *SMALL
    )


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
