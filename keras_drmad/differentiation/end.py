"""The Neumann series: a walk backward that stays at the end."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.records import Replay
from keras_drmad.core.span import Span
from keras_drmad.core.state import Curvature, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation


@dataclasses.dataclass(frozen=True)
class AtEnd(Differentiation):
    """Takes the last state for every state.

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

    References: Lorraine, Vicol, Duvenaud, *Optimizing Millions of
    Hyperparameters by Implicit Differentiation*, AISTATS 2020,
    https://arxiv.org/abs/1911.02590, Algorithm 3. Luketina, Berglund, Greff,
    Raiko, *Scalable Gradient-Based Tuning of Continuous Regularization
    Hyperparameters*, ICML 2016, https://arxiv.org/abs/1511.06727 (one step).
    """

    terms: int
    curvature: Curvature = HESSIAN

    growth_limit = 30.0

    def iterations(self, span: Span) -> np.ndarray:
        return np.arange(span.last - self.terms, span.last)

    def nbytes(self, T: int, state: State) -> float:
        return 0.0  # s_T is the training's

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        return walk.through(s, hparams, span, self.iterations(span))

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        return walk.backward(
            walked,
            adjoint,
            self.iterations(walked.span),
            AlwaysTheSame(self.curvature),
            lambda iterations, chunk: walked.state,
            growth_limit=self.growth_limit,
        )


@dataclasses.dataclass(frozen=True)
class AlwaysTheSame(Replay):
    """One state for all iterations."""

    def state(self, known: State, i: tf.Tensor) -> State:
        return known
