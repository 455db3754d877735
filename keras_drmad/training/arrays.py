"""Minibatches of arrays, as a function of (seed, t).

Minibatches come in chunks of iterations. Each chunk is a named tuple of tensors
of fixed shapes, so that one compiled loop serves all chunks, with a pure method
`visit(i, function)` that applies a function to the i-th minibatch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.nested import leaves, map_arrays
from keras_drmad.core.span import CHUNK_SIZE, Span, divide
from keras_drmad.core.state import Batch


class ArrayChunk(NamedTuple):
    """Minibatches gathered from arrays on the device.

    Attributes:
        data: `(x, y, sample_weight)`, nested tensors with the examples on the
            first axis, `None` where there is nothing.
        indices: `(chunk_size, batch_size)` int32, the examples of each batch.
        is_short: `(chunk_size,)` bool, whether a batch is the short one that
            ends a pass over the data; `None` if all are full.
        short: int, the size of the short batches; `None` if all are full.
    """

    data: Any
    indices: tf.Tensor
    is_short: tf.Tensor | None
    short: int | None

    def visit(
        self, i: tf.Tensor, function: Callable, *, any_size: bool = False
    ) -> Any:
        """Returns `function(batch)` for the i-th `Batch`.

        Args:
            i: int32 scalar.
            function: of a `Batch`.
            any_size: bool, whether the function takes minibatches whose size
                is not known when it is traced: then it is traced once, and not
                once more for short ones.
        """

        def on(index):
            data = map_arrays(lambda a: tf.gather(a, index), self.data)
            return function(Batch(*data, index))

        index = nested.at(self.indices, i)
        if self.is_short is None:
            return on(index)
        is_short = nested.at(self.is_short, i)
        if any_size:
            full = self.indices.shape[1]
            return on(index[: tf.where(is_short, self.short, full)])
        return tf.cond(
            is_short, lambda: on(index[: self.short]), lambda: on(index)
        )

    def reversed(self, n: int) -> "ArrayChunk":
        """Returns the first n minibatches in the opposite order."""
        order = reversed_order(n)
        is_short = self.is_short
        if is_short is not None:
            is_short = tf.gather(is_short, order)
        indices = tf.gather(self.indices, order)
        return self._replace(indices=indices, is_short=is_short)


class ArrayBatches:
    """Batches of arrays; the batch of iteration t is a function of (seed, t).

    Each pass over the n examples is a permutation drawn from (seed, pass), cut
    into batches; the last one of a pass is short where `batch_size` does not
    divide n, as in `keras.Model.fit`. Passes follow each other without end.
    `Batch.index` has the examples' places in the arrays, also where the batches
    are of a part of the arrays.

    Attributes:
        size: int, the number of examples in the arrays.
        seen: 0; of a stream, a checksum of what was read.
        steps_per_pass: int, the number of batches in a pass.
    """

    seen = 0

    def __init__(
        self,
        data,
        batch_size: int,
        shuffle: bool,
        seed: int,
        examples: np.ndarray | None = None,
    ):
        """Initializes the batches.

        Args:
            data: `(x, y, sample_weight)`, nested arrays or `None`.
            batch_size: int, the number of examples in a full batch.
            shuffle: bool, whether each pass draws a new permutation.
            seed: int, from which the permutations are drawn.
            examples: `(n,)` integers, the places of the examples that batches
                are made of; all by default.
        """
        self.data = map_arrays(tf.convert_to_tensor, data)
        self.size = int(leaves(data)[0].shape[0])
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        if examples is None:
            examples = np.arange(self.size)
        self._examples = examples.astype(np.int32)
        self._last_order: tuple[int, np.ndarray] | None = None
        self.steps_per_pass = -(-len(examples) // batch_size)

    def with_seed(self, seed: int) -> "ArrayBatches":
        """Returns the same examples in another order."""
        return ArrayBatches(
            self.data, self.batch_size, self.shuffle, seed, self._examples
        )

    def with_examples(self, examples: np.ndarray | None) -> "ArrayBatches":
        """Returns batches of other examples of the same arrays.

        Args:
            examples: `(n,)` integers, their places; `None` for all.
        """
        return ArrayBatches(
            self.data, self.batch_size, self.shuffle, self.seed, examples
        )

    def first(self) -> Batch:
        """Returns the first batch in the order given."""
        index = tf.constant(self._examples[: self.batch_size])
        data = map_arrays(lambda a: tf.gather(a, index), self.data)
        x, y, sample_weight = data
        return Batch(x, y, sample_weight, index)

    def is_one_chunk(self, span: Span) -> bool:
        """Returns whether a span is one chunk, if nothing cuts it."""
        return span.steps <= CHUNK_SIZE

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
        """Yields `(iterations, chunk)` for the walk forward through a span.

        Args:
            span: the iterations.
            cuts: iterations at which a new chunk has to begin, ascending.
            revisited: the iterations that `backward` will ask for, ascending.
            cuts_backward: the cuts of `backward`.
            waits: those of the cuts that a stream is not read beyond before the
                chunk is asked for.
            goes_on: bool, whether another span follows this one.
        """
        # Any batch can be had again.
        del revisited, cuts_backward, waits, goes_on
        for iterations in divide(np.arange(*span), CHUNK_SIZE, cuts):
            yield iterations, self._chunk(iterations)

    def backward(
        self, span: Span, cuts: Sequence[int], revisited: np.ndarray
    ) -> Iterator:
        """Yields `(iterations, chunk)` for `revisited`, last chunk first."""
        del span
        for iterations in reversed(divide(revisited, CHUNK_SIZE, cuts)):
            yield iterations, self._chunk(iterations)

    def _chunk(self, iterations: np.ndarray) -> ArrayChunk:
        B, remainder = self.batch_size, len(self._examples) % self.batch_size
        indices = np.zeros((CHUNK_SIZE, B), np.int32)
        is_short = np.zeros(CHUNK_SIZE, bool)
        numbers, steps = np.divmod(iterations, self.steps_per_pass)
        for number in np.unique(numbers):
            order = self._order(int(number))
            (of_pass,) = np.nonzero(numbers == number)
            for i in of_pass:
                batch = order[steps[i] * B : (steps[i] + 1) * B]
                indices[i, : len(batch)] = batch
        if remainder:
            is_short[: len(steps)] = steps == self.steps_per_pass - 1
        return ArrayChunk(
            data=self.data,
            indices=tf.constant(indices),
            is_short=tf.constant(is_short) if remainder else None,
            short=remainder or None,
        )

    def _order(self, number: int) -> np.ndarray:
        """Returns the examples in the order of one pass.

        A pass over many examples is cut into many chunks: its order is kept.
        """
        if not self.shuffle:
            return self._examples
        if self._last_order is None or self._last_order[0] != number:
            generator = np.random.default_rng((self.seed, number))
            places = generator.permutation(len(self._examples))
            self._last_order = number, self._examples[places]
        return self._last_order[1]


def reversed_order(n: int, size: int = CHUNK_SIZE) -> np.ndarray:
    """Returns places in which the first n of a chunk come in reverse."""
    return np.append(np.arange(n)[::-1], np.arange(n, size))
