"""A `fit` broken off after any of its chunks goes on there, to the same bits.

In one process, where a break costs no import; `killed_fit_test.py` kills.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from keras_drmad.training import course
from keras_drmad.training.meta_training import MetaTraining
from small_models import (
    VALIDATION,
    At,
    X,
    Y,
    assert_same,
    built_once,
    compiled,
    fit,
    hidden,
    numbers,
    put_back,
)


class Break(BaseException):
    """Ends a `fit` as nothing else does."""


def broken(*args):
    raise Break


class Chunks:
    """Notes the chunks of a `fit`, and breaks it off after one of them."""

    def __init__(self, monkeypatch, at=None):
        self.done = []
        whole = course.Course.on_chunk

        def on_chunk(this, name, stage, steps, tree, **options):
            whole(this, name, stage, steps, tree, **options)
            if steps or stage == "outcome":
                self.done.append((name, stage))
                if len(self.done) == at:
                    raise Break

        self.patch = monkeypatch.context()
        self.on_chunk = on_chunk

    def __enter__(self):
        self.patch.__enter__().setattr(course.Course, "on_chunk", self.on_chunk)
        return self.done

    def __exit__(self, *error):
        return self.patch.__exit__(*error)


METHODS = {
    "line": lambda: kd.DrMAD(reverse_steps=0.5),
    "anchors": lambda: kd.DrMAD(anchors=4),
    "stored": lambda: kd.ReverseMode("stored"),
    "checkpointed": lambda: kd.ReverseMode("checkpointed"),
    "reversible": lambda: kd.ReverseMode("reversible"),
    "last": lambda: kd.Truncated(5),
    "end": lambda: kd.Implicit(terms=4),
    "solved": lambda: kd.Implicit("cg", terms=3),
}


def build(method):
    is_plain = method == "reversible"
    return compiled(
        hidden(dropout=0.0 if is_plain else 0.3),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-2)],
        hypergradient=METHODS[method](),
    )


@pytest.fixture(scope="module")
def model_of():
    return built_once(build)


def backup(folder, save_freq=1, **options):
    return keras.callbacks.BackupAndRestore(folder, save_freq, **options)


def end(model, history):
    """Returns all that a `fit` leaves."""
    ends = [*model.start_weights, *model.end_weights]
    return [*numbers(model), *map(np.array, ends)], history, model.final_logs


def assert_same_end(some, others):
    assert_same(some[0], others[0])
    assert some[1:] == others[1:]


def broken_off_after(model_of, method, folder, monkeypatch, at, **options):
    """Returns what was done before and after a break, and the end."""
    with Chunks(monkeypatch, at) as before, pytest.raises(Break):
        fit(model_of(method), **options, callbacks=[backup(folder)])
    model = model_of(method)
    with Chunks(monkeypatch) as after:
        history = fit(model, **options, callbacks=[backup(folder)])
    return before, after, end(model, history)


def moments(whole, without=()):
    """Returns after how many chunks to break off: once in each stage.

    By turns in the second and in the first meta-iteration, where there are two.
    """
    stages = {}
    for at, (_, stage) in enumerate(whole, start=1):
        if stage not in without:
            stages.setdefault(stage, []).append(at)
    return [
        places[(len(places) - k % 2) // 2]
        for k, places in enumerate(stages.values())
    ]


OPTIONS = {
    "line": dict(initial_weights="resample"),
    "anchors": dict(initial_weights="continue"),
    "stored": dict(draws=2, initial_weights="resample", keep="last"),
    "checkpointed": dict(initial_weights="same"),
    "reversible": dict(initial_weights="resample", keep="best"),
    "last": dict(x=X, validation_data=None, validation_split=0.3),
    "solved": dict(keep="last"),
    "end": dict(hyper_data=VALIDATION, initial_weights="resample"),
}


# What comes between and after walks is the same for all methods: it is broken
# off with one draw and with two.
BETWEEN = {"slopes", "validation", "outcome"}
WHOLE = {"line", "stored"}


@pytest.mark.parametrize("method", METHODS)
def test_no_chunk_is_done_twice_wherever_it_breaks(
    method, model_of, monkeypatch, tmp_path
):
    options = dict(epochs=4, validation_batch_size=4) | OPTIONS[method]
    model = model_of(method)
    with Chunks(monkeypatch) as whole:
        expected = end(model, fit(model, **options))
    assert {"forward", "slopes"} < {stage for _, stage in whole}
    for at in moments(whole, () if method in WHOLE else BETWEEN):
        folder = tmp_path / str(at)
        before, after, found = broken_off_after(
            model_of, method, folder, monkeypatch, at, **options
        )
        assert before == whole[:at]
        assert after == whole[at:], at
        assert_same_end(found, expected)
        assert not folder.exists()  # deleted at the end, as Keras does


def test_plain_training_goes_on_within_an_epoch(
    model_of, monkeypatch, tmp_path
):
    options = dict(meta_iterations=0, epochs=3, steps_per_epoch=60)
    model = model_of("line")
    with Chunks(monkeypatch) as whole:
        expected = end(model, fit(model, **options))
    assert len(whole) > 8
    for at in range(1, len(whole) + 1, 4):
        before, after, found = broken_off_after(
            model_of, "line", tmp_path / str(at), monkeypatch, at, **options
        )
        assert before + after == whole
        assert_same_end(found, expected)


@pytest.mark.parametrize("meta_iterations", [2, 0])
def test_a_stream_is_read_again_up_to_the_place(
    meta_iterations, model_of, monkeypatch, tmp_path
):
    def options():
        stream = tf.data.Dataset.from_tensor_slices((X, Y)).repeat(4)
        stream = stream.shuffle(24, seed=1).batch(8)
        held_out = tf.data.Dataset.from_tensor_slices(VALIDATION)
        return dict(
            x=stream,
            y=None,
            batch_size=None,
            epochs=8 if meta_iterations else 2,
            meta_iterations=meta_iterations,
            validation_data=held_out.shuffle(16, seed=2).batch(4),
        )

    model = model_of("line")
    with Chunks(monkeypatch) as whole:
        expected = end(model, fit(model, **options()))
    for at in moments(whole):
        folder = tmp_path / str(at)
        with Chunks(monkeypatch, at), pytest.raises(Break):
            fit(model_of("line"), **options(), callbacks=[backup(folder)])
        model = model_of("line")
        with Chunks(monkeypatch) as after:
            history = fit(model, **options(), callbacks=[backup(folder)])
        assert after == whole[at:]
        assert_same_end(end(model, history), expected)


class OfPasses(keras.utils.PyDataset):
    """Shuffles itself at the end of each pass."""

    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)
        self.order = np.arange(24)

    def __len__(self):
        return 12

    def __getitem__(self, k):
        first = 8 * (k % 3)
        rows = self.order[first : first + 8]
        return X[rows], Y[rows]

    def on_epoch_end(self):
        self.generator.shuffle(self.order)


def test_a_data_set_is_told_of_passes_that_were(
    model_of, monkeypatch, tmp_path
):
    model = model_of("line")
    options = dict(y=None, batch_size=None, epochs=10, shuffle=False)
    with Chunks(monkeypatch) as whole:
        expected = end(model, fit(model, x=OfPasses(), **options))
    for at in range(1, len(whole), 9):
        folder = tmp_path / str(at)
        with Chunks(monkeypatch, at), pytest.raises(Break):
            fit(
                model_of("line"),
                x=OfPasses(),
                **options,
                callbacks=[backup(folder)],
            )
        model = model_of("line")
        history = fit(
            model, x=OfPasses(), **options, callbacks=[backup(folder)]
        )
        assert_same_end(end(model, history), expected)


def test_other_batches_are_seen_and_the_training_begun_anew(
    model_of, monkeypatch, tmp_path
):
    def options(seed):
        stream = tf.data.Dataset.from_tensor_slices((X, Y)).repeat(4)
        stream = stream.shuffle(24, seed=seed).batch(8)
        return dict(x=stream, y=None, batch_size=None, epochs=10)

    for at, again in ((2, 2), (9, 2)):  # within each of the trainings
        folder = tmp_path / str(at)
        with Chunks(monkeypatch, at) as before, pytest.raises(Break):
            fit(model_of("line"), **options(1), callbacks=[backup(folder)])
        assert before[-1][1] == "forward"
        model = model_of("line")
        with (
            Chunks(monkeypatch) as after,
            pytest.warns(RuntimeWarning, match="other batches.*begins anew"),
        ):
            fit(model, **options(2), callbacks=[backup(folder)])
        assert len(before) + len(after) > 2 * 7
        assert after[:again] == [("draw 0", "forward")] * again


def test_rates_that_a_callback_sets_within_a_training(
    model_of, monkeypatch, tmp_path
):
    class Warm(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rate = 0.02 * (1 + batch % 7)
            self.model.optimizer.learning_rate.assign(rate)

    options = dict(epochs=4)
    model = model_of("stored")
    with Chunks(monkeypatch) as whole:
        expected = end(model, fit(model, **options, callbacks=[Warm()]))
    for at in range(1, len(whole) + 1, 5):
        folder = tmp_path / str(at)
        callbacks = [Warm(), backup(folder)]
        with Chunks(monkeypatch, at), pytest.raises(Break):
            fit(model_of("stored"), **options, callbacks=callbacks)
        model = model_of("stored")
        history = fit(model, **options, callbacks=callbacks)
        assert_same_end(end(model, history), expected)


@pytest.mark.parametrize("keep", ["mean", "best"])
def test_one_that_diverged_goes_on_at_its_end(
    keep, model_of, monkeypatch, tmp_path
):
    def ruin():
        model.hyperparameters[0].raw.assign(np.full(9, 90.0))

    options = dict(initial_weights="resample", keep=keep, meta_iterations=5)
    model = model_of("line")
    ruins = [At(2, ruin)]
    with Chunks(monkeypatch) as whole, pytest.warns(match="meta-iteration 4"):
        expected = end(model, fit(model, **options, callbacks=ruins))
    assert len(expected[1]["loss"]) == 3
    assert (whole[-1][0] == "last") == (keep == "mean")
    # Killed in the last training, or where the model is left with the best.
    model = model_of("line")
    with (
        Chunks(monkeypatch, len(whole) if keep == "mean" else None),
        monkeypatch.context() as patch,
        pytest.warns(match="meta-iteration 4"),
        pytest.raises(Break),
    ):
        if keep == "best":
            patch.setattr(MetaTraining, "restore_best", broken)
        fit(model, **options, callbacks=[*ruins, backup(tmp_path)])
    model = model_of("line")
    with Chunks(monkeypatch) as after:
        history = fit(model, **options, callbacks=[*ruins, backup(tmp_path)])
    assert {name for name, _ in after} <= {"last"}
    assert_same_end(end(model, history), expected)
    record = model.tuning_record.fits[-1]
    assert record["ended"] == "diverged in meta-iteration 4"


# ---- files and arguments


def test_with_other_arguments_it_says_which_differ(
    model_of, monkeypatch, tmp_path
):
    with Chunks(monkeypatch, 3), pytest.raises(Break):
        fit(model_of("line"), callbacks=[backup(tmp_path)])
    there = sorted(tmp_path.iterdir())
    model = model_of("line")
    x = X.copy()
    x[3, 1] += 1e-6
    with pytest.raises(ValueError, match="other arguments") as error:
        fit(model, x=x, batch_size=4, seed=1, callbacks=[backup(tmp_path)])
    rows = str(error.value).splitlines()[1:-1]
    assert [row.split(":")[0].strip() for row in rows] == [
        "x",
        "batch_size",
        "seed",
    ]
    assert "8 in the backup, 4 now" in rows[1]
    assert "backup_dir" in str(error.value)
    assert sorted(tmp_path.iterdir()) == there

    other = compiled(
        hidden(dropout=0.3),
        optimizer=keras.optimizers.SGD(0.2, momentum=0.5),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-3)],
        hypergradient=kd.DrMAD(reverse_steps=0.5),
    )
    with pytest.raises(ValueError, match="other arguments") as error:
        fit(other, callbacks=[backup(tmp_path)])
    rows = str(error.value).splitlines()[1:-1]
    assert [row.split(":")[0].strip() for row in rows] == [
        "optimizer.learning_rate",
        "hyperparameters.0.initial",
    ]
    fit(model_of("line"), callbacks=[backup(tmp_path)])  # goes on


class NoConfig:
    """A loss of which Keras can't save how it was made."""

    def __call__(self, y, y_pred):
        return keras.losses.sparse_categorical_crossentropy(
            y, y_pred, from_logits=True
        )


def test_any_entry_of_the_logs_will_do(model_of, monkeypatch, tmp_path):
    def add(epoch, logs):
        logs["variable"] = keras.Variable(float(epoch))
        logs["tensor"] = tf.constant(epoch)
        logs["nothing"] = None
        logs["set"] = {epoch}

    callback = keras.callbacks.LambdaCallback(on_epoch_end=add)
    with Chunks(monkeypatch, 5), pytest.raises(Break):
        fit(model_of("line"), callbacks=[callback, backup(tmp_path)])
    history = fit(model_of("line"), callbacks=[callback, backup(tmp_path)])
    assert [float(x) for x in history["variable"]] == [0, 1]
    assert [int(x) for x in history["tensor"]] == [0, 1]
    assert history["nothing"] == [None, None]
    assert [str(x) for x in history["set"]] == ["{0}", "{1}"]


@pytest.mark.parametrize("loss", [NoConfig(), lambda y, p: NoConfig()(y, p)])
def test_any_loss_will_do(loss, tmp_path, monkeypatch):
    model = compiled(loss=loss)
    new = numbers(model)
    expected = end(model, fit(model))
    put_back(model, new)
    with Chunks(monkeypatch, 3), pytest.raises(Break):
        fit(model, callbacks=[backup(tmp_path)])
    put_back(model, new)
    history = fit(model, callbacks=[backup(tmp_path)])
    assert_same_end(end(model, history), expected)


def test_without_a_seed_it_goes_on_with_the_one_that_was_drawn(
    model_of, monkeypatch, tmp_path
):
    model = model_of("line")
    np.random.seed(11)
    expected = end(model, fit(model, seed=None))
    np.random.seed(11)
    with Chunks(monkeypatch, 4), pytest.raises(Break):
        fit(model_of("line"), seed=None, callbacks=[backup(tmp_path)])
    np.random.seed(99)
    model = model_of("line")
    history = fit(model, seed=None, callbacks=[backup(tmp_path)])
    assert_same_end(end(model, history), expected)


def test_a_damaged_backup_costs_a_chunk_more(model_of, monkeypatch, tmp_path):
    model = model_of("line")
    expected = end(model, fit(model, epochs=40))
    with Chunks(monkeypatch, 3) as before, pytest.raises(Break):
        fit(model_of("line"), epochs=40, callbacks=[backup(tmp_path)])
    last = max(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    model = model_of("line")
    with Chunks(monkeypatch) as after, pytest.warns(RuntimeWarning) as warned:
        history = fit(model, epochs=40, callbacks=[backup(tmp_path)])
    assert "damaged" in str(warned[0].message)
    assert after[0] == before[-1]
    assert_same_end(end(model, history), expected)


def test_no_space_ends_fit_and_another_one_goes_on(
    model_of, monkeypatch, tmp_path
):
    model = model_of("line")
    expected = end(model, fit(model))
    saved = []
    sync = course.BackupFiles.save.__globals__["os"].fsync

    def full(number):
        saved.append(number)
        if len(saved) > 6:
            raise OSError(28, "No space left on device")
        sync(number)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left.*same arguments"):
            fit(model_of("line"), callbacks=[backup(tmp_path)])
    model = model_of("line")
    history = fit(model, callbacks=[backup(tmp_path)])
    assert_same_end(end(model, history), expected)


def test_how_often_it_saves(model_of, monkeypatch, tmp_path):
    saved = []
    whole = course.BackupFiles.save

    def save(self, tree):
        saved.append([list(t) for t in tree["trainings"].values()])
        return whole(self, tree)

    monkeypatch.setattr(course.BackupFiles, "save", save)
    for frequency, within in (("epoch", 0), (False, 0), (10**6, 0), (100, 2)):
        saved.clear()
        fit(
            model_of("line"),
            epochs=50,
            callbacks=[backup(tmp_path / str(frequency), frequency)],
        )
        ends = [one for one in saved if one == [["outcome"]]]
        assert len(ends) == (2 if frequency else 0)
        inside = [one for one in saved if one and one != [["outcome"]]]
        assert len(inside) >= within
        assert bool(inside) == bool(within)


def test_a_kept_backup_of_a_complete_fit_is_its_end(
    model_of, monkeypatch, tmp_path
):
    model = model_of("line")
    callback = backup(tmp_path, delete_checkpoint=False)
    expected = end(model, fit(model, callbacks=[callback]))
    model = model_of("line")
    with Chunks(monkeypatch) as done:
        history = fit(model, callbacks=[callback])
    assert not done
    assert_same_end(end(model, history), expected)


def test_callbacks_in_a_list_of_keras_stay_in_the_list(
    model_of, monkeypatch, tmp_path
):
    model = model_of("line")
    callback = backup(tmp_path)
    given = keras.callbacks.CallbackList([callback], add_history=True)
    given.set_model(model)
    fit(model, callbacks=given)
    assert callback in given.callbacks


def test_a_subclass_does_as_keras_does(model_of, tmp_path):
    class Own(keras.callbacks.BackupAndRestore):
        pass

    def crash():
        raise Break

    model = model_of("line")
    with pytest.raises(Break):
        fit(model, callbacks=[Own(tmp_path), At(1, crash)])
    metadata = json.loads((tmp_path / "training_metadata.json").read_text())
    assert metadata["epoch"] == 2
