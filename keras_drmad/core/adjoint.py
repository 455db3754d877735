"""One elementary step, taken backward: aᵀ ∂step/∂s and aᵀ ∂step/∂λ.

An elementary step has two halves:

    g, buffers'     = gradient(params, buffers, λ, batch)
    params', slots' = update(params, slots, g, λ)

(if the model's call itself assigned parameters, the second half begins with
those) and its adjoint takes them in the opposite order. With the optimizer of
the paper the second half gives the lines `dv += α dw` and `dv *= γ`, and the
first one, a gradient differentiated once more, gives the Hessian-vector product
and the mixed product (Fu et al. 2016, Algorithm 1; Maclaurin et al. 2015,
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
    g, called = problem.gradient(state, hparams, batch)
    params, slots = problem.update(called, g, hparams)
    return called._replace(params=params, slots=slots)


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
        state: s_t, or what stands for it on the walk backward. The slots
            `problem.unread_slots` may have any values.
        hparams: list of tensors λ.
        batch: the minibatch of iteration t.
        adjoint: a = ∂F/∂s_{t+1}, one tensor for each floating leaf of `state`
            (`nested.float_leaves`).
        curvature: the Hessian of the training loss, or what takes its place.

    Returns:
        `aᵀ ∂step/∂s`, as `adjoint`, and `aᵀ ∂step/∂λ`, as `hparams`. The cost
        is that of a gradient and a Hessian-vector product.
    """
    g, called, gradient_backward = curvature.linearized(
        problem, state, hparams, batch
    )
    params, slots = problem.update(called, g, hparams)

    # The adjoint's entries come in the order of the state's leaves.
    updated = nested.float_leaves([params, slots])
    d_updated, d_buffers = adjoint[: len(updated)], adjoint[len(updated) :]
    at = nested.float_leaves([called.params, called.slots])
    g = nested.float_leaves(g)
    d_at, d_g, d_hparams = vjp(updated, [at, g, hparams], d_updated)
    if not problem.update_is_smooth:
        # The others may stand in `state` with any values, such as zeros.
        unread = {id(called.slots[k]) for k in problem.unread_slots}
        d_at = [
            d if id(x) in unread else _zero_where_undefined(d, x)
            for d, x in zip(d_at, at, strict=True)
        ]
        d_g = tf.nest.map_structure(_zero_where_undefined, d_g, g)
    d_params, d_slots = d_at[: len(params)], d_at[len(params) :]
    # d_g is the paper's dv.
    product, mixed_product = gradient_backward(d_g, d_params, d_buffers)
    none = nested.zeros_like
    d_slots = [*none(d_params), *d_slots, *none(d_buffers)]
    return nested.add(d_slots, product), nested.add(d_hparams, mixed_product)


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
    g, called, gradient_backward = curvature.linearized(
        problem, state, hparams, batch
    )
    product, mixed_product = gradient_backward(
        rows.picked(vector, g),
        nested.zeros_like(called.params),
        nested.zeros_like(nested.float_leaves(called.buffers)),
    )
    return product[: len(state.params)], mixed_product


def is_undefined(derivative, at):
    """Returns where a derivative is not finite, as `at`, or its square, is 0.

    In floats: where the square of `at` vanishes beside 1.
    """
    vanishing = tf.abs(at) <= tf.constant(1e-16, at.dtype)
    return vanishing & ~tf.math.is_finite(derivative)


def _zero_where_undefined(derivative, at):
    undefined = is_undefined(derivative, at)
    return tf.where(undefined, tf.zeros_like(derivative), derivative)
