"""The second derivative that a step of the adjoint multiplies with.

A curvature is a frozen value: curvatures that are equal share compiled loops.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.core import nested, rows
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.state import Curvature, Gradient, Problem, State


@dataclasses.dataclass(frozen=True)
class Hessian(Curvature):
    """The Hessian of the training loss; both products come at once."""

    def linearized(
        self,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
    ) -> tuple[list[Gradient], State, Callable]:
        s = nested.float_leaves(state)
        g, called = problem.gradient(state, hparams, batch)

        def backward(d_g, d_params, d_buffers):
            outputs = nested.float_leaves([g, called.params, called.buffers])
            return vjp(outputs, [s, hparams], d_g + d_params + d_buffers)

        return g, called, backward


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
    ) -> tuple[list[Gradient], State, Callable]:
        s, w = nested.float_leaves(state), state.params
        g, called = problem.gradient(state, hparams, batch)

        def backward(d_g, d_params, d_buffers):
            d_w = rows.averaged(d_g, g, w)
            with tf.GradientTape() as loss_tape:
                loss_tape.watch(w)
                with tf.GradientTape(persistent=True) as outputs_tape:
                    outputs_tape.watch(w)
                    z, buffers, loss_of = problem.outputs(
                        state, hparams, batch, self.before_activation
                    )
                alone = [tf.stop_gradient(output) for output in z]
                loss_tape.watch(alone)
                loss = loss_of(alone)
            L_z, L_w = _gradient(loss_tape, loss, [alone, w], None)
            u = _jvp(outputs_tape, z, w, d_w)
            d_z, d_s = vjp(L_z + L_w, [alone, s], u + d_w)
            outputs = z + called.params + nested.float_leaves(buffers)
            through = vjp(outputs, s, d_z + d_params + d_buffers)
            (mixed_product,) = vjp(nested.float_leaves(g), [hparams], d_g)
            return nested.add(d_s, through), mixed_product

        return g, called, backward


HESSIAN = Hessian()


def _gradient(
    tape: tf.GradientTape, outputs: Any, inputs: Any, d_outputs: Any
) -> Any:
    """Returns d_outputsᵀ ∂outputs/∂inputs by a tape, zeros if not connected."""
    products = tape.gradient(
        outputs,
        inputs,
        output_gradients=d_outputs,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return tf.nest.map_structure(tf.convert_to_tensor, products)


def _jvp(tape, outputs, inputs, d_inputs):
    """Returns ∂outputs/∂inputs d_inputs, from a persistent tape.

    The transposed product is linear in its vector c, and d_inputs times it has
    the derivative wanted with respect to c.
    """
    c = [tf.zeros_like(output) for output in outputs]
    products = _gradient(tape, outputs, inputs, c)
    return vjp(products, c, d_inputs)
