"""What a tuning found, in words and as a table, against separate counts."""

import builtins
import functools
import json

import keras
import numpy as np
import pytest

import keras_drmad as kd
import small_models
from keras_drmad import results, results_summary
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.paragraphs import span_of
from keras_drmad.training.tuning_record import QUANTILES, TuningRecord
from small_models import At, assert_same, fit, hidden, numbers, put_back

BOUNDS = (2e-3, 5e-2)
# Short trainings with long steps: what `fit` says of that is tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore:Values of .* ended")


def build(dropout=0.0):
    return small_models.compiled(
        hidden(dropout=dropout),
        hyperparameters=[
            kd.hyperparameters.L2(per="input", initial=1e-2, bounds=BOUNDS),
            kd.hyperparameters.LearningRate(
                "layer", schedule="piecewise", knots=3
            ),
            kd.hyperparameters.ExampleWeights(24),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=None,
    )


@pytest.fixture(scope="module")
def tuned():
    """Returns a tuned model, what a recorder saw, and the history."""
    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*small_models.data(seed=7))
    model = build()
    history = fit(
        model,
        initial_weights="resample",
        meta_iterations=8,
        callbacks=[recorder, held_out],
    )
    return model, recorder.values, history


def said(model):
    texts = []
    model.results_summary(print_fn=texts.append)
    return "\n".join(texts)


# ---- the record


def test_the_record_has_the_logs_and_the_spread_of_each_training(tuned):
    model, values, history = tuned
    record = model.tuning_record
    assert len(record.rows) == 8
    for name in ("loss", "val_loss", "test_loss", "l2/mean"):
        np.testing.assert_allclose(record.series(name), history[name])
    for kind in model.hyperparameters:
        rows = values[kind.name].reshape(8, -1)
        found = record.spreads[kind.name][""]
        expected = np.quantile(rows, QUANTILES, axis=1).T
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for layer, own in kind.by_layer(values[kind.name]).items():
            if layer == kind.name:
                continue
            expected = np.quantile(own.reshape(8, -1), QUANTILES, axis=1).T
            found = record.spreads[kind.name][layer]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    (one,) = record.fits
    assert one["ended"] == "complete" and one["seed"] == 0
    assert one["final"]["val_loss"] == model.final_logs["val_loss"]
    assert record.best == np.argmin(history["val_loss"])


def test_the_record_is_saved_with_the_model(tuned, tmp_path):
    model, *_ = tuned
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.tuning_record.tree() == model.tuning_record.tree()
    assert said(loaded) == said(model)
    model.save_weights(tmp_path / "all.weights.h5")
    other = build()
    other.load_weights(tmp_path / "all.weights.h5")
    assert other.tuning_record.tree() == model.tuning_record.tree()


def test_its_size_does_not_grow_with_the_entries():
    sizes = []
    for count in (10, 100_000):
        kind = kd.hyperparameters.ExampleWeights(count)
        kind.bind(None, None)
        record = TuningRecord()
        record.begin()
        for _ in range(3):
            record.add([kind], [kind.raw.value], {"loss": 0.25})
        sizes.append(len(json.dumps(record.tree())))
    assert sizes[0] == sizes[1]


class Crash(Exception):
    pass


def crash():
    raise Crash


@pytest.fixture(scope="module")
def model_of():
    return small_models.built_once(build)


@pytest.fixture
def model(model_of):
    model = model_of()
    model.forget()
    return model


@pytest.mark.parametrize("within", [False, True])
def test_a_killed_fit_goes_on_with_its_record(model, within, tmp_path):
    new = numbers(model)
    options = dict(meta_iterations=4, initial_weights="resample")
    fit(model, **options)
    whole = model.tuning_record.tree()
    put_back(model, new)
    model.forget()

    def backup(**often):
        return keras.callbacks.BackupAndRestore(tmp_path, **often)

    often = {"save_freq": 1} if within else {}
    with pytest.raises(Crash):
        fit(model, **options, callbacks=[backup(**often), At(2, crash, within)])
    assert "Crash" in model.tuning_record.fits[0]["ended"]
    put_back(model, new)
    model.forget()
    fit(model, **options, callbacks=[backup()])
    assert model.tuning_record.tree() == whole


def test_an_interrupt_leaves_the_completed_rows(model):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, meta_iterations=4, callbacks=[At(2, stop, within=True)])
    record = model.tuning_record
    assert len(record.rows) == 2 and record.fits[0]["ended"] == "interrupted"
    assert "2 of 4 meta-iterations, interrupted" in said(model)


def test_a_second_fit_goes_on_and_compiling_begins_anew(model):
    first = fit(model, meta_iterations=2)
    start = model.untuned[0].copy()
    second = fit(model, meta_iterations=3)
    record = model.tuning_record
    both = [*first["val_loss"], *second["val_loss"]]
    np.testing.assert_allclose(record.series("val_loss"), both)
    assert [one["first"] for one in record.fits] == [0, 2]
    np.testing.assert_array_equal(model.untuned[0], start)
    fit(model, meta_iterations=0)  # tunes nothing
    assert len(record.rows) == 5 and len(record.fits) == 2
    text = said(model)
    assert "2 of 2 meta-iterations" in text and "3 of 3" in text


def test_what_diverges_is_told_and_has_no_row(model):
    def spoil():
        model.hyperparameters[1].raw.assign(np.full((3, 2), 60.0))

    with pytest.warns(RuntimeWarning, match="Stopped"):
        fit(model, meta_iterations=4, callbacks=[At(1, spoil)])
    record = model.tuning_record
    assert len(record.rows) == 2
    assert record.fits[0]["ended"] == "diverged in meta-iteration 3"


def test_a_callback_that_stops_is_told(model):
    def stop():
        model.stop_training = True

    for within in (False, True):
        fit(model, meta_iterations=4, callbacks=[At(1, stop, within)])
        record = model.tuning_record
        assert record.fits[-1]["ended"] == "stopped by a callback"
    assert [one["first"] for one in record.fits] == [0, 2]
    assert len(record.rows) == 3


def test_tuned_within_one_training_each_epoch_has_a_row(model):
    options = dict(epochs=3, tune_every=2, look_back=1)
    history = model.fit(
        **small_models.FIT | options, validation_data=small_models.VALIDATION
    ).history
    record = model.tuning_record
    np.testing.assert_allclose(record.series("val_loss"), history["val_loss"])
    assert len(record.rows) == 3 and record.fits[0]["ended"] == "complete"
    text = said(model)
    assert "3 of 3 epochs of one training, complete; 3 steps an epoch" in text
    assert "first: epoch 1" in text


# ---- the numbers


def test_start_end_and_bounds_are_counted(tuned):
    model, values, _ = tuned
    for one in results.of_model(model):
        name = one.name
        np.testing.assert_allclose(one.start, values[name][0], rtol=1e-5)
        np.testing.assert_array_equal(one.value, one.kind.value())
    l2, rates, weights = results.of_model(model)
    moved = np.log(l2.value / 1e-2)
    np.testing.assert_allclose(l2.moved, moved, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(l2.is_at_low, l2.value < BOUNDS[0] * 1.001)
    np.testing.assert_array_equal(l2.is_at_high, l2.value > BOUNDS[1] * 0.999)
    assert not rates.is_at_high.any() and not weights.is_at_low.any()


@pytest.mark.parametrize(
    ("signs", "votes", "is_certain"),
    [
        (4, 4, False),
        (5, 5, True),
        (8, 20, False),
        (10, 20, True),
        (0, 0, False),
    ],
)
def test_a_sign_is_certain_beyond_two_deviations_of_a_coin(
    signs, votes, is_certain
):
    certainty = np.array([signs / max(votes, 1)])
    one = results.Result(None, 0.0, 0.0, certainty, np.array([votes]))
    assert one.is_certain == is_certain


def test_chance_is_that_of_coins():
    generator = np.random.default_rng(0)
    for votes in (5, 12, 20):
        sums = generator.choice([-1, 1], size=(200_000, votes)).sum(axis=1)
        found = np.mean(np.abs(sums) > 2 * np.sqrt(votes))
        assert results.chance(votes) == pytest.approx(found, abs=2e-3)
    assert results.chance(4) == 0 and results.chance(2000) < 0.05


# ---- in words


def test_the_summary_tells_what_there_is(tuned):
    model, values, history = tuned
    text = said(model)
    best = int(np.argmin(history["val_loss"]))
    assert f"best by val_loss: number {best + 1}" in text
    for number in (history["val_loss"][0], model.final_logs["val_loss"]):
        assert f"{number:.4g}" in text
    weights = model.hyperparameters[2].value().numpy()
    most = int(np.argmax(np.abs(np.log(weights / (1 - weights)))))
    words = f"example {most}: 0.5 → {weights[most]:.3g} (certainty "
    assert words in " ".join(text.split())
    assert "first/kernel, input" in text and "last, step 2.5: 0.1 →" in text
    assert "is not known: ask `model.check_hyperparameters`" in text


def test_losses_have_a_column_each_whatever_their_names(tuned):
    model, _, _ = tuned
    tree = model.tuning_record.tree()
    for row in tree["rows"]:
        row["val_digit_loss"], row["val_parity_of_digit_loss"] = 0.5, 0.25
    del tree["rows"][-1]["test_loss"]  # saved before that callback's turn
    names, shown = results_summary.losses(TuningRecord(tree))
    assert set(names) == {
        *("loss", "val_loss", "test_loss"),
        *("val_digit_loss", "val_parity_of_digit_loss"),
    }
    head, first, *_ = results_summary.losses_as_lines(TuningRecord(tree))
    assert head.split()[-len(names) :] == names
    assert first.split()[-len(names) :] == [
        f"{shown[0][1][name]:.4g}" for name in names
    ]
    assert len(head) == len(first)


def test_the_best_is_that_of_the_last_fit(tuned):
    model, _, _ = tuned
    tree = model.tuning_record.tree()
    (one,) = tree["fits"]
    tree["fits"] += [one | {"first": 5}, one | {"first": 8}]  # one without rows
    for k, row in enumerate(tree["rows"]):
        row["val_loss"] = abs(k - 6.2) - 9.0 * (k < 5)  # of other data
    record = TuningRecord(tree)
    assert record.best == 6
    _, (_, best, *_) = results_summary.losses(record)
    assert best == ("best of the last fit: number 7", record.rows[6])


def test_what_moved_next_is_told_as_such(tuned):
    model, _, _ = tuned
    paragraph = said(model).partition("\n l2:\n")[2]
    first, second, *_ = paragraph.splitlines()
    assert first.startswith("   moved most: ")
    assert second.startswith("     ") or second.startswith("   then: ")
    assert "   then: " in paragraph


def test_entries_told_together_have_the_span_of_their_numbers(tuned):
    model, *_ = tuned
    one = results.of_model(model)[2]
    start = np.linspace(-3.0, 3.0, 24, dtype=one.raw.dtype)
    moved = np.where(np.arange(24) < 9, 1.0, -2.0).astype(one.raw.dtype)
    certainty = np.where(moved > 0, np.linspace(0, 1, 24), 1)
    together = one._replace(
        start_raw=start,
        raw=start + moved,
        certainty=certainty,
        votes=np.where(np.arange(24) == 8, 7, 8),
    )
    first, second, *_ = results_summary.sentences(together, model.tuning_record)
    ups = np.arange(24) < 9
    spans = [span_of(x, 3) for x in (together.start[ups], together.value[ups])]
    assert second.startswith("then: example 0; example 1; example 2; 6 more: ")
    told = f"certainty 0.00 to {certainty[8]:.2f} of 7 to 8 gradients"
    assert second.endswith(f": {' → '.join(spans)} ({told})")
    assert first.endswith(" (certainty 1.00 of 8 gradients)")


@pytest.mark.parametrize(
    "numbers, text",
    [
        ([0.01, 99.99999], "0.01 to 100"),
        ([118.0, 118.0], "120"),
        ([2.5e-8, 3e7], "2.5e-08 to 3e+07"),
    ],
)
def test_numbers_of_everyday_size_have_no_exponent(numbers, text):
    assert span_of(np.float32(numbers), 2) == text


def test_places_are_short_whatever_their_size():
    entries, places = np.arange(2), np.array([1_234_567, 119 / 3])
    part = Part("a", "kernel", entries, ("step",), places)
    assert results.words_of([part], [0, 1]) == [
        "a/kernel, step 1234567",
        "a/kernel, step 39.7",
    ]


def test_the_summary_has_the_check_until_the_next_fit(tuned, model):
    fit(model, meta_iterations=1, initial_weights="resample")
    given = {k: v for k, v in small_models.FIT.items() if k != "verbose"}
    check = model.check_hyperparameters(
        **given, validation_data=small_models.VALIDATION, draws=2, verbose=0
    )
    words = " ".join(said(model).split())
    assert f"On 2 new draws: {check.verdict}." in words
    fit(model, meta_iterations=1)
    assert "On 2 new draws" not in said(model)


def test_it_says_if_nothing_moved_and_if_bounds_held(model):
    fit(model, meta_iterations=1, keep="best")
    model.meta_optimizer.learning_rate = 0.3
    for kind, raw in zip(model.hyperparameters, model.untuned, strict=True):
        kind.raw.assign(raw)
    assert said(model).count("starting values were the best by val_loss") == 3
    model.tuning_record.fits[-1]["keep"] = "last"
    assert said(model).count("nothing moved: raise `meta_iterations`") == 3
    model.tuning_record.fits[-1]["ended"] = "diverged in meta-iteration 2"
    assert said(model).count("diverged after the first moves. Set") == 3
    model.hyperparameters[0].assign(BOUNDS[1])
    text = said(model)
    assert "ended at their bounds: 9 at 0.05, of 9. Widen `bounds=`" in text


def test_what_cannot_move_is_not_told_to_be_moved_more(model):
    fit(model, meta_iterations=1, keep="last")
    for kind, raw in zip(model.hyperparameters, model.untuned, strict=True):
        kind.raw.assign(raw)
    l2, _, weights = results.of_model(model)
    told = functools.partial(
        results_summary.sentences, record=model.tuning_record
    )
    low, high = l2.kind.raw_bounds
    ends = l2._replace(start_raw=l2.raw * 0 + high, raw=l2.raw * 0 + high)
    first, *_, last = told(ends)
    assert first == "nothing moved: all are at their bounds"
    assert last.startswith("ended at their bounds: 9 at 0.05, of 9. Widen")
    narrow = kd.hyperparameters.L2("input", 1e-2, bounds=(9.9e-3, 1.01e-2))
    narrow.raw = l2.kind.raw
    (words,) = told(l2._replace(kind=narrow, votes=None))
    assert "nothing moved: the bounds leave less than 0.05 units" in words
    assert told(weights._replace(is_held=True)) == [
        "held at 0.5: no meta-optimizer moves it"
    ]
    assert not any(one.is_held for one in results.of_model(model))
    model.meta_optimizer.learning_rate = 0.0
    assert all(one.is_held for one in results.of_model(model))
    model.meta_optimizer.learning_rate = 0.3


@pytest.mark.parametrize("method", ["results_summary", "to_dataframe"])
def test_before_a_fit_an_error_says_so(model, method):
    with pytest.raises(ValueError, match="Call `fit"):
        getattr(model, method)()
    fit(model, meta_iterations=0)
    with pytest.raises(ValueError, match="Call `fit"):
        getattr(model, method)()


# ---- as a table


def test_the_table_has_a_row_for_each_entry(tuned):
    pytest.importorskip("pandas")
    model, *_ = tuned
    table = model.to_dataframe()
    assert len(table) == 9 + 6 + 24
    for one in results.of_model(model):
        rows = table[table["name"] == one.name]
        np.testing.assert_array_equal(rows["entry"], np.arange(len(rows)))
        for column in ("value", "start", "raw", "certainty", "votes"):
            flat = np.ravel(getattr(one, column))
            np.testing.assert_array_equal(rows[column], flat)
    l2 = table[table["name"] == "l2"]
    assert list(l2["layer"]) == ["first"] * 4 + ["last"] * 5
    assert set(l2["weight"]) == {"kernel"}
    assert list(l2["input"]) == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    rates = table[table["name"] == "learning_rate"]
    assert list(rates["step"]) == [0, 0, 2.5, 2.5, 5, 5]
    assert list(rates["layer"]) == ["first", "last"] * 3
    assert rates["input"].isna().all()
    assert list(table["example"].dropna()) == list(range(24))
    low, high = l2["low"].iloc[0], l2["high"].iloc[0]
    assert (low, high) == BOUNDS
    at = np.where(l2["value"] > high * 0.999, "high", "")
    at = np.where(l2["value"] < low * 1.001, "low", at)
    np.testing.assert_array_equal(l2["at_bound"], at)


def test_another_meta_optimizer_has_no_certainties():
    pytest.importorskip("pandas")
    model = small_models.compiled()
    fit(model)
    table = model.to_dataframe()
    for column in ("certainty", "votes", "is_certain"):
        assert table[column].isna().all()
    assert "sure" not in said(model)


def test_without_pandas_the_error_says_what_to_install(tuned, monkeypatch):
    real = builtins.__import__

    def without_pandas(name, *rest, **others):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match="pip install pandas"):
        tuned[0].to_dataframe()


def test_values_as_they_are_after_a_fit_with_the_same_weights(model):
    fit(model, keep="last", meta_iterations=2)
    found = [one.raw for one in results.of_model(model)]
    assert_same(found, [h.raw.numpy() for h in model.hyperparameters])


def test_chances_of_many_signs_are_those_of_the_normal_limit():
    for votes in (150, 200):
        exact = results.chance(votes)
        assert results.chance(100_000) == pytest.approx(exact, abs=0.012)
