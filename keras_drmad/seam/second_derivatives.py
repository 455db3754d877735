"""Second derivatives where TensorFlow has none, or wrong ones."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


def places_of(y_pred: Any, before_activation: bool) -> tuple[list, Callable]:
    """Returns the outputs in which a loss is to be linearized around.

    Cross-entropy on the probabilities of a softmax is as convex in these as in
    the logits, but its Gauss-Newton matrix there has rank one for each example.
    Keras takes the logits, where it finds the activation at the model's end;
    so does this.

    Args:
        y_pred: the model's outputs, nested tensors of a graph.
        before_activation: bool, whether to look for these places; otherwise
            the outputs themselves are returned.

    Returns:
        A list of tensors z, and the function from such a list to outputs in
        the structure of `y_pred`.
    """

    def split(output):
        kind = output.op.type
        if not before_activation or kind not in _ACTIVATIONS:
            return output, lambda z: z
        return output.op.inputs[0], _ACTIVATIONS[kind]

    pairs = [split(output) for output in tf.nest.flatten(y_pred)]

    def y_pred_of(z):
        flat = [
            activation(x) for x, (_, activation) in zip(z, pairs, strict=True)
        ]
        return tf.nest.pack_sequence_as(y_pred, flat)

    return [z for z, _ in pairs], y_pred_of


_ACTIVATIONS: dict[str, Callable] = {
    "Softmax": tf.nn.softmax,
    "Sigmoid": tf.nn.sigmoid,
}


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


def check_convex(problem: Any, batch: Any) -> None:
    """Looks for negative curvature of a training loss in the model's outputs.

    Tries the places before a last softmax or sigmoid first, then the outputs
    themselves, and leaves `problem` with the one that it found convex.

    Args:
        problem: an `ElementaryProblem`.
        batch: `(x, y, sample_weight)`, one minibatch.

    Raises:
        ValueError: if there is some in both, at the outputs for the batch or
            near.
    """
    for before in (True, False):
        problem.linearizes_before_activation = before
        if not _has_negative_curvature(problem, batch):
            return
    raise ValueError(
        "Invalid value for argument `curvature`. 'gauss_newton' needs a loss "
        "that is convex in the model's outputs. Received: the loss "
        f"{problem.model.loss!r}, which has negative curvature there. Use "
        "curvature='hessian', or a convex loss such as cross-entropy, squared "
        "error, Huber or hinge."
    )


def _has_negative_curvature(problem: Any, batch: Any) -> bool:
    """Returns whether dᵀ (∂²L/∂z²) d < 0 for one of some directions d."""

    @tf.function
    def curvatures():
        state, hparams = problem.state(), problem.hparams()
        z, _, loss_of = problem.outputs(state, hparams, batch)
        found = []
        for number in range(24):
            at = [
                x + (number % 3) * _normal(x, (number, k))
                for k, x in enumerate(z)
            ]
            d = [_one_example(x, (number, k)) for k, x in enumerate(z)]
            with tf.GradientTape() as second, tf.GradientTape() as first:
                second.watch(at)
                first.watch(at)
                slopes = first.gradient(
                    loss_of(at), at, unconnected_gradients="zero"
                )
            products = second.gradient(
                slopes, at, output_gradients=d, unconnected_gradients="zero"
            )
            pairs = list(zip(d, products, strict=True))
            curvature = sum(tf.reduce_sum(x * y) for x, y in pairs)
            scale = sum(tf.reduce_sum(tf.abs(x * y)) for x, y in pairs)
            found.append(curvature < -1e-3 * scale)
        return tf.stack(found)

    # TensorFlow counts the traces of all models together.
    curvatures._omit_frequent_tracing_warning = True
    return bool(tf.reduce_any(curvatures()))


def _normal(x: tf.Tensor, seed: tuple[int, int]) -> tf.Tensor:
    draws = tf.random.stateless_normal(x.shape, seed, dtype=tf.float32)
    return tf.cast(draws, x.dtype)


def _one_example(x: tf.Tensor, seed: tuple[int, int]) -> tf.Tensor:
    """Returns a direction in the outputs of one example; or in one of them.

    A sum over all would hide one negative curvature among many positive ones.
    """
    number, _ = seed
    d = _normal(x, seed)
    if number % 2:
        flat = tf.one_hot(tf.argmax(tf.reshape(d, [-1])), tf.size(d))
        return tf.cast(tf.reshape(flat, x.shape), x.dtype)
    example = tf.one_hot(number % x.shape[0], x.shape[0], dtype=x.dtype)
    return d * tf.reshape(example, [-1] + [1] * (len(x.shape) - 1))
