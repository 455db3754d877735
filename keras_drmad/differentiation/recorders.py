"""What differentiations have the loops write down of the states they pass."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from keras_drmad.core import left_out, nested
from keras_drmad.core.left_out import LeftOut
from keras_drmad.core.records import Recorder
from keras_drmad.core.state import State


class Summed(NamedTuple):
    """What `Sum` writes down.

    Attributes:
        begin: int32 scalar, the place in the chunk from which on it adds.
        total: list of tensors, the sum so far, like the parameters.
    """

    begin: tf.Tensor
    total: list[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Sum(Recorder):
    """The sum of the parameters; notes are `Summed`."""

    def note(self, notes: Summed, i: tf.Tensor, state: State) -> Summed:
        # A loop of one turn or none: for a condition XLA copies all parameters.
        _, total = tf.while_loop(
            lambda k, total: k > 0,
            lambda k, total: (k - 1, nested.add(total, state.params)),
            (tf.cast(i >= notes.begin, tf.int32), notes.total),
            parallel_iterations=1,
        )
        return notes._replace(total=total)


SUM = Sum()


@dataclasses.dataclass(frozen=True)
class Pages(Recorder):
    """All states of a chunk, stacked: `State` with tensors `(size, ...)`.

    Attributes:
        size: int, the iterations in a chunk, at most.
        in_bfloat16: bool, whether floats are kept in 16 bits.
        left_out: tuple of `LeftOut`, the slots that are not kept.
    """

    size: int
    in_bfloat16: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def kept(self, state: State) -> State:
        """Returns what a page keeps of a state."""
        state = left_out.without(state, self.left_out)
        return nested.halved(state) if self.in_bfloat16 else state

    def open(self, notes: Any, state: State) -> State:
        return nested.arrays(self.kept(state), self.size)

    def note(self, notes: State, i: tf.Tensor, state: State) -> State:
        return nested.write(notes, i, self.kept(state))

    def close(self, notes: State) -> State:
        return nested.stack(notes)
