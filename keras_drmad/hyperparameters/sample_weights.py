"""Learned weights of examples, beside those that a user gives."""

from typing import Any

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
