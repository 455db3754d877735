"""The outputs in which a loss is linearized, before an activation or not."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.keras_internals import carry_mask


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

    outputs = tf.nest.flatten(y_pred)
    pairs = [split(output) for output in outputs]
    # Nothing can be linearized in whole numbers, such as classes.
    is_place = [z.dtype.is_floating for z, _ in pairs]

    def y_pred_of(z):
        rest = iter(z)
        flat = [
            carry_mask(output, activation(next(rest))) if moves else output
            for output, (_, activation), moves in zip(
                outputs, pairs, is_place, strict=True
            )
        ]
        return tf.nest.pack_sequence_as(y_pred, flat)

    places = [z for (z, _), moves in zip(pairs, is_place, strict=True) if moves]
    return places, y_pred_of


_ACTIVATIONS: dict[str, Callable] = {
    "Softmax": tf.nn.softmax,
    "Sigmoid": tf.nn.sigmoid,
}
