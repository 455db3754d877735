"""A pretrained body with a new head: what is drawn anew, and what it helps."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_drmad as kd
from conftest import reseed
from small_models import at_each_end, cross_entropy


def digits(classes, size, seed):
    """Returns images of some classes, and the classes from 0."""
    x, y = load_digits(return_X_y=True)
    places = np.flatnonzero(np.isin(y, classes))
    places = np.random.default_rng(seed).permutation(places)[:size]
    return (x[places] / 16).astype("float32"), y[places] - min(classes)


def pretrained():
    """Returns a body that was trained on the digits 0 to 4."""
    reseed()
    inputs = keras.Input((64,))
    outputs = keras.layers.Dense(30, activation="tanh", name="body")(inputs)
    body = keras.Model(inputs, outputs)
    whole = keras.Sequential([body, keras.layers.Dense(5)])
    whole.compile(keras.optimizers.Adam(0.01), cross_entropy())
    whole.fit(*digits(range(5), 600, 0), epochs=5, verbose=0)
    return body


@pytest.mark.slow
@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_body_stays_and_tuning_helps_new_heads(is_frozen):
    body = pretrained()
    body.trainable = not is_frozen
    weights = body.get_weights()
    outputs = keras.layers.Dense(5, name="head")(body.output)
    model = kd.DrMADModel(body.input, outputs)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-5)],
        jit_compile=False,
    )
    x, y = digits(range(5, 10), 700, 1)
    training = dict(
        x=x[:40],
        y=y[:40],
        batch_size=20,
        steps_per_epoch=200,
        validation_data=(x[40:300], y[40:300]),
        verbose=0,
    )
    callback, found = at_each_end(
        model, lambda m: [np.array(w) for w in m.start_weights]
    )
    model.fit(**training, meta_iterations=8, callbacks=[callback], seed=0)
    if is_frozen:
        for now, before in zip(body.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, before)
        heads = [start[0] for start in found]
    else:
        for start in found:
            np.testing.assert_array_equal(start[0], weights[0])
            np.testing.assert_array_equal(start[1], weights[1])
        heads = [start[2] for start in found]
    assert all(np.all(a != b) for a, b in zip(heads, heads[1:], strict=False))
    check = model.check_hyperparameters(
        **training, test_data=(x[300:], y[300:]), draws=4
    )
    assert check.verdict == "carries over", str(check)
