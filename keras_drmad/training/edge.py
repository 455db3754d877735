"""Trainings past the edge of stability, and what they say of rates.

Past the edge the hypergradient says nothing: where the adjoint has grown a
thousandfold its sign hangs on the draw, and where a training diverged there is
none. That the training is past the edge does say something: its rates are too
high. So such a training votes for lower rates, and for nothing else.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.together import Together
from keras_drmad.training.plan import Plan

# The adjoint's norm over its first one. Chosen by a look at LeNet trained by
# SGD, seed 0 of docs/results.md 13: above it most trainings had half failed,
# and rates that followed the signs there stayed at the edge.
GROWTH = 1000.0
MOVED = 1.0  # of the first weights' norm: below, rates are not too high
FELL = 0.9  # of the loss of the first weights: below, a training loss fell


def has_rates(together: Together) -> bool:
    """Returns whether learning rates are among the hyperparameters."""
    return any(map(_is_rate, together))


def votes(together: Together, hparams: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns what stands for the hypergradient of a training past the edge.

    Ones for learning rates, which are to be lowered, and zeros for all else.

    Args:
        together: the hyperparameters.
        hparams: list of tensors λ, those of the training.
    """
    return [
        tf.ones_like(raw) if _is_rate(h) else tf.zeros_like(raw)
        for h, raw in zip(together, hparams, strict=True)
    ]


def are_lower(together: Together, before: list[tf.Tensor]) -> bool:
    """Returns whether a learning rate is lower than it was.

    Args:
        together: the hyperparameters, as they are now.
        before: list of tensors λ, as they were.
    """
    return any(
        _is_rate(h) and bool(tf.reduce_any(h.raw.value < raw))
        for h, raw in zip(together, before, strict=True)
    )


def is_past(
    training: Any,
    trained: Any,
    plan: Plan,
    logs: Mapping[str, float],
) -> bool:
    """Returns whether a training that came to its end is past the edge.

    Its adjoint grew more than `GROWTH` times, or the training made nothing
    better though it moved the weights far, by more than their own norm: the
    validation loss did not fall, on the very examples on which that of the
    first weights is taken, and the training loss of the last epoch is about
    that of the first weights, or higher. (Where a net overfits the latter
    falls. Where rates are too low, weights move little: with BatchNormalization
    both losses may rise then.)

    Whether anything became better is not asked of trainings that go on from the
    last one, and where one more validation would change the next: of a stream,
    or of a model that counts them.

    Args:
        training: the `ElementaryTraining`.
        trained: its `Trained`.
        plan: data and length.
        logs: of the training, `loss`; of its validation, `val_loss`; and the
            diagnostics of the walk backward.
    """
    if logs.get("adjoint_growth", 0.0) > GROWTH:
        return True
    source = plan.validation or plan.hyper
    reads_on = source.batches.size is None or training.loops.problem.carries
    if training.goes_on or reads_on:
        return False
    start = training.problem.started(trained.s_0, trained.hparams)
    way = nested.add(trained.s_T.params, nested.scale(-1.0, start.params))
    if nested.norm(way) < MOVED * nested.norm(start.params):
        return False
    first = training.validate(start, trained.hparams, source)["loss"]
    return not (logs["val_loss"] < first or logs["loss"] < FELL * first)


def _is_rate(h: Hyperparameter) -> bool:
    return "learning_rate" in h.numbers
