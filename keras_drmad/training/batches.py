"""Minibatches as a function of the iteration, so that the way back sees them.

Training data come in chunks of iterations. Each chunk is a named tuple of
tensors of fixed shapes, so that one compiled loop serves all of them, with a
pure method `visit(i, function)` that applies a function to the i-th minibatch.
"""

import collections
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import CHUNK_SIZE, divide
from keras_drmad.core.state import Batch

CHUNK_BYTES = 64 * 2**20  # of a stream's stacked batches, at most


class ArrayChunk(NamedTuple):
    """Minibatches gathered from arrays on the device.

    Attributes:
        data: `(x, y, sample_weight)`, nested tensors with the examples on the
            first axis, `None` where there is nothing.
        indices: `(chunk_size, batch_size)` int32, the examples of each batch.
        is_short: `(chunk_size,)` bool, whether a batch is the short one that
            ends a pass over the data; `None` if all are full.
        short_indices: `(chunk_size, remainder)` int32, the examples of the
            short batches; `None` if all are full.
    """

    data: Any
    indices: tf.Tensor
    is_short: tf.Tensor | None
    short_indices: tf.Tensor | None

    def visit(self, i: tf.Tensor, function: Callable) -> Any:
        """Returns `function(batch)` for the i-th `Batch`."""

        def on(indices):
            index = nested.at(indices, i)
            data = map_arrays(lambda a: tf.gather(a, index), self.data)
            return function(Batch(*data, index))

        if self.is_short is None:
            return on(self.indices)
        return tf.cond(
            nested.at(self.is_short, i),
            lambda: on(self.short_indices),
            lambda: on(self.indices),
        )

    def backwards(self, n: int) -> "ArrayChunk":
        """Returns the first n minibatches in the opposite order."""
        order = _backwards(n)
        rest = [None if a is None else tf.gather(a, order) for a in self[1:]]
        return ArrayChunk(self.data, *rest)


class StackedChunk(NamedTuple):
    """Consecutive minibatches of a stream, all of one shape.

    Attributes:
        data: `Batch` of nested tensors `(chunk_size, batch_size, ...)`, `None`
            where there is nothing.
    """

    data: Batch

    def visit(self, i: tf.Tensor, function: Callable) -> Any:
        """Returns `function(batch)` for the i-th `Batch`."""
        return function(map_arrays(lambda a: tf.gather(a, i), self.data))

    def backwards(self, n: int) -> "StackedChunk":
        """Returns the first n minibatches in the opposite order."""
        size = int(leaves(self.data)[0].shape[0])
        order = _backwards(n, size)
        return StackedChunk(
            map_arrays(lambda a: tf.gather(a, order), self.data)
        )


def _backwards(n: int, size: int = CHUNK_SIZE) -> np.ndarray:
    return np.append(np.arange(n)[::-1], np.arange(n, size))


class ArrayBatches:
    """Batches of arrays; the batch of iteration t is a function of (seed, t).

    Each pass over the n examples is a permutation drawn from (seed, pass), cut
    into batches; the last one of a pass is short where `batch_size` does not
    divide n, as in `keras.Model.fit`. Passes follow each other without end.
    """

    def __init__(self, data, batch_size: int, shuffle: bool, seed: int):
        """Initializes the batches.

        Args:
            data: `(x, y, sample_weight)`, nested arrays or `None`.
            batch_size: int, the number of examples in a full batch.
            shuffle: bool, whether each pass draws a new permutation.
            seed: int, from which the permutations are drawn.
        """
        self.data = map_arrays(tf.convert_to_tensor, data)
        self.size = int(leaves(data)[0].shape[0])
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.steps_per_pass = -(-self.size // batch_size)

    def with_seed(self, seed: int) -> "ArrayBatches":
        """Returns the same data in another order."""
        return ArrayBatches(self.data, self.batch_size, self.shuffle, seed)

    def first(self) -> Batch:
        """Returns the first batch in the order given."""
        data = map_arrays(lambda a: a[: self.batch_size], self.data)
        x, y, sample_weight = data
        return Batch(x, y, sample_weight, tf.range(self.batch_size))

    def there(
        self,
        T: int,
        cuts: Sequence[int] = (),
        revisited: Sequence[int] | np.ndarray = (),
        cuts_back: Sequence[int] = (),
    ) -> Iterator:
        """Yields `(iterations, chunk)` for the walk through T iterations.

        Args:
            T: int, the number of iterations.
            cuts: iterations at which a new chunk has to begin, ascending.
            revisited: the iterations that `back` will ask for, ascending.
            cuts_back: the cuts of `back`.
        """
        del revisited, cuts_back  # any batch can be gathered again
        for iterations in divide(np.arange(T), CHUNK_SIZE, cuts):
            yield iterations, self._chunk(iterations)

    def back(self, cuts: Sequence[int], revisited: np.ndarray) -> Iterator:
        """Yields `(iterations, chunk)` for `revisited`, last chunk first."""
        for iterations in reversed(divide(revisited, CHUNK_SIZE, cuts)):
            yield iterations, self._chunk(iterations)

    def _chunk(self, iterations: np.ndarray) -> ArrayChunk:
        B, remainder = self.batch_size, self.size % self.batch_size
        indices = np.zeros((CHUNK_SIZE, B), np.int32)
        is_short = np.zeros(CHUNK_SIZE, bool)
        order_of: dict[int, np.ndarray] = {}
        for i, t in enumerate(iterations):
            number, step = divmod(int(t), self.steps_per_pass)
            if number not in order_of:
                order_of[number] = self._order(number)
            batch = order_of[number][step * B : (step + 1) * B]
            is_short[i] = len(batch) < B
            indices[i, : len(batch)] = batch
        short = remainder > 0
        return ArrayChunk(
            data=self.data,
            indices=tf.constant(indices),
            is_short=tf.constant(is_short) if short else None,
            short_indices=(
                tf.constant(indices[:, :remainder]) if short else None
            ),
        )

    def _order(self, number: int) -> np.ndarray:
        """Returns the examples in the order of one pass."""
        if not self.shuffle:
            return np.arange(self.size, dtype=np.int32)
        generator = np.random.default_rng((self.seed, number))
        return generator.permutation(self.size).astype(np.int32)


class StreamBatches:
    """Batches of a stream, of which only one chunk is in memory at a time.

    The batches that the way back will visit are written to temporary files as
    they pass, so it sees the very same ones, whatever the stream shuffles.
    """

    def __init__(self, passes: Callable[[int, int], Iterable], seed: int):
        """Initializes the batches.

        Args:
            passes: function of the seed and the number of the pass, returns an
                iterable of `Batch`, with arrays as leaves.
            seed: int, for a stream that does not have an order of its own.
        """
        self.passes = passes
        self.seed = seed
        self.size = None  # how many examples there are, nobody knows
        self._files: list[tuple[np.ndarray, Any]] = []
        self._folder = ""
        self._remove_folder: Callable[[], Any] = lambda: None

    def with_seed(self, seed: int) -> "StreamBatches":
        """Returns the same stream in another order, if it has none itself."""
        return StreamBatches(self.passes, seed)

    def first(self) -> Batch:
        """Returns the first batch of the first pass.

        Raises:
            ValueError: if the stream is empty.
        """
        return next(iter(self._endless()))

    def there(
        self,
        T: int,
        cuts: Sequence[int] = (),
        revisited: Sequence[int] | np.ndarray = (),
        cuts_back: Sequence[int] = (),
    ) -> Iterator:
        """Yields `(iterations, chunk)`; see `ArrayBatches.there`."""
        self.close()
        if len(revisited):
            self._folder = tempfile.mkdtemp(prefix="keras_drmad_")
            # Also where the walk back never comes, or ends early.
            self._remove_folder = weakref.finalize(
                self, shutil.rmtree, self._folder, ignore_errors=True
            )
        kept = _Stack(self._write)
        wanted = set(np.asarray(revisited).tolist())
        begin, begin_back = set(cuts), set(cuts_back)
        ready: list = []
        stack = _Stack(lambda *chunk: ready.append(chunk))
        batches = iter(self._endless())
        for t in range(T):
            if t in begin:
                stack.flush()
            if t in begin_back:
                kept.flush()
            batch = next(batches)
            stack.push(t, batch)
            if t in wanted:
                kept.push(t, batch)
            yield from _drain(ready)
        stack.flush()
        kept.flush()
        yield from _drain(ready)

    def back(self, cuts: Sequence[int], revisited: np.ndarray) -> Iterator:
        """Yields `(iterations, chunk)`, the last chunk first, once."""
        del cuts, revisited  # as they were in `there`
        for number in reversed(range(len(self._files))):
            iterations, structure = self._files[number]
            with np.load(self._path(number)) as arrays:
                flat = [arrays[str(k)] for k in range(len(arrays.files))]
            yield iterations, _padded(_unflatten(structure, flat))
        self.close()

    def close(self) -> None:
        """Deletes the temporary files."""
        self._remove_folder()
        self._files = []

    def _endless(self) -> Iterator:
        number = 0
        while True:
            empty = True
            for batch in self.passes(self.seed, number):
                empty = False
                yield batch
            if empty:
                raise ValueError(
                    "Invalid value for argument `x`. Expected a data set with "
                    "at least one batch. Received: one that yields nothing"
                    f"{' any more' if number else ''}. Check its source and "
                    "its filters."
                )
            number += 1

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number}.npz"

    def _write(self, iterations: np.ndarray, stacked: Any) -> None:
        flat = {str(k): a for k, a in enumerate(leaves(stacked))}
        np.savez(self._path(len(self._files)), **flat)
        structure = map_arrays(lambda a: 0, stacked)
        self._files.append((iterations, structure))


class _Stack:
    """Gathers consecutive batches of one shape and emits them stacked.

    Emits when `CHUNK_SIZE` of them or `CHUNK_BYTES` are gathered, when a batch
    has another shape than the one before, and at `flush`.
    """

    def __init__(self, emit: Callable[[np.ndarray, Any], None]):
        self.emit = emit
        self.iterations: list[int] = []
        self.batches: list = []

    def push(self, t: int, batch) -> None:
        if self.batches and _shapes(batch) != _shapes(self.batches[0]):
            self.flush()
        self.iterations.append(t)
        self.batches.append(batch)
        size = sum(a.nbytes for a in leaves(self.batches[0]))
        if len(self.batches) == _capacity(size):
            self.flush()

    def flush(self) -> None:
        if self.batches:
            stacked = _zip_map(lambda *a: np.stack(a), self.batches)
            self.emit(np.array(self.iterations), stacked)
        self.iterations, self.batches = [], []


def _capacity(size: int) -> int:
    """Returns how many batches of a number of bytes a chunk holds."""
    return int(np.clip(CHUNK_BYTES // max(size, 1), 1, CHUNK_SIZE))


def _drain(ready: list) -> Iterator:
    while ready:
        iterations, stacked = ready.pop(0)
        yield iterations, _padded(stacked)


def _padded(data) -> StackedChunk:
    """Returns a chunk of its full length, so that one trace serves all."""
    n = len(leaves(data)[0])
    length = _capacity(sum(a.nbytes for a in leaves(data)) // n)

    def pad(a):
        widths = [(0, length - n)] + [(0, 0)] * (a.ndim - 1)
        return tf.constant(np.pad(a, widths, mode="edge"))

    return StackedChunk(map_arrays(pad, data))


def dataset_passes(dataset: tf.data.Dataset) -> Callable[[int, int], Iterable]:
    """Returns the passes over a `tf.data.Dataset`, as arrays."""
    return lambda seed, number: (
        unpack(batch) for batch in dataset.as_numpy_iterator()
    )


def py_dataset_passes(
    dataset: keras.utils.PyDataset, shuffle: bool
) -> Callable[[int, int], Iterable]:
    """Returns the passes over a `PyDataset`, as arrays.

    Batches are taken in an order drawn from (seed, pass) if `shuffle` and their
    number is known, by `dataset.workers` threads that run ahead by
    `dataset.max_queue_size`.
    """

    def order(seed: int, number: int) -> Iterable[int]:
        if dataset.num_batches is None:
            return itertools.count()
        if not shuffle:
            return range(dataset.num_batches)
        generator = np.random.default_rng((seed, number))
        return generator.permutation(dataset.num_batches).tolist()

    def batches(seed: int, number: int) -> Iterator:
        dataset.on_epoch_begin()
        pool = ThreadPoolExecutor(max(1, dataset.workers))
        ahead: collections.deque = collections.deque()
        try:
            for k in order(seed, number):
                ahead.append(pool.submit(dataset.__getitem__, k))
                if len(ahead) >= dataset.max_queue_size:
                    yield _as_arrays(ahead.popleft().result())
            while ahead:
                yield _as_arrays(ahead.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
        dataset.on_epoch_end()

    return batches


def _as_arrays(batch) -> Batch:
    return map_arrays(np.asarray, unpack(batch))


def unpack(batch) -> Batch:
    """Returns what a data set yields as a `Batch`.

    That is what Keras takes, or `(x, y, sample_weight, index)`.
    """
    if isinstance(batch, tuple) and len(batch) == 4:
        return Batch(*batch)
    return Batch(*keras.utils.unpack_x_y_sample_weight(batch))


def leaves(data) -> list:
    """Returns the arrays of a nested structure, without the `None`s."""
    return [a for a in tf.nest.flatten(data) if a is not None]


def map_arrays(function: Callable, data):
    """Applies a function to every array of a structure, keeps the `None`s."""
    return tf.nest.map_structure(
        lambda a: None if a is None else function(a), data
    )


def _zip_map(function: Callable, structures: list):
    return tf.nest.map_structure(
        lambda *a: None if a[0] is None else function(*a), *structures
    )


def _unflatten(structure, flat: list):
    rest = iter(flat)
    return map_arrays(lambda _: next(rest), structure)


def _shapes(batch) -> list:
    return [np.shape(a) for a in leaves(batch)]
