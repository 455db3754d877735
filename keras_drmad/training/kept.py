"""What a meta-training keeps: for its end, a backup, and the next `fit`."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.state import State


class Snapshot(NamedTuple):
    """A completed meta-iteration.

    Attributes:
        meta_iteration: int, counted from 0.
        loss: float, its validation loss.
        s_T: the trained state.
        hparams: the raw hyperparameters it was trained with.
        pending: list of tensors, its hypergradient; `None` if that leads to
            a training that diverges.
    """

    meta_iteration: int
    loss: float
    s_T: State
    hparams: list[tf.Tensor]
    pending: list[tf.Tensor] | None

    @classmethod
    def of(
        cls, values: list, state: State, hparams: list[tf.Tensor]
    ) -> "Snapshot":
        """Returns the snapshot of which `values` made arrays.

        Args:
            values: list of arrays.
            state: of the same training, whatever its numbers.
            hparams: list of tensors λ, whatever their numbers.
        """
        number, loss, *leaves = values
        leaves = list(map(tf.constant, leaves))
        like = state, hparams
        count = len(tf.nest.flatten(like))
        s_T, own = tf.nest.pack_sequence_as(like, leaves[:count])
        pending = leaves[count:] or None
        return cls(int(number), float(loss), s_T, own, pending)

    def values(self) -> list[np.ndarray]:
        """Returns what `of` takes; where nothing is pending, nothing of it."""
        pending = self.pending or []
        leaves = tf.nest.flatten(self._replace(pending=pending))
        return list(map(np.asarray, leaves))


class Resumed(NamedTuple):
    """What `fit` needs to go on where a saved one was interrupted.

    Attributes:
        start: list of arrays, see `InitialState.values`.
        origin: list of arrays, see `Origin.values`.
        pending: list of arrays, see `MetaTraining.values`.
        best: list of arrays, see `Snapshot.values`.
        tail: list of arrays, see `Tail.values`.
        retreat: list of arrays: how often learning rates were halved in the
            meta-iteration that was broken off, and the raw values with which
            `fit` began; empty if they were not.
    """

    start: list
    origin: list
    pending: list
    best: list
    tail: list
    retreat: list


NEW = Resumed([], [], [], [], [], [])  # a `fit` that resumes nothing


class Left(NamedTuple):
    """What a `fit` that ended with its best meta-iteration left to the next.

    Attributes:
        pending: list of arrays, the hypergradient of that meta-iteration.
        hparams: list of arrays, the raw values at which that is.
        steps: int, those that the meta-optimizer had taken; `None` if unknown.
    """

    pending: list
    hparams: list
    steps: int | None = None

    def at(self, hparams: list, meta_optimizer: keras.Optimizer) -> list:
        """Returns `pending`, or nothing if numbers were assigned since.

        Args:
            hparams: list of tensors λ, as they are now.
            meta_optimizer: as it is now.
        """
        if self.steps not in (None, int(meta_optimizer.iterations.numpy())):
            return []
        pairs = zip(self.hparams, map(np.asarray, hparams), strict=False)
        is_same = all(np.array_equal(a, b) for a, b in pairs)
        return self.pending if is_same else []


NOTHING = Left([], [])


class Tail:
    """The raw values after each step, of which the last half is kept."""

    def __init__(self, values: Sequence = ()):
        """Initializes the tail.

        Args:
            values: list of arrays, see `values`; empty for a new beginning.
        """
        self._count = 0
        self._rows: list[list[np.ndarray]] = []
        if len(values):
            self._count, kinds = (int(n) for n in values[0])
            flat = [np.asarray(value) for value in values[1:]]
            self._rows = [
                flat[k : k + kinds] for k in range(0, len(flat), kinds)
            ]

    def add(self, raws: list[np.ndarray]) -> None:
        """Adds the raw values after a step, an array for each kind."""
        self._count += 1
        self._rows.append(raws)
        self._rows = self._rows[-(self._count - self._count // 2) :]

    def drop(self) -> None:
        """Drops the values after the last step, which led nowhere."""
        if self._rows:
            self._count -= 1
            self._rows.pop()

    @property
    def is_empty(self) -> bool:
        """Whether there was no step yet."""
        return not self._rows

    def mean(self) -> list[np.ndarray]:
        """Returns the mean of what is kept, an array for each kind."""
        return [
            np.asarray(np.mean(np.stack(rows), axis=0, dtype=np.float64))
            for rows in zip(*self._rows, strict=True)
        ]

    def values(self) -> list[np.ndarray]:
        """Returns what the constructor takes: counts, then the raw values."""
        if not self._rows:
            return []
        return [
            np.array([self._count, len(self._rows[0])]),
            *(raw for row in self._rows for raw in row),
        ]
