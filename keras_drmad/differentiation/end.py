"""The Neumann series: a walk backward that stays at the end."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.records import Replay
from keras_drmad.core.span import CHUNK_SIZE, Span, spread
from keras_drmad.core.state import Curvature, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation


@dataclasses.dataclass(frozen=True)
class AtEnd(Differentiation):
    """Takes the last state for every state.

    But for its counters, which are those of each iteration: a schedule's rate
    at iteration T, which no step of the training had, may be 0.

    A walk backward of K steps at s_T sums the first K terms of the Neumann
    series of the inverse Hessian, each term on a minibatch of its own (those
    of the last K iterations); with an optimizer that has momentum or moments,
    in its dynamics. One step alone is the T1-T2 approximation.

    Exact in the limit of many terms where training has come to a point at
    which the gradient vanishes. Memory: one state. Time: K adjoint steps.
    Sees only what the training loss depends on: no learning rate, no initial
    weights.

    Attributes:
        terms: K, the number of steps, in [1, T].
        curvature: the second derivative.
        every: n, where weights move at every n-th iteration only.

    References: Lorraine, Vicol, Duvenaud, *Optimizing Millions of
    Hyperparameters by Implicit Differentiation*, AISTATS 2020,
    https://arxiv.org/abs/1911.02590, Algorithm 3. Luketina, Berglund, Greff,
    Raiko, *Scalable Gradient-Based Tuning of Continuous Regularization
    Hyperparameters*, ICML 2016, https://arxiv.org/abs/1511.06727 (one step).
    """

    terms: int
    curvature: Curvature = HESSIAN
    every: int = 1

    growth_limit = 30.0

    def iterations(self, span: Span) -> np.ndarray:
        return spread(self.terms, self.terms, span, self.every)

    def nbytes(self, T: int, state: State) -> float:
        return 0.0  # s_T is the training's

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        walked = walk.through(s, hparams, span, self.iterations(span))
        return walked._replace(memory=nested.counters(s))

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span = walked.span

        def known(iterations, chunk):
            t = np.resize(iterations - span.first, CHUNK_SIZE)
            return Staying(
                first=walked.memory,
                last=walked.state,
                t=tf.constant(t, tf.int64),
                steps=tf.constant(span.steps, tf.int64),
            )

        return walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            AlwaysTheSame(self.curvature),
            known,
            growth_limit=self.growth_limit,
        )


class Staying(NamedTuple):
    """A chunk of the walk that stays at the end.

    Attributes:
        first: the first state of the span, its counters alone.
        last: the last state of the span.
        t: `(CHUNK_SIZE,)` int64, the iterations, counted from the span's first.
        steps: int64 scalar, the number of iterations in the span.
    """

    first: State
    last: State
    t: tf.Tensor
    steps: tf.Tensor


@dataclasses.dataclass(frozen=True)
class AlwaysTheSame(Replay):
    """One state for all iterations, but for what counts them."""

    def state(self, known: Staying, i: tf.Tensor) -> State:
        return nested.counted(
            known.first, known.last, nested.at(known.t, i), known.steps
        )
