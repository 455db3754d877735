"""One elementary step, walked back: aᵀ ∂step/∂s and aᵀ ∂step/∂λ.

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

from keras_drmad.core import nested
from keras_drmad.core.state import Problem, State


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
    curvature: str = "hessian",
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Takes the adjoint of s_{t+1} to the adjoint of s_t.

    Where the derivative of the update is undefined because an entry is exactly
    zero, it counts as zero: a pixel that is never inked has gradient 0, Adam
    divides by √0 + ε there, and the tape gives 0 · ∞. (The update of such an
    entry is 0 on both sides, so 0 is also its one-sided derivative.)

    Args:
        problem: the elementary training.
        state: s_t, or what the way back takes for it.
        hparams: list of tensors λ.
        batch: the minibatch of iteration t.
        adjoint: a = ∂F/∂s_{t+1}, one tensor for each floating leaf of `state`
            (`nested.float_leaves`).
        curvature: `"hessian"`, or `"gauss_newton"` to take the Gauss-Newton
            matrix in place of the Hessian of the training loss.

    Returns:
        `aᵀ ∂step/∂s`, as `adjoint`, and `aᵀ ∂step/∂λ`, as `hparams`. The cost
        is that of a gradient and a Hessian-vector product.
    """
    s = nested.float_leaves(state)
    g, gradient_back = _LINEARIZED[curvature](problem, state, hparams, batch)
    with tf.GradientTape() as update_tape:
        update_tape.watch([s, g, hparams])
        params, slots = problem.update(state, g, hparams)

    # The adjoint's entries come in the order of the state's leaves.
    updated = nested.float_leaves([params, slots])
    d_updated, d_buffers = adjoint[: len(updated)], adjoint[len(updated) :]
    d_state, d_g, d_hparams = _vjp(
        update_tape, updated, [s, g, hparams], d_updated
    )
    if not problem.update_is_smooth:
        d_state = tf.nest.map_structure(_zero_where_undefined, d_state, s)
        d_g = tf.nest.map_structure(_zero_where_undefined, d_g, g)
    # d_g is the paper's dv.
    product, mixed_product = gradient_back(d_g, d_buffers)
    return nested.add(d_state, product), nested.add(d_hparams, mixed_product)


def second_products(
    problem: Problem,
    state: State,
    hparams: list[tf.Tensor],
    batch: Any,
    vector: list[tf.Tensor],
    curvature: str = "hessian",
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the products of second derivatives of the training loss.

    Args:
        problem: as for `step_back`, and so are the others.
        vector: list of tensors d, as `state.params`.

    Returns:
        The Hessian-vector product (∂²L/∂w²) d, as `state.params`, and the mixed
        product (∂²L/∂λ∂w)ᵀ d, as `hparams`.
    """
    _, gradient_back = _LINEARIZED[curvature](problem, state, hparams, batch)
    no_buffers = nested.zeros_like(nested.float_leaves(state.buffers))
    product, mixed_product = gradient_back(vector, no_buffers)
    return product[: len(state.params)], mixed_product


def _hessian(problem, state, hparams, batch):
    """Returns the gradient, and its transposed derivative as a function.

    The function takes (d_g, d_buffers) and returns the Hessian-vector product
    with d_g, a list as the state's floating leaves, and the mixed product, a
    list as `hparams`; both come from one tape.
    """
    s = nested.float_leaves(state)
    with tf.GradientTape() as tape:
        tape.watch([s, hparams])
        g, buffers = problem.gradient(state, hparams, batch)

    def back(d_g, d_buffers):
        outputs = g + nested.float_leaves(buffers)
        return _vjp(tape, outputs, [s, hparams], d_g + d_buffers)

    return g, back


def _gauss_newton(problem, state, hparams, batch):
    """As `_hessian`, with the Gauss-Newton matrix for the Hessian.

    The training loss is L(z(w), w): of the outputs z, and of the weights where
    penalties and the layers' own losses act. With J = ∂z/∂w and u = J d_g held
    constant, the product is the derivative of L_zᵀ u + L_wᵀ d_g,

        Jᵀ (L_zz u + L_zw d_g) + L_wz u + L_ww d_g,

    which leaves out only how J itself changes with w: Σ_k L_{z_k} ∇² z_k. For
    an L convex in z the first part is positive semi-definite (Schraudolph,
    *Fast curvature matrix-vector products for second-order gradient descent*,
    Neural Computation 14, 2002). The mixed product is exact.
    """
    s, w = nested.float_leaves(state), state.params
    with tf.GradientTape() as mixed_tape:
        mixed_tape.watch(hparams)
        g, _ = problem.gradient(state, hparams, batch)

    def back(d_g, d_buffers):
        with (
            tf.GradientTape() as second_tape,
            tf.GradientTape() as first_tape,
        ):
            second_tape.watch(s)
            first_tape.watch(w)
            with tf.GradientTape(persistent=True) as outputs_tape:
                outputs_tape.watch(s)
                z, buffers, loss_of = problem.outputs(state, hparams, batch)
            z_alone = [tf.stop_gradient(output) for output in z]
            second_tape.watch(z_alone)
            first_tape.watch(z_alone)
            loss = loss_of(z_alone)
            # The tapes go on recording: L_z and L_w are differentiated again.
            L_z, L_w = _vjp(first_tape, loss, [z_alone, w], None)
        u = _jvp(outputs_tape, z, w, d_g)
        d_z, d_s = _vjp(second_tape, L_z + L_w, [z_alone, s], u + d_g)
        outputs = z + nested.float_leaves(buffers)
        through = _vjp(outputs_tape, outputs, s, d_z + d_buffers)
        (mixed_product,) = _vjp(mixed_tape, g, [hparams], d_g)
        return nested.add(d_s, through), mixed_product

    return g, back


def _jvp(tape, outputs, inputs, d_inputs):
    """Returns ∂outputs/∂inputs d_inputs, from a persistent tape.

    The transposed product is linear in its vector c, and d_inputs times it has
    the derivative wanted with respect to c.
    """
    c = [tf.zeros_like(output) for output in outputs]
    with tf.GradientTape() as transposed:
        transposed.watch(c)
        products = _vjp(tape, outputs, inputs, c)
    return _vjp(transposed, products, c, d_inputs)


_LINEARIZED = {"hessian": _hessian, "gauss_newton": _gauss_newton}


def _vjp(tape, outputs, inputs, d_outputs):
    """Returns d_outputsᵀ ∂outputs/∂inputs, zeros where not connected."""
    return tape.gradient(
        outputs,
        inputs,
        output_gradients=d_outputs,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _zero_where_undefined(derivative, at):
    """Replaces inf and nan by 0 where `at`, or its square, is 0 in floats."""
    vanishing = tf.abs(at) <= tf.constant(1e-16, at.dtype)
    return tf.where(
        vanishing & ~tf.math.is_finite(derivative),
        tf.zeros_like(derivative),
        derivative,
    )
