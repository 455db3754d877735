"""Trainings from new draws: weights, order, split; and what a `fit` keeps."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad.training.course import Course
from keras_drmad.training.draws import Draws
from keras_drmad.training.plan import Split
from keras_drmad.training.randomness import hashed
from small_models import (
    FIT,
    VALIDATION,
    At,
    X,
    Y,
    assert_helps,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    cross_entropy,
    hidden,
    linear,
    numbers,
    put_back,
)

L2 = 1e-2
STEP = 0.25


def of_linear(kind="l2"):
    kinds = {
        "l2": lambda: kd.hyperparameters.L2(per="input", initial=L2),
        "examples": lambda: kd.hyperparameters.ExampleWeights(len(X)),
    }
    return compiled(
        hyperparameters=[kinds[kind]()],
        meta_optimizer=kd.SignDescent(STEP),
        hypergradient=kd.ReverseMode(),
    )


@pytest.fixture(scope="module")
def model_of():
    return built_once(of_linear)


@pytest.fixture
def model(model_of):
    """One model for all tests that can do with it: one trace."""
    return model_of()


def fit(model, **options):
    """Returns the history of a short `fit` from new draws."""
    defaults = FIT | dict(validation_data=VALIDATION, meta_iterations=4)
    if "validation_split" in options:
        del defaults["validation_data"]
    return model.fit(**defaults | options).history


def raw(model):
    return np.array(model.hyperparameters[0].raw)


# ---- the split


def test_a_split_parts_all_examples_anew():
    split = Split(24, 18)
    seen = []
    for seed in range(40):
        trained, held_out = split.drawn(seed)
        assert (len(trained), len(held_out)) == (18, 6)
        np.testing.assert_array_equal(
            np.sort(np.concatenate([trained, held_out])), np.arange(24)
        )
        again, _ = split.drawn(seed)
        np.testing.assert_array_equal(again, trained)
        seen.append(held_out)
    counts = np.bincount(np.concatenate(seen), minlength=24)
    assert counts.min() > 2 and counts.max() < 20  # 10 expected
    np.testing.assert_array_equal(split.last()[1], np.arange(18, 24))


def moved_examples(model, **options):
    """Returns which weights of examples each meta-iteration moves."""
    before, rows = raw(model), []

    def note(epoch, logs):
        rows.append(raw(model))

    noting = keras.callbacks.LambdaCallback(on_epoch_begin=note)
    fit(model, callbacks=[noting], keep="last", **options)
    rows = [before, *rows[1:], raw(model)]
    return np.diff(rows, axis=0) != 0


def test_each_meta_iteration_holds_others_out(model_of):
    """A weight moves where its example was trained on, and nowhere else."""
    model = model_of("examples")
    moved = moved_examples(model, validation_split=0.25, epochs=4)
    assert moved.sum(axis=1).tolist() == [18] * 4
    assert len({row.tobytes() for row in moved}) == 4
    for k, row in enumerate(moved):
        trained, _ = Split(24, 18).drawn(hashed(0, k))
        np.testing.assert_array_equal(np.flatnonzero(row), trained)


@pytest.mark.parametrize("policy", ["same", "continue"])
def test_one_split_for_all_where_weights_are_not_drawn(model_of, policy):
    model = model_of("examples")
    moved = moved_examples(
        model, validation_split=0.25, epochs=4, initial_weights=policy
    )
    np.testing.assert_array_equal(moved, [[True] * 18 + [False] * 6] * 4)


def test_the_logs_are_of_the_examples_held_out(model):
    def evaluated(model):
        number = len(found)
        _, places = Split(24, 12).drawn(hashed(0, number))
        return model.evaluate(X[places], Y[places], verbose=0)

    callback, found = at_each_end(model, evaluated)
    logs = fit(model, callbacks=[callback], validation_split=0.5)
    assert logs["val_loss"] == pytest.approx(found, rel=1e-5)


def test_class_weights_are_not_for_what_is_held_out(model):
    weight = {0: 5.0, 1: 1.0, 2: 0.2}
    options = dict(validation_split=0.5, meta_iterations=1, keep="last")
    logs = fit(model, class_weight=weight, **options)
    _, places = Split(24, 12).drawn(hashed(0, 0))
    loss = model.evaluate(X[places], Y[places], verbose=0)
    assert logs["val_loss"][0] == pytest.approx(loss, rel=1e-5)


# ---- a last training on all examples


def test_refit_trains_on_all_examples(model):
    """Keras's own training on all of them ends with the same weights."""
    logs = fit(model, validation_split=0.5, refit=True, shuffle=False, epochs=3)
    twin = linear()
    twin.set_weights([np.array(w) for w in model.start_weights])
    values = model.hyperparameters[0].value().numpy()
    kernel, _ = twin.trainable_variables

    def loss(y, z):
        penalty = keras.ops.sum(values[:, None] * kernel**2)
        return cross_entropy()(y, z) + penalty

    twin.compile(
        keras.optimizers.SGD(0.1, momentum=0.5), loss, run_eagerly=True
    )
    # As many steps as on half of the examples: two passes, and half of one.
    examples = np.resize(np.arange(24), 6 * 8)
    twin.fit(X[examples], Y[examples], batch_size=8, shuffle=False, verbose=0)
    assert_same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-6)
    assert "val_loss" in logs and "val_loss" not in model.final_logs
    assert int(model.optimizer.iterations) == 6


def test_refit_reports_on_the_hyper_data_by_their_name(model, monkeypatch):
    begun = []
    has_time = Course.has_time

    def noted(course, work):
        begun.append(work)
        return has_time(course, work)

    monkeypatch.setattr(Course, "has_time", noted)
    logs = fit(
        model, validation_split=0.5, hyper_data=VALIDATION, refit=True, epochs=1
    )
    assert {"hyper_loss", "val_loss"} < logs.keys()
    assert model.final_logs.keys() == {"loss", "hyper_loss", "l2/mean"}
    loss = model.evaluate(*VALIDATION, verbose=0)
    assert model.final_logs["hyper_loss"] == pytest.approx(loss, rel=1e-6)
    assert begun[-1].kind == "last"
    assert begun[-1].stages["validation"] == len(VALIDATION[0]) // 8


def test_refit_of_the_best(model):
    callback, found = at_each_end(model, raw)
    logs = fit(
        model,
        validation_split=0.5,
        refit=True,
        keep="best",
        callbacks=[callback],
    )
    assert_same([raw(model)], [found[int(np.argmin(logs["val_loss"]))]])
    assert model.final_logs["loss"] not in logs["loss"]


# ---- the mean


def raws_after(model, count, **options):
    """Returns the raw values after each step of a `fit`."""
    before = numbers(model)
    rows = []
    for k in range(1, count + 1):
        put_back(model, before)
        fit(model, keep="last", meta_iterations=k, **options)
        rows.append(raw(model))
    put_back(model, before)
    return rows


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_mean_of_the_last_half(model, count):
    rows = raws_after(model, count)
    fit(model, meta_iterations=count)
    half = rows[count // 2 :]
    np.testing.assert_allclose(raw(model), np.mean(half, axis=0), rtol=1e-6)
    assert np.any(raw(model) != np.log(L2))  # also after a single one
    # A last training gives the model, from a draw of its own.
    loss = model.evaluate(*VALIDATION, verbose=0)
    assert model.final_logs["val_loss"] == pytest.approx(loss, rel=1e-6)
    assert model.final_logs["l2/mean"] == pytest.approx(
        float(np.mean(np.exp(raw(model)))), rel=1e-5
    )


def test_a_second_fit_goes_on_from_the_mean(model):
    fit(model)
    mean = raw(model)
    fit(model, meta_iterations=1, keep="last", seed=3)
    np.testing.assert_allclose(np.abs(raw(model) - mean), STEP, rtol=1e-4)


def test_the_last_training_has_weights_of_its_own(model):
    def start(model):
        return np.array(model.start_weights[0])

    callback, found = at_each_end(model, start)
    fit(model, callbacks=[callback])
    starts = [*found, start(model)]
    for k, one in enumerate(starts):
        for other in starts[:k]:
            assert np.abs(one - other).min() > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draws": 2, "validation_split": 0.5, "refit": True},
    ],
)
def test_the_same_seed_gives_the_same_numbers(model, options):
    before = numbers(model)

    def run(seed):
        put_back(model, before)
        np.random.seed(seed + 7)  # nothing else is drawn from
        keras.utils.set_random_seed(seed + 11)
        return fit(model, seed=1, **options), numbers(model)

    logs, after = run(0)
    same_logs, same = run(1)
    assert logs == same_logs
    assert_same(after, same)
    put_back(model, before)
    assert fit(model, seed=2, **options)["loss"] != logs["loss"]


# ---- several draws


def test_a_step_follows_the_mean_of_several_draws(model):
    options = FIT | dict(validation_data=VALIDATION)
    del options["verbose"]
    several = model.hypergradient(**options, draws=3)
    # Each of them by hand: weights, then one training.
    before, redraw = model.get_weights(), None
    singles = []
    for k in range(3):
        redraw = model.origin_of_trainings().redraw
        drawn = redraw.draw(hashed(0, k))
        model.set_weights(
            [w if d is None else d for w, d in zip(before, drawn, strict=True)]
        )
        seed = options | dict(seed=hashed(0, k))
        singles.append(model.hypergradient(**seed))
        model.set_weights(before)
    each = np.array([one.gradients["l2"] for one in singles])
    np.testing.assert_allclose(several.gradients["l2"], each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        several.standard_errors["l2"],
        each.std(0, ddof=1) / 3**0.5,
        rtol=1e-3,
    )
    share = np.mean(np.abs(each.mean(0)) > 2 * each.std(0, ddof=1) / 3**0.5)
    assert several.certain_share == pytest.approx(share)
    assert several.validation_loss == pytest.approx(
        np.mean([one.validation_loss for one in singles]), rel=1e-5
    )
    # And `fit` follows this mean.
    logs = fit(model, draws=3, meta_iterations=1, keep="last")
    moved = raw(model) - np.log(L2)
    np.testing.assert_allclose(
        moved, -STEP * np.sign(several.gradients["l2"]), rtol=1e-4
    )
    assert logs["val_loss"][0] == pytest.approx(
        several.validation_loss, rel=1e-5
    )
    assert model.diagnostics["hypergradient_norm"][0] == pytest.approx(
        float(np.linalg.norm(each.mean(0))), rel=1e-4
    )


def test_the_best_of_several_draws_is_kept(model, monkeypatch):
    losses = []
    draw = Draws.draw

    def noted(*given):
        trained, logs, gradient = draw(*given)
        losses.append(logs["val_loss"])
        return trained, logs, gradient

    monkeypatch.setattr(Draws, "draw", noted)
    logs = fit(model, draws=3, meta_iterations=2, keep="best", seed=1)
    each = np.reshape(losses, (2, 3))
    np.testing.assert_allclose(logs["val_loss"], each.mean(1), rtol=1e-6)
    best = each[each.mean(1).argmin()]
    assert best.argmin() < 2  # not the last draw
    loss = model.evaluate(*VALIDATION, verbose=0)
    assert loss == pytest.approx(best.min(), rel=1e-6)


# ---- what ends a fit early


def test_ctrl_c_keeps_the_mean_of_what_was_done(model):
    rows = raws_after(model, 3)

    def interrupt():
        raise KeyboardInterrupt

    found = []
    noted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(logs["val_loss"])
    )
    with pytest.raises(KeyboardInterrupt):
        fit(
            model,
            meta_iterations=9,
            callbacks=[At(3, interrupt, within=True), noted],
        )
    np.testing.assert_allclose(raw(model), np.mean(rows[1:], 0), rtol=1e-6)
    # At once: no last training, but the weights of the best meta-iteration.
    assert not model.final_logs
    loss = model.evaluate(*VALIDATION, verbose=0)
    assert min(found) == pytest.approx(loss, rel=1e-6)
    assert found.index(min(found)) < 2  # which the last one was not


def test_stopped_early_keeps_the_mean_of_what_was_done(model):
    rows = raws_after(model, 2)

    def stop():
        model.stop_training = True

    fit(model, meta_iterations=9, callbacks=[At(1, stop)])
    np.testing.assert_allclose(raw(model), np.mean(rows[1:], 0), rtol=1e-6)
    assert model.final_logs
    assert model.stop_training


def test_a_training_that_diverges_is_no_part_of_the_mean(model):
    rows = raws_after(model, 2)
    ruin = At(
        2, lambda: model.hyperparameters[0].raw.assign_add(np.full(4, 90.0))
    )
    with pytest.warns(RuntimeWarning, match="Stopped.*the means"):
        fit(model, meta_iterations=9, callbacks=[ruin])
    np.testing.assert_allclose(raw(model), np.mean(rows[1:], 0), rtol=1e-6)
    assert np.isfinite(model.final_logs["val_loss"])


def test_a_last_training_that_diverges_leaves_the_best(model):
    ruin = At(3, lambda: model.hyperparameters[0].raw.assign(np.full(4, 90.0)))
    callback, found = at_each_end(model, lambda m: [*m.get_weights(), raw(m)])
    with pytest.warns(RuntimeWarning, match="last training.*best meta-iter"):
        logs = fit(model, callbacks=[callback, ruin])
    best = int(np.argmin(logs["val_loss"]))
    assert_same([*model.get_weights(), raw(model)], found[best])
    assert not model.final_logs


def test_early_stopping_that_restores_asks_for_the_best(model):
    early = keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    callback, found = at_each_end(model, lambda m: [*m.get_weights(), raw(m)])
    logs = fit(model, callbacks=[callback, early])
    best = int(np.argmin(logs["val_loss"]))
    assert_same([*model.get_weights(), raw(model)], found[best])
    assert not model.final_logs


# ---- arguments

RESTORING = keras.callbacks.EarlyStopping(restore_best_weights=True)
SPLIT = dict(validation_data=None, validation_split=0.25)


@pytest.mark.parametrize(
    "options, argument, received",
    [
        (dict(keep="worst"), "keep", "'worst'"),
        (dict(draws=0), "draws", "0"),
        (dict(draws=2, initial_weights="same"), "draws", "2"),
        (dict(draws=2, initial_weights="continue"), "draws", "2"),
        (dict(refit=1), "refit", "1"),
        (dict(refit=True), "refit", "True"),
        (dict(callbacks=[RESTORING], keep="mean"), "keep", "'mean'"),
        (dict(callbacks=[RESTORING], **SPLIT, refit=True), "refit", "True"),
        (dict(meta_iterations=0, keep="mean"), "keep", "'mean'"),
        (dict(meta_iterations=0, draws=7), "draws", "7"),
        (dict(meta_iterations=0, **SPLIT, refit=True), "refit", "True"),
    ],
)
def test_bad_arguments(model, options, argument, received):
    before = numbers(model)
    with pytest.raises((ValueError, TypeError)) as error:
        fit(model, **options)
    assert_helps(error, argument, received)
    assert_same(numbers(model), before)


@pytest.mark.parametrize("policy", ["same", "resample", "continue"])
def test_values_of_one_path_are_said_to_be(model, policy):
    fit(model, initial_weights=policy)
    with pytest.warns() as warned:  # others say what Keras has no place for
        model.to_keras()
    said = any("one draw" in str(one.message) for one in warned)
    assert said == (policy == "same")


def test_the_summary_says_what_is_drawn(model):
    said = []
    model.summary(print_fn=lambda text, **rest: said.append(text))
    assert any("12 of 15 trainable" in line for line in said)


def test_hidden_layers_are_drawn(model):
    """Two layers, two draws: all entries differ, biases begin at 0."""
    deep = compiled(hidden())
    callback, found = at_each_end(
        deep, lambda m: [np.array(w) for w in m.start_weights]
    )
    fit(deep, meta_iterations=2, callbacks=[callback])
    one, other = found
    for a, b in zip(one, other, strict=True):
        if a.ndim == 1:
            assert np.all(a == 0) and np.all(b == 0)
        else:
            assert np.abs(a - b).min() > 0


def test_fit_says_which_weights_stay(capsys):
    """A layer of one's own that keeps no initializer, in few numbers."""

    class Own(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(
                name="w", shape=(3,), initializer="random_normal"
            )

        def call(self, x):
            return x + self.w

    inputs = keras.Input((4,))
    outputs = Own(name="own")(keras.layers.Dense(3)(inputs))
    model = compiled(keras.Model(inputs, outputs))
    fit(model, verbose=1, meta_iterations=1)
    said = capsys.readouterr().out
    assert "12 of 18 trainable numbers" in said
    assert "'own/w' stays as it is" in said
    fit(model, verbose=1, meta_iterations=1, initial_weights="same")
    assert "Initial weights" not in capsys.readouterr().out
