"""The comparison with KerasTuner, in its short form."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from examples import datasets
from running import forked, python, rows_by
from studies import against_tuners_searches as searches
from studies import study
from studies.grouped_l2 import groups_of_rows

DIGITS = datasets.load("digits", None, searches.SIZES["digits"], 0)
ROWS = (64, 50, 50, 50)


def model_of(count):
    keras.utils.set_random_seed(0)
    return searches.build_model(DIGITS, "drmad", count, 0.3)


def test_flags_are_answered_without_tensorflow():
    done = python(
        "-c",
        "import sys\n"
        "from studies import against_tuners as program\n"
        "try: program.app.run(program.main, ['x', '--budget=1'])\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules, 'imported TensorFlow'\n",
    )
    assert done.returncode == 0, done.stderr
    assert "--budget" in done.stderr


@pytest.mark.slow
def test_missing_data_is_named(tmp_path):
    no_folder = tmp_path / "file"  # TFDS can't try to download into it
    no_folder.touch()
    done = forked(
        "-m",
        "studies.against_tuners",
        f"--data_dir={no_folder}",
        f"--save_dir={tmp_path}",
    )
    assert done.returncode != 0
    assert "mnist.npz" in done.stderr
    assert not list(tmp_path.glob("against_tuners/*"))


@pytest.mark.parametrize(
    ("count", "per"), [(1, "all"), (4, "layer"), (214, "input")]
)
def test_grouped_penalty_is_that_of_the_package(count, per):
    model = model_of(count)
    (grouped,) = model.hyperparameters
    l2 = kd.hyperparameters.L2(per)
    l2.bind(model.elementary_model, model.optimizer)
    raw = np.random.default_rng(0).normal(size=count).astype("float32")
    params = {id(v): v.value for v in model.trainable_variables}
    np.testing.assert_allclose(
        grouped.penalty(keras.ops.convert_to_tensor(raw), params),
        l2.penalty(keras.ops.reshape(raw, l2.raw.shape), params),
        rtol=1e-5,
    )


def test_groups_are_neighbours_in_one_layer():
    groups = groups_of_rows(ROWS, 20)
    assert [len(group) for group in groups] == list(ROWS)
    for k, group in enumerate(groups):
        assert set(group) == set(range(5 * k, 5 * k + 5))
        assert (np.diff(group) >= 0).all()
        assert np.ptp(np.bincount(group)[5 * k :]) <= 1  # as many in each


@pytest.mark.parametrize("count", [0, 2, 7, 204, 215])
def test_other_counts_are_refused(count):
    with pytest.raises(ValueError, match="`counts`"):
        groups_of_rows(ROWS, count)


def test_best_so_far_is_that_of_the_lowest_validation_loss():
    result = {
        "val_loss": np.array([3.0, 4.0, 2.0, 2.5, 1.0]),
        "test_loss": np.array([30.0, 10.0, 50.0, 20.0, 40.0]),
    }
    best = study.best_so_far(result["val_loss"], result["val_loss"])
    assert best.tolist() == [3, 3, 2, 2, 1]
    best = study.best_so_far(result["val_loss"], result["test_loss"])
    assert best.tolist() == [30, 30, 50, 50, 40]


@pytest.mark.slow
def test_short_form(tmp_path):
    T, budget = 30, 4
    done = forked(
        "-m",
        "studies.against_tuners",
        "--dataset=digits",
        "--counts=20",
        "--methods=drmad",
        "--methods=bayesian",
        "--seeds=1",
        f"--steps={T}",
        f"--budget={budget}",
        "--processes=0",
        f"--save_dir={tmp_path}",
        "--run_name=short",
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "against_tuners" / "short"
    found = {}
    reverse_steps = {"drmad": T // 10, "bayesian": 0}
    for method in reverse_steps:
        with np.load(folder / "results" / f"{method}_20_0.npz") as arrays:
            found[method] = dict(arrays)
    # One start for all: the same weights, batches and coefficients.
    first = [result["val_loss"][0] for result in found.values()]
    np.testing.assert_allclose(first, first[0], rtol=1e-5)
    # T forward steps a training, and 1.2 for each of R reverse steps between.
    for method, R in reverse_steps.items():
        cost = T + 1.2 * R
        count = 1 + int((budget - 1) * T / cost)
        np.testing.assert_allclose(
            found[method]["steps"], T + cost * np.arange(count)
        )
    rows = rows_by(folder / "results.csv", "method")
    labels = {"drmad": "DrMAD", "bayesian": "BayesianOptimization"}
    for method, result in found.items():
        label = labels[method]
        lowest = result["val_loss"].min()
        assert rows[label]["validation loss"].startswith(f"{lowest:.4f}")
        assert rows[label]["trainings"] == str(len(result["steps"]))
    assert f"| {rows['DrMAD']['test loss']} |" in done.stdout
    picture = folder / "figures" / "losses_against_steps.png"
    assert picture.stat().st_size > 10_000
