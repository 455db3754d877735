"""What the compiled loops write down, and how they know states again.

Both are frozen values that hold no tensors: records that are equal share the
compiled loops. Their functions are pure and run inside of the loops.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from keras_drmad.core.state import Curvature, Problem, State


@dataclasses.dataclass(frozen=True)
class Recorder:
    """What a loop writes down of the states that it passes: here, nothing.

    A loop is given notes, tensors of fixed shapes, and returns them as they
    are after its last state.

    Attributes:
        follows: whether the recorder also writes down what steps do, by
            `follow`.
    """

    follows: ClassVar[bool] = False

    def open(self, notes: Any, state: State) -> Any:
        """Returns notes as `note` takes them.

        Args:
            notes: what the loop was given.
            state: a state, for the shapes and dtypes of its leaves.
        """
        del state
        return notes

    def note(self, notes: Any, i: tf.Tensor, state: State) -> Any:
        """Returns the notes with what is kept of a state.

        Args:
            notes: the notes so far.
            i: int32 scalar, the state's place in the chunk.
            state: the state before the i-th step of the chunk.
        """
        del i, state
        return notes

    def follow(
        self,
        notes: Any,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
    ) -> Any:
        """Returns the notes with what is kept of a step.

        Notes of tensors alone can follow steps.

        Args:
            notes: the notes so far.
            problem: the training.
            state: the state before the step.
            hparams: list of tensors λ.
            batch: the minibatch of the step.
        """
        del problem, state, hparams, batch
        return notes

    def close(self, notes: Any) -> Any:
        """Returns notes as tensors, which the loop returns."""
        return notes


NOTHING = Recorder()


@dataclasses.dataclass(frozen=True)
class Replay(abc.ABC):
    """How a loop that walks backward knows the states of a chunk.

    Attributes:
        curvature: the second derivative in the products of the adjoint.
    """

    curvature: Curvature

    def unfold(
        self,
        known: Any,
        n: tf.Tensor,
        advance: Callable[[tf.Tensor, State], State],
    ) -> Any:
        """Returns what `state` takes, before the first state is asked for.

        Args:
            known: tensors of fixed shapes, what is known of the chunk.
            n: int32 scalar, the number of iterations in the chunk.
            advance: function that takes the i-th step of the chunk.
        """
        del n, advance
        return known

    def of_notes(self, notes: Any, state: State) -> Any:
        """Returns what is known of a chunk, from a recorder's notes of it.

        Args:
            notes: those of the recorder that writes down what the replay needs.
            state: the chunk's first state.
        """
        del state
        return notes

    @abc.abstractmethod
    def state(self, known: Any, i: tf.Tensor) -> State:
        """Returns s_t, or its approximation, for the i-th step of the chunk."""
