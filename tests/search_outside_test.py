"""The study of a tuner alone and around `fit`, in small."""

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_program

pytest.importorskip("optuna")
from studies import search_outside_ways

T, BUDGET, META_ITERATIONS, REVERSE = 20, 4, 1, 2


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.search_outside", "--draws=1"
    )


BUILD, NETS = search_outside_ways.build_model, {}


def shared_net(problem, few, seed, method):
    """Returns the first net that a kind of problem had, as a new one would be.

    Its layers, activation and optimizer are those of the first trial.
    """
    first = NETS.get(problem.weighs)
    model = BUILD(problem, few if first is None else first[1], seed, method)
    for kind in model.hyperparameters[:1]:
        kind.assign(np.full_like(kind.value(), few["penalty"]))
    model.optimizer.build(model.trainable_variables)
    if first is None:
        NETS[problem.weighs] = model, few
        return model
    for old, new in zip(_variables(first[0]), _variables(model), strict=True):
        old.assign(new)
    return first[0]


def _variables(model):
    kinds = [kind.raw for kind in model.hyperparameters]
    own = model.optimizer.variables + model.meta_optimizer.variables
    return [*model.weights, *own, *kinds]


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
        constants={"studies.search_outside_ways.build_model": shared_net},
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
