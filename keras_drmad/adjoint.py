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

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from keras_drmad import nested


class State(NamedTuple):
    """The state s_t of an elementary training.

    Attributes:
        params: list of tensors, the elementary parameters w_t.
        slots: list of tensors, the optimizer's own variables (velocities,
            moments, the count of iterations).
        buffers: list of tensors, what else training changes (moving averages
            of BatchNormalization, states of random generators).
    """

    params: list[tf.Tensor]
    slots: list[tf.Tensor]
    buffers: list[tf.Tensor]


class Problem(Protocol):
    """What the walks need to know of an elementary training.

    Attributes:
        update_is_smooth: bool, whether `update` has a finite derivative at
            every point.
    """

    update_is_smooth: bool

    def gradient(
        self, state: State, hparams: list[tf.Tensor], batch: Any
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the training gradient (as `state.params`), new buffers."""

    def update(
        self,
        state: State,
        gradients: list[tf.Tensor],
        hparams: list[tf.Tensor],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the parameters and slots after the optimizer's update."""

    def step(
        self, state: State, hparams: list[tf.Tensor], batch: Any, metrics: Any
    ) -> tuple[State, Any, tf.Tensor]:
        """Returns the next state, the metrics' new state and the loss."""

    def validation_loss(
        self, state: State, batch: Any, metrics: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Returns the batch's mean loss, its size, the metrics' new state."""


def step_back(
    problem: Problem,
    state: State,
    hparams: list[tf.Tensor],
    batch: Any,
    adjoint: list[tf.Tensor],
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

    Returns:
        `aᵀ ∂step/∂s`, as `adjoint`, and `aᵀ ∂step/∂λ`, as `hparams`. The cost
        is that of a gradient and a Hessian-vector product.
    """
    s = nested.float_leaves(state)
    with tf.GradientTape() as gradient_tape:
        gradient_tape.watch([s, hparams])
        g, buffers = problem.gradient(state, hparams, batch)
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
    # d_g is the paper's dv: the two products with it come from one tape.
    product, mixed_product = _vjp(
        gradient_tape,
        g + nested.float_leaves(buffers),
        [s, hparams],
        d_g + d_buffers,
    )
    return nested.add(d_state, product), nested.add(d_hparams, mixed_product)


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
