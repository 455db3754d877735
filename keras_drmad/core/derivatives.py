"""Derivatives through a graph, of tensors that were computed before.

A training follows the gradients that `tf.GradientTape` gives. Some of these
are no derivatives of the loss: of a `tf.stop_gradient`, of a reversed gradient,
of a batch's variance, whose mean TensorFlow holds constant. The hypergradient
is the derivative of what the training *did*, so these gradients have to be
differentiated as the functions that they are. So tapes take the gradients that
training follows, and `vjp` differentiates them: it asks each operation of the
graph for its derivative, and a problem may give operations other derivatives
than those that tapes know (`seam.gradient_rules`).
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def vjp(
    outputs: Sequence[tf.Tensor],
    inputs: Any,
    d_outputs: Sequence[tf.Tensor] | None = None,
) -> Any:
    """Returns d_outputsᵀ ∂outputs/∂inputs, zeros where not connected.

    Partial derivatives: each input counts as a variable of its own.

    Args:
        outputs: list of floating tensors of a graph.
        inputs: nested structure of floating tensors, in the same graph or one
            around it.
        d_outputs: list of tensors, as `outputs`; ones by default.

    Returns:
        Tensors in the structure of `inputs`.

    Raises:
        LookupError: if an operation has no derivative.
    """
    flat = tf.nest.flatten(inputs)
    if not flat or not outputs:
        return tf.nest.map_structure(tf.zeros_like, inputs)
    products = tf.compat.v1.gradients(
        list(outputs),
        flat,
        None if d_outputs is None else list(d_outputs),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
        # Parts of a minibatch are differentiated on their devices.
        colocate_gradients_with_ops=_has_devices(outputs[0].graph),
        # Inputs may have been computed from one another.
        stop_gradients=flat,
    )
    dense = [tf.convert_to_tensor(product) for product in products]
    return tf.nest.pack_sequence_as(inputs, dense)


def _has_devices(graph: tf.Graph) -> bool:
    """Returns whether operations of a graph were given devices."""
    return any(op.device for op in graph.get_operations())
