"""The loss that a model was compiled with, with weights of its examples."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.hyperparameters.sample_weights import as_outputs, of_examples


def compute_loss(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    training: bool,
    *,
    scale_of_sums: float = 1.0,
) -> Any:
    """Returns a model's loss of a minibatch.

    As `keras.Model.compute_loss`, but for weights that lack axes of the loss:
    they weigh examples, all that a loss has of an example alike. For the loss
    `(N, T)` of sequences Keras would take weights `(N,)` for weights of the T
    steps, if N = T, or fail.

    Args:
        model: a compiled model.
        x: inputs, nested.
        y: targets, nested.
        y_pred: outputs, nested.
        sample_weight: weights for all outputs, or nested as the outputs or the
            targets, with `None` for 1.
        training: bool.
        scale_of_sums: float, by which losses are multiplied that are sums over
            examples.
    """
    return keras_internals.compute_loss(
        model,
        x,
        y,
        y_pred,
        sample_weight,
        training,
        weighing=_weighing,
        scale_of_sums=scale_of_sums,
    )


def _weighing(
    y_pred: Any, names: Sequence[str] | None, sample_weight: Any
) -> tuple[Any, Callable]:
    """Returns weights nested as the outputs; see `keras_internals`."""
    if tf.nest.is_nested(sample_weight):
        flat = as_outputs(sample_weight, y_pred, names)
        if flat is not None:
            sample_weight = tf.nest.pack_sequence_as(y_pred, flat)
    return sample_weight, of_examples
