"""A `fit` that ends in time, on a clock that the work itself moves."""

import signal
import threading
import time
import warnings

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad.training import course, time_budget
from small_models import (
    VALIDATION,
    At,
    assert_same,
    built_once,
    compiled,
    fit,
    numbers,
    put_back,
)

# Seconds that a minibatch takes.
COSTS = {"forward": 1.0, "slopes": 2.0, "validation": 0.5, "backward": 5.0}
T, R, V = 40, 40, 4  # steps, reverse steps, batches to validate on
ONE = T * COSTS["forward"] + V * COSTS["slopes"] + R * COSTS["backward"]


class Clock:
    """A clock that only chunks move."""

    def __init__(self, monkeypatch):
        self.now, self.longest = 1000.0, 0.0
        self.chunks = []
        monkeypatch.setattr(time_budget.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time_budget.Clock, "_traced", 0, raising=False)
        whole = course.Course.on_chunk

        def on_chunk(this, name, stage, steps, tree, **options):
            seconds = COSTS.get(stage, 0.0) * steps
            self.now += seconds
            self.longest = max(self.longest, seconds)
            self.chunks.append((name, stage))
            whole(this, name, stage, steps, tree, **options)

        monkeypatch.setattr(course.Course, "on_chunk", on_chunk)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture(scope="module")
def model_of():
    def build(method):
        methods = {
            "line": kd.DrMAD(reverse_steps=1.0),
            "stored": kd.ReverseMode("stored"),
            "reversible": kd.ReverseMode("reversible"),
        }
        model = compiled(hypergradient=methods[method])
        before = numbers(model)
        fit(model, epochs=1, meta_iterations=1, keep="last")  # traced
        put_back(model, before)
        return model

    return built_once(build)


OPTIONS = dict(
    steps_per_epoch=T,
    epochs=1,
    validation_batch_size=len(VALIDATION[0]) // V,
    initial_weights="resample",
)


def timed(model, clock, seconds, *, callbacks=(), **options):
    """Returns the history of a `fit` in a budget, and the time it took."""
    clock.longest, begin = 0.0, clock.now
    callbacks = [kd.callbacks.TimeBudget(seconds), *callbacks]
    options = OPTIONS | dict(meta_iterations=50) | options
    history = fit(model, callbacks=callbacks, **options)
    return history, clock.now - begin


@pytest.mark.parametrize(
    "method, count", [("line", 1), ("stored", 2), ("line", 3)]
)
def test_as_many_meta_iterations_as_there_is_time_for(
    method, count, model_of, clock
):
    model = model_of(method)
    last = T * COSTS["forward"] + V * COSTS["validation"]
    seconds = count * ONE + last + 0.2 * ONE
    history, taken = timed(model, clock, seconds)
    assert len(history["loss"]) == count
    assert taken == pytest.approx(count * ONE + last)  # nothing begun in vain
    assert model.final_logs
    twin = model_of(method)
    expected = fit(twin, **OPTIONS, meta_iterations=count)
    assert history == expected


@pytest.mark.parametrize(
    "method, seconds",
    [
        *(("line", s) for s in (0.3 * T, 0.9 * T, T + 5, 0.7 * ONE)),
        *(("reversible", s) for s in (0.9 * T, T + 5)),
    ],
)
def test_within_the_first_training_the_weights_so_far(
    method, seconds, model_of, clock
):
    model = model_of(method)
    before = numbers(model)
    with pytest.warns(RuntimeWarning, match="before the first meta-iteration"):
        history, taken = timed(model, clock, seconds)
    assert not history
    assert taken <= seconds + clock.longest
    if method == "line":  # others have chunks of their own
        assert clock.longest < 0.5 * T
    raws = [np.array(h.raw) for h in model.hyperparameters]
    assert_same(raws, [before[len(model.weights)]])
    # From the draw that the first training starts from, as many steps.
    steps = int(model.optimizer.iterations)
    walked = sum(stage == "forward" for _, stage in clock.chunks)
    assert 0 < steps <= T
    assert walked > 0
    weights = [np.array(v) for v in model.trainable_variables]
    twin = model_of(method)
    fit(
        twin,
        **OPTIONS | dict(steps_per_epoch=steps),
        meta_iterations=1,
        keep="last",
    )
    expected = [np.array(v) for v in twin.trainable_variables]
    assert_same(weights, expected, rtol=1e-5)


def test_a_way_back_that_will_not_come_home_is_ended(model_of, clock):
    # Nothing is known of its pace before its first chunk.
    model = model_of("line")
    with pytest.warns(RuntimeWarning, match="before the first"):
        _, taken = timed(model, clock, 0.7 * ONE)
    stages = [stage for _, stage in clock.chunks]
    assert stages.count("backward") == 1
    assert taken < 0.5 * ONE
    assert int(model.optimizer.iterations) == T


def test_without_time_for_a_last_training_the_best_weights(model_of, clock):
    model = model_of("line")
    found = []
    noted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(model.get_weights())
    )
    history, taken = timed(
        model, clock, ONE + 0.5 * T, callbacks=[noted], meta_iterations=50
    )
    assert taken == pytest.approx(ONE)
    assert not model.final_logs
    assert_same(model.get_weights(), found[0])
    assert len(history["loss"]) == 1


@pytest.mark.parametrize("keep", ["best", "last"])
def test_what_keep_says_of_those_that_were_done(keep, model_of, clock):
    model = model_of("line")
    history, _ = timed(model, clock, 3.5 * ONE, keep=keep)
    assert len(history["loss"]) == 3
    found, twin = numbers(model), model_of("line")
    fit(twin, **OPTIONS, meta_iterations=3, keep=keep)
    assert_same(found, numbers(twin))


def test_slower_than_forecast_ends_within_a_chunk(model_of, clock, monkeypatch):
    model = model_of("line")
    monkeypatch.setitem(COSTS, "forward", 1.0)

    def slow():
        monkeypatch.setitem(COSTS, "forward", 30.0)

    seconds = 4 * ONE
    history, taken = timed(model, clock, seconds, callbacks=[At(1, slow)])
    assert len(history["loss"]) == 2
    assert taken <= seconds + clock.longest


def test_plain_training_ends_in_time(model_of, clock):
    model = model_of("line")
    options = dict(meta_iterations=0, steps_per_epoch=10, epochs=50)
    before = int(model.optimizer.iterations)
    history, taken = timed(model, clock, 95.0, **options)
    assert 95 <= taken <= 95 + clock.longest
    assert len(history["loss"]) == 7  # of 12 seconds each, and a part of one
    assert 70 < int(model.optimizer.iterations) - before <= 80
    with pytest.warns(RuntimeWarning, match="before the first epoch was"):
        history, _ = timed(model, clock, 5.0, **options)
    assert not history


@pytest.mark.parametrize("how", ["time", "a callback"])
@pytest.mark.parametrize("method", ["stored", "reversible"])
def test_tuned_within_one_training_it_ends_within_an_epoch(
    method, how, model_of, clock
):
    ends = kd.callbacks.TimeBudget(1.4 * T * (1 + COSTS["backward"]))
    if how == "a callback":
        ends = At(1, lambda: setattr(model, "stop_training", True), within=True)
    options = OPTIONS | dict(meta_iterations=None, tune_every=10)
    model = model_of(method)
    fit(model, **options | dict(epochs=3), callbacks=[ends])
    steps = int(model.optimizer.iterations)
    assert T < steps < 2 * T
    found = model.get_weights()
    model = model_of(method)
    fit(model, **options | dict(steps_per_epoch=steps))
    assert_same(found, model.get_weights(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("save_freq", [1, "epoch"])
def test_a_fit_in_slots_ends_as_one_fit(save_freq, model_of, clock, tmp_path):
    options = dict(meta_iterations=4)
    model = model_of("line")
    expected = fit(model, **OPTIONS, **options)
    expected = [*numbers(model), expected, model.final_logs]
    seconds = 0.4 * ONE if save_freq == 1 else 1.7 * ONE
    slots = 0
    while slots == 0 or tmp_path.exists():
        model = model_of("line")
        backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            history, taken = timed(
                model, clock, seconds, callbacks=[backup], **options
            )
        assert taken <= seconds + clock.longest
        slots += 1
        assert slots < 30
    assert slots > 2
    assert_same(numbers(model), expected[:-2])
    assert [history, model.final_logs] == expected[-2:]


@pytest.mark.parametrize("seconds", [1.0, 3600.0])
def test_a_chunk_is_half_a_second_of_steps_or_one(seconds, clock):
    for cost, steps in ((0.1, 5), (0.001, 500), (7.0, 1)):
        budget = time_budget.Clock(seconds, clock.now)
        budget.watch(lambda: 0)
        clock.now += 10 * cost
        budget.note("forward", 10)
        assert budget.longest(1000) == pytest.approx(steps, abs=1)


def test_a_budget_is_a_positive_number():
    with pytest.raises(TypeError, match="seconds"):
        kd.callbacks.TimeBudget("60")
    with pytest.raises(ValueError, match="seconds"):
        kd.callbacks.TimeBudget(0)


def test_in_real_time(model_of):
    model = model_of("line")
    begin = time.monotonic()
    fit(
        model,
        **OPTIONS | dict(steps_per_epoch=200),
        meta_iterations=10**6,
        callbacks=[kd.callbacks.TimeBudget(1)],
    )
    assert 0.25 < time.monotonic() - begin < 3  # of a machine that is busy
    assert model.tuning_record.fits[-1]["ended"] != "complete"


# ---- Ctrl-C at any moment


@pytest.fixture
def ctrl_c_is_heard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", range(1, 60, 7))
def test_ctrl_c_after_any_chunk_leaves_what_was_done(
    at, model_of, clock, monkeypatch
):
    model = model_of("line")
    start = [np.array(h.raw) for h in model.hyperparameters]
    found, losses = [], []
    noted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            found.append(model.get_weights()),
            losses.append(logs["val_loss"]),
        )
    )
    whole = course.Course.on_chunk

    def on_chunk(this, name, stage, steps, tree, **options):
        whole(this, name, stage, steps, tree, **options)
        if len(clock.chunks) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(course.Course, "on_chunk", on_chunk)
    options = OPTIONS | dict(meta_iterations=3, epochs=10, callbacks=[noted])
    try:
        fit(model, **options)
    except KeyboardInterrupt:
        assert len(clock.chunks) == at  # at once: nothing was run after it
    else:
        assert len(clock.chunks) < at
        return
    if not found:
        assert_same([np.array(h.raw) for h in model.hyperparameters], start)
        return
    assert_same(model.get_weights(), found[int(np.argmin(losses))])
    assert np.all(np.isfinite(numbers(model)[0]))


def test_a_real_sigint_ends_within_a_chunk(model_of, ctrl_c_is_heard):
    model = model_of("line")
    pressed = []

    def press():
        pressed.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = threading.Timer(0.5, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(
            model,
            **OPTIONS | dict(steps_per_epoch=2000),
            meta_iterations=10**6,
        )
    assert time.monotonic() - pressed[0] < 1  # chunks take milliseconds
    timer.join()
