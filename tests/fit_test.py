"""`DrMADModel.fit`: what it logs, what it does, what it leaves behind."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from small_models import (
    FIT,
    VALIDATION,
    X,
    Y,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    cross_entropy,
    fit,
    hidden,
    linear,
    numbers,
    put_back,
)

PENALTY = 1e-2


@pytest.fixture(scope="module")
def model_of():
    return built_once(
        lambda: compiled(hidden(dropout=0.3), metrics=["accuracy"])
    )


@pytest.fixture
def model(model_of):
    """One model for the tests that can do with it: one trace for all."""
    return model_of()


def raw(model):
    return np.array(model.hyperparameters[0].raw)


# ---- logs


def test_logs(model):
    history = model.fit(
        **FIT, validation_data=VALIDATION, meta_iterations=3, initial_epoch=1
    )
    assert history.epoch == [1, 2]
    assert set(history.history) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "l2/mean",
    }
    assert set(model.diagnostics) == {
        "hypergradient_norm",
        "adjoint_growth",
        "reverse_steps",
        "reverse_steps_used",
        "copies",
        "l2/std",
    }
    for values in (history.history | model.diagnostics).values():
        assert [type(value) for value in values] == [float, float]


def test_diagnostics_are_logged_for_whoever_asks(model):
    recorder = kd.callbacks.Diagnostics()
    logs = fit(model, callbacks=[recorder], meta_iterations=2)
    assert {k: logs[k] for k in model.diagnostics} == model.diagnostics
    fit(model, meta_iterations=0)
    assert model.diagnostics == {}  # those of the last `fit`


def test_val_loss_is_what_evaluate_says(model):
    def evaluated(model):
        return model.evaluate(*VALIDATION, batch_size=5, return_dict=True)

    callback, found = at_each_end(model, evaluated)
    logs = fit(model, callbacks=[callback], validation_batch_size=5)
    for k in range(2):
        assert logs["val_loss"][k] == pytest.approx(found[k]["loss"], rel=1e-6)
        assert logs["val_accuracy"][k] == found[k]["accuracy"]


def test_loss_is_that_of_the_last_epoch_in_keras():
    twin = hidden()
    for layer in twin.layers[1:]:
        layer.kernel_regularizer = keras.regularizers.L2(PENALTY)
    twin = keras.models.clone_model(twin)
    twin.set_weights(hidden().get_weights())
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    twin.compile(
        optimizer, cross_entropy(), metrics=["accuracy"], run_eagerly=True
    )
    options = FIT | dict(epochs=3, shuffle=False)
    del options["seed"]
    expected = twin.fit(**options).history
    model = compiled(hidden(), metrics=["accuracy"])
    logs = fit(model, **options, meta_iterations=1)
    assert logs["loss"][0] == pytest.approx(expected["loss"][-1], rel=1e-5)
    assert logs["accuracy"][0] == pytest.approx(expected["accuracy"][-1])
    assert_same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-6)


def test_hyperparameters_are_logged_as_the_training_used_them(model):
    callback, found = at_each_end(
        model, lambda m: m.hyperparameters[0].value().numpy()
    )
    logs = fit(model, callbacks=[callback], meta_iterations=3)
    assert logs["l2/mean"] == pytest.approx([v.mean() for v in found])
    deviations = model.diagnostics["l2/std"]
    assert deviations == pytest.approx([v.std() for v in found], rel=1e-4)
    assert logs["l2/mean"][0] == pytest.approx(PENALTY)
    assert deviations[0] == 0 < deviations[1]


# ---- what a meta-iteration does


def test_trains_epochs_times_steps(model):
    fit(model, epochs=3, steps_per_epoch=5)
    assert int(model.optimizer.iterations) == 15


def test_the_same_seed_gives_the_same_numbers(model):
    before = numbers(model)

    def run(seed, **options):
        put_back(model, before)
        logs = fit(model, seed=seed, meta_iterations=3, **options)
        return logs, numbers(model)

    logs, after = run(3)
    same_logs, same = run(3)
    assert logs == same_logs
    assert_same(after, same)
    assert run(4)[0]["loss"] != logs["loss"]
    # The seed draws the masks of dropout, and not only the order.
    one, other = (run(seed, shuffle=False)[0]["loss"] for seed in (3, 4))
    assert one != other


def test_bounded_hyperparameters_stay_within():
    rate = kd.hyperparameters.LearningRate(bounds=(0.05, 0.2))
    l2 = kd.hyperparameters.L2(per="input", bounds=(1e-5, 1e-3))
    model = compiled(
        hyperparameters=[rate, l2], meta_optimizer=kd.SignDescent(3.0)
    )
    callback, found = at_each_end(
        model, lambda m: [h.value().numpy() for h in m.hyperparameters]
    )
    with pytest.warns(UserWarning, match="ended at their bounds"):
        fit(model, callbacks=[callback], meta_iterations=4, keep="last")
    found.append([rate.value().numpy(), l2.value().numpy()])
    for k, (low, high) in enumerate([(0.05, 0.2), (1e-5, 1e-3)]):
        values = np.array([each[k] for each in found])
        assert np.all(values >= low * (1 - 1e-6))
        assert np.all(values <= high * (1 + 1e-6))
        ends = np.isclose(values, low) | np.isclose(values, high)
        assert ends[-1].all()  # a step of 3 goes past either


# ---- what it leaves behind


@pytest.mark.parametrize("keep", ["best", "last"])
def test_ends_with_the_best_or_the_last(model, keep):
    after_first = []

    def spoil(epoch, logs):
        if epoch == 0:
            after_first.append([*model.get_weights(), raw(model)])
            model.hyperparameters[0].assign(3.0)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=spoil)
    logs = fit(model, callbacks=[callback], keep=keep)
    assert logs["val_loss"][0] < logs["val_loss"][1]
    loss, _ = model.evaluate(*VALIDATION, verbose=0)
    if keep == "best":
        assert_same([*model.get_weights(), raw(model)], after_first[0])
        assert loss == pytest.approx(logs["val_loss"][0], rel=1e-6)
    else:
        assert loss == pytest.approx(logs["val_loss"][1], rel=1e-6)
        # Adam's steps: one after each meta-iteration, the last one too.
        assert int(model.meta_optimizer.iterations) == 2


def test_without_meta_iterations_it_is_ordinary_training():
    regularizer = keras.regularizers.L2(PENALTY)
    twin = keras.Sequential(
        [
            keras.Input((X.shape[1],)),
            keras.layers.Dense(3, kernel_regularizer=regularizer),
        ]
    )
    twin.set_weights(linear().get_weights())
    twin.compile(keras.optimizers.Adam(0.1), cross_entropy(), run_eagerly=True)
    model = compiled(optimizer=keras.optimizers.Adam(0.1))
    before = raw(model)
    options = dict(batch_size=8, epochs=3, shuffle=False, verbose=0)
    for _ in range(2):  # the second goes on with Adam's moments
        expected = twin.fit(X, Y, **options).history
        found = model.fit(X, Y, **options, meta_iterations=0).history
        np.testing.assert_allclose(
            found["loss"], expected["loss"], rtol=1e-5, err_msg="loss"
        )
    assert set(found) == {"loss"}
    tolerance = dict(rtol=1e-4, atol=1e-5)
    assert_same(model.get_weights(), twin.get_weights(), **tolerance)
    np.testing.assert_array_equal(raw(model), before)
    assert int(model.optimizer.iterations) == 18


def test_ordinary_training_validates_each_epoch(model):
    callback, found = at_each_end(
        model, lambda m: m.evaluate(*VALIDATION, verbose=0)[0]
    )
    logs = fit(model, callbacks=[callback], meta_iterations=0, epochs=3)
    assert logs["val_loss"] == pytest.approx(found, rel=1e-6)
    assert len(found) == 3
