"""The callbacks record what the model held."""

import keras
import numpy as np

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
