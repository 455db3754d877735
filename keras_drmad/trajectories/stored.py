"""Reverse mode with the states kept: all of them, or the last ones."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import nested
from keras_drmad.adjoint import State
from keras_drmad.trajectories.base import Trajectory


class Stored(Trajectory):
    """Every state of the walk, as it was; or every one of the last K.

    Exact, if all are kept in full precision. In bfloat16 each number has a
    relative error of up to 2^-9, and the hypergradient one of that order. With
    the last K only, it leaves out what hyperparameters did before.
    Memory: T states (parameters, slots and buffers), or K; half of that in
    bfloat16. Time: T adjoint steps, or K. Differentiates every kind of
    hyperparameter. Prefer it to any approximation where the states fit in
    memory.

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2 (without the reversal).
    Shaban, Cheng, Hatch, Boots, *Truncated Back-propagation for Bilevel
    Optimization*, AISTATS 2019, https://arxiv.org/abs/1810.10667 (last K).
    """

    keeps_chunks = True

    def __init__(self, last: int | None = None, in_bfloat16: bool = False):
        """Initializes the way back.

        Args:
            last: K, the number of states kept; all by default.
            in_bfloat16: bool, whether floats are kept in 16 bits.
        """
        self.last = last
        self.in_bfloat16 = in_bfloat16

    @property
    def traced_by(self) -> Hashable:
        return *super().traced_by, self.in_bfloat16  # type: ignore[misc]

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(self.keeps_from(T), T)

    def copies(self, T: int) -> float:
        return (T - self.keeps_from(T)) / (2 if self.in_bfloat16 else 1)

    def cuts(self, T: int) -> Sequence[int]:
        return (self.keeps_from(T),)

    def keeps_from(self, T: int) -> int:
        return 0 if self.last is None else max(0, T - self.last)

    def keep(self, state: State) -> State:
        if not self.in_bfloat16:
            return state
        return tf.nest.map_structure(_halved, state)

    def begin(self, s_0: State, T: int) -> dict[int, "Kept"]:
        return {}

    def remember(
        self,
        memory: dict[int, "Kept"],
        iterations: np.ndarray,
        state: State,
        kept: Any,
    ) -> None:
        if kept:
            memory[int(iterations[0])] = Kept(kept, state)

    def end(self, memory: dict[int, "Kept"], s_T: State) -> None:
        """Nothing: no step starts at s_T."""

    def known(
        self, memory: dict[int, "Kept"], iterations: np.ndarray, undo: Any
    ) -> "Kept":
        return memory.pop(int(iterations[0]))

    def state(self, known: "Kept", i: tf.Tensor) -> State:
        kept = nested.at(known.states, i)
        if not self.in_bfloat16:
            return kept
        return tf.nest.map_structure(_whole, kept, known.first)


def _halved(x: tf.Tensor) -> tf.Tensor:
    """Returns floats as the bits of bfloat16.

    As integers: XLA on a CPU turns arrays of bfloat16 to float32 and back, all
    of it at each write.
    """
    if not x.dtype.is_floating:
        return x
    return tf.bitcast(tf.cast(x, tf.bfloat16), tf.uint16)


def _whole(bits: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Returns what `_halved` was given, rounded."""
    if not like.dtype.is_floating:
        return bits
    return tf.cast(tf.bitcast(bits, tf.bfloat16), like.dtype)


class Kept(NamedTuple):
    """The states of a chunk.

    Attributes:
        states: `State` with tensors `(CHUNK_SIZE, ...)`.
        first: the first of them, in full precision.
    """

    states: State
    first: State
