"""Exact reverse mode with few states kept, and the others replayed."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import LENGTHS
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Trajectory


class Checkpointed(Trajectory):
    """States kept at regular distances, the stretches between replayed.

    Exact (up to the rounding of another compiled program). The walk is cut
    into stretches of L iterations; the way there keeps the first state of each,
    the way back takes the L steps again and keeps their states meanwhile.
    Memory: T / L + L states, about 2.1 to 2.8 √T (up to T = 200,000).
    Time: T adjoint steps and T elementary steps without their metrics.
    A stream whose batches differ in shape, or are large, comes in more chunks,
    and each of them keeps a state.
    Differentiates every kind of hyperparameter. Prefer it to `Stored` where T
    states do not fit in memory.

    L is a power of two, or three halves of one, so that only a much longer
    training compiles the loops anew.

    References: Griewank, Walther, *Algorithm 799: Revolve*, ACM TOMS 26, 2000
    (one level of checkpoints, here, of its many).
    """

    keeps_chunks = True

    def __init__(self, T: int):
        """Initializes the way back.

        Args:
            T: int, the number of iterations.
        """
        self.length = _length(T)

    @property
    def traced_by(self) -> Hashable:
        return *super().traced_by, self.length  # type: ignore[misc]

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(T)

    def nbytes(self, T: int, state: State) -> float:
        return nested.nbytes(state) * (len(self.cuts(T)) + min(self.length, T))

    def cuts(self, T: int) -> Sequence[int]:
        return range(0, T, self.length)

    def begin(self, s_0: State, T: int) -> dict[int, State]:
        return {}

    def remember(
        self,
        memory: dict[int, State],
        iterations: np.ndarray,
        state: State,
        notes: Any,
    ) -> None:
        memory[int(iterations[0])] = state

    def end(self, memory: dict[int, State], s_T: State) -> None:
        """Nothing: no step starts at s_T."""

    def known(
        self, memory: dict[int, State], iterations: np.ndarray, undo: Any
    ) -> State:
        return memory.pop(int(iterations[0]))

    def unfold(
        self,
        known: State,
        n: tf.Tensor,
        advance: Callable[[tf.Tensor, State], State],
    ) -> State:
        def step(i, state, states):
            states = nested.write(states, i, state)
            return i + 1, advance(i, state), states

        _, _, states = tf.while_loop(
            lambda i, *_: i < n,
            step,
            (tf.constant(0), known, nested.arrays(known, self.length)),
            parallel_iterations=1,
        )
        return nested.stack(states)

    def state(self, known: State, i: tf.Tensor) -> State:
        return nested.at(known, i)


def _length(T: int) -> int:
    """Returns the longest stretch of which T / L + L is at most 2.8 √T."""
    fits = [L for L in LENGTHS if math.ceil(T / L) + L <= 2.8 * math.sqrt(T)]
    return max(fits, default=min(LENGTHS[-1], max(1, math.isqrt(T))))
