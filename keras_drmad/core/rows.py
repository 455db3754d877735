"""Gradients that are known as rows: of a table of which a batch reads few.

An embedding's gradient has a row for each place that was looked up, also where
two looked up the same row of the table. Optimizers of Keras square, clip and
norm these parts, not their sum, so they stay apart here as well.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Rows(NamedTuple):
    """A gradient with respect to a table, zero but for some rows.

    Attributes:
        values: `(count, ...)`, one row for each place looked up; rows with one
            index add up.
        indices: `(count,)` integers, the rows of the table.
    """

    values: tf.Tensor
    indices: tf.Tensor


def values(gradient: Any) -> tf.Tensor:
    """Returns the floating tensor of a gradient, of rows or whole."""
    return gradient.values if isinstance(gradient, Rows) else gradient


def picked(vector: list[tf.Tensor], gradients: list) -> list[tf.Tensor]:
    """Returns d for gradients that are rows, given d for the whole tables.

    Args:
        vector: list of tensors, as the parameters.
        gradients: list of tensors or `Rows`.
    """
    return [
        tf.gather(d, g.indices) if isinstance(g, Rows) else d
        for d, g in zip(vector, gradients, strict=True)
    ]


def averaged(
    vector: list[tf.Tensor], gradients: list, params: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns d for whole tables, the mean of d over the rows of a gradient.

    The inverse of `picked`.

    Args:
        vector: list of tensors, as `values` of the gradients.
        gradients: list of tensors or `Rows`.
        params: list of tensors, the tables.
    """
    return [
        tf.math.unsorted_segment_mean(d, g.indices, w.shape[0])
        if isinstance(g, Rows)
        else d
        for d, g, w in zip(vector, gradients, params, strict=True)
    ]
