"""Dtypes other than float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from small_models import (
    VALIDATION,
    X,
    Y,
    compiled,
    fit,
    hidden,
)


def test_float64(request):
    def use(dtype):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)

    use("float64")
    request.addfinalizer(lambda: use("float32"))
    model = compiled()
    fit(model)
    found = model.hypergradient(X, Y, 8, validation_data=VALIDATION)
    assert model.hyperparameters[0].raw.dtype == "float64"
    assert found.gradients["l2"].dtype == tf.float64
    # More digits than a float has.
    loss = model.validation_loss_after(X, Y, 8, validation_data=VALIDATION)
    assert loss != float(np.float32(loss))
    assert found.validation_loss == pytest.approx(loss, rel=1e-14)


def test_mixed_bfloat16(request):
    keras.config.set_dtype_policy("mixed_bfloat16")
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    half = compiled(hidden())
    assert half.layers[1].compute_dtype == "bfloat16"
    logs = fit(half)
    keras.config.set_dtype_policy("float32")
    whole = compiled(hidden())
    expected = fit(whole)
    for name in ("loss", "val_loss"):
        assert logs[name] == pytest.approx(expected[name], rel=2e-2)
        assert logs[name] != expected[name]
    norm = whole.diagnostics["hypergradient_norm"]
    assert half.diagnostics["hypergradient_norm"] == pytest.approx(
        norm, rel=0.2
    )


def test_mixed_float16_is_refused(request):
    keras.config.set_dtype_policy("mixed_float16")
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    with pytest.raises(TypeError, match="`optimizer`.*mixed_bfloat16"):
        compiled(hidden())
