"""Meta-optimizers, against values computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from small_models import (
    At,
    assert_helps,
    assert_same,
    compiled,
    fit,
    numbers,
)


def after(optimizer, gradients, start=(1.0, 2.0, 3.0)):
    """Returns a variable after one step for each gradient."""
    variable = keras.Variable(np.array(start), dtype="float32")
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    return variable.numpy()


def test_each_entry_moves_by_the_step_against_its_sign():
    moved = after(kd.SignDescent(0.25), [[1e-9, -1e9, 0.0]])
    np.testing.assert_array_equal(moved, [0.75, 2.25, 3.0])


def test_steps_add_up():
    gradients = [[1.0, -1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -3.0, -1.0]]
    moved = after(kd.SignDescent(0.25), gradients)
    np.testing.assert_array_equal(moved, [0.25, 2.25, 3.25])


def test_step_of_a_scalar():
    variable = keras.Variable(1.0)
    kd.SignDescent(0.5).apply([tf.constant(-3.0)], [variable])
    assert float(variable) == 1.5


def test_step_may_be_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [0.5, 0.25]
    )
    moved = after(kd.SignDescent(schedule), [[1.0, 1.0, 1.0]] * 3)
    # Keras's schedule has its first value for iterations 0 and 1.
    np.testing.assert_array_equal(moved, [-0.25, 0.75, 1.75])


def test_step_may_be_set_later():
    optimizer = kd.SignDescent(0.5)
    optimizer.learning_rate = 0.25
    np.testing.assert_array_equal(
        after(optimizer, [[1.0] * 3]), [0.75, 1.75, 2.75]
    )


@pytest.mark.parametrize("step", [0.25, 1])
def test_config_round_trip(step):
    optimizer = kd.SignDescent(step)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is kd.SignDescent
    assert copy.get_config() == optimizer.get_config()
    gradients = [[1.0, -1.0, 1.0]]
    np.testing.assert_array_equal(
        after(copy, gradients), after(optimizer, gradients)
    )


def test_fit_moves_the_raw_values_by_the_step():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(8, 3)), generator.normal(size=(8, 1))
    inputs = keras.Input((3,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(1)(inputs))
    kind = kd.hyperparameters.L2("input", initial=0.1)
    model.compile(
        "sgd",
        "mse",
        hyperparameters=[kind],
        meta_optimizer=kd.SignDescent(0.5),
        jit_compile=False,
    )
    before = kind.raw.numpy()
    data = {"x": x, "y": y, "validation_data": (x[:4], y[:4]), "batch_size": 4}
    gradient = model.hypergradient(**data, seed=0).gradients["l2"]
    model.fit(
        **data,
        meta_iterations=1,
        initial_weights="same",
        keep="last",
        seed=0,
        verbose=0,
    )
    np.testing.assert_allclose(
        kind.raw, before - 0.5 * np.sign(gradient), rtol=1e-6
    )


# ---- one for each hyperparameter


def grouped(**options):
    """Returns a model in which signs move one kind, Adam another one."""
    defaults = dict(
        hyperparameters=[
            kd.hyperparameters.L2(),
            kd.hyperparameters.LearningRate(),
        ],
        meta_optimizer={
            "l2": kd.SignDescent(0.5),
            "learning_rate": keras.optimizers.Adam(0.25),
        },
    )
    return compiled(**defaults | options)


def raws(model):
    return {h.name: h.raw.numpy() for h in model.hyperparameters}


def test_each_hyperparameter_moves_by_its_own_optimizer():
    model = grouped()
    before = raws(model)
    fit(model, meta_iterations=1, keep="last")
    after = raws(model)
    # Adam's first step has the size of its rate, too, but for its epsilon.
    for name, step in {"l2": 0.5, "learning_rate": 0.25}.items():
        moved = np.abs(after[name] - before[name])
        np.testing.assert_allclose(moved, step, rtol=1e-3)


def test_hyperparameters_that_are_not_named_stay():
    model = grouped(meta_optimizer={"l2": "adam"})
    before = raws(model)
    fit(model, keep="last")
    after = raws(model)
    np.testing.assert_array_equal(
        after["learning_rate"], before["learning_rate"]
    )
    assert np.all(after["l2"] != before["l2"])


def test_optimizers_for_each_are_saved_and_loaded(tmp_path):
    model = grouped()
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(numbers(loaded), numbers(model))
    assert loaded.get_compile_config() == model.get_compile_config()
    assert fit(loaded) == fit(model)
    assert_same(numbers(loaded), numbers(model))


class Crash(Exception):
    pass


def crash():
    raise Crash


def test_a_fit_with_optimizers_for_each_goes_on(tmp_path):
    whole = fit(grouped(), meta_iterations=4)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    with pytest.raises(Crash):
        callbacks = [backup(), At(2, crash, within=True)]
        fit(grouped(), meta_iterations=4, callbacks=callbacks)
    resumed = fit(grouped(), meta_iterations=4, callbacks=[backup()])
    assert resumed == whole


def test_an_optimizer_moves_the_values_of_one_model():
    mine = keras.optimizers.Adam(0.1)
    grouped(meta_optimizer={"l2": mine})
    with pytest.raises(ValueError, match=r"`meta_optimizer`.*Pass a new one"):
        grouped(meta_optimizer={"l2": mine})


@pytest.mark.parametrize(
    "kind, given, received",
    [
        (ValueError, {}, "={}"),
        (ValueError, {"l1": "adam"}, "'l1'"),
        (ValueError, {"l2": "nope"}, "'nope'"),
        (TypeError, {"l2": 0.1}, "=0.1"),
    ],
)
def test_wrong_optimizers_for_each(kind, given, received):
    with pytest.raises(kind) as error:
        grouped(meta_optimizer=given)
    assert_helps(error, "meta_optimizer", received)
