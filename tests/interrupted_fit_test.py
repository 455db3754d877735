"""A `fit` that does not come to its end: Ctrl-C, divergence; what it leaves."""

import contextlib
import re
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from keras_drmad.core.loops import Loops
from keras_drmad.training import kept_batches
from keras_drmad.training.backup_files import BackupFiles
from keras_drmad.training.time_budget import Clock
from small_models import (
    FIT,
    VALIDATION,
    At,
    X,
    Y,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    fit,
    linear,
    numbers,
)


@pytest.fixture(scope="module")
def model_of():
    return built_once(lambda: compiled())


@pytest.fixture
def model(model_of):
    return model_of()


@pytest.fixture(scope="module")
def exact_of():
    return built_once(
        lambda method: compiled(hypergradient=kd.ReverseMode(method))
    )


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Python's own handler: what a shell starts by `&` ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def known(model):
    """Returns weights and raw hyperparameters."""
    raws = [np.array(h.raw) for h in model.hyperparameters]
    return [*model.get_weights(), *raws]


# ---- Ctrl-C


def interrupt():
    raise KeyboardInterrupt


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("press", [interrupt, ctrl_c])
@pytest.mark.parametrize("within", [True, False])
def test_ctrl_c_leaves_the_best_completed_meta_iteration(model, press, within):
    callback, found = at_each_end(model, known)
    # The second meta-iteration is the worse one, the third not completed.
    spoil = At(0, lambda: model.hyperparameters[0].assign(3.0))
    stop = At(2 if within else 1, press, within)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[callback, spoil, stop], meta_iterations=4)
    assert len(found) == 2
    assert np.any(found[0][0] != found[1][0])
    assert_same(known(model), found[0])
    logs = fit(model, meta_iterations=1)  # and it goes on from there
    assert np.isfinite(logs["val_loss"][0])


def test_ctrl_c_in_the_first_leaves_the_start(model):
    before = known(model)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[At(0, ctrl_c, within=True)])
    assert_same(known(model), before)


@pytest.mark.parametrize("has_budget", [False, True])
def test_stopped_in_the_first_it_says_that_the_model_is_as_before(
    model, has_budget
):
    fit(model)
    before, left = numbers(model), model.left
    assert left.pending  # which the next `fit` follows first
    stop = At(0, lambda: setattr(model, "stop_training", True), within=True)
    budgets = [kd.callbacks.TimeBudget(99)] if has_budget else []
    with pytest.warns(RuntimeWarning, match="A callback stopped.*as it was"):
        logs = fit(model, callbacks=[stop, *budgets])
    assert not logs
    assert_same(numbers(model), before)
    assert_same(model.left.pending, left.pending)
    record = model.tuning_record
    assert record.fits[-1]["ended"] == "stopped by a callback"


@pytest.mark.parametrize(
    "keep, at, words",
    [
        ("best", 0, "before a meta-iteration was complete"),
        ("best", 2, "weights and hyperparameters of meta-iteration 1, the"),
        ("mean", 2, "the means .* weights of meta-iteration 1, the best"),
        ("last", 2, "weights of the last complete meta-iteration"),
    ],
)
def test_ctrl_c_says_what_the_model_has(model, capsys, keep, at, words):
    spoil = At(0, lambda: model.hyperparameters[0].assign(3.0))
    stop = At(at, ctrl_c, within=True)
    with pytest.raises(KeyboardInterrupt):
        fit(
            model,
            callbacks=[spoil, stop],
            meta_iterations=4,
            keep=keep,
            verbose=2,
        )
    (said,) = re.findall("^Interrupted.*", capsys.readouterr().out, re.M)
    assert re.search(words, said)


def test_ctrl_c_in_the_last_backup_leaves_the_best(
    model, monkeypatch, tmp_path
):
    def save(files, tree):
        if tree["base"]["number"] == 2:
            interrupt()

    monkeypatch.setattr(BackupFiles, "save", save)
    callback, found = at_each_end(model, known)
    spoil = At(0, lambda: model.hyperparameters[0].assign(3.0))
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[callback, spoil, backup])
    assert_same(known(model), found[0])
    assert model.tuning_record.fits[-1]["ended"] == "interrupted"


def test_ctrl_c_is_silent_where_fit_is(model, capsys):
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[At(1, ctrl_c, within=True)], verbose=0)
    assert "Interrupted" not in capsys.readouterr().out


# ---- within an epoch of one training


class OnceLate(keras.callbacks.Callback):
    """Does something after the first chunk that ends at a step, or later."""

    def __init__(self, step, function):
        super().__init__()
        self.step, self.function = step, function

    def on_train_batch_end(self, batch, logs=None):
        if batch >= self.step:
            self.step = np.inf
            self.function()


def fail():
    raise ZeroDivisionError


# Chunks end at 50, 90, 100, 150 and 190 steps.
TUNED = dict(tune_every=100, look_back=10, meta_iterations=None)
TUNED |= dict(initial_weights="resample")
PLAIN = dict(meta_iterations=0)


@pytest.mark.parametrize("end", ["ctrl-c", "an error", "divergence"])
@pytest.mark.parametrize(
    "method, options",
    [("stored", PLAIN), ("stored", TUNED), ("reversible", TUNED)],
)
def test_an_epoch_broken_off_keeps_the_chunks_before(
    exact_of, method, options, end
):
    model = exact_of(method)
    error, step, function, done = {
        "ctrl-c": (KeyboardInterrupt, 160, interrupt, 150),
        "an error": (ZeroDivisionError, 160, fail, 150),
        "divergence": (
            FloatingPointError,
            95,
            lambda: model.optimizer.learning_rate.assign(1e30),
            100,
        ),
    }[end]
    options = dict(epochs=1, **options)
    with pytest.raises(error):
        fit(
            model,
            **options,
            steps_per_epoch=400,
            callbacks=[OnceLate(step, function)],
        )
    found = known(model)
    ends = [np.array(v) for v in model.end_weights]
    model = exact_of(method)
    fit(model, **options, steps_per_epoch=done)
    assert_same(found, known(model), rtol=1e-5, atol=1e-6)
    assert_same(found[:2], ends)


@pytest.mark.parametrize("options", [PLAIN, TUNED | dict(tune_every=20)])
def test_a_layer_frozen_within_an_epoch_is_named(exact_of, options):
    model = exact_of("stored")
    layer = model.elementary_model.layers[-1]
    freeze = OnceLate(60, lambda: setattr(layer, "trainable", False))
    try:
        with pytest.raises(ValueError, match="`trainable` was changed"):
            fit(model, steps_per_epoch=99, callbacks=[freeze], **options)
    finally:
        layer.trainable = True
    assert int(model.optimizer.iterations) >= 50


# ---- divergence


def first_step_with_infinite_loss(optimizer):
    """Returns the step at which Keras's own training loses the numbers."""
    twin = linear()
    twin.compile(optimizer, keras.losses.MeanSquaredError())
    for step in range(1, 1000):
        rows = slice((step - 1) % 3 * 8, (step - 1) % 3 * 8 + 8)
        if not np.isfinite(twin.train_on_batch(X[rows], X[rows, :3])):
            return step


def diverging(rate):
    return compiled(
        optimizer=keras.optimizers.SGD(rate),
        loss=keras.losses.MeanSquaredError(),
        hyperparameters=[kd.hyperparameters.L2(initial=1e-9)],
    )


SQUARED = dict(
    y=X[:, :3],
    validation_data=(VALIDATION[0], VALIDATION[0][:, :3]),
    shuffle=False,
    epochs=40,
)


def test_divergence_at_once_is_an_error_that_says_where():
    step = first_step_with_infinite_loss(keras.optimizers.SGD(30.0))
    assert 3 < step < 120
    model = diverging(30.0)
    before = known(model)
    with pytest.raises(FloatingPointError) as error:
        fit(model, **SQUARED)
    assert re.search(rf"step {step} of meta-iteration 1\b", str(error.value))
    assert "learning rate" in str(error.value)  # what to do
    assert_same(known(model), before)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_later_divergence_keeps_the_best(keep):
    model = diverging(0.05)
    callback, found = at_each_end(model, known)
    ruin = At(0, lambda: model.hyperparameters[0].raw.assign(90.0))
    with pytest.warns(RuntimeWarning) as warned:
        logs = fit(
            model,
            **SQUARED,
            callbacks=[callback, ruin],
            meta_iterations=5,
            keep=keep,
        )
    [message] = [
        str(each.message) for each in warned if "Stopped" in str(each.message)
    ]
    assert re.search(r"step \d+ of meta-iteration 2\b", message)
    assert re.search(r"best meta-iteration so far, number 1\b", message)
    assert len(logs["val_loss"]) == 1
    assert_same(known(model), found[0])
    loss = model.evaluate(*SQUARED["validation_data"], verbose=0)
    assert loss == pytest.approx(logs["val_loss"][0], rel=1e-6)


def test_divergence_in_ordinary_training_is_an_error():
    with pytest.raises(FloatingPointError, match=r"training loss .* step \d+"):
        fit(diverging(30.0), **SQUARED, meta_iterations=0)


def test_divergence_of_one_hypergradient_is_an_error():
    model = diverging(30.0)
    before = numbers(model)
    options = dict(FIT, **SQUARED)
    del options["verbose"]
    for function in (model.hypergradient, model.validation_loss_after):
        with pytest.raises(FloatingPointError, match=r"step \d+"):
            function(**options)
    assert_same(numbers(model), before)


# ---- what is read of a stream


class Slow(keras.utils.PyDataset):
    """Batches that take long, from the second chunk on."""

    def __init__(self, fast=200):
        super().__init__(max_queue_size=1)
        self.asked, self.fast = 0, fast

    def __len__(self):
        return 400

    def __getitem__(self, k):
        self.asked += 1
        time.sleep(0.05 if self.asked > self.fast else 0)
        return X[:8], Y[:8]


def test_ctrl_c_ends_the_reading_of_a_stream_wherever_it_comes(exact_of):
    dataset, asked = Slow(fast=90), []

    def while_read():
        asked.append(dataset.asked)
        interrupt()

    with pytest.raises(KeyboardInterrupt) as error:
        fit(
            exact_of("stored"),
            x=dataset,
            y=None,
            batch_size=None,
            callbacks=[OnceLate(90, while_read)],
            **PLAIN,
        )
    del error
    assert dataset.asked < asked[0] + 5


@pytest.mark.parametrize("end", ["a callback", "time"])
def test_what_ends_a_fit_ends_the_reading_of_a_stream(exact_of, end):
    dataset, asked = Slow(fast=90), []
    model, budget = exact_of("stored"), kd.callbacks.TimeBudget(99)

    def while_read():
        asked.append(dataset.asked)
        if end == "time":
            monkeypatch.setattr(Clock, "left", -1.0)
        else:
            model.stop_training = True

    warns = contextlib.nullcontext()
    if end == "time":
        warns = pytest.warns(RuntimeWarning, match="Time was up before")
    with pytest.MonkeyPatch.context() as monkeypatch, warns:
        fit(
            model,
            x=dataset,
            y=None,
            batch_size=None,
            callbacks=[OnceLate(90, while_read), budget],
            **PLAIN,
        )
    assert dataset.asked < asked[0] + 5


def test_ctrl_c_ends_the_reading_of_held_out_batches(exact_of, monkeypatch):
    dataset, asked = Slow(), []

    def busy(*_):
        asked.append(dataset.asked)
        interrupt()

    monkeypatch.setattr(Loops, "differentiate", property(lambda _: busy))
    with pytest.raises(KeyboardInterrupt) as error:
        fit(exact_of("stored"), validation_data=dataset)
    del error
    assert asked and dataset.asked < asked[0] + 5


# ---- temporary files of a stream


@pytest.mark.parametrize("end", ["well", "at ctrl-c", "diverged"])
def test_a_stream_leaves_no_files(model, end, monkeypatch, tmp_path):
    monkeypatch.setattr(kept_batches.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kept_batches, "IN_MEMORY", 0)
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    options = dict(x=stream, y=None, batch_size=None)
    seen = []

    def look():
        seen.extend(tmp_path.rglob("*.npy"))

    callbacks = [At(0, look, within=True)]
    if end == "well":
        fit(model, **options, callbacks=callbacks)
    elif end == "at ctrl-c":
        # In the second epoch, when batches of the first are in a file.
        options |= dict(x=stream.repeat(), steps_per_epoch=60)
        callbacks.append(At(0, lambda: interrupt() if seen else 0, within=True))
        with pytest.raises(KeyboardInterrupt):
            fit(model, **options, callbacks=callbacks)
    else:
        callbacks.append(At(0, lambda: model.hyperparameters[0].assign(1e30)))
        with pytest.warns(RuntimeWarning, match="Stopped"):
            fit(model, **options, callbacks=callbacks)
    assert seen
    assert not list(tmp_path.iterdir())
