"""`SignDescent`, against values computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd


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
    kind = kd.hyperparameters.L2("unit", initial=0.1)
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
    model.fit(**data, meta_iterations=1, restore_best=False, seed=0, verbose=0)
    np.testing.assert_allclose(
        kind.raw, before - 0.5 * np.sign(gradient), rtol=1e-6
    )
