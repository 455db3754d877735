"""Whether the parts of a minibatch add up to the whole of it.

On several replicas the loss is the mean of the parts' losses, and so is its
gradient. That is the loss of one device for means and sums over examples that
do not see each other; not for a sum that hides in a function, a mean over
positions that are not masked, a maximum, or a count in a layer's variable.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.rows import Rows
from keras_drmad.core.state import Batch
from keras_drmad.keras_internals import layers_within, without_rewriting

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
COARSE = 0.1  # for other dtypes


def warn_of_parts(
    problem: Any, parted: Any, batch: Batch, held_out: Batch
) -> None:
    """Warns where parts of a minibatch do not add up to the whole.

    Of a training step where nothing is drawn and no layer has statistics of a
    batch, for these are a part's own, as with Keras; of validation always.

    Args:
        problem: `ElementaryProblem`, whole minibatches.
        parted: `ReplicatedProblem` of it.
        batch: `Batch`, one minibatch of training.
        held_out: `Batch`, one of validation.
    """
    model = problem.model
    draws = any("Random" in kind for kind in problem.look.operations)
    has_statistics = any(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in layers_within(model)
    )
    far = [*_of_validation(problem, parted, held_out)]
    if not draws and not has_statistics:
        far += _of_step(problem, parted, batch)
    if far:
        warnings.warn(
            f"Minibatches of the model '{model.name}' are divided among "
            f"replicas, and the parts do not add up to the whole: "
            f"{'; '.join(far[:4])}. Training follows the parts, as it does in "
            "Keras. Look for a loss that is a sum over examples without saying "
            "so (`keras.losses` with `reduction='sum'` says so), for "
            "`add_loss` of a sum, masks of positions, examples that see each "
            "other, and variables that count examples.",
            RuntimeWarning,
            stacklevel=5,
        )


def _of_step(problem: Any, parted: Any, batch: Batch) -> Iterator[str]:
    """Yields what a step computes otherwise of parts, in words."""
    metrics = problem.metrics_state()

    def computed(each, batch):
        state, hparams = problem.state(), problem.hparams()
        _, after, loss = each.step(state, hparams, batch, metrics)
        g, called = each.gradient(state, hparams, batch)
        dense = [
            tf.math.unsorted_segment_sum(x.values, x.indices, w.shape[0])
            if isinstance(x, Rows)
            else x
            for x, w in zip(g, state.params, strict=True)
        ]
        return loss, after, dense, called.buffers

    whole, parts = _both(problem, parted, computed, batch)
    yield from _loss("training loss", whole[0], parts[0])
    names = (
        [f"metric variable '{v.path}'" for v in problem.metrics],
        [f"gradient of '{v.path}'" for v in problem.params],
        [f"variable '{v.path}'" for v in problem.buffers],
    )
    for name, one, other in zip(names, whole[1:], parts[1:], strict=True):
        yield from _different(name, one, other)


def _of_validation(problem: Any, parted: Any, batch: Batch) -> Iterator[str]:
    """Yields what validation computes otherwise of parts, in words."""
    metrics = problem.metrics_state()

    def computed(each, batch):
        state, hparams = problem.state(), problem.hparams()
        loss, _, after = each.validation_loss(state, hparams, batch, metrics)
        return loss, after

    whole, parts = _both(problem, parted, computed, batch)
    yield from _loss("validation loss", whole[0], parts[0])
    names = [f"metric variable '{v.path}'" for v in problem.metrics]
    yield from _different(names, whole[1], parts[1])


def _both(problem: Any, parted: Any, computed: Any, batch: Batch) -> tuple:
    """Returns what a function computes of whole minibatches, and of parts."""
    tensors = Batch(*nested.map_arrays(tf.convert_to_tensor, tuple(batch)))
    with without_rewriting():
        return tuple(
            tf.function(
                lambda batch, each=each: computed(each, batch), autograph=False
            )(tensors)
            for each in (problem, parted)
        )


def _loss(name: str, whole: tf.Tensor, parts: tf.Tensor) -> Iterator[str]:
    if not _is_close(whole, parts):
        yield (
            f"the {name} is {float(whole):.6g} of the whole, and "
            f"{float(parts):.6g} of its parts"
        )


def _different(names: list[str], whole: list, parts: list) -> Iterator[str]:
    for name, one, other in zip(names, whole, parts, strict=True):
        if not _is_close(one, other):
            yield f"the {name} is another one"


def _is_close(whole: tf.Tensor, parts: tf.Tensor) -> bool:
    a, b = np.asarray(whole), np.asarray(parts)
    if not whole.dtype.is_floating:
        return np.array_equal(a, b)
    tolerance = TOLERANCES.get(whole.dtype.name, COARSE)
    policy = keras.config.dtype_policy().compute_dtype
    tolerance = max(tolerance, TOLERANCES.get(policy, COARSE))
    a, b = a.astype(float), b.astype(float)
    scale = np.abs(a).max(initial=0) + 1e-6
    return bool(np.abs(a - b).max(initial=0) <= tolerance * scale)
