"""Mean and variance whose second derivatives are right."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf


@contextlib.contextmanager
def right_moments() -> Iterator[None]:
    """Replaces `tf.nn.moments`, through which normalization layers go.

    TensorFlow's stops the gradient of the variance at the mean, because that
    derivative is zero. The second one is not: without this, a Hessian through
    `BatchNormalization`, `LayerNormalization` or `GroupNormalization` would be
    wrong, without an error.
    """
    stock = tf.nn.moments
    tf.nn.moments = _moments
    try:
        yield
    finally:
        tf.nn.moments = stock


def _moments(
    x: tf.Tensor,
    axes: Sequence[int],
    shift: None = None,
    keepdims: bool = False,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance, as `tf.nn.moments`."""
    del shift, name
    mean = tf.reduce_mean(x, axes, keepdims=True)
    square = tf.math.squared_difference(x, mean)
    variance = tf.reduce_mean(square, axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance
