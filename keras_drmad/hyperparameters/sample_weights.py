"""Weights of examples: learned ones beside a user's, in losses of any shape."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def weighted(sample_weight: Any, weights: tf.Tensor) -> Any:
    """Returns sample weights times learned weights of the examples.

    Args:
        sample_weight: nested tensors `(batch_size, ...)`, with `None` for 1.
        weights: `(batch_size,)`.
    """
    if all(a is None for a in tf.nest.flatten(sample_weight)):
        return weights

    def times(a):
        if a is None:
            return weights
        rest = [1] * (len(a.shape) - 1)
        return tf.reshape(tf.cast(weights, a.dtype), [-1, *rest]) * a

    return tf.nest.map_structure(times, sample_weight)


def as_outputs(
    given: Any, outputs: Any, names: Sequence[str] | None
) -> list[Any] | None:
    """Returns what belongs to each output, in the order of the outputs.

    `None` where that is not clear.

    Args:
        given: one for all outputs; or nested as the outputs, or in a dict by
            their names, with `None` for those that are missing.
        outputs: nested, whatever is nested as the outputs.
        names: list of str, the outputs' names if they are in a list.
    """
    flat = tf.nest.flatten(outputs)
    if not tf.nest.is_nested(given):
        return [given] * len(flat)
    if isinstance(given, dict):
        in_dict = isinstance(outputs, dict)
        keys = sorted(outputs) if in_dict else list(names or [])
        if len(keys) == len(flat) and set(given) <= set(keys):
            given = [given.get(key) for key in keys]
    found = tf.nest.flatten(given)
    return found if len(found) == len(flat) else None


def of_examples(loss: keras.losses.Loss) -> Callable:
    """Returns a loss whose sample weights are weights of examples."""

    def weighed(y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            values = _not_reduced(loss)(y_true, y_pred)
            sample_weight = _spread(sample_weight, values)
        return loss(y_true, y_pred, sample_weight)

    return weighed


def _not_reduced(loss: keras.losses.Loss) -> keras.losses.Loss:
    """Returns a loss that returns the losses of all examples."""
    # Not a copy by config: a loss may have no config.
    each = object.__new__(type(loss))
    vars(each).update(vars(loss), reduction=None)
    return each


def _spread(weights: Any, values: tf.Tensor) -> Any:
    """Returns weights of the first axes of some values, for all their axes."""
    weights = tf.convert_to_tensor(weights)
    missing = len(values.shape) - len(weights.shape)
    if missing <= 0 or not len(weights.shape):
        return weights
    shape = tf.concat([tf.shape(weights), [1] * missing], 0)
    return tf.broadcast_to(tf.reshape(weights, shape), tf.shape(values))
