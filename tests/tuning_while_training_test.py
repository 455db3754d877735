"""`fit(tune_every=K)`: one training, hyperparameters tuned meanwhile."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from conftest import precision, reseed
from keras_drmad.training.windows import NORM, Windows
from small_models import (
    VALIDATION,
    At,
    X,
    Y,
    assert_helps,
    assert_same,
    built_once,
    compiled,
    cross_entropy,
    data,
    hidden,
    linear,
    numbers,
    put_back,
)

H = kd.hyperparameters
# Six batches an epoch; of windows of four steps the last two are left over.
TRAINING = dict(
    x=X, y=Y, batch_size=4, epochs=3, seed=0, verbose=0, shuffle=True
)


class Noted(keras.optimizers.SGD):
    """Keeps the gradients that it is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.given = []

    def apply(self, grads, trainable_variables=None):
        self.given.append([np.array(g) for g in grads])
        super().apply(grads, trainable_variables)


def fit(model, **options):
    defaults = TRAINING | dict(validation_data=VALIDATION, tune_every=4)
    return model.fit(**defaults | options).history


@pytest.fixture(scope="module")
def model_of():
    return built_once(
        lambda: compiled(
            hidden(dropout=0.3),
            metrics=["accuracy"],
            hypergradient=kd.ReverseMode(),
            meta_optimizer=keras.optimizers.SGD(30.0),
        )
    )


@pytest.fixture
def model(model_of):
    return model_of()


# ---- the training


@pytest.mark.filterwarnings("ignore:The values of 'l2' hardly moved")
@pytest.mark.parametrize(
    "windows",
    [dict(tune_every=4), dict(tune_every=4, look_back=1), dict(tune_every=1)],
    ids=str,
)
def test_hyperparameters_that_stand_still_leave_the_training_as_it_is(
    model, windows
):
    model.meta_optimizer.learning_rate.assign(1e-30)
    before = numbers(model)
    plain = fit(model, meta_iterations=0, tune_every=None)
    weights = model.get_weights()
    put_back(model, before)
    tuned = fit(model, **windows)
    assert_same(model.get_weights(), weights)
    assert tuned.pop("l2/mean") == [pytest.approx(1e-2)] * 3
    assert tuned == plain
    each = 6 // windows["tune_every"]
    assert len(model.diagnostics["hypergradient_norm"]) == 3 * each


def test_ends_and_logs(model):
    kind = model.hyperparameters[0]
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            [model.get_weights(), kind.value().numpy(), logs["l2/mean"]]
        )
    )
    logs = fit(model, callbacks=[spy])
    assert len(logs["loss"]) == len(seen) == 3
    for _, values, mean in seen:
        assert mean == pytest.approx(values.mean())
    means = [mean for *_, mean in seen]
    assert len(set(means)) == 3
    assert_same(seen[-1][0], model.get_weights())
    found = model.evaluate(*VALIDATION, verbose=0, return_dict=True)
    assert logs["val_loss"][-1] == pytest.approx(found["loss"], rel=1e-5)
    assert_same(model.end_weights, model.trainable_variables)
    assert model.untuned[0] == pytest.approx(np.log(1e-2))


def test_is_the_same_each_time_and_other_with_another_seed(model):
    before, found = numbers(model), []
    for seed in (1, 1, 2):
        put_back(model, before)
        fit(model, seed=seed)
        found.append(numbers(model))
    assert_same(found[0], found[1])
    assert any(np.any(a != b) for a, b in zip(found[0], found[2], strict=True))


def test_a_rate_of_zero_asks_for_no_hypergradient():
    """Windows of which a schedule makes nothing cost nothing."""
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1, 3], [0.0, 20.0, 0.0]
    )
    model = compiled(
        hypergradient=kd.ReverseMode(),
        meta_optimizer=keras.optimizers.SGD(rate),
    )
    fit(model, tune_every=2)
    # Of nine windows the schedule's third and fourth: those at 2 and 3.
    assert len(model.diagnostics["hypergradient_norm"]) == 2
    assert int(model.meta_optimizer.iterations.numpy()) == 9


def test_diagnostics_of_an_epoch_are_its_own():
    """Means over its windows, and nan where no window was followed."""
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([5], [20.0, 0.0])
    model = compiled(
        hypergradient=kd.ReverseMode(),
        meta_optimizer=keras.optimizers.SGD(rate),
    )
    x, y = data(12, seed=7)
    logs = fit(
        model,
        tune_every=2,
        hyper_data=(x, y),
        callbacks=[kd.callbacks.Diagnostics()],
    )
    norms = model.diagnostics["hypergradient_norm"]
    assert len(norms) == 6
    found = logs["hypergradient_norm"]
    assert found[:2] == pytest.approx([np.mean(norms[:3]), np.mean(norms[3:])])
    assert np.isnan(found[2])
    assert len(logs["hyper_loss"]) == 2  # what the windows were fitted to
    record = model.tuning_record.series("hypergradient_norm")
    np.testing.assert_allclose(record, found)


def test_what_a_callback_logs_now_and_then_is_not_repeated(model):
    once = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(
            {"extra": 7.0} if epoch == 0 else {}
        )
    )
    fit(model, callbacks=[once])
    extra = model.tuning_record.series("extra")
    np.testing.assert_array_equal(extra[-3:], [7.0, np.nan, np.nan])


def test_says_how_far_values_moved(model, capsys):
    fit(model, verbose=2)
    shown = capsys.readouterr().out
    assert shown.count("  l2  mean ") == 3


def test_an_error_is_no_interrupt(model):
    def fails(epoch, logs):
        raise ZeroDivisionError

    fails = keras.callbacks.LambdaCallback(on_epoch_end=fails)
    with pytest.raises(ZeroDivisionError):
        fit(model, callbacks=[fails])
    assert model.tuning_record.fits[-1]["ended"].startswith("broken off")


# ---- the hypergradient of a window


@pytest.fixture(scope="module")
def exact_once():
    return built_once(noted)


@pytest.fixture
def exact(exact_once):
    """A net in float64, trained by plain steps, in the order given."""
    with precision("float64"):
        yield exact_once()


def noted():
    reseed()
    model = kd.DrMADModel.from_model(hidden())
    model.compile(
        keras.optimizers.SGD(0.3, momentum=0.9),
        cross_entropy(),
        hyperparameters=[
            H.L2(per="input", initial=0.1),
            H.ExampleWeights(24, initial=0.5),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=Noted(1e-30),
        jit_compile=False,
    )
    return model


def differences(model, first, last, batch):
    """Returns d loss / dλ of steps [first, last) by differences.

    Of a training by plain TensorFlow, λ as at first before these steps.
    """
    l2, examples = (h.raw.numpy() for h in model.hyperparameters)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    variables = model.trainable_variables
    start = [np.array(v) for v in variables]
    xv, yv = (part[4 * batch : 4 * batch + 4] for part in VALIDATION)

    def train(steps, speed, l2, examples):
        for t in steps:
            rows = slice(4 * t, 4 * t + 4)
            with tf.GradientTape() as tape:
                losses = keras.losses.sparse_categorical_crossentropy(
                    Y[rows], model.elementary_model(X[rows]), from_logits=True
                )
                weights = 1 / (1 + np.exp(-examples[rows]))
                loss = tf.reduce_mean(losses * weights)
                penalties, k = np.exp(l2), 0
                for kernel in kernels:
                    n = kernel.shape[0]
                    rows_of = penalties[k : k + n, None]
                    loss += tf.reduce_sum(rows_of * kernel.value**2)
                    k += n
            gradients = tape.gradient(loss, [v.value for v in variables])
            for v, g, s in zip(variables, gradients, speed, strict=True):
                s *= 0.9
                s -= 0.3 * np.array(g)
                v.assign_add(s)

    speed = [np.zeros(v.shape) for v in variables]
    train(range(first), speed, l2, examples)
    there = [np.array(v) for v in variables]

    def loss_after(*moved):
        for v, value in zip(variables, there, strict=True):
            v.assign(value)
        train(range(first, last), [np.array(s) for s in speed], *moved)
        losses = keras.losses.sparse_categorical_crossentropy(
            yv, model.elementary_model(xv), from_logits=True
        )
        return float(tf.reduce_mean(losses))

    generator = np.random.default_rng(batch)
    directions = [generator.normal(size=raw.shape) for raw in (l2, examples)]
    found = []
    for k, direction in enumerate(directions):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [l2, examples]
            moved[k] = moved[k] + step * direction
            ends.append(loss_after(*moved))
        found.append((ends[0] - ends[1]) / 2e-5)
    for v, value in zip(variables, start, strict=True):
        v.assign(value)
    return directions, found


@pytest.mark.parametrize("look_back", [2, 3])
def test_a_window_is_differentiated_through_its_last_steps(exact, look_back):
    """Beside differences of a training written down in plain TensorFlow."""
    before = numbers(exact)
    exact.meta_optimizer.given.clear()
    options = dict(tune_every=3, look_back=look_back, epochs=1, shuffle=False)
    fit(exact, **options, validation_batch_size=4)
    given = list(exact.meta_optimizer.given)
    put_back(exact, before)
    assert len(given) == 2
    for k, gradients in enumerate(given):
        last = 3 * (k + 1)
        directions, expected = differences(exact, last - look_back, last, k)
        found = [*map(np.vdot, gradients, directions)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        # Examples that the steps did not see have no part in it.
        seen = np.flatnonzero(gradients[1])
        assert set(seen) == set(range(4 * (last - look_back), 4 * last))


def test_exact_methods_agree_and_others_go(exact, monkeypatch):
    before = numbers(exact)
    exact.meta_optimizer.given.clear()
    options = dict(epochs=1, shuffle=False, look_back=3)
    fit(exact, **options)
    expected = exact.meta_optimizer.given[-1]
    for method in (
        kd.ReverseMode("checkpointed"),
        kd.ForwardMode(),
        kd.Truncated(1.0),
        kd.DrMAD(1.0),
    ):
        put_back(exact, before)
        exact.meta_optimizer.given.clear()
        monkeypatch.setattr(exact._assembly, "method", method)
        fit(exact, **options)
        (found,) = exact.meta_optimizer.given
        for ours, theirs in zip(found, expected, strict=True):
            if isinstance(method, kd.DrMAD):
                cosine = np.vdot(ours, theirs)
                cosine /= np.linalg.norm(ours) * np.linalg.norm(theirs)
                assert cosine > 0.9
            else:
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-14)
    put_back(exact, before)


# ---- data


def test_streams_give_the_numbers_of_arrays(model):
    before = numbers(model)
    options = dict(shuffle=False, validation_batch_size=4)
    expected = fit(model, **options)
    known = numbers(model)
    put_back(model, before)
    streams = [
        tf.data.Dataset.from_tensor_slices(pair).batch(4)
        for pair in ((X, Y), VALIDATION)
    ]
    logs = fit(
        model,
        x=streams[0],
        y=None,
        batch_size=None,
        validation_data=streams[1],
        shuffle=True,
    )
    assert_same(numbers(model), known, rtol=1e-5, atol=1e-6)
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_windows_of_a_stream_may_hold_short_batches(model):
    """The last of each five: first and second in windows of four."""
    size = 5
    before = numbers(model)
    sizes = {"batch_size": size, "validation_batch_size": 5}
    expected = fit(model, shuffle=False, **sizes)
    known = numbers(model)
    put_back(model, before)
    logs = fit(
        model,
        x=tf.data.Dataset.from_tensor_slices((X, Y)).batch(size),
        y=None,
        batch_size=None,
        validation_data=(
            tf.data.Dataset.from_tensor_slices(VALIDATION).batch(5)
        ),
    )
    assert_same(numbers(model), known, rtol=1e-5, atol=1e-6)
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_part_of_the_arrays_is_held_out(model):
    logs = fit(model, validation_data=None, validation_split=0.25)
    assert len(logs["val_loss"]) == 3
    assert len(model.diagnostics["hypergradient_norm"]) == 3  # of 5 steps each


def test_weights_of_examples_find_wrong_labels():
    """Who has another label than the teacher gave gets less weight."""
    x, y = data(120, seed=3)
    wrong = np.arange(120) % 3 == 0
    model = compiled(
        linear(),
        hyperparameters=[H.ExampleWeights(120, initial=0.5)],
        hypergradient="auto",
        meta_optimizer=keras.optimizers.Adam(0.5),
    )
    model.fit(
        x,
        np.where(wrong, (y + 1) % 3, y),
        12,
        8,
        validation_data=data(60, seed=4),
        tune_every=5,
        seed=0,
        verbose=0,
    )
    weights = model.hyperparameters[0].value().numpy()
    assert weights[~wrong].mean() > weights[wrong].mean() + 0.2


# ---- broken off


class Crash(Exception):
    pass


def crash():
    raise Crash


@pytest.mark.parametrize("within", [False, True])
def test_goes_on_from_a_backup_to_the_same_bits(model_of, within, tmp_path):
    model = model_of()
    whole = fit(model, epochs=4)
    expected, diagnostics = numbers(model), model.diagnostics
    often = {"save_freq": 4} if within else {}
    model = model_of()
    backup = keras.callbacks.BackupAndRestore(tmp_path, **often)
    with pytest.raises(Crash):
        fit(model, epochs=4, callbacks=[backup, At(2, crash, within)])
    model = model_of()
    model.set_weights([w * 0 for w in model.get_weights()])
    model.forget()
    backup = keras.callbacks.BackupAndRestore(tmp_path, **often)
    resumed = fit(model, epochs=4, callbacks=[backup])
    assert_same(numbers(model), expected)
    assert resumed == whole
    assert model.diagnostics == diagnostics


class Begins(keras.callbacks.Callback):
    """Sets the first epoch, as a subclass of `BackupAndRestore` does."""

    def __init__(self, epoch, fails=False):
        super().__init__()
        self.epoch, self.fails = epoch, fails

    def on_train_begin(self, logs=None):
        self.model._initial_epoch = self.epoch
        if self.fails:
            raise Crash


TUNED, PLAIN = dict(epochs=5), dict(epochs=5, tune_every=None)
PLAIN |= dict(meta_iterations=0)


@pytest.mark.parametrize("options", [TUNED, PLAIN], ids=["tuned", "plain"])
def test_a_callback_says_at_which_epoch_to_begin(model_of, options, tmp_path):
    model = model_of()
    expected = fit(model, initial_epoch=3, **options), numbers(model)
    assert int(model.optimizer.iterations) == 2 * 6
    model = model_of()
    model.forget()
    found = fit(model, callbacks=[Begins(3)], **options), numbers(model)
    assert found[0] == expected[0]
    assert_same(found[1], expected[1])
    if options is TUNED:
        assert model.tuning_record.fits[-1]["meta_iterations"] == 2
    # Killed, it goes on where it was; its callback may begin elsewhere then.
    model = model_of()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(Crash):
        fit(model, callbacks=[backup, Begins(3), At(4, crash)], **options)
    model = model_of()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    history = fit(model, callbacks=[backup, Begins(4)], **options)
    assert history == expected[0]
    assert_same(numbers(model), expected[1])


def test_a_first_epoch_is_for_the_fit_that_it_was_set_in(model):
    with pytest.raises(Crash):
        fit(model, callbacks=[Begins(2, fails=True)])
    assert len(fit(model)["loss"]) == 3


class Interrupt(keras.callbacks.Callback):
    """Interrupts the second epoch, after its first window."""

    def on_epoch_begin(self, epoch, logs=None):
        self.is_second = epoch == 1

    def on_train_batch_begin(self, batch, logs=None):
        if self.is_second and batch == 4:
            raise KeyboardInterrupt


def test_an_interrupt_leaves_weights_and_values_of_the_last_window(
    model, monkeypatch
):
    seen = []

    def noted(self, last, watcher):
        found = whole(self, last, watcher)
        raws = [h.raw.numpy() for h in model.hyperparameters]
        seen.append([p.numpy() for p in self.state.params] + raws)
        return found

    whole = Windows.through
    monkeypatch.setattr(Windows, "through", noted)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[Interrupt()])
    assert len(seen) == 3  # two of the first epoch
    raws = [h.raw.numpy() for h in model.hyperparameters]
    weights = [v.numpy() for v in model.trainable_variables]
    assert_same(weights + raws, seen[-1])


def test_a_callback_stops_it(model):
    stop = At(1, lambda: setattr(model, "stop_training", True))
    logs = fit(model, callbacks=[stop])
    assert len(logs["loss"]) == 2


@pytest.mark.filterwarnings("ignore:The values of 'l2' hardly moved")
@pytest.mark.parametrize("look_back", [1, 4])
def test_an_epoch_that_a_callback_stops_ends_where_it_is(model_of, look_back):
    model, ends = model_of(), []

    def after(batch, logs):
        model.stop_training = len(ends) == 1 and batch >= 7

    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(logs),
        on_train_batch_end=after,
    )
    options = dict(look_back=look_back)
    logs = fit(
        model, steps_per_epoch=12, epochs=3, callbacks=[callback], **options
    )
    assert len(logs["val_loss"]) == len(ends) == 2
    assert model.tuning_record.fits[-1]["ended"] == "stopped by a callback"
    assert len(model.diagnostics[NORM]) == 4  # not of the window that ends it
    stopped = model.get_weights()
    # The same steps, and all of them.
    model = model_of()
    fit(model, steps_per_epoch=20, epochs=1, **options)
    assert len(model.diagnostics[NORM]) == 5
    assert_same(stopped, model.get_weights())


def test_early_stopping_brings_values_back_with_weights(model):
    kind, seen = model.hyperparameters[0], {}

    def note(epoch, logs):
        logs["val_loss"] = float(epoch)
        seen[epoch] = kind.value().numpy()

    spy = keras.callbacks.LambdaCallback(on_epoch_end=note)
    early = keras.callbacks.EarlyStopping(
        "val_loss", patience=9, restore_best_weights=True
    )
    fit(model, callbacks=[spy, early])
    np.testing.assert_allclose(kind.value().numpy(), seen[0], rtol=1e-6)


# ---- arguments


@pytest.mark.parametrize(
    "options, argument, received",
    [
        (dict(tune_every=0), "tune_every", "0"),
        (dict(tune_every=7), "tune_every", "7"),
        (dict(tune_every=2.5), "tune_every", "2.5"),
        (dict(look_back=5), "look_back", "5"),
        (dict(look_back=0), "look_back", "0"),
        (dict(tune_every=None, look_back=2), "look_back", "2"),
        (dict(meta_iterations=3), "meta_iterations", "3"),
        (dict(initial_weights="same"), "initial_weights", "'same'"),
        (dict(keep="best"), "keep", "'best'"),
        (dict(draws=2), "draws", "2"),
        (dict(refit=True), "refit", "True"),
        (dict(validation_data=None), "validation_data", "None"),
    ],
)
def test_bad_arguments(model, options, argument, received):
    before = numbers(model)
    with pytest.raises((ValueError, TypeError)) as error:
        fit(model, **options)
    assert_helps(error, argument, received)
    assert_same(numbers(model), before)


@pytest.mark.parametrize("look_back", [2, None])
def test_windows_hold_a_move_of_the_weights(look_back):
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    model = compiled(optimizer=optimizer)
    before = numbers(model)
    with pytest.raises(ValueError) as error:
        fit(model, tune_every=2, look_back=look_back)
    assert_helps(error, "look_back", "2")
    assert_same(numbers(model), before)
    fit(model, tune_every=3)
    assert min(model.diagnostics["hypergradient_norm"]) > 0


def test_what_acts_on_the_first_weights_is_refused():
    model = compiled(hyperparameters=[H.InitialScale()], hypergradient="auto")
    with pytest.raises(
        ValueError, match="'initial_scale' says where trainings"
    ):
        fit(model)
