"""Images turned and shifted, with derivatives in the angle and the shift."""

import math
from typing import Any

import tensorflow as tf


def moved(
    x: tf.Tensor,
    turns: tf.Tensor | None,
    shifts: tf.Tensor | None,
    fill_value: float | None,
) -> tf.Tensor:
    """Returns images turned about their centre, then shifted.

    y(p) = x(M⁻¹ (p − c − s) + c), for a place p = (row, column) in pixels, the
    centre c, the shift s and the rotation M, by one bilinear interpolation.

    Args:
        x: `(batch, height, width, channels)`.
        turns: `(batch,)`, counterclockwise, in turns of 2π; or `None`.
        shifts: `(batch, 2)`, down and right, in heights and widths; or `None`.
        fill_value: float, the number of each pixel outside of the image; `None`
            for that of the nearest pixel of the edge.
    """
    if turns is None and shifts is None:
        return x
    sizes = tf.cast(tf.shape(x)[1:3], x.dtype)
    centre = (sizes - 1) / 2
    rows = tf.range(sizes[0], dtype=x.dtype) - centre[0]
    columns = tf.range(sizes[1], dtype=x.dtype) - centre[1]
    places = tf.stack(tf.meshgrid(rows, columns, indexing="ij"))[:, None]
    r, k = places[0], places[1]  # (1 or batch, height, width)
    if shifts is not None:
        s = shifts * sizes
        r, k = r - s[:, :1, None], k - s[:, 1:, None]
    if turns is not None:
        angle = 2 * math.pi * turns[:, None, None]
        sine, cosine = tf.sin(angle), tf.cos(angle)
        r, k = cosine * r + sine * k, cosine * k - sine * r
    y = interpolated(x, r + centre[0], k + centre[1], fill_value)
    y.set_shape(x.shape)
    return y


def interpolated(
    x: tf.Tensor, r: tf.Tensor, k: tf.Tensor, fill_value: float | None
) -> tf.Tensor:
    """Returns the numbers of images between pixels, linearly in each direction.

    A gather, which has derivatives of any order with respect to x, with and
    without XLA. The derivative with respect to r and k is piecewise constant.

    Args:
        x: `(batch, height, width, channels)`.
        r: `(batch, rows, columns)`, row of each place, in pixels from 0.
        k: `(batch, rows, columns)`, column of each place, in pixels from 0.
        fill_value: float, the number of each pixel outside of the image; `None`
            for that of the nearest pixel of the edge.

    Returns:
        `(batch, rows, columns, channels)`.
    """
    size, height, width, channels = tf.unstack(tf.shape(x))
    pixels = tf.reshape(x, [size, height * width, channels])
    above, left = tf.floor(r), tf.floor(k)
    down, right = r - above, k - left
    corners = (
        (above, left, (1 - down) * (1 - right)),
        (above, left + 1, (1 - down) * right),
        (above + 1, left, down * (1 - right)),
        (above + 1, left + 1, down * right),
    )
    y: Any = 0.0
    rest: Any = 1.0
    for row, column, weight in corners:
        near_row = _clipped(row, height)
        near_column = _clipped(column, width)
        if fill_value is not None:
            is_inside = (row == near_row) & (column == near_column)
            weight *= tf.cast(is_inside, x.dtype)
            rest -= weight
        place = near_row * tf.cast(width, x.dtype) + near_column
        pixel = tf.gather(pixels, tf.cast(place, tf.int32), batch_dims=1)
        y += weight[..., None] * pixel
    return y if fill_value is None else y + fill_value * rest[..., None]


def _clipped(number: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns the nearest index in [0, count), as a float."""
    return tf.clip_by_value(number, 0, tf.cast(count - 1, number.dtype))
