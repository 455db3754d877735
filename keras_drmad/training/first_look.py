"""A model on one batch of each data set, before any training."""

import functools
import hashlib
import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.nested import leaves
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.model_loss import compute_loss
from keras_drmad.seam.scope import Scope
from keras_drmad.training import ranges
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.plan import Plan
from keras_drmad.training.workers import Workers


class FirstLook:
    """Looks at data before a training, once at the same data.

    The look is taken again where anything is other that what was seen depends
    on: the data, how they are cut into batches, or a weight.
    """

    def __init__(self, model: keras.Model, hyperparameters: Together):
        """Initializes the look.

        Args:
            model: a built and compiled model.
            hyperparameters: all together, whose values the model may read.
        """
        self._model = model
        self._hyperparameters = hyperparameters
        self._seen: list[weakref.ref] = []
        self._state: tuple = ()
        self._assigned: dict[int, keras.Variable] = {}

    def check_data(
        self,
        plan: Plan,
        batch: Batch,
        examples: int | None,
        workers: Workers,
    ) -> dict[int, keras.Variable]:
        """Checks that the model and its loss can take a plan's data.

        Of arrays all, of streams what comes later as it comes. All workers
        look, or none: metrics add up over workers where they are looked at.

        Args:
            plan: data and length.
            batch: `Batch`, the first one.
            examples: int, how many training examples hyperparameters know by
                their places; `None` for no such hyperparameter.
            workers: who train.

        Returns:
            Dict from id to variable, those that calls without training assign.

        Raises:
            ValueError: if they can't.
        """
        batches = plan.training.batches
        sources = {
            "x": plan.training,
            "validation_data": plan.validation or plan.hyper,
            "hyper_data": plan.hyper if plan.validation else None,
        }
        given = {name: one for name, one in sources.items() if one is not None}
        each = [source.batches for source in given.values()]
        are_arrays = all(isinstance(one, ArrayBatches) for one in each)
        tensors: list[tf.Tensor] = []
        state: tuple = ()
        if are_arrays:
            tensors = [a for one in each for a in leaves(one.data)]
            sizes = tuple(one.batch_size for one in each)
            state = (*given, sizes, examples, plan.split, self._digest())
        is_new = not state or state != self._state
        if not workers.any_of_all(is_new or not self._has_seen(tensors)):
            return self._assigned
        self._state = ()  # until all is seen
        if examples is not None and not isinstance(batches, ArrayBatches):
            # Beyond the range XLA would take the last example in silence.
            _check_all(
                batches, batch, lambda one: ranges.check_index(one, examples)
            )
        assigned: dict[int, keras.Variable] = {}
        for argument, source in given.items():
            first = batch if argument == "x" else source.batches.first()
            assigned |= check_source(
                self._model, source.batches, first, argument
            )
        self._seen = list(map(weakref.ref, tensors))
        self._state, self._assigned = state, assigned
        return assigned

    def _has_seen(self, tensors: list[tf.Tensor]) -> bool:
        """Returns whether these very tensors are what was looked at."""
        pairs = itertools.zip_longest(self._seen, tensors)
        return all(ref is not None and ref() is a for ref, a in pairs)

    def _digest(self) -> bytes:
        """Returns a few bytes that are others for other weights."""
        digest = hashlib.blake2b()
        for variable in (*self._model.weights, *self._hyperparameters.raws):
            value = np.asarray(tf.convert_to_tensor(variable.value))
            digest.update(value.tobytes())
        return digest.digest()


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
    # the metrics' variables are made there. Functions that are compiled in the
    # call are to read variables, not values of today.
    held = [(v, v.value) for v in model.variables]
    with keras_internals.scope_of(model), Scope(held) as scope:
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
