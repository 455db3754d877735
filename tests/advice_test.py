"""What `fit` warns of at its end, and before its first training."""

import math
import warnings

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad.training import advice
from small_models import VALIDATION, X, Y, built_once, compiled, data, fit

L2 = kd.hyperparameters.L2


@pytest.fixture(scope="module")
def model_of():
    return built_once(
        lambda: compiled(
            hyperparameters=[L2(per="input", initial=1e-2, bounds=(1e-4, 1.0))],
            meta_optimizer=kd.SignDescent(0.3),
        )
    )


@pytest.fixture
def model(model_of):
    """One model for all tests: one trace."""
    return model_of()


def warned(model, **options):
    """Returns what a `fit` warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, **options)
    own = [one for one in caught if one.category is UserWarning]
    assert all(one.filename.endswith("small_models.py") for one in own)
    return [str(one.message) for one in own]


# ---- bounds


def test_values_that_end_at_a_bound(model):
    (raw,) = (h.raw for h in model.hyperparameters)
    size = raw.shape[0]
    model.hyperparameters[0].assign([1.0] * 3 + [1e-2] * (size - 3))
    model.meta_optimizer.learning_rate.assign(0.02)
    (text,) = warned(model, meta_iterations=1, keep="best")
    assert f"Values of 'l2' ended at their bounds: 3 of {size}" in text
    assert "at the upper bound 1. " in text
    assert "wider `bounds=`" in text


def test_few_values_at_a_bound_are_no_news(model):
    (h,) = model.hyperparameters
    assert not advice._at_bounds(h)
    edge = np.full(h.raw.shape, 0.5)
    edge[0] = 1e-4
    h.assign(edge)
    assert (0.1 * h.count <= 1) == bool(advice._at_bounds(h))


def test_a_range_is_no_bound():
    model = compiled(hyperparameters=[L2(initial=1e-30)])
    assert not advice._at_bounds(model.hyperparameters[0])


# ---- no move


def test_values_that_hardly_moved(model):
    model.meta_optimizer.learning_rate.assign(1e-4)
    assert not warned(model, meta_iterations=4)  # too few to tell
    (text,) = warned(model, meta_iterations=5)
    assert "The values of 'l2' hardly moved in 5 steps" in text
    assert "by 0.0006 natural units at most" in text
    assert "Raise the `learning_rate` of the meta-optimizer" in text


def test_values_that_bounds_hold_need_no_longer_steps(model, monkeypatch):
    (h,) = model.hyperparameters
    one = advice.Advice([h])
    for _ in range(advice.ENOUGH):
        one.note({"hypergradient_norm": 1.0})
    (text,) = one._stood_still()
    assert "Raise the `learning_rate`" in text
    log = float(np.log(1e-2))
    monkeypatch.setattr(L2, "raw_bounds", (log - 0.01, log + 0.01))
    (text,) = one._stood_still()
    assert "Raise" not in text and "wider `bounds=`" in text
    h.raw.assign(np.full(h.raw.shape, log + 0.01))
    assert one._stood_still() == [""]
    assert "ended at their bounds" in advice._at_bounds(h)


def test_values_that_no_meta_optimizer_moves_are_to_stand_still():
    """Even at a bound, and beside others that move."""
    held = L2("all", 1e-3, bounds=(1e-3, 1.0), name="held")
    model = compiled(
        hyperparameters=[held, L2(per="input", initial=1e-2)],
        meta_optimizer={"l2": kd.SignDescent(0.3)},
    )
    assert not warned(model, meta_iterations=5)
    np.testing.assert_allclose(held.value(), 1e-3, rtol=1e-5)


def test_the_best_meta_iteration_may_be_the_first(model):
    """What went and came back has moved."""
    monitor = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=epoch)
    )
    before = model.hyperparameters[0].value().numpy()
    assert not warned(model, callbacks=[monitor], keep="best")
    model.hyperparameters[0].assign(before)


def test_nothing_that_is_tuned_has_an_effect():
    """A temperature of the training loss, of weights that stand still."""
    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    (text,) = warned(model, meta_iterations=1)
    assert "hypergradient was 0 in each of 1 step:" in text
    assert "hyperparameter_summary()" in text


def test_a_loss_of_0_leaves_nothing_to_fit_to(model):
    """As where a stream's weights are all 0; arrays' are seen before."""
    one = advice.Advice(model.hyperparameters)
    one.note({"hypergradient_norm": 0.0})
    with pytest.warns(UserWarning, match="loss was exactly 0.*sample weights"):
        one.give({"val_loss": [0.0]}, [])


# ---- overfitting


def logs_of(fitted, held_out):
    return {"hyper_loss": fitted, "val_loss": held_out}


FALLS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
RISES = [1.0, 1.02, 1.1, 1.2, 1.3, 1.32]


@pytest.mark.parametrize(
    "fitted, held_out, is_overfit",
    [
        (FALLS, RISES, True),
        (FALLS, FALLS, False),
        (RISES, RISES, False),  # worse for all: no overfitting
        (FALLS, [1.0, 2.0, 1.1, 1.2, 1.5, 2.0], False),  # noise
        (FALLS[:5], RISES[:5], False),  # too few to tell
        ([*FALLS[:5], math.nan], RISES, False),
        (FALLS, [*RISES[:5], math.nan], False),
        ([*FALLS, math.nan], [*RISES, 0.0], True),  # a pair is left out
        (FALLS, RISES[:4], False),  # of other meta-iterations
    ],
)
def test_overfitting_is_told_by_thirds(fitted, held_out, is_overfit):
    logs = logs_of(fitted, held_out)
    text = advice._overfit(logs, "hyper_loss", "val_loss")
    assert bool(text) == is_overfit
    if is_overfit:
        assert "`hyper_loss` fell from 0.95 to 0.55" in text
        assert "`val_loss`" in text and "rose from 1.01 to 1.31" in text


class Rising(keras.callbacks.Callback):
    """Another loss, which rises."""

    def on_epoch_end(self, epoch, logs=None):
        logs["test_loss"] = float(epoch)


def test_fit_looks_at_held_out_losses(model):
    few = data(8, seed=5)
    held_out = kd.callbacks.HeldOut(*data(8, seed=6))
    callbacks = [held_out, Rising()]
    options = dict(meta_iterations=6, initial_weights="same")
    texts = warned(model, callbacks=callbacks, validation_data=few, **options)
    assert ["`val_loss` fell" in text for text in texts] == [True]
    assert "`test_loss`, of examples that they are not fitted to" in texts[0]
    assert not warned(model, validation_data=few, **options)


# ---- numbers


def test_more_values_than_examples(model, capsys):
    few = tuple(part[:3] for part in VALIDATION)
    fit(model, meta_iterations=1, validation_data=few, verbose=2)
    count = model.hyperparameters[0].count
    words = f"Note: {count} values are fitted to 3 validation examples"
    assert words in capsys.readouterr().out
    fit(model, meta_iterations=1, verbose=2)
    assert "Note:" not in capsys.readouterr().out


# ---- callbacks that set rates


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.ReduceLROnPlateau("val_loss"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_callbacks_that_set_rates_act_between_trainings(model, callback):
    (text,) = warned(model, callbacks=[callback], meta_iterations=1)
    assert f"`{type(callback).__name__}` sets the rate of whole train" in text
    assert "LearningRate(schedule='piecewise')" in text
    assert not warned(model, callbacks=[callback], meta_iterations=0)


def test_numbers_that_a_hyperparameter_takes_the_place_of():
    kinds = kd.hyperparameters
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
        hyperparameters=[
            kinds.LearningRate("layer"),
            kinds.Momentum(),
            kinds.WeightDecay(),
        ],
    )
    numbers = {"learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.02}
    for name, number in numbers.items():
        setattr(model.optimizer, name, number)
    texts = warned(model, meta_iterations=0)
    for text, (name, number) in zip(texts, numbers.items(), strict=True):
        assert f"`{name}` was set, to {number}, which changes nothing" in text
        assert f"'{name}': its values" in text and "`assign`" in text
    assert not warned(model, meta_iterations=0)  # said once
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    (text,) = warned(model, callbacks=[callback], meta_iterations=0)
    assert "`LearningRateScheduler` sets" in text
    assert (
        "changes nothing for the weights of the hyperparameter 'learn" in text
    )


def test_the_meta_optimizers_rate_is_another_thing(model):
    slower = kd.callbacks.ReduceMetaRateOnPlateau("val_loss")
    assert not warned(model, callbacks=slower, meta_iterations=1)
    model.fit(X, Y, callbacks=None, meta_iterations=0, verbose=0)
