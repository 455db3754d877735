"""Arithmetic on nested structures of tensors.

A nested structure is anything that `tf.nest` understands: lists, tuples, named
tuples and dictionaries with tensors as leaves. Nothing here knows what the
tensors mean.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Of floats that XLA adds side by side on a CPU.
COLUMNS = 8


def float_leaves(structure) -> list[tf.Tensor]:
    """Returns the leaves that a derivative can reach, in `tf.nest` order."""
    return [x for x in tf.nest.flatten(structure) if x.dtype.is_floating]


def with_tensors(structure, tensors):
    """Returns a structure with other leaves; its `None`s stay."""
    left = iter(tensors)
    return map_arrays(lambda _: next(left), structure)


def add(a, b):
    """Returns `a + b`, leaf by leaf."""
    return tf.nest.map_structure(tf.add, a, b)


def scale(factor, a):
    """Returns `factor * a`; `factor` is a number or a scalar tensor."""

    def scaled(x):
        # A Python float would become a float32 on the way through `tf.cast`.
        if isinstance(factor, float):
            return tf.constant(factor, x.dtype) * x
        return tf.cast(factor, x.dtype) * x

    return tf.nest.map_structure(scaled, a)


def zeros_like(a):
    """Returns zeros of the shapes and dtypes of `a`."""
    return tf.nest.map_structure(tf.zeros_like, a)


def equal(a, b) -> bool:
    """Returns whether all entries of all leaves are equal."""
    pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    return all(x is y or bool(tf.reduce_all(x == y)) for x, y in pairs)


def norm(a, *, in_xla: bool = False) -> tf.Tensor:
    """Returns the Euclidean norm of all leaves together, a scalar.

    It is of the dtype of the first leaf.

    Args:
        a: nested structure of floating tensors.
        in_xla: bool, whether XLA compiles the norm; see `_half_sum_of_squares`.
    """
    halves = [_half_sum_of_squares(x, in_xla) for x in tf.nest.flatten(a)]
    total = tf.add_n([tf.cast(x, halves[0].dtype) for x in halves])
    return tf.sqrt(2 * total)


def _half_sum_of_squares(x: tf.Tensor, in_xla: bool) -> tf.Tensor:
    """Returns ½ Σ x².

    On a CPU, XLA adds up all entries of a tensor one after the other, but
    columns side by side, in a fifth of the time. The square root of each
    column's sum keeps XLA from taking both sums for one.
    """
    size = x.shape.num_elements() if in_xla else 0
    if size and size % COLUMNS == 0:
        columns = tf.reshape(x, [size // COLUMNS, COLUMNS])
        x = tf.sqrt(tf.reduce_sum(tf.square(columns), axis=0))
    return tf.nn.l2_loss(x)


def sum_by_columns(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of all entries, as XLA adds them up fast on a CPU.

    The sums along the last axis come last; see `_half_sum_of_squares`. The
    maximum with −∞ keeps XLA from taking both sums for one. The derivative is
    that of `tf.reduce_sum`, entry by entry 1.

    Args:
        x: floating tensor `(..., columns)` of a known shape.
    """
    if x.shape.rank < 2 or x.shape[-1] < COLUMNS:
        return tf.reduce_sum(x)

    @tf.custom_gradient
    def total(x):
        columns = tf.reduce_sum(x, axis=list(range(x.shape.rank - 1)))
        lowest = tf.constant(float("-inf"), x.dtype)
        summed = tf.reduce_sum(tf.maximum(columns, lowest))
        return summed, lambda d: tf.broadcast_to(d, x.shape)

    return total(x)


def at(stacked, i: tf.Tensor):
    """Returns the i-th entry of the first axis of each leaf."""
    return tf.nest.map_structure(lambda x: tf.gather(x, i), stacked)


def nbytes(a) -> int:
    """Returns the bytes that the tensors of a structure take."""
    return sum(
        x.shape.num_elements() * x.dtype.size for x in tf.nest.flatten(a)
    )


def arrays(a, size: int):
    """Returns a `tf.TensorArray` of a fixed size for each leaf of `a`."""
    return tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, size, element_shape=x.shape), a
    )


def stacked_zeros(a, size: int):
    """Returns zeros `(size, ...)` for each leaf of `a`."""
    return tf.nest.map_structure(
        lambda x: tf.zeros([size, *x.shape], x.dtype), a
    )


def unstack(stacked):
    """Returns tensors as arrays, their first axis as places."""
    return tf.nest.map_structure(
        lambda x: tf.TensorArray(
            x.dtype, x.shape[0], element_shape=x.shape[1:]
        ).unstack(x),
        stacked,
    )


def write(arrays, i: tf.Tensor, a):
    """Returns arrays with the leaves of `a` at place i."""
    return tf.nest.map_structure(lambda array, x: array.write(i, x), arrays, a)


def stack(arrays):
    """Returns arrays as tensors, their places on the first axis."""
    return tf.nest.map_structure(lambda array: array.stack(), arrays)


def halved(a):
    """Returns the floats of `a` as the bits of bfloat16, other leaves as is.

    As integers: XLA on a CPU turns arrays of bfloat16 to float32 and back, all
    of it at each write.
    """
    return tf.nest.map_structure(
        lambda x: (
            tf.bitcast(tf.cast(x, tf.bfloat16), tf.uint16)
            if x.dtype.is_floating
            else x
        ),
        a,
    )


def whole(bits, like):
    """Returns what `halved` was given, rounded, with the dtypes of `like`."""
    return tf.nest.map_structure(
        lambda x, y: (
            tf.cast(tf.bitcast(x, tf.bfloat16), y.dtype)
            if y.dtype.is_floating
            else x
        ),
        bits,
        like,
    )


def first_of(stacked, n: int):
    """Returns the first n entries of each leaf, itself if these are all."""
    return tf.nest.map_structure(
        lambda x: x if x.shape[0] == n else tf.identity(x[:n]), stacked
    )


def padded(stacked, size: int):
    """Returns each leaf with zeros after its entries, `size` in all."""
    return tf.nest.map_structure(
        lambda x: (
            x
            if x.shape[0] == size
            else tf.concat(
                [x, tf.zeros([size - x.shape[0], *x.shape[1:]], x.dtype)], 0
            )
        ),
        stacked,
    )


def scalars_like(a):
    """Returns zeros of the dtypes of `a`, without its shapes."""
    return tf.nest.map_structure(lambda x: tf.zeros([], x.dtype), a)


def counters(a):
    """Returns integer leaves as they are, and scalars for the others."""
    return tf.nest.map_structure(
        lambda x: tf.zeros([], x.dtype) if x.dtype.is_floating else x, a
    )


def where(condition, a, b):
    """Returns `a` where the scalar `condition` holds, else `b`."""
    return tf.nest.map_structure(lambda x, y: tf.where(condition, x, y), a, b)


def interpolate(a, b, beta: tf.Tensor):
    """Returns the point (1 − β) a + β b of the line through `a` and `b`.

    Args:
        a: nested structure of floating tensors.
        b: same structure.
        beta: scalar.
    """

    def point(x, y):
        part = tf.cast(beta, x.dtype)
        return (1 - part) * x + part * y

    return tf.nest.map_structure(point, a, b)


def counted(first, last, t: tf.Tensor, T: tf.Tensor):
    """Returns `last` with its integer leaves as they were at step t.

    Integer leaves count something (the optimizer's iterations, the draws of a
    seed generator), and advance by the same amount at each of T steps.

    Args:
        first: nested structure, at t = 0.
        last: same structure, at t = T.
        t: integer scalar in [0, T].
        T: integer scalar, at least 1.
    """

    def leaf(x, y):
        if y.dtype.is_floating:
            return y
        steps = tf.cast(t, tf.int64) * tf.cast(y - x, tf.int64)
        return x + tf.cast(steps // tf.cast(T, tf.int64), x.dtype)

    return tf.nest.map_structure(leaf, first, last)


# ---- data, where None stands for what there is not


def leaves(data: Any) -> list:
    """Returns the arrays of a nested structure, without the `None`s."""
    return [a for a in tf.nest.flatten(data) if a is not None]


def map_arrays(function: Callable, data: Any) -> Any:
    """Applies a function to every array of a structure, keeps the `None`s."""
    return tf.nest.map_structure(
        lambda a: None if a is None else function(a), data
    )
