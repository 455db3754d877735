"""`check_hyperparameters`: whether what was found carries over to new draws."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import pyplot as plt
from scipy import stats

import keras_drmad as kd
from keras_drmad import hyperparameter_check
from keras_drmad.training import validation
from keras_drmad.training.initial_weights import CHECKED
from keras_drmad.training.plan import Split
from keras_drmad.training.randomness import hashed
from small_models import (
    FIT,
    VALIDATION,
    X,
    Y,
    assert_helps,
    assert_same,
    built_once,
    compiled,
    data,
    fit,
    hidden,
    numbers,
)

TEST = data(40, seed=2)
TRAINING = {k: v for k, v in FIT.items() if k not in ("x", "y", "seed")}


@pytest.fixture(scope="module")
def model_of():
    def tuned():
        model = compiled(
            hidden(dropout=0.2),
            metrics=["accuracy"],
            meta_optimizer=kd.SignDescent(1.0),
        )
        fit(model, initial_weights="resample", keep="last")
        return model

    return built_once(tuned)


@pytest.fixture
def model(model_of):
    """One tuned model for all tests: one trace."""
    model = model_of()
    model.leave(model._origin, "resample")  # no weights were put in
    return model


def check(model, **options):
    defaults = TRAINING | dict(validation_data=VALIDATION, draws=3)
    return model.check_hyperparameters(X, Y, **defaults | options)


# ---- trainings


def test_trains_with_both_values_from_the_same_draws(model):
    before = numbers(model)
    result = check(model, test_data=TEST, seed=4)
    assert_same(numbers(model), before)
    assert result.draws == 3
    # Without any difference of values there is none of losses.
    model.hyperparameters[0].assign(1e-2)
    same = check(model, test_data=TEST, seed=4)
    assert_same(
        [same.results["found"]["test_loss"]],
        [result.results["start"]["test_loss"]],
    )
    assert same.differences["test_loss"][:3] == (0.0, 0.0, 1.0)
    assert same.verdict == "can't be told"
    assert "the test loss is the same" in same.advice


def test_losses_are_those_of_plain_trainings():
    """Without dropout, `validation_loss_after` from the drawn weights."""
    model = compiled(hidden(), meta_optimizer=kd.SignDescent(1.0))
    fit(model, initial_weights="resample", keep="last")
    result = check(model, seed=4)
    origin, before = model.origin_of_trainings(), model.get_weights()
    found = model.hyperparameters[0].value().numpy()
    for k in range(3):
        number = hashed(4, CHECKED + k)
        drawn = origin.redraw.draw(number)
        model.set_weights(
            [
                np.zeros_like(w) if d is None else d  # biases
                for w, d in zip(before, drawn, strict=True)
            ]
        )
        for name, value in (("start", 1e-2), ("found", found)):
            model.hyperparameters[0].assign(value)
            options = {k: v for k, v in TRAINING.items() if k != "verbose"}
            loss = model.validation_loss_after(
                X, Y, **options, validation_data=VALIDATION, seed=number
            )
            assert result.results[name]["val_loss"][k] == pytest.approx(
                loss, rel=1e-5
            )


def test_draws_are_not_those_of_fit(model):
    seen = {hashed(0, k) for k in range(1000)}
    assert not seen & {hashed(0, CHECKED + k) for k in range(100)}
    one, other = (check(model, seed=seed) for seed in (0, 1))
    assert np.all(
        one.results["found"]["val_loss"] != other.results["found"]["val_loss"]
    )


def test_a_split_is_drawn_anew(model):
    whole = check(model, validation_data=None, validation_split=0.5)
    assert len(set(whole.results["start"]["val_loss"])) == 3
    _, held_out = Split(24, 12).drawn(hashed(0, CHECKED))
    assert len(held_out) == 12


def test_other_values_stand_beside(model):
    others = {"one": {"l2": 1e-2}, "strong": {"l2": 10.0}}
    result = check(model, others=others)
    assert list(result.results) == ["start", "found", "one", "strong"]
    assert_same(
        [result.results["one"]["val_loss"]],
        [result.results["start"]["val_loss"]],
        rtol=1e-6,
    )
    assert np.all(
        result.results["strong"]["val_loss"] > result.results["one"]["val_loss"]
    )
    assert "strong" in str(result)


def test_trainings_that_diverge_are_told(model):
    model.hyperparameters[0].raw.assign(np.full(9, 80.0))
    result = check(model)
    assert np.isnan(result.results["found"]["val_loss"]).all()
    assert result.verdict == "does not carry over"
    words = "none of 3 trainings diverge, with the found ones 3. Set `bounds=`"
    assert words in result.advice


def test_values_before_the_first_fit_are_the_start(model_of):
    model = model_of()
    fit(model, initial_weights="resample", keep="last")
    np.testing.assert_allclose(np.exp(model.untuned[0]), 1e-2, rtol=1e-5)


def test_a_saved_model_knows_its_start(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = check(model).results
    found = check(loaded).results
    for name, measures in expected.items():
        for measure, values in measures.items():
            np.testing.assert_allclose(
                found[name][measure], values, rtol=1e-5, err_msg=measure
            )


# ---- the verdict


def outcomes(start, found):
    """Returns what `check` makes of losses, an entry for each draw."""
    rows = {"start": start, "found": found}
    return hyperparameter_check.check(
        {"start": "start", "found": "found"},
        lambda name, k: {"val_loss": rows[name][k]},
        len(start),
        lambda done: None,
        each=lambda draws, function: [function(k) for k in range(draws)],
    )


def test_the_test_is_students():
    generator = np.random.default_rng(0)
    for n in (2, 3, 5, 20):
        some, others = generator.normal(size=(2, n))
        ours = hyperparameter_check.difference(some, others)
        theirs = stats.ttest_rel(some, others)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
        assert ours.mean == pytest.approx(np.mean(some - others))
        assert ours.standard_error == pytest.approx(stats.sem(some - others))


@pytest.mark.parametrize(
    "change, verdict, word",
    [
        ([-0.2, -0.21, -0.19, -0.2], "carries over", "lower"),
        ([0.2, 0.21, 0.19, 0.2], "does not carry over", "higher"),
        ([-0.2, 0.3, -0.5, 0.1], "can't be told", "4 draws can't tell"),
        ([math.nan, 0.1, 0.1, 0.1], "does not carry over", "found ones 1."),
    ],
)
def test_verdicts(change, verdict, word):
    start = np.array([1.0, 2.0, 1.5, 0.7])
    result = outcomes(start, start + change)
    assert result.verdict == verdict
    assert word in result.advice
    assert f"Verdict: {verdict}. " in str(result)


def test_a_loss_that_begins_at_0_is_compared():
    start = np.zeros(4)  # a hinge loss, for instance
    result = outcomes(start, start + [0.2, 0.21, 0.19, 0.2])
    assert result.verdict == "does not carry over"
    assert "0.2 ± 0.0041 higher" in result.advice
    assert outcomes(start, start).verdict == "can't be told"


def test_columns_are_as_wide_as_their_names():
    start, name = np.ones(2), "a long name of a set"
    result = outcomes(start, start)
    result.results[name] = result.results["found"]
    head, row, *_ = str(result).splitlines()
    assert f" {name}  " in head and len(head) - len("found - start") == (
        row.index("+")
    )


def test_few_examples_tell_nothing(model):
    """The standard error over parts is that of their own differences."""
    start, change = [1.0, 2.0, 1.5, 1.0], np.array([0.4, -0.6, 0.5, -0.7, 0.1])
    parts = {"start": np.zeros(5), "found": change - 0.2}
    rows = {"start": start, "found": np.subtract(start, 0.2)}
    result = hyperparameter_check.check(
        {"start": "start", "found": "found"},
        lambda name, k: {
            "val_loss": rows[name][k] + 0.01 * k,
            "val_parts": parts[name],
        },
        4,
        lambda done: None,
        each=lambda draws, function: [function(k) for k in range(draws)],
    )
    difference = result.differences["val_loss"]
    assert difference.examples_error == pytest.approx(stats.sem(change))
    assert difference.p_value < 0.05
    assert result.verdict == "can't be told"
    assert "the validation set is too small" in result.advice
    assert set(result.results["found"]) == {"val_loss"}


def test_parts_of_the_examples_have_their_own_losses(model):
    """Of minibatches of 8 each; their mean is the loss of the whole."""
    same = dict(validation_batch_size=8, draws=2)
    x, y = data(48, seed=3)
    result = check(model, **same, validation_data=(x, y))
    found = []
    for k in range(6):
        part = slice(8 * k, 8 * k + 8)
        of_part = check(model, **same, validation_data=(x[part], y[part]))
        assert math.isnan(of_part.differences["val_loss"].examples_error)
        found.append(of_part.differences["val_loss"].mean)
    difference = result.differences["val_loss"]
    assert difference.mean == pytest.approx(np.mean(found), rel=1e-4)
    assert difference.examples_error == pytest.approx(
        stats.sem(found), rel=1e-3
    )


@pytest.mark.parametrize("size, batch", [(203, 10), (4_100, 1)], ids=str)
@pytest.mark.parametrize("is_stream", [False, True])
def test_there_are_as_many_parts_as_are_said(model, size, batch, is_stream):
    """Also with a last batch of few examples, and with parts of many chunks."""
    held_out = data(size, seed=3)
    if is_stream:
        held_out = tf.data.Dataset.from_tensor_slices(held_out).batch(batch)
    training, plan = model.prepared(
        X,
        Y,
        batch_size=8,
        validation_data=held_out,
        validation_batch_size=None if is_stream else batch,
    )
    parts: list[float] = []
    state = training.problem.initial_state()
    logs = training.validate(state, training.hparams(), plan.hyper, parts=parts)
    begins = validation.places_of_parts(plan.hyper)
    assert len(parts) == len(begins) == training.parts_of(plan.hyper) == 20
    counts = np.diff([batch * k for k in begins] + [size])
    mean = np.average(parts, weights=counts)
    assert mean == pytest.approx(logs["loss"], rel=1e-4)


def test_examples_that_the_tuning_validated_on_tell_nothing(model):
    model.hyperparameters[0].assign(1e-2)
    model.untuned = [np.log(np.full(9, 3.0))]  # a start that is far worse
    longer = dict(epochs=20, draws=4)
    split = longer | dict(validation_data=None, validation_split=0.25)
    result = check(model, **split)
    assert result.differences["val_loss"].p_value < 0.05
    assert result.verdict == "can't be told"
    assert "`test_data`" in result.advice
    assert check(model, **split, test_data=TEST).verdict == "carries over"
    assert check(model, **longer).verdict == "carries over"


def test_a_start_that_diverges():
    result = outcomes(np.array([1.0, math.nan]), np.array([1.0, 1.0]))
    assert result.verdict == "carries over"
    assert "starting values 1 of 2 trainings diverge" in result.advice


@pytest.mark.parametrize(
    "start, found, verdict",
    [(5, 1, "carries over"), (2, 2, "can't be told"), (1, 2, "does not")],
)
def test_where_both_diverge_it_counts_who_does_less(start, found, verdict):
    def losses(count):
        return np.where(np.arange(5) < count, math.nan, 1.0)

    result = outcomes(losses(start), losses(found))
    assert result.verdict.startswith(verdict)
    words = f"{start} of 5 trainings diverge, with the found ones {found}."
    assert words in result.advice


# ---- the picture


def test_the_picture_has_a_point_for_each_training(model):
    axes = kd.plots.hyperparameter_check(check(model, test_data=TEST))
    points = [line for line in axes.lines if line.get_marker() == "."]
    assert sum(len(line.get_ydata()) for line in points) == 3 * 2 * 2
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["start", "found", "start", "found"]
    plt.close("all")


# ---- arguments


@pytest.mark.parametrize(
    "options, argument, received",
    [
        (dict(draws=1), "draws", "1"),
        (dict(others={"found": {}}), "others", "found"),
        (dict(others={"one": {"l1": 0.1}}), "others", "l1"),
        (dict(others={"one": {"l2": -1.0}}), "others", "-1.0"),
        (dict(test_data=(X,)), "test_data", "1 part(s)"),
        (dict(validation_data=None), "validation_data", "None"),
    ],
)
def test_bad_arguments(model, options, argument, received):
    before = numbers(model)
    with pytest.raises((ValueError, TypeError)) as error:
        check(model, **options)
    assert_helps(error, argument, received)
    assert_same(numbers(model), before)


def test_a_model_that_was_not_tuned():
    with pytest.raises(ValueError, match="Call `fit` first"):
        check(compiled())
