"""The way back that stays at the end."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Trajectory


class FinalPoint(Trajectory):
    """Takes the last state for every state.

    A walk back of K steps at s_T sums the first K terms of the Neumann series
    of the inverse Hessian, each term on a minibatch of its own (those of the
    last K iterations); with an optimizer that has momentum or moments, in its
    dynamics. One step alone is the T1-T2 approximation.

    Exact in the limit of many terms where training has come to a point at
    which the gradient vanishes. Memory: one state. Time: K adjoint steps.
    Sees only what the training loss depends on: no learning rate, no initial
    weights.

    References: Lorraine, Vicol, Duvenaud, *Optimizing Millions of
    Hyperparameters by Implicit Differentiation*, AISTATS 2020,
    https://arxiv.org/abs/1911.02590, Algorithm 3. Luketina, Berglund, Greff,
    Raiko, *Scalable Gradient-Based Tuning of Continuous Regularization
    Hyperparameters*, ICML 2016, https://arxiv.org/abs/1511.06727 (one step).
    """

    growth_limit = 30.0

    def __init__(
        self, terms: int, curvature: str, conjugate_gradients: int = 0
    ):
        """Initializes the way back.

        Args:
            terms: K, the number of steps (with conjugate gradients: of the
                last minibatches, whose mean Hessian counts), in [1, T].
            curvature: `"hessian"` or `"gauss_newton"`.
            conjugate_gradients: int, the number of conjugate gradient
                iterations that take the place of the walk; 0 to walk.
        """
        self.terms = terms
        self.curvature = curvature
        self.conjugate_gradients = conjugate_gradients

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(T - self.terms, T)

    def nbytes(self, T: int, state: State) -> float:
        vectors = 5 if self.conjugate_gradients else 0
        return vectors * nested.nbytes(state.params)  # s_T is the training's

    def begin(self, s_0: State, T: int) -> list[State]:
        return []

    def end(self, memory: list[State], s_T: State) -> None:
        memory.append(s_T)

    def known(
        self, memory: list[State], iterations: np.ndarray, undo: Any
    ) -> State:
        return memory[0]

    def state(self, known: State, i: tf.Tensor) -> State:
        return known
