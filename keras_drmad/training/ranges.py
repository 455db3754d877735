"""A user's whole numbers that stand for places, checked before XLA reads them.

XLA takes a place out of range for the nearest place, or gives nan, in silence:
what is checked here is checked on the host.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.nested import leaves
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.sample_weights import as_outputs


def check(model: keras.Model, y_pred: Any, argument: str, batch: Batch) -> None:
    """Checks the labels and the words of a batch.

    Args:
        model: a compiled model.
        y_pred: its outputs for any batch.
        argument: str, the argument that the batch came in.
        batch: `Batch`, or all examples.

    Raises:
        ValueError: as `check_labels` and `check_words`.
    """
    check_labels(model, y_pred, argument, batch)
    check_words(model, argument, batch)


def check_index(batch: Batch, examples: int) -> None:
    """Checks the places of a batch's examples, which hyperparameters ask for.

    Raises:
        TypeError: if they are not whole numbers.
        ValueError: if they are not one for each example, in [0, examples).
    """
    if batch.index is None:
        return  # a kind says so itself
    index = np.asarray(batch.index)
    size = len(next(a for a in leaves(batch.x)))
    expected = (
        "Expected, as the fourth entry of what `x` yields, the place of each "
        f"example in the training data, whole numbers in [0, {examples}), as "
        "many as hyperparameters know examples."
    )
    advice = "Number the examples from 0, in the same order each time."
    if index.dtype.kind not in "iu":
        raise TypeError(
            f"Invalid type for `index` in argument `x`. {expected} Received: "
            f"an array of dtype {index.dtype}. {advice}"
        )
    if index.shape != (size,):
        raise ValueError(
            f"Invalid value for `index` in argument `x`. {expected} Received: "
            f"an array of shape {index.shape} for {size} examples. {advice}"
        )
    wrong = index[(index < 0) | (index >= examples)]
    if wrong.size:
        raise ValueError(
            f"Invalid value for `index` in argument `x`. {expected} Received: "
            f"index {wrong[0]}, and {wrong.size} of {size} in a batch out of "
            f"this range. {advice}"
        )


def check_words(model: keras.Model, argument: str, batch: Batch) -> None:
    """Checks the inputs that a model gives to its `Embedding`s as they are.

    Args:
        model: a built model.
        argument: str, the argument that the batch came in.
        batch: `Batch`, or all examples.

    Raises:
        ValueError: if one is negative or has no row in the table.
    """
    inputs = getattr(model, "inputs", None) or []
    x = batch.x
    if isinstance(x, dict):
        x = [x.get(one.name) for one in inputs]
    arrays = tf.nest.flatten(x)
    if len(arrays) != len(inputs):
        return
    places = {id(one): k for k, one in enumerate(inputs)}
    for layer in keras_internals.layers_within(model):
        if not isinstance(layer, keras.layers.Embedding):
            continue
        for one in keras_internals.inputs_of(layer):
            words = arrays[places[id(one)]] if id(one) in places else None
            if words is not None:
                _check_words(layer, np.asarray(words), argument)


def _check_words(
    layer: keras.layers.Embedding, words: np.ndarray, argument: str
) -> None:
    words = words.astype("int64")
    size = layer.input_dim
    if words.size and not (words.min() >= 0 and words.max() < size):
        raise ValueError(
            f"Invalid value for the inputs in argument `{argument}`. Expected "
            f"whole numbers in [0, {size}) for the `Embedding` '{layer.name}'. "
            f"Received: numbers from {words.min()} to {words.max()}. Give the "
            "layer a larger `input_dim`, or map other words to one of its rows."
        )


def check_labels(
    model: keras.Model, y_pred: Any, argument: str, batch: Batch
) -> None:
    """Checks that class labels fit the sparse losses of a model.

    Args:
        model: a compiled model.
        y_pred: its outputs for any batch.
        argument: str, the argument that the batch came in.
        batch: `Batch`, or all examples.

    Raises:
        ValueError: if a label is negative, has no output, or is not whole.
    """
    names = getattr(model, "output_names", None)
    losses = as_outputs(model.loss, y_pred, names)
    labels = as_outputs(batch.y, y_pred, names)
    if losses is None or labels is None:
        return
    outputs = tf.nest.flatten(y_pred)
    for one, y, z in zip(losses, labels, outputs, strict=True):
        if y is not None and is_sparse(one) and tf.is_tensor(z):
            ignored = getattr(one, "ignore_class", None)
            _check_classes(y, z.shape[-1], ignored, argument)


def _check_classes(
    labels: Any, classes: int, ignored: int | None, argument: str
) -> None:
    labels = np.asarray(labels)
    labels = labels[labels != ignored]
    name = "y" if argument == "x" else argument
    if labels.dtype.kind == "f":
        parts = labels[labels != np.round(labels)]
        if parts.size:
            raise ValueError(
                f"Invalid value for the labels in argument `{name}`. Expected "
                "whole numbers, the classes, of which a sparse loss takes the "
                f"outputs. Received: a label value of {parts[0]}, and "
                f"{parts.size} of {labels.size} with a fraction, which Keras "
                "would drop. For probabilities of classes use "
                "`CategoricalCrossentropy`, with one for each class."
            )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(
            f"Invalid value for the labels in argument `{name}`. Expected "
            f"classes in [0, {classes}), one for each output of the model. "
            f"Received: labels from {labels.min()} to {labels.max()}, with a "
            f"label value of {wrong[0]}. Number them from 0, or give the model "
            "more outputs."
        )


def class_axis(model: keras.Model) -> int | None:
    """Returns the axis of classes in a model's targets.

    `None` where targets are the numbers of classes.

    Args:
        model: a compiled model.
    """
    if is_sparse(model.loss):
        return None
    axis = getattr(model.loss, "axis", -1)
    return axis if isinstance(axis, int) else -1


def is_sparse(loss: Any) -> bool:
    """Returns whether a loss takes the numbers of classes as targets."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.sparse_categorical_crossentropy or isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    )
