"""Memory in bytes and in words, and what methods make of it."""

import os

import pytest
import tensorflow as tf

import keras_drmad as kd
from keras_drmad import arguments
from keras_drmad.core.span import Span
from keras_drmad.core.state import State
from keras_drmad.methods import memory
from small_models import VALIDATION, X, Y, assert_helps, compiled, fit, linear

# Weights and velocities of 500 bytes each.
STATE = State([tf.zeros(125)], [tf.zeros(125)], [])
BYTES = 1000


# ---- bytes and words


@pytest.mark.parametrize(
    "given, expected",
    [
        (1, 1),
        (64_000_000, 64_000_000),
        ("64", 64),
        ("64B", 64),
        ("64MB", 64e6),
        ("64 mb", 64e6),
        (" 1.5 GB ", 1.5e9),
        ("1.5G", 1.5e9),
        ("3k", 3000),
        ("2.TB", 2e12),
    ],
)
def test_bytes(given, expected):
    assert arguments.nbytes("memory", given) == expected


@pytest.mark.parametrize(
    "given",
    [0, -1, True, "", "0MB", "-3MB", "MB", "lots", "64MiB", "1 PB", [64]],
    ids=repr,
)
@pytest.mark.parametrize("method", [kd.DrMAD, kd.ReverseMode, kd.Auto])
def test_what_is_no_amount_is_refused(method, given):
    with pytest.raises(ValueError) as error:
        method(memory=given)
    assert_helps(error, "memory", repr(given))


@pytest.mark.parametrize(
    "count, words",
    [
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (5.5e8, "550 MB"),
        (1.25e9, "1.25 GB"),
        (3e12, "3 TB"),
    ],
)
def test_in_words(count, words):
    assert memory.in_words(count) == words
    assert arguments.nbytes("memory", words) == count  # and back


def test_available_bytes():
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.available_bytes() <= everything


def test_a_container_has_what_its_files_could_give_back(monkeypatch, tmp_path):
    files = {
        "memory.max": "1000000\n",
        "memory.current": "990000\n",
        "memory.stat": "anon 100000\nfile 800000\ninactive_file 700000\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.available_bytes() == 710_000


def test_a_container_without_a_limit_is_none(monkeypatch, tmp_path):
    everything = memory.available_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("990000\n")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.available_bytes() > everything / 2


# ---- what methods make of it


@pytest.mark.parametrize(
    "states, anchors",
    # Half a state is parameters, an anchor half of these; 32 and 96 fit.
    [(1, 3), (1.2, 3), (8, 23), (24, 63), (99, 63)],
)
def test_drmad_takes_as_many_lines_as_fit(states, anchors):
    options = {"spacing": "end", "curvature": "gauss_newton"}
    method = kd.DrMAD(0.7, memory=int(states * BYTES), **options)
    chosen, why = method.choose(100, STATE)
    config = method.get_config() | {"anchors": anchors, "memory": None}
    assert chosen.get_config() == config
    assert f"{anchors + 1} anchors" in why
    assert kept(chosen, 100) <= states * BYTES


def kept(method, T):
    return method.nbytes(T, STATE)


@pytest.mark.parametrize("method", [kd.DrMAD, kd.ReverseMode, kd.Auto])
@pytest.mark.parametrize("T", [1, 100])
def test_all_states_where_they_fit(method, T):
    chosen, why = method(memory=T * BYTES).choose(T, STATE)
    assert repr(chosen) == repr(kd.ReverseMode())
    assert memory.in_words(T * BYTES) in why


@pytest.mark.parametrize("method", [kd.ReverseMode, kd.Auto])
def test_checkpoints_where_not_all_states_fit(method):
    least = kept(kd.ReverseMode("checkpointed"), 100)
    for allowed in (int(least), 99 * BYTES):
        chosen, why = method(memory=allowed).choose(100, STATE)
        assert repr(chosen) == repr(kd.ReverseMode("checkpointed"))
        assert memory.in_words(least) in why


@pytest.mark.parametrize(
    "options, lines",
    [
        ({"memory": 8 * BYTES}, 23),  # too little for checkpoints
        ({"time_factor": 2.4}, 39),  # too little time, even for all states
        ({"time_factor": 1.3}, 15),
    ],
    ids=str,
)
def test_auto_takes_lines_where_nothing_exact_fits(options, lines):
    method = kd.Auto(**options)
    chosen, why = method.choose(100, STATE)
    assert type(chosen) is kd.DrMAD
    bound = chosen.bind(100, STATE)
    assert chosen.anchors == lines
    # A reverse step counts as one and a half.
    steps = len(bound.iterations(Span(0, 100)))
    assert 1 + 1.5 * steps / 100 <= method.time_factor
    assert f"{method.time_factor:g} times" in why


@pytest.mark.parametrize(
    "method, needed",
    [
        (kd.DrMAD(memory=BYTES - 1), "1 kB"),
        (kd.Auto(memory=BYTES - 1), "1 kB"),
        (kd.ReverseMode(memory=9 * BYTES), "kB"),
    ],
    ids=repr,
)
def test_too_little(method, needed):
    with pytest.raises(ValueError) as error:
        method.choose(100, STATE)
    assert_helps(
        error, "memory", f"at least {needed}" if needed != "kB" else needed
    )
    assert "DrMAD()" in str(error.value)


def test_too_little_is_free(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * BYTES - 2)
    with pytest.raises(ValueError) as error:
        kd.Auto().choose(100, STATE)
    assert_helps(error, "memory", "half of what is free, 999 B")


@pytest.mark.parametrize(
    "method",
    [
        kd.DrMAD(),
        kd.ReverseMode(),
        kd.Truncated(),
        kd.Implicit(),
        kd.OneStep(),
    ],
    ids=lambda m: type(m).__name__,
)
def test_without_a_memory_there_is_no_choice(method):
    assert method.choose(100, STATE) == (method, "")


# ---- a model tells what was chosen


def test_a_model_tells_what_was_chosen():
    # 15 weights in 60 bytes, as many velocities, and a count.
    method = kd.DrMAD(1.0, memory="800 B")
    model = compiled(hypergradient=method)
    data = {"x": X, "y": Y, "batch_size": 8, "validation_data": VALIDATION}
    found = model.hypergradient(**data, epochs=2)
    assert isinstance(model.resolved.method, kd.ReverseMode)
    # Of each state the weights and the count; no derivative reads velocities.
    assert found.diagnostics["copies"] == 6 * 68 / 60
    found = model.hypergradient(**data, epochs=20)
    assert model.resolved.method.anchors == 23  # 26 anchors would fit
    assert found.diagnostics["copies"] == 24 / 2
    assert "24 anchors" in model.resolved.why
    assert model.method is method


# ---- the default


@pytest.mark.parametrize(
    "kind",
    [kd.hyperparameters.L2(), kd.hyperparameters.LearningRate()],
    ids=["loss", "update"],
)
def test_auto_is_exact_where_it_fits_whatever_is_tuned(kind):
    chosen, _ = kd.Auto(memory=100 * BYTES).choose(100, STATE, [kind])
    assert repr(chosen) == repr(kd.ReverseMode())


def test_auto_is_the_default():
    model = kd.DrMADModel.from_model(linear())
    model.compile("sgd", "mse", hyperparameters=[kd.hyperparameters.L2()])
    assert repr(model.method) == "Auto()"
    model = compiled(hypergradient="auto")
    fit(model, meta_iterations=1)
    assert repr(model.resolved.method) == "ReverseMode()"
