"""The callbacks record what the model held."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
import small_models


def test_history_holds_the_values_each_training_used():
    recorder = kd.callbacks.HyperparameterHistory()
    logs = small_models.fit(small_models.compiled(), callbacks=[recorder])
    rows = recorder.values["l2"]
    assert rows.shape[0] == len(logs["val_loss"])
    means = rows.reshape(len(rows), -1).mean(axis=1)
    np.testing.assert_allclose(means, logs["l2/mean"], rtol=1e-5)
    assert (rows[0] != rows[-1]).any()


def test_held_out_adds_results_that_later_callbacks_see():
    x, y = small_models.data(seed=7)
    seen: list[dict] = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs))
    )
    model = small_models.compiled()
    callbacks = [kd.callbacks.HeldOut(x, y), watch]
    small_models.fit(model, callbacks=callbacks, keep="last")
    loss = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(seen[-1]["test_loss"], loss, rtol=1e-5)


@pytest.mark.parametrize("meta_iterations", [0, 2])
def test_held_out_data_are_tried_before_the_first_training(meta_iterations):
    model = small_models.compiled()
    before = model.get_weights()
    x, y = small_models.data(seed=7)
    for wrong in [((x, y),), (x[:, :2], y), (x, y[:5])]:
        with pytest.raises(ValueError, match="the data of `HeldOut`"):
            small_models.fit(
                model,
                callbacks=[kd.callbacks.HeldOut(*wrong)],
                meta_iterations=meta_iterations,
            )
    small_models.assert_same(model.get_weights(), before)


def test_the_meta_rate_falls_where_nothing_improves():
    model = small_models.compiled(meta_optimizer=kd.SignDescent(0.8))
    reduce = kd.callbacks.ReduceMetaRateOnPlateau(
        min_delta=1e9,  # no loss is so much lower than another
        factor=0.5,
        patience=1,
    )
    raws = [np.array(model.hyperparameters[0].raw)]
    after = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: raws.append(
            np.array(model.hyperparameters[0].raw)
        )
    )
    logs = small_models.fit(
        model, callbacks=[reduce, after], meta_iterations=4, keep="last"
    )
    raws.append(np.array(model.hyperparameters[0].raw))
    # The first is the best so far; each that follows halves the rate.
    rates = [0.8, 0.4, 0.2, 0.1]
    steps = np.abs(np.diff(raws[1:], axis=0))
    np.testing.assert_allclose(
        steps, np.multiply.outer(rates, np.ones(4)), rtol=1e-4
    )
    assert logs["meta_learning_rate"] == pytest.approx([0.8, 0.8, 0.4, 0.2])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_several_meta_optimizers_have_no_one_rate():
    model = small_models.compiled(meta_optimizer={"l2": kd.SignDescent()})
    reduce = kd.callbacks.ReduceMetaRateOnPlateau()
    with pytest.raises(TypeError, match="one meta-optimizer"):
        small_models.fit(model, callbacks=[reduce])
