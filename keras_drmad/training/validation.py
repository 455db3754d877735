"""The validation loss of a state, and its slopes, chunk by chunk."""

import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import Span
from keras_drmad.core.state import Setting, State
from keras_drmad.core.walk import told_of_interrupts
from keras_drmad.core.walked import Watcher
from keras_drmad.training import carried_validation
from keras_drmad.training.plan import Source

PARTS = 20  # of held-out examples, whose losses tell how sure their mean is


def validated(
    loops: Any,
    state: State,
    setting: Setting,
    source: Source,
    watcher: Watcher,
    parts: list[float] | None = None,
) -> tuple[Any, list[tf.Tensor]]:
    """Adds up the validation loss of all batches.

    Args:
        loops: `core.loops.Loops` of the problem.
        state: s_T.
        setting: `Setting`.
        source: the batches.
        watcher: is told of the chunks.
        parts: list to which the mean losses of up to `PARTS` parts of the
            batches are appended; not where validation carries variables along.

    Returns:
        The metrics' state, and the sum of losses and of examples.
    """
    if loops.problem.carries:
        metrics, total, _ = carried_validation.validate(
            loops, state, setting, list(chunks(source))
        )
        return metrics, total
    so_far = loops.problem.metrics_state(), no_loss()
    begins = [] if parts is None else places_of_parts(source)
    after = np.zeros((len(begins), 2))  # sums of losses and of examples
    done = 0

    def loop(metrics, total, chunk, n):
        nonlocal done
        found = loops.validate(state, setting, metrics, total, chunk, n)
        if parts is not None:  # of which one may have several chunks
            part = np.searchsorted(begins, done, side="right") - 1
            after[part] = [float(x) for x in found[1]]
            done += int(n)
        return found

    metrics, total = _through(
        source, loop, so_far, watcher, "validation", begins
    )
    if parts is not None:
        losses, counts = np.diff(after, axis=0, prepend=0).T
        parts += (losses / counts).tolist()
    return metrics, total


def at_epoch(problem: Any, state: State, callbacks: Any) -> State:
    """Returns the state that is validated at the end of an epoch.

    As in Keras, and as callbacks see the model there, the weights are not yet
    the averages of `use_ema`, but where `SwapEMAWeights` is among them.

    Args:
        problem: the training.
        state: that of the epoch's end.
        callbacks: Keras's list.
    """
    swap = keras.callbacks.SwapEMAWeights
    if any(isinstance(one, swap) for one in callbacks.callbacks):
        return state
    return problem.without_averages(state)


def places_of_parts(source: Source) -> list[int]:
    """Returns the batches at which parts of about the same size begin."""
    count = min(PARTS, source.steps)
    return [k * source.steps // count for k in range(count)]


def differentiated(
    loops: Any,
    state: State,
    setting: Setting,
    source: Source,
    watcher: Watcher,
    span: Span | None = None,
) -> tuple[Any, list[tf.Tensor], Any]:
    """Adds up the validation loss of all batches, and its gradients.

    The other arguments are those of `validated`.

    Args:
        span: the batches; all of them by default.

    Returns:
        The metrics' state, the sum of losses and of examples, and the
        gradients of the sum of losses, in s_T and in λ.
    """
    if loops.problem.carries:
        all_chunks = list(chunks(source, span=span))
        metrics, total, states = carried_validation.validate(
            loops, state, setting, all_chunks
        )
        slopes = carried_validation.slopes(loops, states, setting, all_chunks)
        return metrics, total, slopes
    at = nested.float_leaves(state), setting.hparams
    so_far = loops.problem.metrics_state(), no_loss(), nested.zeros_like(at)
    loop = functools.partial(loops.differentiate, state, setting)
    metrics, total, slopes = _through(
        source, loop, so_far, watcher, "slopes", span=span
    )
    return metrics, total, slopes


def _through(
    source: Source,
    loop: Callable,
    so_far: tuple,
    watcher: Watcher,
    stage: str,
    begins: Sequence[int] = (),
    span: Span | None = None,
) -> tuple:
    """Takes a loop through the batches, and tells of each chunk.

    Args:
        source: the batches.
        loop: function `(*so_far, chunk, n)`, returns what comes of it.
        so_far: what the loop begins with.
        watcher: is told of the chunks.
        stage: str, by which the watcher knows the loop.
        begins: batches with which a chunk has to begin.
        span: the batches; all of them by default.
    """
    begun, done = watcher.begun(stage), 0
    so_far = begun.get("so_far", so_far)
    read = _read(source, begins, span)
    with told_of_interrupts(read):
        for iterations, chunk in read:
            n = len(iterations)
            done += n
            if done <= begun.get("done", 0):
                continue  # was done before the loop was broken off
            so_far = tuple(loop(*so_far, chunk, tf.constant(n)))
            watcher.on_chunk(stage, n, {"done": done, "so_far": so_far})
    return so_far


def no_loss() -> list[tf.Tensor]:
    """Returns the sums of losses and of examples before the first batch."""
    return [tf.zeros([], keras.config.floatx()) for _ in range(2)]


def chunks(
    source: Source, span: Span | None = None
) -> Iterator[tuple[Any, tf.Tensor]]:
    """Yields minibatches and their numbers, chunk by chunk.

    Args:
        source: the batches.
        span: which of the batches; all of them by default.
    """
    for iterations, chunk in _read(source, (), span):
        yield chunk, tf.constant(len(iterations))


def _read(
    source: Source, begins: Sequence[int], span: Span | None
) -> Generator:
    """Returns the generator of `(iterations, chunk)`; see `_through`."""
    span = Span(0, source.steps) if span is None else span
    goes_on = span.last < source.steps  # of a stream: not read anew
    return source.batches.forward(span, begins, goes_on=goes_on)
