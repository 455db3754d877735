"""What differentiations have the loops write down of the states they pass."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_drmad.core import left_out, nested
from keras_drmad.core.left_out import LeftOut
from keras_drmad.core.records import Recorder
from keras_drmad.core.state import State


@dataclasses.dataclass(frozen=True)
class Sum(Recorder):
    """The sum of the parameters; notes are a list of tensors like these."""

    def note(self, notes: list, i: tf.Tensor, state: State) -> list:
        return nested.add(notes, state.params)


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
