"""A model on one batch of each data set, before any training."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import values
from keras_drmad.seam.model_loss import compute_loss
from keras_drmad.seam.scope import Scope
from keras_drmad.seam.states import values_of
from keras_drmad.training import ranges
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.plan import Plan


def check_data(
    model: keras.Model,
    plan: Plan,
    batch: Any,
    examples: int | None,
) -> dict[int, keras.Variable]:
    """Checks that a model and its loss can take a plan's data.

    Of arrays all, of streams what comes later as it comes.

    Args:
        model: a built and compiled model.
        plan: data and length.
        batch: `Batch`, the first one.
        examples: int, how many training examples hyperparameters know by their
            places; `None` for no such hyperparameter.

    Returns:
        Dict from id to variable, those that calls without training assign.

    Raises:
        ValueError: if they can't.
    """
    batches = plan.training.batches
    if examples is not None and not isinstance(batches, ArrayBatches):
        # Beyond the range XLA would take the last example in silence.
        _check_all(
            batches, batch, lambda one: ranges.check_index(one, examples)
        )
    sources = {
        "x": plan.training,
        "validation_data": plan.validation or plan.hyper,
        "hyper_data": plan.hyper if plan.validation else None,
    }
    written: dict[int, keras.Variable] = {}
    for argument, source in sources.items():
        if source is None:
            continue
        first = batch if argument == "x" else source.batches.first()
        written |= check_source(model, source.batches, first, argument)
    return written


def check_source(
    model: keras.Model, batches: Any, first: Batch, argument: str
) -> dict[int, keras.Variable]:
    """Checks that a model and its loss can take batches.

    Args:
        model: a built and compiled model.
        batches: `ArrayBatches` or `StreamBatches`.
        first: `Batch`, the first one.
        argument: str, the argument that the batches came in.

    Returns:
        Dict from id to variable, those that calls without training assign.

    Raises:
        ValueError: if they can't.
    """
    y_pred, assigned = check_batch(model, first, argument)
    check = functools.partial(ranges.check, model, y_pred, argument)
    _check_all(batches, first, check)
    return assigned


def _check_all(batches: Any, first: Batch, check: Callable) -> None:
    """Checks all examples of arrays; of a stream each batch as it comes."""
    if isinstance(batches, ArrayBatches):
        x, y, sample_weight = batches.data
        check(Batch(x, y, sample_weight))
    else:
        check(first)
        batches.check_each(check)


def check_found(read: Iterable[tf.Variable]) -> None:
    """Checks that no step reads a `LearnedValue` that `compile` did not find.

    Args:
        read: the variables that steps read and nobody gives them.

    Raises:
        ValueError: if one is the value of a `LearnedValue`.
    """
    names = [v.name for v in read if values.RAW in v.name]
    if names:
        raise ValueError(
            "Training reads a `LearnedValue` that `compile` did not find: it "
            f"would not be learned. Received: the variables {names}. Make it "
            "an attribute of a layer of the model, of a regularizer or of a "
            "loss."
        )


def signature(batch: Any) -> str:
    """Returns the structure, shapes and dtypes of a batch, as text."""
    return str(
        tf.nest.map_structure(
            lambda a: None if a is None else (tuple(a.shape), str(a.dtype)),
            batch,
        )
    )


def check_batch(
    model: keras.Model, batch: Batch, argument: str
) -> tuple[Any, dict[int, keras.Variable]]:
    """Runs a model, its loss and its metrics on a batch, without training.

    Also builds metrics that wait for their first batch.

    Args:
        model: a built and compiled model.
        batch: `Batch`.
        argument: str, the argument that the batch came in.

    Returns:
        The model's outputs, and the variables that its call assigned.

    Raises:
        ValueError: if the model or the loss can't take the batch.
    """
    x, y, sample_weight, _ = batch
    names = ("x", "y") if argument == "x" else (argument, argument)
    ranges.check_words(model, argument, batch)

    def loss_and_metrics(y_pred):
        loss = compute_loss(model, x, y, y_pred, sample_weight, training=False)
        model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return np.sum(loss)

    # What a call assigns (states, counts, seeds, metrics) ends with `Scope`;
    # the metrics' variables are made there.
    held = zip(model.variables, values_of(model.variables), strict=True)
    with keras_internals.scope_of(model), Scope([*held]) as scope:
        y_pred = _answer(names[0], "the model", batch, lambda: model(x))
        assigned = dict(scope.written)
        ranges.check_labels(model, y_pred, argument, batch)
        loss = _answer(
            names[1],
            "the model's loss and metrics",
            batch,
            lambda: float(loss_and_metrics(y_pred)),
        )
    if not np.isfinite(loss):
        raise ValueError(
            f"Invalid value for argument `{names[0]}`. Expected data with a "
            f"finite loss at the initial weights. Received: a loss of {loss}. "
            "Check the weights, the scale of the inputs and the loss."
        )
    return y_pred, assigned


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
