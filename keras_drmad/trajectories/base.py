"""The contract of a way back."""

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.adjoint import State


class Trajectory(abc.ABC):
    """Keeps what it needs on the way there, knows the states on the way back.

    Both walks go through the T iterations in chunks, each chunk one call of a
    compiled loop. For a walk of T iterations the calls come in this order:

        memory = trajectory.begin(s_0, T)
        for each chunk:      trajectory.remember(memory, iterations, states)
        trajectory.end(memory, s_T)
        for each chunk, the last one first:
            known = trajectory.known(memory, iterations)
            for each iteration:  s_t = trajectory.state(known, i)

    `state` runs inside the compiled loop and is pure; the others run between
    its calls.

    Attributes:
        keeps_states: bool, whether the loop of the way there hands every state
            to `remember`.
        growth_limit: float. The walk back ends early when the norm of the
            adjoint of the parameters exceeds this many times its first value.
            Infinite for exact ways back, whose adjoint may rightly grow.
    """

    keeps_states: bool = False
    growth_limit: float = float("inf")

    @abc.abstractmethod
    def iterations(self, T: int) -> np.ndarray:
        """Returns the iterations t in [0, T) that are walked back, ascending.

        Iteration t is the step from s_t to s_{t+1}.
        """

    @abc.abstractmethod
    def begin(self, s_0: State, T: int) -> Any:
        """Returns the memory of a walk that starts at s_0."""

    @abc.abstractmethod
    def remember(
        self, memory: Any, iterations: np.ndarray, states: State
    ) -> None:
        """Takes the states of a chunk, stacked; called if `keeps_states`.

        Args:
            memory: what `begin` returned.
            iterations: `(n,)`, those of the chunk.
            states: `s_t` for each of them, a tensor `(chunk_size, ...)` for
                each leaf, of which the first n entries count.
        """

    @abc.abstractmethod
    def end(self, memory: Any, s_T: State) -> None:
        """Takes the last state of the walk."""

    @abc.abstractmethod
    def known(
        self, memory: Any, iterations: np.ndarray, chunk_size: int
    ) -> Any:
        """Returns what `state` needs for a chunk, tensors of fixed shapes."""

    @abc.abstractmethod
    def state(self, known: Any, i: tf.Tensor) -> State:
        """Returns s_t, or its approximation, for the i-th of the chunk."""
