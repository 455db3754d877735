"""Second derivatives where TensorFlow has none, or wrong ones."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

# Gradients that TensorFlow takes for constants: what passes through them is
# missing from a second derivative, without an error.
MISSING = {
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "ResizeBilinearGrad",
    "SparseAddGrad",
}


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


def check_second_derivatives(operations: set[str]) -> None:
    """Checks that the gradient of a loss can be differentiated.

    Args:
        operations: the kinds of operations in the graph of the gradient.

    Raises:
        ValueError: if a part of the second derivative would be missing.
    """
    missing = sorted(operations & MISSING)
    if missing:
        raise ValueError(
            f"TensorFlow has no second derivative for {missing}, which a "
            "layer of the model uses: the hypergradient would be wrong. Use "
            "another layer, such as `UpSampling2D(interpolation='nearest')` "
            "or `Conv2DTranspose` in place of a bilinear resizing."
        )
