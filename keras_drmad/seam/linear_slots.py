"""Slots of an optimizer whose values no derivative of its update reads.

A velocity enters SGD's update as a summand, times a number: m' = μ m − α g,
w' = w + m'. The derivative of the update then is μ, wherever m is. The graph of
an update shows such slots: on their way to the new state they pass linear
operations alone, which multiply them by nothing that is differentiated too.
"""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# Kinds of operations that are linear in all of their inputs together.
LINEAR = {"Add", "AddN", "AddV2", "ConcatV2", "Identity", "Neg", "Sub"}
# Kinds of operations that are linear in each input, the others given.
BILINEAR = {"Mul"}
# Kinds of operations that are linear in some inputs, the others given: the
# places of these inputs.
LINEAR_IN = {
    "BroadcastTo": {0},
    "Cast": {0},
    "ExpandDims": {0},
    "RealDiv": {0},
    "Reshape": {0},
    "SelectV2": {1, 2},
    "Slice": {0},
    "Squeeze": {0},
    "StridedSlice": {0},
    "Transpose": {0},
}
# The mark of an operation whose derivative is another one than its kind's.
OWN_DERIVATIVE = "_gradient_op_type"


def unread(
    slots: list[tf.Tensor],
    others: Iterable[tf.Tensor],
    operations: Iterable[tf.Operation],
) -> tuple[int, ...]:
    """Returns the slots whose values the derivative of an update never reads.

    Every operation that is not known to be linear counts as one that reads.

    Args:
        slots: list of tensors of a graph, with which the update begins.
        others: the other tensors that the update is differentiated by:
            parameters, gradients, hyperparameters.
        operations: those of the graph, in the order in which they were made.

    Returns:
        The places of these slots, ascending. Slots that are not floats are not
        among them.
    """
    # For each tensor that depends on what is differentiated: the slots of which
    # the tensor is a linear function. Integers made of floats are among these
    # tensors: a condition, for instance.
    reached: dict[str, set[int]] = {
        x.name: set() for x in others if x.dtype.is_floating
    }
    floats = {k: x for k, x in enumerate(slots) if x.dtype.is_floating}
    reached |= {x.name: {k} for k, x in floats.items()}
    read: set[int] = set()
    for operation in operations:
        found = {
            place: reached[x.name]
            for place, x in enumerate(operation.inputs)
            if x.name in reached
        }
        if not found:
            continue
        through = set().union(*found.values())
        if through and not _is_linear(operation, set(found)):
            read |= through
            through = set()
        reached |= {x.name: through for x in operation.outputs}
    return tuple(k for k in floats if k not in read)


def _is_linear(operation: Any, places: set[int]) -> bool:
    """Returns whether an operation is linear in its inputs at some places."""
    kind = operation.type
    given = operation.node_def.attr
    if OWN_DERIVATIVE in given:
        return False
    if not all(x.dtype.is_floating for x in operation.outputs):
        return False
    if kind in LINEAR:
        return True
    if kind in BILINEAR:
        return len(places) == 1
    return places <= LINEAR_IN.get(kind, set())
