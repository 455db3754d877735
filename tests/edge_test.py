"""Trainings past the edge of stability, and what becomes of learning rates."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from keras_drmad.training import advice, course, edge
from small_models import X, assert_same, built_once, compiled, fit, linear

pytestmark = pytest.mark.filterwarnings("ignore:Learning rates ended near")
SQUARED = dict(
    y=X[:, :3],
    validation_data=(X[:16] + 0.1, X[:16, :3]),
    shuffle=False,
    epochs=40,
)
STEP = 0.5


def build():
    return compiled(
        optimizer=keras.optimizers.SGD(30.0),
        loss=keras.losses.MeanSquaredError(),
        hyperparameters=[
            kd.hyperparameters.LearningRate(bounds=(1e-9, None)),
            kd.hyperparameters.L2(initial=1e-9),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=kd.SignDescent(STEP),
    )


@pytest.fixture(scope="module")
def model_of():
    return built_once(build)


@pytest.fixture
def model(model_of):
    """One model for all tests: one trace."""
    return model_of()


def stays_finite(rate):
    """Returns whether Keras's own training keeps the finite numbers."""
    twin = linear()
    twin.compile(keras.optimizers.SGD(rate), "mse", jit_compile=False)
    for step in range(120):
        rows = slice(step % 3 * 8, step % 3 * 8 + 8)
        if not np.isfinite(twin.train_on_batch(X[rows], X[rows, :3])):
            return False
    return True


def raws(model):
    return [float(h.raw.numpy()) for h in model.hyperparameters]


def recorded(model, **options):
    """Returns rates and penalties with which a `fit` trained."""
    recorder = kd.callbacks.HyperparameterHistory()
    fit(model, **SQUARED | options, callbacks=[recorder])
    return (np.ravel(recorder.values[h.name]) for h in model.hyperparameters)


def test_a_training_that_diverges_begins_again_with_lower_rates(model):
    rates, penalties = recorded(model, meta_iterations=1, keep="last")
    count = 1
    while not stays_finite(30.0 / 2**count):
        count += 1
    assert count > 1
    assert rates[0] == pytest.approx(30.0 / 2**count, rel=1e-5)
    assert penalties[0] == pytest.approx(1e-9, rel=1e-5)  # says nothing of it
    # The last of them may be past the edge as well, but came to its end.
    assert model.diagnostics["past_edge"][0] in (count, count + 1)


def test_no_lower_rates_no_second_attempt(model):
    rate = model.hyperparameters[0]
    lowest, rate.bounds = rate.bounds, (30.0, np.inf)
    before = raws(model)
    try:
        with pytest.raises(FloatingPointError, match="of meta-iteration 1"):
            fit(model, **SQUARED)
    finally:
        rate.bounds = lowest
    assert raws(model) == before


def test_attempts_come_to_an_end(model, monkeypatch):
    monkeypatch.setattr("keras_drmad.training.meta_training.RETREATS", 2)
    before = raws(model)
    with pytest.raises(FloatingPointError, match="halved 2 times"):
        fit(model, **SQUARED | dict(epochs=200))
    assert raws(model) == before


def test_without_learned_rates_divergence_is_an_error():
    model = compiled(
        optimizer=keras.optimizers.SGD(30.0),
        loss=keras.losses.MeanSquaredError(),
    )
    with pytest.raises(FloatingPointError):
        fit(model, **SQUARED)


def test_goes_on_after_lower_rates_to_the_same_bits(
    model, tmp_path, monkeypatch
):
    """Broken off in the training that began again."""
    options = SQUARED | dict(meta_iterations=2, keep="last")
    fit(model, **options)
    whole, past_edge = raws(model), model.diagnostics["past_edge"][0]
    first = build()
    on_chunk = course.Course.on_chunk

    def break_off(this, name, stage, steps, tree, **others):
        on_chunk(this, name, stage, steps, tree, **others)
        rate = float(first.hyperparameters[0].value().numpy())
        if stage == "forward" and steps and stays_finite(rate):
            raise KeyError("broken off")

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "at", save_freq=1)

    with monkeypatch.context() as patch:
        patch.setattr(course.Course, "on_chunk", break_off)
        with pytest.raises(KeyError, match="broken off"):
            fit(first, **options, callbacks=[backup()])
    second = build()
    fit(second, **options, callbacks=[backup()])
    assert second.diagnostics["past_edge"][0] == past_edge
    assert raws(second) == whole
    assert_same(second.get_weights(), model.get_weights())


# ---- trainings that come to their end


def test_where_the_adjoint_explodes_rates_are_lowered(model, monkeypatch):
    monkeypatch.setattr(edge, "GROWTH", 0.0)
    model.hyperparameters[0].assign(0.01)
    rates, penalties = recorded(model, meta_iterations=3)
    np.testing.assert_allclose(
        np.log(rates / 0.01), [0, -STEP, -2 * STEP], rtol=1e-4
    )
    np.testing.assert_allclose(penalties, 1e-9, rtol=1e-5)


def test_calm_trainings_follow_their_hypergradients(model):
    model.hyperparameters[0].assign(0.001)
    rates, penalties = recorded(model, meta_iterations=2)
    assert rates[1] > rates[0]
    assert penalties[1] != penalties[0]
    assert model.diagnostics["past_edge"][-2:] == [0.0, 0.0]


def test_a_training_that_makes_nothing_better_lowers_rates(model):
    """It grows over 3 steps, in which no adjoint grows a thousandfold."""
    model.hyperparameters[0].assign(6.0)
    rates, _ = recorded(model, epochs=1)
    assert model.diagnostics["adjoint_growth"][-2] < edge.GROWTH
    assert model.diagnostics["past_edge"][-2] == 1.0
    assert rates[1] == pytest.approx(6.0 * np.exp(-STEP), rel=1e-5)


def test_rates_next_to_nothing_are_not_too_high(model):
    model.hyperparameters[0].assign(1e-6)
    rates, _ = recorded(model, meta_iterations=2)
    assert model.diagnostics["past_edge"][-2:] == [0.0, 0.0]
    assert rates[1] > rates[0]


def test_rates_next_to_nothing_are_not_too_high_with_normalization():
    """There both losses may rise: from moving averages of no batch."""
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization(momentum=0.5)(5 * inputs)
    x = keras.layers.Dense(8, "relu")(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    outputs = keras.layers.Dense(3)(x)
    model = compiled(
        keras.Model(inputs, outputs),
        optimizer=keras.optimizers.SGD(1e-6),
        hyperparameters=[kd.hyperparameters.LearningRate()],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=kd.SignDescent(STEP),
    )
    rises = 0
    for seed in range(8):
        # Right labels at first, and wrong ones to train on.
        y = model.predict(X, verbose=0).argmax(axis=1)
        first = model.evaluate(X, y, verbose=0)
        options = dict(y=(y + 1) % 3, validation_data=(X, y), seed=seed)
        logs = fit(model, **options, meta_iterations=1, keep="best")
        rises += np.ravel(logs["val_loss"])[0] > np.ravel(first)[0]
        assert model.diagnostics["past_edge"][-1] == 0.0
    assert rises


# ---- trainings that are calm


def noise(rows):
    """Returns targets that hang on one of 20 columns, and little on it."""
    generator = np.random.default_rng(rows)
    x = generator.normal(size=(rows, 20)).astype("float32")
    return x, 0.1 * x[:, :1] + generator.normal(size=(rows, 1)).astype("f4")


@pytest.fixture(scope="module")
def weak():
    """A linear model that begins at 0, and can do little but overfit."""
    inputs = keras.Input((20,))
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    return compiled(
        keras.Model(inputs, dense(inputs)),
        optimizer=keras.optimizers.SGD(0.05),
        loss=keras.losses.MeanSquaredError(),
        hyperparameters=[
            kd.hyperparameters.LearningRate(),
            kd.hyperparameters.L2("input", 1e-3),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=kd.SignDescent(STEP),
    )


def fit_weak(model, **options):
    (x, y), held_out = noise(40), noise(30)
    arguments = dict(batch_size=8, epochs=20, validation_data=held_out)
    model.fit(x, y, **arguments | options, meta_iterations=3, seed=0, verbose=0)
    return [h.raw.numpy().copy() for h in model.hyperparameters]


@pytest.mark.parametrize("class_weight", [None, {k: 3.0 for k in range(-4, 5)}])
def test_overfitting_is_not_the_edge(weak, class_weight):
    before = weak.hyperparameters[1].raw.numpy().copy()
    _, penalties = fit_weak(weak, class_weight=class_weight)
    assert weak.diagnostics["past_edge"] == [0.0] * 3
    assert (penalties != before).any()


@pytest.mark.filterwarnings("ignore:Values of 'learning_rate' ended at")
def test_rates_that_are_held_do_not_hold_the_rest(weak, monkeypatch):
    monkeypatch.setattr(edge, "GROWTH", 0.0)
    rate, l2 = weak.hyperparameters
    before = rate.raw.numpy().copy()
    lowest, rate.bounds = rate.bounds, (float(rate.value()), np.inf)
    penalties = l2.raw.numpy().copy()
    try:
        fit_weak(weak)
    finally:
        rate.bounds = lowest
    assert weak.diagnostics["past_edge"] == [1.0] * 3  # and nothing to lower
    assert (l2.raw.numpy() != penalties).any()
    assert (rate.raw.numpy() >= before).all()


# ---- words


@pytest.mark.parametrize(
    "past_edge, words",
    [
        ([5.0, 0.0, 0.0, 0.0], ""),  # long ago
        ([0.0] * 5 + [1.0], "last 2 of 6 meta-iterations 1 training diverged"),
        ([3.0], "last 1 of 1 meta-iterations 3 trainings diverged"),
        ([], ""),
    ],
)
def test_rates_that_ended_at_the_edge_are_told(past_edge, words):
    text = advice._at_the_edge(past_edge)
    assert words in text and bool(words) == bool(text)


def test_the_end_of_a_fit_tells(model):
    with pytest.warns(UserWarning, match="near the edge of stability"):
        fit(model, **SQUARED, meta_iterations=1)
