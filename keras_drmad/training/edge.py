"""Trainings past the edge of stability, and what they say of learning rates.

Past the edge a hypergradient says little: where the adjoint has grown a
thousandfold its sign hangs on the draw, and where a training diverged there is
none. That the training is past the edge does say something: its learning rates
are too high. So such a training asks for lower rates: in the place of a
hypergradient of theirs stands a positive number.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.training.plan import Plan, Source

# The adjoint's norm over its first one. Chosen by a look at LeNet trained by
# SGD, seed 0 of docs/results.md 13: above it most trainings had half failed,
# and rates that followed the signs there stayed at the edge.
GROWTH = 1000.0
FELL = 0.1  # of the first loss: a net that only learns how frequent classes are
BATCHES = 20  # of the training data, on which two losses are compared
RETREAT = float(np.log(2))  # natural units: halves a rate


class Rates:
    """The learning rates that a tuning moves.

    Attributes:
        each: list of `Hyperparameter`.
    """

    def __init__(self, moved: Sequence[Hyperparameter]):
        """Initializes the rates.

        Args:
            moved: the hyperparameters that are to move.
        """
        self.each = [h for h in moved if "learning_rate" in h.numbers]
        self._names = {h.name for h in self.each}

    def can_fall(self) -> bool:
        """Returns whether a rate is above its lower bound."""
        return any(
            bool(tf.reduce_any(h.raw.value > h.raw_bounds[0]))
            for h in self.each
        )

    def lowering(
        self,
        together: Iterable[Hyperparameter],
        gradient: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns what stands for a hypergradient past the edge.

        Ones for the learning rates, and zeros for all else. (Where momentum and
        decay followed the hypergradients of dead nets, a start from far above
        did not recover: seed 0 of docs/results.md 13 ended at 89 % error.)

        Args:
            together: all hyperparameters.
            gradient: list of tensors dλ, in their order.
        """
        return [
            tf.ones_like(g) if h.name in self._names else tf.zeros_like(g)
            for h, g in zip(together, gradient, strict=True)
        ]

    def halve(self) -> bool:
        """Lowers the rates by `RETREAT` units, for a training diverged.

        Returns:
            Whether any rate is lower now.
        """
        is_lower = False
        for h in self.each:
            before = h.raw.numpy()
            h.raw.assign(before - RETREAT * np.asarray(h.unit, before.dtype))
            h.clip()
            is_lower |= bool(np.any(h.raw.numpy() < before))
        return is_lower


def is_unstable(logs: Mapping[str, float]) -> bool:
    """Returns whether the adjoint grew more than `GROWTH` times.

    Args:
        logs: the diagnostics of the walk backward. `ForwardMode`, `Implicit`
            and walks that end early by their method never grow so far.
    """
    return logs.get("adjoint_growth", 0.0) > GROWTH


def has_failed(
    training: Any, trained: Any, plan: Plan, logs: Mapping[str, float]
) -> bool:
    """Returns whether a training moved the weights far, to no use at all.

    By more than their norm, and neither the validation loss fell, nor, by a
    tenth, the loss of the first minibatches of training. (Where a net overfits
    the latter falls. Where rates are too low, weights move little: with
    BatchNormalization both losses may rise then.)

    Not asked of trainings that go on from the last one, and where one more
    validation would change the next: of streams, or of a model that counts
    them.

    Args:
        training: the `ElementaryTraining`.
        trained: its `Trained`.
        plan: data and length.
        logs: of the training's validation, `val_loss`.
    """
    held_out = plan.validation or plan.hyper
    sources = [held_out, plan.training]
    reads_on = any(source.batches.size is None for source in sources)
    if training.goes_on or reads_on or training.loops.problem.carries:
        return False
    start = training.problem.started(trained.s_0, trained.hparams)
    way = nested.add(trained.s_T.params, nested.scale(-1.0, start.params))
    if nested.norm(way) < _size(start.params):
        return False

    def loss(state: Any, source: Source) -> float:
        return training.validate(state, trained.hparams, source)["loss"]

    if logs["val_loss"] < loss(start, held_out):
        return False
    steps = min(BATCHES, plan.training.steps)
    few = plan.training._replace(steps=steps)
    first = loss(start, few)
    return loss(trained.s_T, few) > first - FELL * abs(first)


def _size(params: list[tf.Tensor]) -> float:
    """Returns the norm of weights, or that of usual first ones if larger.

    Usual ones have about as large a square as a kernel has columns; weights
    that begin at 0 would have none.
    """
    squares = [
        max(
            float(nested.norm([w])) ** 2, w.shape[-1] if w.shape.rank > 1 else 0
        )
        for w in params
    ]
    return float(np.sqrt(sum(squares)))
