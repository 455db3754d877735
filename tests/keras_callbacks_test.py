"""Keras's own callbacks, unchanged: to them a meta-iteration is an epoch."""

import csv
import re

import keras
import numpy as np
import pytest

import keras_drmad as kd
from small_models import (
    FIT,
    VALIDATION,
    X,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    cross_entropy,
    fit,
    hidden,
    linear,
)


@pytest.fixture(scope="module")
def model_of():
    return built_once(lambda: compiled(metrics=["accuracy"]))


@pytest.fixture
def model(model_of):
    """One model for the tests that can do with it: one trace for all."""
    return model_of()


# ---- the progress bar


def test_the_progress_bar_is_a_line_each_that_moves(model, capsys):
    T = 400  # the walk pauses at eighths
    fit(model, steps_per_epoch=T, epochs=1, verbose=0)  # compiles
    fit(model, steps_per_epoch=T, epochs=1, verbose=1)
    shown = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    bars = re.split(r"Training \d/2.*\n", shown)[1:]
    assert len(bars) == 2
    for bar in bars:
        # Within its line the bar goes back and is drawn again, further on;
        # below it is a line on the hyperparameter.
        bar, below = bar.strip("\r\n\b").split("\n")[:2]
        assert below.startswith("  l2  mean ")
        steps = [int(k) for k in re.findall(r"(\d+)/440", bar)]
        assert steps[0] == 50
        assert steps == sorted(steps)
        assert steps[-1] == 440  # 40 of them backward
        last = bar.split("\r")[-1]
        for name in ("loss:", "accuracy:", "val_loss:", "l2/mean:"):
            assert name in last


def test_verbose_2_is_a_line_for_each_meta_iteration(model, capsys):
    fit(model, verbose=0)  # compiles
    logs = fit(model, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0].split("  mean")[0] for line in lines] == [
        "Training 1/2: 6 steps forward and 1 backward",
        "7/7",
        "  l2",
        "Training 2/2",
        "7/7",
        "  l2",
    ]
    assert f"val_loss: {logs['val_loss'][1]:.4f}" in lines[4]


def test_without_tuning_epochs_are_epochs(model, capsys):
    options = dict(meta_iterations=0, epochs=2)
    fit(model, verbose=0, **options)  # compiles
    logs = fit(model, verbose=2, **options)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in lines] == [
        "Epoch 1/2",
        "3/3",
        "Epoch 2/2",
        "3/3",
    ]
    assert f"val_loss: {logs['val_loss'][1]:.4f}" in lines[3]


def test_verbose_0_is_silent(model, capsys):
    fit(model, verbose=0)
    assert capsys.readouterr().out == ""


# ---- hooks


class Recorder(keras.callbacks.Callback):
    """Notes every call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begins")

    def on_train_end(self, logs=None):
        self.calls.append(("train ends", sorted(logs)[-1]))

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("begins", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("ends", epoch))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("from", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("to", batch))
        assert np.isfinite(logs["loss"])


def test_hooks_are_called_in_keras_order(model):
    recorder = Recorder()
    fit(model, steps_per_epoch=70, epochs=1, callbacks=[recorder])
    # A pause after 50 steps.
    ends = [(0, 49), (50, 69)]
    inside = [x for a, b in ends for x in (("from", a), ("to", b))]
    assert recorder.calls == [
        "train begins",
        ("begins", 0),
        *inside,
        ("ends", 0),
        ("begins", 1),
        *inside,
        ("ends", 1),
        ("train ends", "val_loss"),
    ]


def test_a_callback_can_stop_within_a_training(model):
    class Stop(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 1:
                self.model.stop_training = True

    callback, found = at_each_end(model, lambda m: m.get_weights())
    logs = fit(model, callbacks=[Stop(), callback], meta_iterations=5)
    assert len(logs["val_loss"]) == 1
    assert_same(model.get_weights(), found[0])


def test_an_epoch_that_a_callback_stops_ends_where_it_is(model_of):
    """Of a training without tuning, as in Keras."""
    model, recorder = model_of(), Recorder()
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(
            model, "stop_training", ("begins", 1) in recorder.calls
        )
    )
    logs = fit(
        model,
        steps_per_epoch=120,
        epochs=3,
        callbacks=[recorder, stop],
        meta_iterations=0,
    )
    pauses = [call for call in recorder.calls if call[0] == "to"]
    assert pauses == [("to", 49), ("to", 99), ("to", 119), ("to", 29)]
    assert recorder.calls[-2:] == [("ends", 1), ("train ends", "val_loss")]
    assert len(logs["loss"]) == len(logs["val_loss"]) == 2
    stopped = model.get_weights()
    # The same steps, and all of them.
    model = model_of()
    last = fit(model, steps_per_epoch=150, epochs=1, meta_iterations=0)
    assert_same(stopped, model.get_weights())
    assert logs["val_loss"][-1] == pytest.approx(last["val_loss"][-1])


# ---- Keras's callbacks


def test_early_stopping(model):
    stopping = keras.callbacks.EarlyStopping("val_loss", min_delta=9)
    logs = fit(model, callbacks=[stopping], meta_iterations=5)
    assert len(logs["val_loss"]) == 2
    assert stopping.stopped_epoch == 1


def test_model_checkpoint(model, tmp_path):
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    whole = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", save_best_only=True
    )
    callback, found = at_each_end(
        model, lambda m: [*m.get_weights(), np.array(m.hyperparameters[0].raw)]
    )
    logs = fit(model, callbacks=[weights, whole, callback], meta_iterations=3)
    best = int(np.argmin(logs["val_loss"]))
    assert np.any(found[0][-1] != found[1][-1])
    for k in range(3):
        model.load_weights(tmp_path / f"{k + 1}.weights.h5")
        raw = np.array(model.hyperparameters[0].raw)
        assert_same([*model.get_weights(), raw], found[k])
    loaded = keras.models.load_model(tmp_path / "best.keras")
    raw = np.array(loaded.hyperparameters[0].raw)
    assert_same([*loaded.get_weights(), raw], found[best])


def test_csv_logger(model, tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    logs = fit(model, callbacks=[logger])
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", *logs}
    for name, values in logs.items():
        assert [float(row[name]) for row in rows] == values


def test_tensorboard(model, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator

    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)
    logs = fit(model, callbacks=[board])
    found = {}
    for name in ("train", "validation"):
        events = event_accumulator.EventAccumulator(str(tmp_path / name))
        events.Reload()
        for tag in events.Tags()["tensors"]:
            found[name, tag] = [
                event.tensor_proto.float_val for event in events.Tensors(tag)
            ]
    assert np.squeeze(found["train", "epoch_loss"]) == pytest.approx(
        logs["loss"]
    )
    assert np.squeeze(found["validation", "epoch_loss"]) == pytest.approx(
        logs["val_loss"]
    )
    assert ("train", "epoch_l2/mean") in found


def trained_at(rate):
    """Returns the weights of one training at a learning rate."""
    model = compiled(optimizer=keras.optimizers.SGD(rate, momentum=0.5))
    fit(model, meta_iterations=1)
    return model.get_weights()


def test_learning_rate_scheduler_is_heard(model):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.02)
    with pytest.warns(UserWarning, match="rate of whole trainings"):
        logs = fit(model, callbacks=[scheduler], meta_iterations=1)
    assert_same(model.get_weights(), trained_at(0.02), rtol=1e-5)
    assert logs["learning_rate"] == [pytest.approx(0.02)]


def test_reduce_lr_on_plateau_is_heard(model):
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.2, patience=1, min_delta=9
    )
    before = np.array(model.hyperparameters[0].raw)
    # Hyperparameters stand still, so that only the rate changes.
    model.meta_optimizer.learning_rate.assign(0.0)
    options = dict(meta_iterations=3, keep="last")
    with pytest.warns(UserWarning, match="rate of whole trainings"):
        logs = fit(model, callbacks=[plateau], **options)
    np.testing.assert_array_equal(model.hyperparameters[0].raw, before)
    assert logs["learning_rate"] == pytest.approx([0.1, 0.1, 0.02])
    assert logs["loss"][0] == logs["loss"][1] != logs["loss"][2]
    assert_same(model.get_weights(), trained_at(0.02), rtol=1e-5)


def test_a_learned_rate_takes_the_place_of_a_scheduled_one():
    rate = kd.hyperparameters.LearningRate(initial=0.02)
    model = compiled(hyperparameters=[rate])
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    with pytest.warns(UserWarning, match="changes nothing for the weights"):
        fit(model, meta_iterations=1, callbacks=[scheduler])
    twin = compiled(hyperparameters=[kd.hyperparameters.LearningRate()])
    twin.hyperparameters[0].assign(0.02)
    fit(twin, meta_iterations=1)
    assert_same(model.get_weights(), twin.get_weights())


# ---- averages of weights


def averaging():
    return keras.optimizers.Adam(0.3, use_ema=True, ema_momentum=0.7)


@pytest.fixture(scope="module")
def averaged():
    """Returns a function to a model that averages its weights, as new."""

    def build():
        rate = kd.hyperparameters.LearningRate()
        return compiled(optimizer=averaging(), hyperparameters=[rate])

    return built_once(build)


@pytest.mark.parametrize(
    "callbacks",
    [
        list,
        lambda: [keras.callbacks.SwapEMAWeights()],
        lambda: [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        lambda: [
            keras.callbacks.EarlyStopping(
                "val_loss", mode="max", patience=0, restore_best_weights=True
            )
        ],
    ],
    ids=["none", "swap", "swap on epoch", "best weights"],
)
def test_epochs_are_validated_as_in_keras_with_averages(averaged, callbacks):
    options = FIT | dict(epochs=3, shuffle=False, validation_data=VALIDATION)
    del options["seed"]
    twin = linear()
    twin.compile(averaging(), cross_entropy(), run_eagerly=True)
    expected = twin.fit(**options, callbacks=callbacks()).history
    model = averaged()
    options |= dict(meta_iterations=0, callbacks=callbacks())
    logs = model.fit(**options).history
    for name in ("loss", "val_loss"):
        assert logs[name] == pytest.approx(expected[name], rel=1e-4)
    assert_same(model.get_weights(), twin.get_weights(), rtol=1e-3, atol=1e-5)


def test_val_loss_is_that_of_the_weights_callbacks_see():
    weights = kd.hyperparameters.ExampleWeights(len(FIT["x"]))
    model = compiled(optimizer=averaging(), hyperparameters=[weights])
    callback, seen = at_each_end(
        model, lambda m: m.evaluate(*VALIDATION, verbose=0)
    )
    options = FIT | dict(epochs=3, validation_data=VALIDATION)
    for how in (dict(tune_every=1), dict(meta_iterations=2)):
        seen.clear()
        logs = model.fit(**options, **how, callbacks=[callback]).history
        assert logs["val_loss"] == pytest.approx(seen, rel=1e-5)


class Resets(keras.callbacks.Callback):
    """Sets a variable of the model at a moment of each epoch."""

    def __init__(self, when, variable):
        super().__init__()
        self.variable = variable
        setattr(self, when, self.reset)

    def reset(self, epoch, logs=None):
        if epoch == 1:
            self.variable.assign(keras.ops.zeros_like(self.variable))


@pytest.mark.parametrize("when", ["on_epoch_begin", "on_epoch_end"])
def test_weights_that_are_set_between_epochs_are_told_of(when):
    model = compiled(hidden())
    resets = Resets(when, model.get_layer("first").kernel)
    with pytest.warns(RuntimeWarning, match="first/kernel.*several times"):
        fit(model, meta_iterations=0, epochs=3, callbacks=[resets])


def test_weights_that_are_set_after_each_of_several_fits_count():
    model, plain = compiled(hidden()), hidden()
    plain.set_weights(model.get_weights())
    rate = [kd.hyperparameters.LearningRate()]
    for one, more in (
        (model, {"hyperparameters": rate, "jit_compile": False}),
        (plain, {}),
    ):
        one.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse", **more)
        own = {"meta_iterations": 0} if more else {}
        for _ in range(2):
            one.fit(X, X[:, :3], batch_size=8, shuffle=False, verbose=0, **own)
            kernel = one.get_layer("first").kernel
            kernel.assign(0.5 * kernel)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
