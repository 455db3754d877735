"""Minibatches of streams, kept so that the walk backward sees them again.

See `arrays` for what a chunk is.
"""

import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core.nested import leaves, map_arrays
from keras_drmad.core.span import CHUNK_SIZE, Span
from keras_drmad.core.state import Batch
from keras_drmad.training.arrays import reversed_order

CHUNK_BYTES = 64 * 2**20  # of a stream's stacked batches, at most


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
    """Batches of a stream, of which only one chunk is in memory at a time.

    The batches that the walk backward will visit are written to temporary files
    as they pass, so the walk sees the very same batches, whatever the stream
    shuffles.
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
        self.size = None  # the number of examples is not known
        self._files: list[tuple[np.ndarray, Any]] = []
        self._folder = ""
        self._remove_folder: Callable[[], Any] = lambda: None
        self._t = 0  # the iteration of the batch that `_ahead` yields next
        self._ahead: Iterator = iter(())
        self.seen = 0  # a checksum of the batches from the beginning to `_t`

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
        goes_on: bool = False,
    ) -> Iterator:
        """Yields `(iterations, chunk)`; see `ArrayBatches.forward`.

        A span that begins where the last one ended goes on in the stream;
        another one begins with the stream and passes over what comes before.
        """
        self._go_to(span.first)
        if len(revisited) and not self._folder:
            self._folder = tempfile.mkdtemp(prefix="keras_drmad_")
            # Also where the walk backward never comes, or ends early.
            self._remove_folder = weakref.finalize(
                self, shutil.rmtree, self._folder, ignore_errors=True
            )
        kept = _Stack(self._write, pads=False)
        wanted = set(np.asarray(revisited).tolist())
        begin, begin_backward = set(cuts), set(cuts_backward)
        ready: list = []
        stack = _Stack(lambda *chunk: ready.append(chunk), pads=True)
        for t in range(*span):
            if t in begin:
                stack.flush()
            if t in begin_backward:
                kept.flush()
            batch = self._next()
            stack.push(t, batch)
            if t in wanted:
                kept.push(t, batch)
            yield from _drain(ready)
        stack.flush()
        kept.flush()
        if not goes_on:  # lets go of threads, and of what is read ahead
            self._t, self._ahead = 0, iter(())
        yield from _drain(ready)

    def _go_to(self, t: int) -> None:
        """Makes the batch of iteration t the next one of the stream."""
        if t == 0 or t != self._t:
            self.close()
            self._t = self.seen = 0
            self._ahead = _endless(self.passes, self.seed, self._checks)
        while self._t < t:
            self._next()

    def _next(self) -> Batch:
        """Returns the next batch of the stream."""
        batch = next(self._ahead)
        self._t += 1
        self.seen = _checksum(batch, self.seen)
        return batch

    def backward(
        self, span: Span, cuts: Sequence[int], revisited: np.ndarray
    ) -> Iterator:
        """Yields `(iterations, chunk)`, the last chunk first, once.

        Raises:
            RuntimeError: if the stream was walked from its beginning since.
        """
        del cuts  # as they were in `forward`
        kept = [t for t, _ in self._files if t[0] >= span.first]
        if not np.array_equal(np.concatenate([[], *kept]), revisited):
            raise RuntimeError(
                f"The batches of iterations {span.first} to {span.last - 1} of "
                "a stream are not kept any more: a walk backward goes through "
                "the spans of the last walk forward, once, the last span first."
            )
        while self._files and self._files[-1][0][0] >= span.first:
            iterations, structure = self._files.pop()
            path = self._path(len(self._files))
            with np.load(path) as arrays:
                flat = [arrays[str(k)] for k in range(len(arrays.files))]
            os.remove(path)
            stacked = _unflatten(structure, flat)
            size = sum(a.nbytes for a in flat) // len(iterations)
            length = max(_capacity(size), len(iterations))
            yield (
                iterations,
                _chunk(map_arrays(lambda a, n=length: _joined(a, n), stacked)),
            )
        if not self._files:
            self.close()

    def close(self) -> None:
        """Deletes the temporary files."""
        self._remove_folder()
        self._folder, self._files = "", []

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number}.npz"

    def _write(self, iterations: np.ndarray, stacked: Any) -> None:
        flat = {str(k): a for k, a in enumerate(leaves(stacked))}
        np.savez(self._path(len(self._files)), **flat)
        structure = map_arrays(lambda a: 0, stacked)
        self._files.append((iterations, structure))


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


class _Stack:
    """Gathers consecutive batches of one shape and emits them stacked.

    Emits when `CHUNK_SIZE` of them or `CHUNK_BYTES` are gathered, each as large
    as with the longest strings in any, when a batch has another shape than the
    one before, and at `flush`.
    """

    def __init__(self, emit: Callable[[np.ndarray, Any], None], *, pads: bool):
        """Initializes the stack.

        Args:
            emit: takes the iterations and the stacked batches.
            pads: bool, whether the last batch is repeated until they are as
                many as a chunk holds.
        """
        self.emit = emit
        self.pads = pads
        self.iterations: list[int] = []
        self.batches: list = []
        self._nbytes: list[int] = []  # of each array, the largest

    def push(self, t: int, batch) -> None:
        if self.batches and _shapes(batch) != _shapes(self.batches[0]):
            self.flush()
        own = [a.nbytes for a in leaves(batch)]
        largest = list(map(max, own, self._nbytes or own))
        if len(self.batches) >= _capacity(sum(largest)):
            self.flush()
            largest = own
        self._nbytes = largest
        self.iterations.append(t)
        self.batches.append(batch)
        if len(self.batches) == self._capacity():
            self.flush()

    def flush(self) -> None:
        if self.batches:
            n = self._capacity() if self.pads else len(self.batches)
            stacked = _zip_map(lambda *a: _joined(a, n), self.batches)
            self.emit(np.array(self.iterations), stacked)
        self.iterations, self.batches, self._nbytes = [], [], []

    def _capacity(self) -> int:
        return _capacity(sum(self._nbytes))


def _capacity(size: int) -> int:
    """Returns how many batches of a number of bytes a chunk holds."""
    return int(np.clip(CHUNK_BYTES // max(size, 1), 1, CHUNK_SIZE))


def _drain(ready: list) -> Iterator:
    while ready:
        iterations, stacked = ready.pop(0)
        yield iterations, _chunk(stacked)


def _chunk(stacked: Any) -> StackedChunk:
    return StackedChunk(map_arrays(tf.constant, stacked))


def _joined(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Returns arrays along a new first axis, the last one until the end.

    So that a chunk has its full length, and one trace serves all.
    """
    n = len(arrays)
    if isinstance(arrays, np.ndarray) and n == length:
        return arrays
    joined = np.empty((length, *arrays[0].shape), np.result_type(*arrays))
    np.stack(arrays, out=joined[:n])
    joined[n:] = joined[n - 1]
    return joined


def _zip_map(function: Callable, structures: list):
    return tf.nest.map_structure(
        lambda *a: None if a[0] is None else function(*a), *structures
    )


def _unflatten(structure, flat: list):
    rest = iter(flat)
    return map_arrays(lambda _: next(rest), structure)


def _checksum(batch: Batch, seen: int, numbers: int = 64) -> int:
    """Returns a checksum of batches, of some numbers of each array."""
    for array in leaves(batch):
        if isinstance(array, np.ndarray) and array.dtype != object:
            some = array.reshape(-1)[:: max(1, array.size // numbers)]
            seen = zlib.crc32(some.tobytes(), seen)
    return seen


def _shapes(batch) -> list:
    return [np.shape(a) for a in leaves(batch)]
