"""Exact reverse mode with every state kept."""

import numpy as np
import tensorflow as tf

from keras_drmad.adjoint import State
from keras_drmad.trajectories.base import Trajectory


class Stored(Trajectory):
    """Every state of the walk, as it was.

    Exact. Memory: T states (parameters, slots and buffers). Time: T adjoint
    steps. Differentiates every kind of hyperparameter. Prefer it to any
    approximation where the T states fit in memory.

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2 (without the reversal).
    """

    keeps_states = True

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(T)

    def begin(self, s_0: State, T: int) -> dict[int, State]:
        return {}

    def remember(
        self,
        memory: dict[int, State],
        iterations: np.ndarray,
        states: State,
    ) -> None:
        memory[int(iterations[0])] = states

    def end(self, memory: dict[int, State], s_T: State) -> None:
        """Nothing: no step starts at s_T."""

    def known(
        self, memory: dict[int, State], iterations: np.ndarray, chunk_size: int
    ) -> State:
        return memory[int(iterations[0])]

    def state(self, known: State, i: tf.Tensor) -> State:
        return tf.nest.map_structure(lambda x: tf.gather(x, i), known)
