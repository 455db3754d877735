"""Under a strategy, trainings and hypergradients are those of one device."""

import concurrent.futures
import contextlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from benchmarks import cluster
from checks import relative_error
from closed_forms import regression, tanh_net
from conftest import precision, reseed
from keras_drmad.hyperparameters import L2
from keras_drmad.seam.replicas import Replicas
from replica_cases import ALONE, X
from running import forked

PROGRAM = pathlib.Path(__file__).with_name("replica_program.py")
TWO = [
    "method_stored",
    "method_cg",
    "method_forward",
    "method_gauss_newton",
    "method_reversible",
    "accumulation",
    "each_place",
    "convolutions",
    "embedding",
    "synchronized",
    "two_outputs_weighed",
    "whole_fit",
    *ALONE,
]
THREE = ["embedding", "dropout"]
WORKERS = [
    # Workers differ from devices in how parts are added and data agreed on,
    # which steps, walks and methods do not see: a method each way back.
    "method_drmad",
    "method_checkpointed",
    "embedding",
    "stream",
    "sequence",
    *ALONE,
    # These train one model, the last three each worker apart.
    "plain_training",
    "whole_fit",
    "tuned_while_training",
    "checked_values",
    "uneven_draws",
    "best_of_draws",
]
ODD = {
    "hidden_sum": "the validation loss is",
    "counts": "counting/variable",
}
DIFFER = {
    "other_data": "they differ in the first minibatch",
    "other_length": "they differ in meta_iterations",
}
AGREED = [
    "out_of_time",
    "late",
    "stopped_by_one",
    "without_a_seed",
    "refused_once",
]
WRITING = ["counts", "files", "killed", "never_killed"]


def run(path, *asked, **environment):
    """Runs the program; returns the process."""
    code = (
        f"import runpy\nrunpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    )
    flags = [str(path), *asked]
    return forked("-c", code, *flags, environment=environment, self_check=True)


def load(path):
    """Returns dicts of arrays by the names of cases, for each count."""
    found = {}
    with np.load(path) as file:
        for key in file:
            count, case, name = key.split("/", 2)
            cases = found.setdefault(int(count), {})
            cases.setdefault(case, {})[name] = file[key]
    return found


def on_devices(folder, names):
    """Returns what cases return on counts of logical CPUs."""
    path = folder / "devices.npz"
    done = run(path, *(f"{k}:{','.join(each)}" for k, each in names.items()))
    assert done.returncode == 0, done.stderr
    return load(path)


def on_workers(folder, names, **environment):
    """Returns the processes of two workers, and what they returned."""
    configs = cluster.configs()
    paths = [folder / f"worker_{k}.npz" for k in range(2)]
    given = {"FOLDER": str(folder)} | environment

    def worker(k):
        return run(
            paths[k], f"1:{','.join(names)}", TF_CONFIG=configs[k], **given
        )

    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = list(pool.map(worker, range(2)))
    return done, [load(path)[1] if path.exists() else {} for path in paths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def devices(folder):
    names = {
        1: dict.fromkeys([*TWO, *THREE, *WORKERS]),
        2: [*TWO, "xla", *ODD],
        3: THREE,
    }
    return on_devices(folder, names)


@pytest.fixture(scope="module")
def one(devices):
    return devices[1]


@pytest.fixture(scope="module")
def two(devices):
    return devices[2]


@pytest.fixture(scope="module")
def three(devices):
    return devices[3]


@pytest.fixture(scope="module")
def lost(folder):
    """The processes of two workers of which one is killed, and their words."""
    return on_workers(folder, ["killed"], KILLED="1")


@pytest.fixture(scope="module")
def backups(lost, folder):
    """The files of a backup that a lost training left."""
    return list((folder / "killed").iterdir())


@pytest.fixture(scope="module")
def workers(folder, backups):
    names = [*WORKERS, *AGREED, *WRITING, *DIFFER]
    done, found = on_workers(folder, names)
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    return found


def assert_same(found, expected, name):
    assert "error" not in found[name], found[name]["error"]
    assert found[name].keys() - {"placed"} == expected[name].keys()
    for key, value in expected[name].items():
        # Keras's own `evaluate` divides by the replicas in float32.
        tolerance = 1e-6 if key == "evaluated" else 1e-10
        assert relative_error(found[name][key], value) < tolerance, key


def assert_exact(found, name):
    """Asserts that a hypergradient is that of differences."""
    assert "error" not in found[name], found[name]["error"]
    assert found[name]["far"] < 1e-6


@pytest.mark.parametrize("name", [n for n in TWO if n not in ALONE])
def test_two_devices(two, one, name):
    assert_same(two, one, name)


def test_parts_are_differentiated_where_they_are(two):
    first, second = two["convolutions"]["placed"]
    assert first == second > 3


@pytest.mark.parametrize("name", [n for n in THREE if n not in ALONE])
def test_three_devices(three, one, name):
    assert_same(three, one, name)


@pytest.mark.parametrize("name", [n for n in WORKERS if n not in ALONE])
def test_two_workers(workers, one, name):
    for worker in workers:
        assert_same(worker, one, name)


@pytest.mark.parametrize("name", ALONE)
def test_parts_that_differ(one, two, three, workers, name):
    on_devices = [found for found in (one, two, three) if name in found]
    for found in (*on_devices, *workers):
        assert_exact(found, name)
    # Each part has its own statistics, or masks.
    losses = {float(found[name]["loss"]) for found in on_devices}
    assert len(losses) == len(on_devices)


def test_two_workers_are_as_two_devices(workers, two):
    for name in ALONE:
        for worker in workers:
            error = relative_error(worker[name]["loss"], two[name]["loss"])
            assert error < 1e-10, name


@pytest.mark.slow
def test_a_backup_stays_where_one_worker_was_late(workers, folder):
    for worker in workers:
        assert len(worker["late"]["log_loss"]) >= 1
    assert list((folder / "late").iterdir())


def test_only_the_chief_writes(workers, folder):
    chief, other = (worker["files"] for worker in workers)
    for key in other:
        assert relative_error(other[key], chief[key]) < 1e-12, key
    assert len((folder / "log.csv").read_text().splitlines()) > 1
    with precision("float64"):
        loaded = keras.saving.load_model(folder / "model.keras")
        exported = tf.saved_model.load(str(folder / "exported"))
        for outputs in (loaded(X), exported.serve(X)):
            assert relative_error(outputs, chief["predicted"]) < 1e-12
        assert keras.saving.load_model(folder / "best.keras").hyperparameters
    assert list((folder / "tensorboard").iterdir())


def test_workers_end_where_one_is_lost(lost, backups):
    (chief, killed), (found, _) = lost
    assert killed.returncode == -9
    assert chief.returncode == 0, chief.stderr
    assert "could not reach the others" in str(found["killed"]["error"])
    assert backups


def test_lost_workers_go_on_when_they_are_back(workers, folder):
    for worker in workers:
        assert "error" not in worker["killed"], worker["killed"]
        again, whole = dict(worker["killed"]), dict(worker["never_killed"])
        assert list(whole.pop("told_epochs")) == [0, 1, 2]
        assert list(again.pop("told_epochs")) == [1, 2]
        # In the second training, behind the first chunk.
        assert again.pop("told_chunks")[0] > whole.pop("told_chunks")[0]
        for key, value in whole.items():
            np.testing.assert_array_equal(again[key], value, key)
    assert not (folder / "killed").exists()  # as at the end of every `fit`


@pytest.mark.parametrize("name", ODD)
def test_parts_that_do_not_add_up_are_said(two, name):
    assert "error" not in two[name], two[name]["error"]
    assert ODD[name] in str(two[name]["words"])


def test_workers_have_the_chiefs_counts(workers):
    one, two = (worker["counts"] for worker in workers)
    assert one["count"] == two["count"] > 0


# ---- what workers agree on


@pytest.mark.parametrize("name", DIFFER)
def test_workers_that_were_asked_for_different_trainings(workers, name):
    for worker in workers:
        assert DIFFER[name] in str(worker[name]["error"])


@pytest.mark.parametrize("name", AGREED)
def test_what_one_worker_decides_is_decided_for_all(workers, name):
    one, two = (worker[name] for worker in workers)
    assert "error" not in one, one["error"]
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, two[key], key)


def test_a_stop_of_one_worker_is_a_stop_of_all(workers):
    assert len(workers[0]["stopped_by_one"]["log_loss"]) == 1


# ---- what is refused, and what is one device under another name


def compiled(**options):
    """Returns a model compiled in the scope that is open."""
    options = {"optimizer": "sgd", "hyperparameters": [L2()]} | options
    model = kd.DrMADModel(*tanh_net())
    model.compile(loss="mse", **options)
    return model


def test_a_strategy_of_one_device():
    x, y = regression(12)
    training = {"batch_size": 4, "validation_data": (x, y)}
    gradients = []
    for strategy in (None, tf.distribute.OneDeviceStrategy("CPU:0")):
        reseed()
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = compiled()
            h = model.hypergradient(x, y, **training)
        gradients.append(h.gradients["l2"])
        assert model.uses_xla is not None
    np.testing.assert_array_equal(*gradients)


def test_replicas_have_no_xla(two):
    assert "XLA cannot compile loops" in str(two["xla"]["error"])


def test_other_strategies_are_refused():
    strategy = tf.distribute.experimental.CentralStorageStrategy()
    with strategy.scope(), pytest.raises(ValueError, match="CentralStorage"):
        compiled()


def test_distributions_of_keras_are_refused():
    devices = keras.distribution.list_devices("cpu")
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    try:
        with pytest.raises(ValueError, match="does nothing with TensorFlow"):
            compiled()
    finally:
        keras.distribution.set_distribution(None)


def test_parts_are_all_examples_once():
    for size, count in ((7, 2), (2, 3), (1, 4), (64, 5)):
        one = Replicas(None, count, ("",) * count)
        parts = [part for part in one.parts(size) if part.share]
        places = [k for part in parts for k in range(part.first, part.last)]
        assert places == list(range(size))
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        assert len(one.parts(size)) == count
