"""Exact reverse mode with few states kept, and the others replayed."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_drmad.core import left_out, nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.left_out import LeftOut
from keras_drmad.core.records import Replay
from keras_drmad.core.span import LENGTHS, Span
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation


@dataclasses.dataclass(frozen=True)
class Checkpointed(Differentiation):
    """States kept at regular distances, the stretches between replayed.

    Exact (up to the rounding of another compiled program). The walk is cut
    into stretches of L iterations; the walk forward keeps the first state of
    each, the walk backward takes the L steps again and keeps their states
    meanwhile.
    Memory: T / L + L states, about 2.1 to 2.8 √T (up to T = 200,000), L of
    them without the slots that the derivative does not read.
    Time: T adjoint steps and T elementary steps without their metrics.
    A stream whose batches differ in shape, or are large, comes in more chunks,
    and a state is kept for each chunk.
    Differentiates every kind of hyperparameter. Prefer it to `Stored` where T
    states do not fit in memory.

    L is a power of two, or three halves of one, so that only a much longer
    training compiles loops anew.

    Attributes:
        left_out: tuple of `LeftOut`, the slots that replayed states are kept
            without.

    References: Griewank, Walther, *Algorithm 799: Revolve*, ACM TOMS 26, 2000
    (one level of checkpoints, here, of its many).
    """

    left_out: tuple[LeftOut, ...] = ()

    def leaving_out(self, slots: tuple[LeftOut, ...]) -> "Checkpointed":
        return dataclasses.replace(self, left_out=slots)

    def iterations(self, span: Span) -> np.ndarray:
        return np.arange(*span)

    def nbytes(self, T: int, state: State) -> float:
        checkpoints = len(_cuts(Span(0, T))) * nested.nbytes(state)
        replayed = nested.nbytes(left_out.without(state, self.left_out))
        return checkpoints + min(length(T), T) * replayed

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        checkpoints: dict[int, State] = {}
        walking = walk.forward(
            s,
            hparams,
            span,
            revisited=self.iterations(span),
            cuts=_cuts(span),
            keeps_chunks=True,
            memory=checkpoints,
        )
        for part in walking:
            checkpoints[part.first] = part.before
        return walking.end(checkpoints)

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span, checkpoints = walked.span, walked.memory
        return walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            FromCheckpoint(HESSIAN, length(span.steps), self.left_out),
            lambda iterations, chunk: checkpoints.pop(int(iterations[0])),
            cuts=_cuts(span),
            keeps_chunks=True,
        )


@dataclasses.dataclass(frozen=True)
class FromCheckpoint(Replay):
    """States that are computed again from the first one of a stretch.

    Attributes:
        length: int, the iterations in a stretch, at most.
        left_out: tuple of `LeftOut`, the slots that replayed states are kept
            without; zeros are in their places.
    """

    length: int = 1
    left_out: tuple[LeftOut, ...] = ()

    def unfold(
        self,
        known: State,
        n: tf.Tensor,
        advance: Callable[[tf.Tensor, State], State],
    ) -> State:
        def kept(state):
            return left_out.without(state, self.left_out)

        def step(i, state, states):
            states = nested.write(states, i, kept(state))
            return i + 1, advance(i, state), states

        _, _, states = tf.while_loop(
            lambda i, *_: i < n,
            step,
            (tf.constant(0), known, nested.arrays(kept(known), self.length)),
            parallel_iterations=1,
        )
        return nested.stack(states)

    def state(self, known: State, i: tf.Tensor) -> State:
        return left_out.with_zeros(nested.at(known, i), self.left_out)


def _cuts(span: Span) -> range:
    return range(*span, length(span.steps))


def length(T: int) -> int:
    """Returns the longest stretch of which T / L + L is at most 2.8 √T."""
    fits = [L for L in LENGTHS if math.ceil(T / L) + L <= 2.8 * math.sqrt(T)]
    return max(fits, default=min(LENGTHS[-1], max(1, math.isqrt(T))))
