"""A model on one batch of each data set, before any training."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.seam.model_loss import compute_loss
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.plan import Plan


def check_data(model: keras.Model, plan: Plan, batch: Any) -> None:
    """Checks that a model and its loss can take a plan's data.

    Raises:
        ValueError: if they can't.
    """
    sources = {
        "x": plan.training,
        "validation_data": plan.validation or plan.hyper,
        "hyper_data": plan.hyper if plan.validation else None,
    }
    for argument, source in sources.items():
        if source is None:
            continue
        first = batch if argument == "x" else source.batches.first()
        labels = first[1]
        if isinstance(source.batches, ArrayBatches):
            labels = source.batches.data[1]
        check_batch(model, first, labels, argument)


def class_axis(model: keras.Model) -> int | None:
    """Returns the axis of classes in a model's targets.

    `None` where targets are the numbers of classes.

    Args:
        model: a compiled model.
    """
    if _is_sparse(model.loss):
        return None
    axis = getattr(model.loss, "axis", -1)
    return axis if isinstance(axis, int) else -1


def signature(batch: Any) -> str:
    """Returns the structure, shapes and dtypes of a batch, as text."""
    return str(
        tf.nest.map_structure(
            lambda a: None if a is None else (tuple(a.shape), str(a.dtype)),
            batch,
        )
    )


def check_batch(
    model: keras.Model, batch: Any, labels: Any, argument: str
) -> None:
    """Runs a model, its loss and its metrics on a batch, without training.

    Also builds metrics that wait for their first batch.

    Args:
        model: a built and compiled model.
        batch: `Batch`.
        labels: all targets that are known, or those of the batch.
        argument: str, the argument that the batch came in.

    Raises:
        ValueError: if the model or the loss can't take the batch.
    """
    x, y, sample_weight, _ = batch
    names = ("x", "y") if argument == "x" else (argument, argument)
    y_pred = _answer(names[0], "the model", batch, lambda: model(x))
    check_labels(model, labels, y_pred, names[1])

    def loss_and_metrics():
        loss = compute_loss(
            model, x, y, y_pred, sample_weight, training=False
        )
        model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return float(loss)

    try:
        loss = _answer(
            names[1], "the model's loss and metrics", batch, loss_and_metrics
        )
    finally:
        model.reset_metrics()
    if not np.isfinite(loss):
        raise ValueError(
            f"Invalid value for argument `{names[0]}`. Expected data with a "
            f"finite loss at the initial weights. Received: a loss of {loss}. "
            "Check the weights, the scale of the inputs and the loss."
        )


def _answer(argument: str, who: str, batch: Any, function: Callable) -> Any:
    """Returns what a function does; its complaint becomes a `ValueError`."""
    try:
        return function()
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected data that "
            f"{who} can take. Received, for a batch (x, y, sample_weight): "
            f"{signature(batch)}. The answer was: {error}"
        ) from error


def check_labels(
    model: keras.Model, labels: Any, y_pred: Any, argument: str
) -> None:
    """Checks that class labels fit a sparse loss.

    Models with several losses are not checked.

    Raises:
        ValueError: if a label is negative or has no output.
    """
    if not _is_sparse(model.loss) or labels is None or not tf.is_tensor(y_pred):
        return
    ignored = getattr(model.loss, "ignore_class", None)
    labels, classes = np.asarray(labels), y_pred.shape[-1]
    labels = labels[labels != ignored]
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Invalid value for the labels in argument `{argument}`. Expected "
            f"classes in [0, {classes}), one for each output of the model. "
            f"Received: labels from {labels.min()} to {labels.max()}. Number "
            "them from 0, or give the model more outputs."
        )


def _is_sparse(loss: Any) -> bool:
    """Returns whether a loss takes the numbers of classes as targets."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.sparse_categorical_crossentropy or isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    )
