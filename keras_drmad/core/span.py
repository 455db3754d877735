"""Spans of iterations, and the chunks in which loops go through them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHUNK_SIZE = 200  # iterations in one call of a compiled loop, at most
# Where a chunk's states are held, its lengths are few: loops are compiled anew
# for each, so only for trainings that differ much.
LENGTHS = sorted({2**k for k in range(8)} | {3 * 2**k for k in range(7)})


class Span(NamedTuple):
    """The iterations [first, last) of a training.

    Iteration t is the step from s_t to s_{t+1}.
    """

    first: int
    last: int

    @property
    def steps(self) -> int:
        """The number of iterations."""
        return self.last - self.first


def spread(count: int, part: int, span: Span, every: int = 1) -> np.ndarray:
    """Returns iterations spread evenly over the last ones of a span, ascending.

    Where weights move at every n-th iteration only, by what n iterations have
    summed up, those that belong together are returned together, as many as
    `count` at least, and those after the last move.

    Args:
        count: int, how many, in [1, part].
        part: int, in [1, span.steps]; how many of the last iterations.
        span: the iterations; the last one is always among those returned.
        every: int, n; iterations count from 0.
    """
    after = span.last % every
    moves = max(0, part - after) // every
    if count == part or not moves:
        return np.arange(span.last - part, span.last)
    count = min(max(1, -((after - count) // every)), moves)
    k = moves - (np.arange(1, count + 1) * moves) // count + 1
    firsts = span.last - after - every * k
    together = (firsts[:, np.newaxis] + np.arange(every)).ravel()
    return np.concatenate([together, np.arange(span.last - after, span.last)])


def up_to_moves(count: int, T: int, every: int) -> int:
    """Returns how many of the last of T iterations hold whole moves.

    Args:
        count: int, in [1, T]; so many at least, and one move if there is one.
        T: int, the number of iterations.
        every: int, n, as for `spread`.
    """
    after = T % every
    return min(T, after + every * max(1, -((after - count) // every)))


def divide(
    iterations: np.ndarray, size: int, cuts: Sequence[int]
) -> list[np.ndarray]:
    """Divides ascending iterations into chunks.

    Args:
        iterations: `(n,)`, ascending.
        size: int, the length of a chunk, at most.
        cuts: iterations that a chunk may begin with but not contain, ascending.

    Returns:
        The chunks in order, none of them empty.
    """
    places = np.searchsorted(iterations, list(cuts))
    return [
        part[k : k + size]
        for part in np.split(iterations, places)
        for k in range(0, len(part), size)
    ]
