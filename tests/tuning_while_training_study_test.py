"""The study of tuning while training, in small."""

import numpy as np
import pytest

from running import assert_flag_is_refused_without_tensorflow, run_program


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.tuning_while_training", "--epochs=0"
    )


@pytest.mark.slow
def test_weights_of_examples_help_and_penalties_do_not_move_as_they_should(
    tmp_path,
):
    run_program(
        "studies.tuning_while_training",
        tmp_path,
        "--dataset=digits",
        "--seeds=1",
        "--epochs=5",
        "--meta_iterations=3",
        "--hidden=64",
        "--nojit_compile",
        "--processes=0",
        constants={"studies.tuning_while_training.TIMED": 1},
    )
    (folder,) = (tmp_path / "tuning_while_training").iterdir()
    assert (folder / "figures" / "labels.png").exists()
    with np.load(folder / "results" / "labels_0.npz") as arrays:
        names, values = arrays["names"].tolist(), arrays["values"]
        weights, wrong = arrays["weights"], arrays["wrong"].astype(bool)
    errors = dict(zip(names, values[:, 0], strict=True))
    assert errors["tuned while training"] < errors["labels as given"]
    assert weights[wrong].mean() + 0.2 < weights[~wrong].mean()
    with np.load(folder / "results" / "penalties_0.npz") as arrays:
        plain, meanwhile, repeated = arrays["values"][:, 2]
    assert meanwhile < plain < repeated  # short windows see the costs alone
