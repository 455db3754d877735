"""Minibatches of streams, kept so that the walk backward sees them again.

See `arrays` for what a chunk is.
"""

import collections
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.nested import leaves, map_arrays
from keras_drmad.core.span import Span
from keras_drmad.core.state import Batch
from keras_drmad.core.walked import Ended
from keras_drmad.training import stacks
from keras_drmad.training.arrays import reversed_order
from keras_drmad.training.kept_batches import KeptBatches


class StackedChunk(NamedTuple):
    """Consecutive minibatches of a stream, all of one shape.

    Attributes:
        data: `Batch` of nested tensors `(chunk_size, batch_size, ...)`, `None`
            where there is nothing.
    """

    data: Batch

    def visit(
        self, i: tf.Tensor, function: Callable, *, any_size: bool = False
    ) -> Any:
        """Returns `function(batch)` for the i-th `Batch`."""
        del any_size  # all have one
        return function(map_arrays(lambda a: tf.gather(a, i), self.data))

    def reversed(self, n: int) -> "StackedChunk":
        """Returns the first n minibatches in the opposite order."""
        size = int(leaves(self.data)[0].shape[0])
        order = reversed_order(n, size)
        return StackedChunk(
            map_arrays(lambda a: tf.gather(a, order), self.data)
        )


class StreamBatches:
    """Batches of a stream, of which only two chunks are in memory at a time.

    While a loop goes through one chunk, a thread reads the next. The batches
    that the walk backward will visit are kept as they pass, so the walk sees
    the very same batches, whatever the stream shuffles.

    Attributes:
        counted: `Passes` that count the passes over the stream.
        passes: see `__init__`.
        seed: see `__init__`.
        size: `None`; the number of examples is not known.
        seen: int, a checksum of the batches from the beginning of the stream to
            the end of the last chunk.
    """

    def __init__(
        self,
        passes: Callable[[int, int], Iterable],
        seed: int,
        checks: Sequence[Callable[[Batch], None]] = (),
        counted: Any = None,
    ):
        """Initializes the batches.

        Args:
            passes: function of the seed and the number of the pass, returns an
                iterable of `Batch`, with arrays as leaves.
            seed: int, for a stream that does not have an order of its own.
            checks: functions that raise a `ValueError` for a batch that cannot
                serve.
            counted: `Passes`, those from which `passes` takes its batches;
                `passes` itself by default.
        """
        self.counted: Any = passes if counted is None else counted
        self.passes = passes
        self.seed = seed
        self._checks = list(checks)
        self.size = None
        self._kept = KeptBatches()
        self._t = 0  # the iteration of the batch that `_ahead` yields next
        self._ahead: Iterator = iter(())
        self._read = 0  # a checksum of the batches from the beginning to `_t`
        self.seen = 0
        self._reading: Future | None = None  # of the next chunk
        self._gives_up = False  # is set where a thread is to stop reading
        # Batches that `_ahead` has yielded, and `_next` has not.
        self._seen_ahead: collections.deque[Batch] = collections.deque()

    def with_seed(self, seed: int) -> "StreamBatches":
        """Returns the same stream in another order, if it has none itself."""
        return StreamBatches(self.passes, seed, self._checks, self.counted)

    def check_each(self, check: Callable[[Batch], None]) -> None:
        """Lets a function see each batch that comes from now on.

        Args:
            check: raises a `ValueError` for a batch that cannot serve.
        """
        self._checks.append(check)

    def first(self) -> Batch:
        """Returns the first batch of the first pass.

        Raises:
            ValueError: if the stream is empty.
        """
        return next(_endless(self.passes, self.seed, self._checks))

    def forward(
        self,
        span: Span,
        cuts: Sequence[int] = (),
        revisited: Sequence[int] | np.ndarray = (),
        cuts_backward: Sequence[int] = (),
        *,
        waits: Sequence[int] = (),
        goes_on: bool = False,
    ) -> Iterator:
        """Yields `(iterations, chunk)`; see `ArrayBatches.forward`.

        A span that begins where the last one ended goes on in the stream;
        another one begins with the stream and passes over what comes before.
        """
        self._go_to(span.first)
        ends = [t for t in cuts if span.first < t < span.last]
        stretches = np.diff([span.first, *ends, span.last])
        chunks = self._stacked(
            span,
            set(cuts),
            set(np.asarray(revisited).tolist()),
            set(cuts_backward),
            stacks.length(max(stretches)),
        )
        yield from self._one_ahead(chunks, waits)
        if not goes_on:  # lets go of threads, and of what is read ahead
            self._t, self._ahead = 0, iter(())

    def is_one_chunk(self, span: Span) -> bool:
        """Returns whether a span is one chunk, if nothing cuts it.

        Looks at the batches that come next in the stream.
        """
        self._go_to(span.first)
        ahead = self._seen_ahead
        stack = stacks.Stack(lambda *chunk: None, stacks.length(span.steps))
        for k in range(span.steps):
            if len(ahead) == k:
                ahead.append(next(self._ahead))
            if not stack.takes(ahead[k]):
                return False
            stack.gather(k, ahead[k])
        return True

    def _one_ahead(self, chunks: Iterator, waits: Sequence[int]) -> Iterator:
        """Yields chunks; a thread gets the next one before it is asked for.

        Always exactly one, so that how often a stream was begun, which decides
        in which order it comes next, does not depend on how fast it is. But an
        interrupt ends the reading, and so does what ends a `fit`.
        """
        self._gives_up = False
        with ThreadPoolExecutor(1) as pool:
            try:
                self._reading = pool.submit(next, chunks, None)
                while (read := self._reading.result()) is not None:
                    iterations, stacked, self.seen = read
                    is_awaited = iterations[-1] + 1 in waits
                    if not is_awaited:
                        self._reading = pool.submit(next, chunks, None)
                    yield iterations, _chunk(stacked)
                    if is_awaited:
                        self._reading = pool.submit(next, chunks, None)
            except (KeyboardInterrupt, Ended):  # the walk throws them here
                self._gives_up = True
                raise

    def _stacked(
        self,
        span: Span,
        begin: set[int],
        wanted: set[int],
        begin_backward: set[int],
        length: int,
    ) -> Iterator:
        """Yields `(iterations, stacked batches, checksum)`; reads the stream.

        Args:
            span: the iterations.
            begin: those with which a chunk has to begin.
            wanted: those that the walk backward visits.
            begin_backward: those with which a chunk of it has to begin.
            length: int, of the chunks.
        """
        ready: list = []
        keeps_all = len(wanted) == span.steps and begin_backward <= begin

        def emit(iterations: np.ndarray, stacked: Any) -> None:
            ready.append((iterations, stacked))
            if keeps_all:
                self._kept.push(iterations, stacked)

        stack = stacks.Stack(emit, length)
        kept = stacks.Stack(self._kept.push, stacks.length(len(wanted)))
        for t in range(*span):
            if self._gives_up:
                return
            if t in begin:
                stack.flush()
            if t in begin_backward:
                kept.flush()
            batch = self._next()
            stack.push(t, batch)
            if t in wanted and not keeps_all:
                kept.push(t, batch)
            while ready:
                yield *ready.pop(0), self._read
        stack.flush()
        kept.flush()
        while ready:
            yield *ready.pop(0), self._read

    def _go_to(self, t: int) -> None:
        """Makes the batch of iteration t the next one of the stream."""
        if self._reading is not None:  # of a walk that was broken off
            wait([self._reading])
        if t == 0 or t != self._t:
            self._kept.close()
            self._seen_ahead.clear()
            self._t = self._read = 0
            self._ahead = _endless(self.passes, self.seed, self._checks)
        while self._t < t:
            self._next()

    def _next(self) -> Batch:
        """Returns the next batch of the stream."""
        ahead = self._seen_ahead
        batch = ahead.popleft() if ahead else next(self._ahead)
        self._t += 1
        self._read = _checksum(batch, self._read)
        return batch

    def backward(
        self, span: Span, cuts: Sequence[int], revisited: np.ndarray
    ) -> Iterator:
        """Yields `(iterations, chunk)`, the last chunk first, once.

        Raises:
            RuntimeError: if the stream was walked from its beginning since.
        """
        del cuts  # as they were in `forward`
        if not np.array_equal(self._kept.iterations(span.first), revisited):
            raise RuntimeError(
                f"The batches of iterations {span.first} to {span.last - 1} of "
                "a stream are not kept any more: a walk backward goes through "
                "the spans of the last walk forward, once, the last span first."
            )
        while len(self._kept.iterations(span.first)):
            iterations, stacked = self._kept.pop()
            yield iterations, _chunk(stacked)
        if not self._kept:
            self._kept.close()


def _endless(passes: Callable, seed: int, checks: list) -> Iterator:
    """Yields batches, each checked, one pass after the other.

    A function, not a method: a generator that held the batches would keep
    them, and their temporary files, until the garbage is collected.
    """
    number = 0
    while True:
        empty = True
        for batch in passes(seed, number):
            empty = False
            for check in checks:
                check(batch)
            yield batch
        if empty:
            raise ValueError(
                "Invalid value for argument `x`. Expected a data set with "
                "at least one batch. Received: one that yields nothing"
                f"{' any more' if number else ''}. Check its source and "
                "its filters."
            )
        number += 1


def _chunk(stacked: Any) -> StackedChunk:
    return StackedChunk(map_arrays(keras_internals.tensor_in_place, stacked))


def _checksum(batch: Batch, seen: int, numbers: int = 64) -> int:
    """Returns a checksum of batches, of some numbers of each array."""
    for array in leaves(batch):
        if isinstance(array, np.ndarray) and array.dtype != object:
            some = array.reshape(-1)[:: max(1, array.size // numbers)]
            seen = zlib.crc32(some.tobytes(), seen)
    return seen
