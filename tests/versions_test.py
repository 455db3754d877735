"""Other versions of Keras and TensorFlow: what is said, what is the same."""

import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad import keras_internals, versions
from keras_drmad.hyperparameters import L2, LearningRate
from plain_models import left_out, momentum
from running import ROOT
from small_models import FIT, VALIDATION, compiled
from this_keras import several_optimizers

# ---- what is missing


def without(monkeypatch, name, value):
    """Gives Keras or TensorFlow another version."""
    monkeypatch.setattr(sys.modules[name], "__version__", value)


def test_without_tensorflow_it_says_what_to_install():
    program = "import sys; sys.modules['tensorflow'] = None\nimport keras_drmad"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: keras_drmad computes with TensorFlow")
    for extra in ("tensorflow", "tensorflow-cpu"):
        assert f"pip install 'keras_drmad[{extra}]'" in last


def test_another_backend_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ImportError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        versions.check()


def test_a_backend_that_is_not_installed_is_refused_in_words():
    run = subprocess.run(
        [sys.executable, "-c", "import keras_drmad"],
        cwd=ROOT,
        env={"KERAS_BACKEND": "jax", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode and "KERAS_BACKEND" in run.stderr


@pytest.mark.parametrize(
    "name, version", [("keras", "3.9.2"), ("tensorflow", "2.17.1")]
)
def test_what_is_too_old_is_refused_in_words(monkeypatch, name, version):
    without(monkeypatch, name, version)
    with pytest.raises(ImportError) as error:
        versions.check()
    oldest = versions.words(versions.OLDEST[name])
    assert f"{versions.NAMES[name]} {oldest} or newer" in str(error.value)
    assert version in str(error.value)


@pytest.mark.parametrize(
    "name, version", [("keras", "3.99.0.dev1"), ("tensorflow", "2.99.0-rc0")]
)
def test_what_is_newer_is_said_once_and_works(monkeypatch, name, version):
    without(monkeypatch, name, version)
    versions.check()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            compiled()
    (words,) = [str(w.message) for w in caught if version in str(w.message)]
    assert f"{versions.NAMES[name]} {version}" in words


def test_tested_versions_are_said_nothing_of(monkeypatch):
    for name, newest in versions.NEWEST.items():
        without(monkeypatch, name, f"{versions.words(newest)}.7")
    assert not versions.untested()


def test_a_broken_optimizer_is_refused_at_compile(monkeypatch):
    broken = {"SGD": (99, 1)}
    monkeypatch.setattr(keras_internals, "_WORKS_SINCE", broken)
    with pytest.raises(ValueError, match="SGD, which needs Keras 99.1; this"):
        compiled()


# ---- several optimizers, with and without Keras's own class


@pytest.fixture
def without_several(monkeypatch):
    """Returns a function after which Keras has no `MultiOptimizer`."""

    def take_away():
        monkeypatch.setattr(
            keras_internals, "has_several_optimizers", lambda: False
        )

    return take_away


def grouped():
    return compiled(
        hyperparameters=[L2(), LearningRate()],
        meta_optimizer={
            "l2": kd.SignConsensus(0.5),
            "learning_rate": keras.optimizers.Adam(0.25),
        },
    )


def fit(model):
    options = {"validation_data": VALIDATION, "meta_iterations": 2} | FIT
    return model.fit(**options).history


def assert_same_numbers(one, other):
    pairs = (
        (one.weights, other.weights),
        (
            one.meta_optimizer.variables,
            other.meta_optimizer.variables,
        ),
    )
    for ours, theirs in pairs:
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(one.hyperparameters, other.hyperparameters, strict=True):
        np.testing.assert_array_equal(a.raw, b.raw)


@several_optimizers
def test_our_own_class_moves_as_that_of_keras(without_several):
    theirs = grouped()
    expected = fit(theirs)
    without_several()
    ours = grouped()
    assert type(ours.meta_optimizer) is keras_internals.SeveralOptimizers
    assert fit(ours) == expected
    assert_same_numbers(ours, theirs)


@several_optimizers
@pytest.mark.parametrize("is_there_first", [True, False])
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_files_of_one_load_with_the_other(
    monkeypatch, tmp_path, name, is_there_first
):
    def choose(is_there):
        monkeypatch.setattr(
            keras_internals, "has_several_optimizers", lambda: is_there
        )

    choose(is_there_first)
    model = grouped()
    fit(model)
    path = tmp_path / name
    if path.suffix == ".keras":
        model.save(path)
        choose(not is_there_first)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        choose(not is_there_first)
        loaded = grouped()
        loaded.load_weights(path)
    assert type(loaded.meta_optimizer) is not type(model.meta_optimizer)
    assert_same_numbers(loaded, model)


def test_one_meta_optimizer_is_not_several():
    model = compiled()
    one = model.meta_optimizer
    assert keras_internals.optimizers_within(one) == [one]
    assert not keras_internals.wraps_others(one)
    several = keras_internals.several_optimizers(lambda v: one)
    assert keras_internals.wraps_others(several)


def test_numbers_of_layers_are_left_out_of_a_keras_without_several(
    without_several,
):
    without_several()
    plain, _ = left_out([LearningRate("layer")])
    assert "since 3.15" in plain.left_out["learning_rate"]
    assert plain.optimizer.get_config() | {"name": None} == (
        momentum().get_config() | {"name": None}
    )
