"""Both halves of a step, copied from the look at one."""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from keras_drmad.core.graph_copy import CALLS, GraphCopy
from keras_drmad.core.state import Batch, State
from keras_drmad.keras_internals import compiles_by_xla
from keras_drmad.seam.look import Look


class FirstHalf(NamedTuple):
    """What a step computes before the optimizer's update.

    Attributes:
        gradients: list of tensors or `Rows`, as the parameters.
        buffers: list of tensors, the buffers after the model's call.
        metrics: list of tensors, the state of the metrics after it.
        loss: scalar, the training loss, as it is reported.
        params: list of tensors, the parameters after the call; `None` where
            the call assigns none.
    """

    gradients: list
    buffers: list[tf.Tensor]
    metrics: list[tf.Tensor]
    loss: tf.Tensor
    params: list[tf.Tensor] | None = None


class CopiedStep:
    """What copies the graphs of a look into loops.

    Both methods return `None` where a copy will not do: where minibatches have
    other sizes than the one that was looked at; under XLA, for which functions
    may be traced otherwise; where the look read a variable that loops are
    given; and where a graph calls functions and is to be differentiated.

    Of a state the methods take pairs of a variable and its value: all that a
    step changes, and all that it reads and leaves.
    """

    def __init__(self, look: Look):
        """Initializes the copies.

        Args:
            look: at a step.
        """
        self._look = look
        self._calls = not CALLS.isdisjoint(look.operations)
        self._update_calls = not CALLS.isdisjoint(look.update_operations)
        asked = {id(v) for variables in look.asked for v in variables}
        has_all = asked.issuperset(map(id, look.fixed))
        self._is_of_loops = has_all and not look.assigns_params

    def first_half(
        self,
        pairs: list,
        hparams: list[tf.Tensor],
        batch: Batch,
        metrics: list[tf.Tensor],
        *,
        is_differentiated: bool,
    ) -> FirstHalf | None:
        """Returns what comes before the optimizer's update.

        Args:
            pairs: the state, as pairs.
            hparams: list of tensors λ.
            batch: the minibatch.
            metrics: list of tensors, the metrics' state.
            is_differentiated: bool, whether `core.derivatives.vjp` will
                differentiate the copy.
        """
        if self._calls and is_differentiated:
            return None
        params, _, buffers = self._look.asked
        state = self._state(pairs, params)
        copied = self._copied(0, (state, hparams, metrics, batch))
        if copied is None:
            return None
        gradients, after, *rest = copied
        left = _picked(buffers, after, self._look.buffers)
        return FirstHalf(gradients, left, *rest)

    def update(
        self,
        pairs: list,
        gradients: list,
        hparams: list[tf.Tensor],
        *,
        is_differentiated: bool,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]] | None:
        """Returns the parameters and slots after the optimizer's update.

        Args:
            pairs: the state, as pairs.
            gradients: list of tensors or `Rows`, as the parameters.
            hparams: list of tensors λ.
            is_differentiated: as for `first_half`.
        """
        if self._update_calls and is_differentiated:
            return None
        _, slots, _ = self._look.asked
        state = self._state(pairs, self._look.params)
        copied = self._copied(1, (state, gradients, hparams))
        if copied is None:
            return None
        params, after = copied
        return params, _picked(slots, after, self._look.slots)

    def _state(self, pairs: list, params: list) -> State:
        """Returns a state with all that the look began with."""
        values = {id(v): x for v, x in pairs}
        _, *others = self._look.asked
        return State(
            *([values.get(id(v)) for v in each] for each in (params, *others))
        )

    @functools.cached_property
    def _halves(self) -> list[GraphCopy]:
        return list(map(GraphCopy, self._look.graphs))

    def _copied(self, half: int, args: Any) -> Any:
        is_possible = self._is_of_loops and not tf.executing_eagerly()
        if not is_possible or compiles_by_xla():
            return None
        copy = self._halves[half]
        return copy(args) if copy.takes(args) else None


def _picked(variables: list, values: list, wanted: list) -> list:
    """Returns the values of some of the variables."""
    value_of = dict(zip(map(id, variables), values, strict=True))
    return [value_of[id(v)] for v in wanted]
