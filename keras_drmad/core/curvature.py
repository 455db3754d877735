"""The second derivative that a step of the adjoint multiplies with.

A curvature is a frozen value: curvatures that are equal share compiled loops.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.state import Curvature, Problem, State


@dataclasses.dataclass(frozen=True)
class Hessian(Curvature):
    """The Hessian of the training loss; both products come from one tape."""

    def linearized(
        self,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
    ) -> tuple[list[tf.Tensor], Callable]:
        s = nested.float_leaves(state)
        with tf.GradientTape() as tape:
            tape.watch([s, hparams])
            g, buffers = problem.gradient(state, hparams, batch)

        def backward(d_g, d_buffers):
            outputs = g + nested.float_leaves(buffers)
            return vjp(tape, outputs, [s, hparams], d_g + d_buffers)

        return g, backward


@dataclasses.dataclass(frozen=True)
class GaussNewton(Curvature):
    """The Gauss-Newton matrix in the place of the Hessian.

    The training loss is L(z(w), w): of the outputs z, and of the weights where
    penalties and the layers' own losses act. With J = ∂z/∂w and u = J d_g held
    constant, the product is the derivative of L_zᵀ u + L_wᵀ d_g,

        Jᵀ (L_zz u + L_zw d_g) + L_wz u + L_ww d_g,

    which leaves out only how J itself changes with w: Σ_k L_{z_k} ∇² z_k. For
    an L convex in z the first part is positive semi-definite (Schraudolph,
    *Fast curvature matrix-vector products for second-order gradient descent*,
    Neural Computation 14, 2002). The mixed product is exact.

    Attributes:
        before_activation: bool, whether z are the places before a last softmax
            or sigmoid, in which most losses are convex; otherwise the outputs.
    """

    before_activation: bool = True

    def linearized(
        self,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
    ) -> tuple[list[tf.Tensor], Callable]:
        s, w = nested.float_leaves(state), state.params
        with tf.GradientTape() as mixed_tape:
            mixed_tape.watch(hparams)
            g, _ = problem.gradient(state, hparams, batch)

        def backward(d_g, d_buffers):
            with (
                tf.GradientTape() as second_tape,
                tf.GradientTape() as first_tape,
            ):
                second_tape.watch(s)
                first_tape.watch(w)
                with tf.GradientTape(persistent=True) as outputs_tape:
                    outputs_tape.watch(s)
                    z, buffers, loss_of = problem.outputs(
                        state, hparams, batch, self.before_activation
                    )
                z_alone = [tf.stop_gradient(output) for output in z]
                second_tape.watch(z_alone)
                first_tape.watch(z_alone)
                loss = loss_of(z_alone)
                # The tapes go on recording: L_z, L_w are differentiated again.
                L_z, L_w = vjp(first_tape, loss, [z_alone, w], None)
            u = _jvp(outputs_tape, z, w, d_g)
            d_z, d_s = vjp(second_tape, L_z + L_w, [z_alone, s], u + d_g)
            outputs = z + nested.float_leaves(buffers)
            through = vjp(outputs_tape, outputs, s, d_z + d_buffers)
            (mixed_product,) = vjp(mixed_tape, g, [hparams], d_g)
            return nested.add(d_s, through), mixed_product

        return g, backward


HESSIAN = Hessian()


def vjp(
    tape: tf.GradientTape, outputs: Any, inputs: Any, d_outputs: Any
) -> Any:
    """Returns d_outputsᵀ ∂outputs/∂inputs, zeros where not connected."""
    return tape.gradient(
        outputs,
        inputs,
        output_gradients=d_outputs,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _jvp(tape, outputs, inputs, d_inputs):
    """Returns ∂outputs/∂inputs d_inputs, from a persistent tape.

    The transposed product is linear in its vector c, and d_inputs times it has
    the derivative wanted with respect to c.
    """
    c = [tf.zeros_like(output) for output in outputs]
    with tf.GradientTape() as transposed:
        transposed.watch(c)
        products = vjp(tape, outputs, inputs, c)
    return vjp(transposed, products, c, d_inputs)
