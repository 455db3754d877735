"""The study of a tuner alone and around `fit`, in small."""

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_program

pytest.importorskip("optuna")
T, BUDGET, META_ITERATIONS, REVERSE = 20, 4, 1, 2


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.search_outside", "--draws=1"
    )


@pytest.mark.slow
def test_each_way_spends_the_budget_and_chooses(tmp_path):
    out = run_program(
        "studies.search_outside",
        tmp_path,
        "--dataset=digits",
        "--problems=labels",
        "--seeds=1",
        f"--budget={BUDGET}",
        f"--steps={T}",
        f"--meta_iterations={META_ITERATIONS}",
        "--hypergradient=drmad",
        "--draws=2",
        "--processes=0",
    )
    folder = tmp_path / "search_outside" / "short"
    found = {}
    for way in ("alone", "inside", "after", "clean"):
        with np.load(folder / "results" / f"labels_{way}_0.npz") as arrays:
            found[way] = dict(arrays)
        assert found[way]["test_loss"].shape == (2,)
        assert f"{found[way]['test_loss'].mean():.3f} ± 0.000" in out
    # DrMAD walks T / 10 steps backward.
    meta_iteration = T + REVERSE * T // 10
    trial = META_ITERATIONS * meta_iteration + T
    assert found["inside"]["steps"] == 2 * trial
    assert found["inside"]["trials"] == 2
    for way in ("alone", "clean"):
        assert BUDGET * T <= found[way]["steps"] <= (BUDGET + 1) * T
        assert len(np.unique(found[way]["values"])) == 1  # nothing is tuned
    # Half of the budget; of the meta-iterations only the first one, as there is
    # no room for another; and the last training.
    assert found["after"]["steps"] == BUDGET // 2 * T + meta_iteration + T
    assert len(np.unique(found["after"]["values"])) > 1
    assert (folder / "figures" / "search_outside.png").exists()
