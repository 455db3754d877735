"""One elementary step, taken backward: aᵀ ∂step/∂s and aᵀ ∂step/∂λ.

An elementary step has two halves:

    g, buffers'     = gradient(params, buffers, λ, batch)
    params', slots' = update(params, slots, g, λ)

and its adjoint takes them in the opposite order. With the optimizer of the
paper the second half gives the lines `dv += α dw` and `dv *= γ`, and the first
one, a gradient differentiated once more, gives the Hessian-vector product and
the mixed product (Fu et al. 2016, Algorithm 1; Maclaurin et al. 2015,
Algorithm 2).
"""

from typing import Any

import tensorflow as tf

from keras_drmad.core import nested, rows
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.state import Curvature, Problem, State


def step(
    problem: Problem, state: State, hparams: list[tf.Tensor], batch: Any
) -> State:
    """Returns the next state."""
    g, buffers = problem.gradient(state, hparams, batch)
    params, slots = problem.update(state, g, hparams)
    return State(params, slots, buffers)


def step_back(
    problem: Problem,
    state: State,
    hparams: list[tf.Tensor],
    batch: Any,
    adjoint: list[tf.Tensor],
    curvature: Curvature = HESSIAN,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Takes the adjoint of s_{t+1} to the adjoint of s_t.

    Where the derivative of the update is undefined because an entry is exactly
    zero, it counts as zero: a pixel that is never inked has gradient 0, Adam
    divides by √0 + ε there, and the tape gives 0 · ∞. (The update of such an
    entry is 0 on both sides, so 0 is also its one-sided derivative.)

    Args:
        problem: the elementary training.
        state: s_t, or what stands for it on the walk backward.
        hparams: list of tensors λ.
        batch: the minibatch of iteration t.
        adjoint: a = ∂F/∂s_{t+1}, one tensor for each floating leaf of `state`
            (`nested.float_leaves`).
        curvature: the Hessian of the training loss, or what takes its place.

    Returns:
        `aᵀ ∂step/∂s`, as `adjoint`, and `aᵀ ∂step/∂λ`, as `hparams`. The cost
        is that of a gradient and a Hessian-vector product.
    """
    s = nested.float_leaves(state)
    g, gradient_backward = curvature.linearized(problem, state, hparams, batch)
    params, slots = problem.update(state, g, hparams)

    # The adjoint's entries come in the order of the state's leaves.
    updated = nested.float_leaves([params, slots])
    d_updated, d_buffers = adjoint[: len(updated)], adjoint[len(updated) :]
    g = nested.float_leaves(g)
    d_state, d_g, d_hparams = vjp(updated, [s, g, hparams], d_updated)
    if not problem.update_is_smooth:
        d_state = tf.nest.map_structure(_zero_where_undefined, d_state, s)
        d_g = tf.nest.map_structure(_zero_where_undefined, d_g, g)
    # d_g is the paper's dv.
    product, mixed_product = gradient_backward(d_g, d_buffers)
    return nested.add(d_state, product), nested.add(d_hparams, mixed_product)


def second_products(
    problem: Problem,
    state: State,
    hparams: list[tf.Tensor],
    batch: Any,
    vector: list[tf.Tensor],
    curvature: Curvature = HESSIAN,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the products of second derivatives of the training loss.

    Args:
        problem: as for `step_back`, and so are the others.
        vector: list of tensors d, as `state.params`.

    Returns:
        The Hessian-vector product (∂²L/∂w²) d, as `state.params`, and the mixed
        product (∂²L/∂λ∂w)ᵀ d, as `hparams`.
    """
    g, gradient_backward = curvature.linearized(problem, state, hparams, batch)
    no_buffers = nested.zeros_like(nested.float_leaves(state.buffers))
    product, mixed_product = gradient_backward(
        rows.picked(vector, g), no_buffers
    )
    return product[: len(state.params)], mixed_product


def _zero_where_undefined(derivative, at):
    """Replaces inf and nan by 0 where `at`, or its square, is 0 in floats."""
    vanishing = tf.abs(at) <= tf.constant(1e-16, at.dtype)
    return tf.where(
        vanishing & ~tf.math.is_finite(derivative),
        tf.zeros_like(derivative),
        derivative,
    )
