"""Slots whose values no derivative reads, left out of the states kept."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_drmad.core.state import State


class LeftOut(NamedTuple):
    """A slot that is not kept.

    Attributes:
        place: int, the slot's place among the slots of a state.
        shape: tuple of int.
        dtype: str.
    """

    place: int
    shape: tuple[int, ...]
    dtype: str


def of_state(state: State, places: Iterable[int]) -> tuple[LeftOut, ...]:
    """Returns the slots at some places of a state, ascending."""
    slots = [(place, state.slots[place]) for place in sorted(places)]
    return tuple(
        LeftOut(place, tuple(x.shape), x.dtype.name) for place, x in slots
    )


def without(state: Any, left_out: tuple[LeftOut, ...]) -> Any:
    """Returns a state without some of its slots.

    Args:
        state: `State` with all slots.
        left_out: those that are left out.
    """
    places = {slot.place for slot in left_out}
    kept = [x for k, x in enumerate(state.slots) if k not in places]
    return state._replace(slots=kept)


def with_zeros(state: Any, left_out: tuple[LeftOut, ...]) -> Any:
    """Returns a state with zeros in the places of slots that were left out.

    Args:
        state: `State` as `without` returns it.
        left_out: those that were left out, ascending.
    """
    slots = list(state.slots)
    for place, shape, dtype in left_out:
        slots.insert(place, tf.zeros(shape, dtype))
    return state._replace(slots=slots)
