"""1, 4, 20, ... or as many L2 coefficients as a net has inputs of layers."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

import keras_drmad as kd


def groups_of_rows(rows: Sequence[int], count: int) -> list:
    """Returns the group of each row of each kernel, as arrays.

    Args:
        rows: how many each kernel has.
        count: int, of groups: 1, as many for each kernel, or one for each row.

    Raises:
        ValueError: if it is none of these.
    """
    if count == 1:
        return [np.zeros(n, int) for n in rows]
    shares = rows
    if count != sum(rows):
        shares = [count // len(rows)] * len(rows)
    fits = all(0 < k <= n for k, n in zip(shares, rows, strict=True))
    if sum(shares) != count or not fits:
        raise ValueError(
            "Invalid value for flag `counts`. Expected 1, a multiple of "
            f"{len(rows)} up to {len(rows) * min(rows)}, or {sum(rows)}. "
            f"Received: {count}."
        )
    starts = np.cumsum([0, *shares[:-1]])
    return [
        start + np.arange(n) * k // n
        for start, k, n in zip(starts, shares, rows, strict=True)
    ]


class GroupedL2(kd.hyperparameters.Hyperparameter):
    """Adds Σ coefficient · w², of the group of a weight's input."""

    transform = kd.hyperparameters.Log()

    def __init__(
        self, count: int, start: float, bounds: tuple[float, float]
    ) -> None:
        """Initializes it.

        Args:
            count: int, of coefficients; see `groups_of_rows`.
            start: float, the value of all at the start.
            bounds: `(lowest, highest)` value.
        """
        super().__init__("l2", bounds)
        self._count = count
        self._start = start

    def bind(self, model, optimizer):
        self._kernels = [
            v for v in model.trainable_variables if v.name == "kernel"
        ]
        rows = [kernel.shape[0] for kernel in self._kernels]
        self._groups = groups_of_rows(rows, self._count)
        self.create((self._count,), self._start)

    def penalty(self, raw, params):
        coefficients = self.transform.value(raw)
        return tf.add_n(
            [
                tf.tensordot(
                    tf.gather(coefficients, group),
                    tf.reduce_sum(tf.square(params[id(kernel)]), axis=1),
                    axes=1,
                )
                for kernel, group in zip(
                    self._kernels, self._groups, strict=True
                )
            ]
        )
