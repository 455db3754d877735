"""Reverse mode with the states kept: all of them, or the last ones."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import LENGTHS
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Trajectory


class Stored(Trajectory):
    """Every state of the walk, as it was; or every one of the last K.

    Exact, if all are kept in full precision. In bfloat16 each number has a
    relative error of up to 2^-9, and the hypergradient one of that order. With
    the last K only, it leaves out what hyperparameters did before.
    Memory: T states (parameters, slots and buffers), or K; half of that in
    bfloat16; while it walks, up to two chunks of states more, of which each is
    an eighth of these or less. Time: T adjoint steps, or K. Differentiates
    every kind of hyperparameter. Prefer it to any approximation where the
    states fit in memory.

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2 (without the reversal).
    Shaban, Cheng, Hatch, Boots, *Truncated Back-propagation for Bilevel
    Optimization*, AISTATS 2019, https://arxiv.org/abs/1810.10667 (last K).
    """

    keeps_chunks = True

    def __init__(
        self, T: int, last: int | None = None, in_bfloat16: bool = False
    ):
        """Initializes the way back.

        Args:
            T: int, the number of iterations.
            last: K, the number of states kept; all by default.
            in_bfloat16: bool, whether floats are kept in 16 bits.
        """
        self.last = last
        self.in_bfloat16 = in_bfloat16
        eighth = len(self.iterations(T)) // 8
        self.chunk_size = max((L for L in LENGTHS if eighth >= L), default=1)

    @property
    def traced_by(self) -> Hashable:
        own = self.in_bfloat16, self.chunk_size
        return *super().traced_by, *own  # type: ignore[misc]

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(self.notes_from(T), T)

    def nbytes(self, T: int, state: State) -> float:
        return nested.nbytes(self._kept(state)) * (T - self.notes_from(T))

    def cuts(self, T: int) -> Sequence[int]:
        return range(self.notes_from(T), T, self.chunk_size)

    def notes_from(self, T: int) -> int:
        return 0 if self.last is None else max(0, T - self.last)

    def open(self, notes: Any, state: State) -> State:
        return nested.arrays(self._kept(state), self.chunk_size)

    def note(self, notes: State, i: tf.Tensor, state: State) -> State:
        return nested.write(notes, i, self._kept(state))

    def close(self, notes: State) -> State:
        return nested.stack(notes)

    def _kept(self, state: State) -> State:
        return nested.halved(state) if self.in_bfloat16 else state

    def begin(self, s_0: State, T: int) -> dict[int, "Kept"]:
        return {}

    def remember(
        self,
        memory: dict[int, "Kept"],
        iterations: np.ndarray,
        state: State,
        notes: Any,
    ) -> None:
        if notes:
            # The last chunk, or one before a short batch, is not full.
            kept = nested.first_of(notes, len(iterations))
            memory[int(iterations[0])] = Kept(kept, nested.scalars_like(state))

    def end(self, memory: dict[int, "Kept"], s_T: State) -> None:
        """Nothing: no step starts at s_T."""

    def known(
        self, memory: dict[int, "Kept"], iterations: np.ndarray, undo: Any
    ) -> "Kept":
        kept = memory.pop(int(iterations[0]))
        return kept._replace(states=nested.padded(kept.states, self.chunk_size))

    def state(self, known: "Kept", i: tf.Tensor) -> State:
        kept = nested.at(known.states, i)
        return nested.whole(kept, known.like) if self.in_bfloat16 else kept


class Kept(NamedTuple):
    """The states of a chunk.

    Attributes:
        states: `State` with tensors `(chunk_size, ...)`.
        like: `State` with scalars of the dtypes.
    """

    states: State
    like: State
