"""Arguments and random draws, as the layers of this package have them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.transforms import checked_transform
from keras_drmad.layers.learned_value import LearnedValue


def learned(
    layer: keras.Layer,
    argument: str,
    initial: Any,
    transform: str,
    bounds: tuple[float | None, float | None] | None,
    *,
    is_scalar: bool = False,
) -> LearnedValue:
    """Returns a learned value for a layer, from an argument of the layer.

    Args:
        layer: the layer, whose precision the value has.
        argument: str, the argument's name.
        initial: number or array, what the argument received.
        transform: str, as for `LearnedValue`.
        bounds: as for `LearnedValue`.
        is_scalar: bool, whether arrays are refused.

    Raises:
        TypeError: if `initial` is not a number, or an array of numbers.
        ValueError: if `initial` is out of the range or the bounds.
    """
    kind = checked_transform(transform)
    ends = values.checked_bounds(bounds, kind)
    array = np.asarray(initial)
    expected = "a number" if is_scalar else "a number or an array of numbers"
    is_number = array.dtype.kind in "fiu"
    if not is_number or (is_scalar and array.ndim):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected {expected}. "
            f"Received: {argument}={initial!r}."
        )
    if not np.isfinite(values.raw_of(array.astype(float), ends, kind)).all():
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected {expected}, "
            f"{values.range_in_words(ends, kind)}. "
            f"Received: {argument}={initial!r}. To start from no effect, take "
            "a small positive number; to have no effect, leave the layer out "
            "or, where the layer has several strengths, pass None."
        )
    return LearnedValue(
        initial,
        transform,
        bounds=bounds,
        dtype=layer.dtype_policy,
        name=argument,
    )


def check_broadcasts(
    argument: str, values: LearnedValue, input_shape: tuple[int | None, ...]
) -> None:
    """Checks that a learned value broadcasts to the inputs' last axes.

    Args:
        argument: str, the layer's argument for the value.
        values: the `LearnedValue`.
        input_shape: shape of the inputs, with `None` for unknown sizes.

    Raises:
        ValueError: if the inputs' last axes have other sizes.
    """
    shape = values.initial.shape
    last = tuple(input_shape)[len(input_shape) - len(shape) :]
    fits = len(shape) < len(input_shape) or not shape
    if not fits or any(
        n not in (1, m) for n, m in zip(shape, last, strict=True)
    ):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected a number, or "
            "an array with the sizes of the inputs' last axes, or 1 in their "
            f"places. Received: {argument} of shape {shape}, for inputs of "
            f"shape {tuple(input_shape)}."
        )


def precision(layer: keras.Layer) -> str:
    """Returns the dtype in which a layer draws noise and computes with noise.

    The dtype of the inputs, but at least float32: in bfloat16 one of 256
    uniform draws would be 0.
    """
    return keras.backend.result_type(layer.compute_dtype, "float32")


def value_of(learned_value: LearnedValue, dtype: str) -> tf.Tensor:
    """Returns a learned value in another precision."""
    return tf.cast(learned_value.value(), dtype)
