"""Validation of models whose states go on from one batch to the next.

Stateful recurrent layers, counts of calls: what a batch leaves in such a
variable, the next batch reads, as in `keras.Model.evaluate`. The gradient comes
back through the batches, the last one first.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.state import Setting, State

Chunks = list[tuple[Any, tf.Tensor]]  # minibatches, and how many


def validate(
    loops: Any, state: State, setting: Setting, chunks: Chunks
) -> tuple[list, list, list[State]]:
    """Adds up the validation loss of all batches.

    Args:
        loops: `core.loops.Loops` of the problem.
        state: s_T.
        setting: `Setting`.
        chunks: the batches.

    Returns:
        The metrics' state, the sum of losses and of examples, and the state
        before each batch.
    """
    metrics = loops.problem.metrics_state()
    total = [tf.zeros([], keras.config.floatx()) for _ in range(2)]
    states = []
    for chunk, n in chunks:
        for i in tf.range(n):
            states.append(state)
            metrics, total, buffers = loops.validate_one(
                state, setting, metrics, total, chunk, i
            )
            state = state._replace(buffers=buffers)
    return metrics, total, states


def slopes(
    loops: Any, states: list[State], setting: Setting, chunks: Chunks
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the gradients of the sum of losses, in s_T and in λ.

    Args:
        loops: `core.loops.Loops` of the problem.
        states: the state before each batch, as `validate` returns them.
        setting: `Setting`.
        chunks: the batches.
    """
    state = states[0]
    gathered = nested.zeros_like((nested.float_leaves(state), setting.hparams))
    d_buffers = nested.zeros_like(nested.float_leaves(state.buffers))
    before = iter(reversed(states))
    count = len(gathered[0]) - len(d_buffers)
    for chunk, n in reversed(chunks):
        for i in reversed(range(int(n))):
            d_state, d_hparams = loops.slope_of_one(
                next(before), setting, d_buffers, chunk, tf.constant(i)
            )
            d_buffers = d_state[count:]
            d_rest = [*d_state[:count], *nested.zeros_like(d_buffers)]
            gathered = nested.add(gathered, (d_rest, d_hparams))
    return [*gathered[0][:count], *d_buffers], gathered[1]
