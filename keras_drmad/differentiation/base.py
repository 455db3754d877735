"""The contract of a way back."""

import abc
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core.span import CHUNK_SIZE
from keras_drmad.core.state import Problem, State


class Trajectory(abc.ABC):
    """Keeps what it needs on the way there, knows the states on the way back.

    Both walks go through the T iterations in chunks, each chunk one call of a
    compiled loop. For a walk of T iterations the calls come in this order:

        s = trajectory.encode(s_0)
        memory = trajectory.begin(s, T)
        for each chunk:
            notes = trajectory.notes(memory, iterations, s)
            (in the loop)    notes = trajectory.note(notes, i, s_t)
            trajectory.remember(memory, iterations, s, notes)
        trajectory.end(memory, s)
        for each chunk, the last one first:
            known = trajectory.known(memory, iterations, undo)
            (in the loop)    known = trajectory.unfold(known, n, advance)
            (in the loop)    s_t = trajectory.state(known, i)

    What runs in a compiled loop is pure; the rest runs between its calls.

    Attributes:
        growth_limit: float. The walk back ends early when the norm of the
            adjoint of the parameters exceeds this many times its first value.
            Infinite for exact ways back, whose adjoint may rightly grow.
        curvature: str, `"hessian"` or `"gauss_newton"`, see `adjoint`.
        conjugate_gradients: int, the number of conjugate gradient iterations
            that take the place of the walk; 0 to walk.
        keeps_chunks: bool, whether the way back goes through the very chunks
            of the way there.
        chunk_size: int, the iterations in a chunk, at most.
    """

    growth_limit: float = float("inf")
    curvature: str = "hessian"
    conjugate_gradients: int = 0
    keeps_chunks: bool = False
    chunk_size: int = CHUNK_SIZE

    @property
    def traced_by(self) -> Hashable:
        """What compiled loops depend on; equal for those that share loops."""
        return type(self), self.curvature

    @abc.abstractmethod
    def iterations(self, T: int) -> np.ndarray:
        """Returns the iterations t in [0, T) that are walked back, ascending.

        Iteration t is the step from s_t to s_{t+1}.
        """

    @abc.abstractmethod
    def nbytes(self, T: int, state: State) -> float:
        """Returns the bytes that are kept at most, beside the training's own.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.
        """

    def cuts(self, T: int) -> Sequence[int]:
        """Returns iterations at which a chunk has to begin, ascending."""
        del T
        return ()

    # ---- on the way there

    def check(self, problem: Problem, s_0: State) -> None:
        """Checks that the way back can serve a problem.

        Raises:
            ValueError: if it cannot.
        """

    def encode(self, state: State) -> State:
        """Returns the state in the form in which it walks there."""
        return state

    def decode(self, state: State) -> State:
        """Returns what `encode` was given."""
        return state

    def step(
        self,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
        metrics: Any,
    ) -> tuple[State, Any, tf.Tensor]:
        """Returns the next state (encoded), the metrics' state, the loss."""
        return problem.step(state, hparams, batch, metrics)

    def notes_from(self, T: int) -> int:
        """Returns the first iteration of which the loop takes notes."""
        return T

    def notes(self, memory: Any, iterations: np.ndarray, state: State) -> Any:
        """Returns what `note` adds to in a chunk, tensors of fixed shapes."""
        del memory, iterations, state
        return ()

    def open(self, notes: Any, state: State) -> Any:
        """Returns notes as `note` takes them; called in the loop's function."""
        del state
        return notes

    def note(self, notes: Any, i: tf.Tensor, state: State) -> Any:
        """Returns the notes after the i-th state of the chunk."""
        del i, state
        return notes

    def close(self, notes: Any) -> Any:
        """Returns notes as tensors again."""
        return notes

    @abc.abstractmethod
    def begin(self, s_0: State, T: int) -> Any:
        """Returns the memory of a walk that starts at s_0."""

    def remember(
        self, memory: Any, iterations: np.ndarray, state: State, notes: Any
    ) -> None:
        """Takes what there is to remember of a chunk.

        Args:
            memory: what `begin` returned.
            iterations: `(n,)`, those of the chunk.
            state: the state at the first of them.
            notes: what the loop returned; an empty tuple if it took none.
        """

    @abc.abstractmethod
    def end(self, memory: Any, s_T: State) -> None:
        """Takes the last state of the walk."""

    # ---- on the way back

    @abc.abstractmethod
    def known(
        self,
        memory: Any,
        iterations: np.ndarray,
        undo: Callable[[State], tuple[State, Any]],
    ) -> Any:
        """Returns what `state` needs for a chunk, tensors of fixed shapes.

        Args:
            memory: what `begin` returned.
            iterations: `(n,)`, those of the chunk.
            undo: function that runs the loop of the way there over the chunk's
                minibatches, the last one first; it returns the state it came
                to and its notes.
        """

    def unfold(
        self,
        known: Any,
        n: tf.Tensor,
        advance: Callable[[tf.Tensor, State], State],
    ) -> Any:
        """Returns more than is known, at the price of computing it again.

        Args:
            known: what `known` returned.
            n: int32 scalar, the number of iterations in the chunk.
            advance: function that takes the step of the i-th of them.
        """
        del n, advance
        return known

    def report(self, memory: Any) -> dict[str, float]:
        """Returns what there is to say after the walk back, by name."""
        del memory
        return {}

    @abc.abstractmethod
    def state(self, known: Any, i: tf.Tensor) -> State:
        """Returns s_t, or its approximation, for the i-th of the chunk."""
