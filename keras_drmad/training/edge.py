"""Trainings past the edge of stability, and what they say of learning rates.

Past the edge a hypergradient says little: where the adjoint has grown a
thousandfold its sign hangs on the draw, where a net is dead nothing reaches its
weights, and where a training diverged there is none. That the training is past
the edge does say something: its learning rates are too high. So such a training
asks for lower rates: in the place of a hypergradient of theirs stands a
positive number.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.state import State
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.training.plan import Plan, Source

# The adjoint's norm over its first one. Chosen by a look at LeNet trained by
# SGD, seed 0 of docs/results.md 13: above it most trainings had half failed,
# and rates that followed the signs there stayed at the edge.
GROWTH = 1000.0
FELL = 0.1  # of the first loss: a net that only learns how frequent classes are
LEFT = 0.1  # of the first loss: less is left where constant outputs are right
ALIKE = 1e-4  # of their size: outputs no further apart do not hang on the input
BATCHES = 20  # of the training data, on which two losses are compared
RETREAT = float(np.log(2))  # natural units: halves a rate


class Fate(enum.Enum):
    """What became of a training, for its learning rates.

    Members:
        CALM: nothing that asks for lower rates.
        UNSTABLE: the adjoint grew more than `GROWTH` times. `ForwardMode`,
            `Implicit` and walks that end early by their method never say so.
        FAILED: the weights moved far, by more than their norm, to no use at
            all: neither the validation loss fell, nor, by a tenth, the loss of
            the first minibatches of training. (Where a net overfits the latter
            falls. Where rates are too low, weights move little: with
            BatchNormalization both losses may rise then.)
        DEAD: all examples came to have the same outputs. A net whose units are
            all off ends so, and its adjoint does not grow. Strong penalties
            can be the reason as well.
    """

    CALM = "calm"
    UNSTABLE = "unstable"
    FAILED = "failed"
    DEAD = "dead"


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
        fate: Fate,
    ) -> list[tf.Tensor]:
        """Returns what stands for a hypergradient past the edge.

        Ones for the learning rates. Zeros for all else, but the hypergradient
        itself of what acts in the loss where a net is dead: strong penalties
        may be why. (Where momentum and decay followed theirs, a start from far
        above did not recover: seed 0 of docs/results.md 13 ended at 89 % error.
        Where penalties stood still in dead nets, seed 4 of the study of
        docs/results.md 8 ended at 15.6 % error, not 11.7.)

        Args:
            together: all hyperparameters.
            gradient: list of tensors dλ, in their order.
            fate: of the training.
        """

        def stands_for(h: Hyperparameter, g: tf.Tensor) -> tf.Tensor:
            if h.name in self._names:
                return tf.ones_like(g)
            is_followed = fate is Fate.DEAD and not h.numbers
            return g if is_followed else tf.zeros_like(g)

        pairs = zip(together, gradient, strict=True)
        return [stands_for(h, g) for h, g in pairs]

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


def fate_of(
    training: Any, trained: Any, plan: Plan, logs: Mapping[str, float]
) -> Fate:
    """Returns what became of a training.

    The last two fates are not asked for where a training goes on from the last
    one, and where one more validation would change the next: of streams, or of
    a model that counts them.

    Args:
        training: the `ElementaryTraining`.
        trained: its `Trained`.
        plan: data and length.
        logs: of the training's validation, `val_loss`, and the diagnostics of
            the walk backward.
    """
    if logs.get("adjoint_growth", 0.0) > GROWTH:
        return Fate.UNSTABLE
    held_out = plan.validation or plan.hyper
    sources = [held_out, plan.training]
    reads_on = any(source.batches.size is None for source in sources)
    if training.goes_on or reads_on or training.loops.problem.carries:
        return Fate.CALM
    start = training.problem.started(trained.s_0, trained.hparams)

    def loss(state: Any, source: Source) -> float:
        return training.validate(state, trained.hparams, source)["loss"]

    are_alike = _are_alike(training.problem, start, trained, sources)
    # Where all are of one class, good outputs may be the same, too.
    if are_alike and logs["val_loss"] > LEFT * abs(loss(start, held_out)):
        return Fate.DEAD
    way = nested.add(trained.s_T.params, nested.scale(-1.0, start.params))
    if nested.norm(way) < _size(start.params):
        return Fate.CALM
    if logs["val_loss"] < loss(start, held_out):
        return Fate.CALM
    steps = min(BATCHES, plan.training.steps)
    few = plan.training._replace(steps=steps)
    first = loss(start, few)
    has_learned = loss(trained.s_T, few) <= first - FELL * abs(first)
    return Fate.CALM if has_learned else Fate.FAILED


def _are_alike(
    problem: Any, start: State, trained: Any, sources: Sequence[Source]
) -> bool:
    """Returns whether all examples came to have the same outputs.

    Those of the first minibatches, which had others with the first weights.

    Args:
        problem: the elementary problem.
        start: the first state.
        trained: the `Trained`.
        sources: the validation and the training data.
    """
    batches = [
        nested.map_arrays(tf.convert_to_tensor, source.batches.first())
        for source in sources
    ]

    def differ(state: State) -> bool:
        several = [
            nested.float_leaves(
                problem.predictions(state, trained.hparams, batch)
            )
            for batch in batches
        ]
        outputs = [tf.concat(z, axis=0) for z in zip(*several, strict=True)]
        return any(
            float(tf.reduce_max(tf.math.reduce_std(z, axis=0)))
            > ALIKE * float(tf.reduce_max(tf.abs(z)))
            for z in outputs
        )

    return not differ(trained.s_T) and differ(start)


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
