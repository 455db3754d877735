"""Passes over data sets, as batches of arrays."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.nested import map_arrays
from keras_drmad.core.state import Batch


class Passes:
    """The passes over a data set, counted.

    A `tf.data.Dataset` that shuffles with a seed goes through the same orders
    in each process, one order a pass; a `PyDataset` may do so when it is told
    of the ends of passes. So where a `fit` goes on in another process, the data
    set must have been gone through as often.

    Attributes:
        begun: int, how many passes began.
        ended: int, how many came to their end.
    """

    def __init__(
        self,
        passes: Callable[[int, int], Iterable],
        begin: Callable[[], Any],
        end: Callable[[], Any] = lambda: None,
    ):
        """Initializes the passes.

        Args:
            passes: function of the seed and the number of the pass, returns an
                iterable of `Batch`.
            begin: function that does what the beginning of a pass does.
            end: function that does what its end does.
        """
        self._passes, self._begin, self._end = passes, begin, end
        self.begun = self.ended = 0

    def __call__(self, seed: int, number: int) -> Iterator[Batch]:
        """Yields the batches of a pass."""
        self.begun += 1
        yield from self._passes(seed, number)
        self.ended += 1

    def skip(self, begun: int, ended: int) -> None:
        """Passes over passes, until as many began and ended."""
        while self.begun < begun:
            self._begin()
            self.begun += 1
            if self.ended < ended:
                self._end()
                self.ended += 1


def dataset_passes(dataset: tf.data.Dataset) -> Passes:
    """Returns the passes over a `tf.data.Dataset`, as arrays.

    Each batch is copied before the next one is asked for: what a generator
    yields TensorFlow does not copy where it lies at a multiple of 64 bytes, and
    a generator may fill the same arrays again and again.
    """
    return Passes(
        lambda seed, number: map(_as_arrays, dataset), lambda: iter(dataset)
    )


def py_dataset_passes(dataset: keras.utils.PyDataset, shuffle: bool) -> Passes:
    """Returns the passes over a `PyDataset`, as arrays.

    Batches are taken in an order drawn from (seed, pass) if `shuffle` and their
    number is known, by `dataset.workers` threads that run ahead by
    `dataset.max_queue_size`. Each is copied before its thread asks for the
    next, so with one worker, the default, a data set may fill the same arrays
    again and again.
    """

    def item(k: int) -> Batch:
        return _as_arrays(dataset[k])

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
                ahead.append(pool.submit(item, k))
                if len(ahead) >= dataset.max_queue_size:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
        dataset.on_epoch_end()

    return Passes(batches, dataset.on_epoch_begin, dataset.on_epoch_end)


def _as_arrays(batch) -> Batch:
    """Returns a batch with copies of arrays, and with arrays for tensors.

    Tensors of other forms stay as they are, and so do tables.
    """

    def as_array(a):
        if isinstance(a, np.ndarray):
            return a.copy()
        if isinstance(a, tf.Tensor):
            return a.numpy()  # a copy
        if not tf.is_tensor(a) or type(a) in (tf.SparseTensor, tf.RaggedTensor):
            return a
        return tf.convert_to_tensor(a).numpy()

    return map_arrays(as_array, unpack(batch))


def unpack(batch) -> Batch:
    """Returns what a data set yields as a `Batch`.

    That is what Keras takes, or `(x, y, sample_weight, index)`.
    """
    if isinstance(batch, tuple) and len(batch) == 4:
        return Batch(*batch)
    return Batch(*keras.utils.unpack_x_y_sample_weight(batch))
