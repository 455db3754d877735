"""Where a training loss is convex in outputs, as Gauss-Newton needs it."""

from typing import Any

import tensorflow as tf

from keras_drmad.core.curvature import GaussNewton
from keras_drmad.core.state import Batch
from keras_drmad.keras_internals import quiet


def convex_places(problem: Any, batch: Batch) -> GaussNewton:
    """Returns the Gauss-Newton matrix at the places where the loss is convex.

    Looks for negative curvature at the places before a last softmax or sigmoid
    first, then at the outputs themselves.

    Args:
        problem: the elementary training.
        batch: one minibatch.

    Raises:
        ValueError: if there is negative curvature in both, at the outputs for
            the batch or near.
    """
    for before_activation in (True, False):
        if not _has_negative_curvature(problem, batch, before_activation):
            return GaussNewton(before_activation)
    raise ValueError(
        "Invalid value for argument `curvature`. 'gauss_newton' needs a loss "
        "that is convex in the model's outputs. Received: the loss "
        f"{problem.model.loss!r}, which has negative curvature there. Use "
        "curvature='hessian', or a convex loss such as cross-entropy, squared "
        "error, Huber or hinge."
    )


def _has_negative_curvature(
    problem: Any, batch: Batch, before_activation: bool
) -> bool:
    """Returns whether dᵀ (∂²L/∂z²) d < 0 for one of some directions d."""

    @tf.function(autograph=False)
    def is_negative(number):
        state, hparams = problem.state(), problem.hparams()
        z, _, loss_of = problem.outputs(
            state, hparams, batch, before_activation
        )
        at = [
            x + tf.cast(number % 3, x.dtype) * _normal(x, number, k)
            for k, x in enumerate(z)
        ]
        d = [_one_example(x, number, k) for k, x in enumerate(z)]
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
        return curvature < -1e-3 * scale

    # Traced once, for all numbers; traced all in one, it takes seconds.
    return any(bool(quiet(is_negative)(tf.constant(n))) for n in range(24))


def _normal(x: tf.Tensor, number: tf.Tensor, k: int) -> tf.Tensor:
    draws = tf.random.stateless_normal(x.shape, [number, k], dtype=tf.float32)
    return tf.cast(draws, x.dtype)


def _one_example(x: tf.Tensor, number: tf.Tensor, k: int) -> tf.Tensor:
    """Returns a direction in the outputs of one example; or in one of them.

    A sum over all would hide one negative curvature among many positive ones.
    """
    d = _normal(x, number, k)
    flat = tf.one_hot(tf.argmax(tf.reshape(d, [-1])), tf.size(d), dtype=x.dtype)
    example = tf.one_hot(number % x.shape[0], x.shape[0], dtype=x.dtype)
    return tf.where(
        number % 2 == 1,
        tf.reshape(flat, x.shape),
        d * tf.reshape(example, [-1] + [1] * (len(x.shape) - 1)),
    )
