"""Reverse mode with the states kept: all of them, or the last ones."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import left_out, nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.left_out import LeftOut
from keras_drmad.core.records import Replay
from keras_drmad.core.span import LENGTHS, Span
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked, Window
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.recorders import Pages

# Pages of so many bytes at most have so many states at least: calls of loops
# are what takes time there.
SMALL, LEAST = 2**24, 16
# States of so many bytes at most are walked through in one call.
AT_ONCE = 2**28


@dataclasses.dataclass(frozen=True)
class Stored(Differentiation):
    """Every state of the walk, as it was; or every one of the last K.

    Exact, if all are kept in full precision. In bfloat16 each number has a
    relative error of up to 2^-9, and the hypergradient one of that order. With
    the last K only, it leaves out what hyperparameters did before.
    Memory: T states (parameters, slots that the derivative reads, and
    buffers), or K; half of that in bfloat16; during a walk up to two chunks of
    states more, each of them an eighth of all states, or a megabyte at most.
    Time: T adjoint steps, or K.
    Differentiates every kind of hyperparameter. Prefer it to any approximation
    where the states fit in memory.

    Attributes:
        last: K, the number of states kept; `None` for all.
        in_bfloat16: bool, whether floats are kept in 16 bits.
        left_out: tuple of `LeftOut`, the slots that are not kept.

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2 (without the reversal).
    Shaban, Cheng, Hatch, Boots, *Truncated Back-propagation for Bilevel
    Optimization*, AISTATS 2019, https://arxiv.org/abs/1810.10667 (last K).
    """

    last: int | None = None
    in_bfloat16: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def leaving_out(self, slots: tuple[LeftOut, ...]) -> "Stored":
        return dataclasses.replace(self, left_out=slots)

    def iterations(self, span: Span) -> np.ndarray:
        K = span.steps if self.last is None else min(self.last, span.steps)
        return np.arange(span.last - K, span.last)

    def nbytes(self, T: int, state: State) -> float:
        pages = self._pages(1)
        kept = len(self.iterations(Span(0, T)))
        return nested.nbytes(pages.kept(state)) * kept

    def pages(self, span: Span, state: State) -> Pages:
        """Returns pages of a length that few other spans do not share.

        Args:
            span: the iterations.
            state: any state, for the sizes of its leaves.
        """
        eighth = len(self.iterations(span)) // 8
        size = max((L for L in LENGTHS if eighth >= L), default=1)
        if LEAST * nested.nbytes(state) <= SMALL:
            size = max(size, LEAST)
        return self._pages(size)

    def _pages(self, size: int) -> Pages:
        return Pages(size, self.in_bfloat16, self.left_out)

    def _replay(self, size: int) -> "FromPages":
        return FromPages(HESSIAN, size, self.in_bfloat16, self.left_out)

    def _cuts(self, span: Span, pages: Pages) -> range:
        first = int(self.iterations(span)[0])
        return range(first, span.last, pages.size)

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        kept: dict[int, Kept] = {}
        pages = self.pages(span, s)
        cuts = self._cuts(span, pages)
        walking = walk.forward(
            s,
            hparams,
            span,
            pages,
            records_from=cuts.start,
            revisited=self.iterations(span),
            cuts=cuts,
            keeps_chunks=True,
            memory=kept,
        )
        for part in walking:
            if part.notes:
                # The last chunk, or one before a short batch, is not full.
                states = nested.first_of(part.notes, len(part.iterations))
                like = left_out.without(part.before, self.left_out)
                kept[part.first] = Kept(states, nested.scalars_like(like))
        return walking.end(kept)

    def window(
        self,
        walk: Walk,
        s: State,
        hparams: list[tf.Tensor],
        span: Span,
        held: Callable[[], tuple],
    ) -> Window | None:
        pages = self._pages(span.steps)
        is_whole = len(self.iterations(span)) == span.steps
        is_small = span.steps * nested.nbytes(s) <= AT_ONCE
        if not (is_whole and is_small and walk.batches.is_one_chunk(span)):
            return None
        replay = self._replay(pages.size)
        limit = self.growth_limit
        return walk.window(s, hparams, span, pages, replay, held(), limit)

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span, kept = walked.span, walked.memory
        pages = self.pages(span, walked.state)

        def known(iterations, chunk):
            page = kept.pop(int(iterations[0]))
            states = nested.padded(page.states, pages.size)
            return page._replace(states=states)

        return walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            self._replay(pages.size),
            known,
            cuts=self._cuts(span, pages),
            keeps_chunks=True,
        )


class Kept(NamedTuple):
    """The states of a chunk, without the slots that are left out.

    Attributes:
        states: `State` with tensors `(size, ...)`.
        like: `State` with scalars of the dtypes.
    """

    states: State
    like: State


@dataclasses.dataclass(frozen=True)
class FromPages(Replay):
    """States as they were written down.

    Attributes:
        size: int, the iterations of a page; longer pages are another loop's.
        in_bfloat16: bool, whether floats were kept in 16 bits.
        left_out: tuple of `LeftOut`, the slots that were not kept; zeros are in
            their places.
    """

    size: int
    in_bfloat16: bool
    left_out: tuple[LeftOut, ...] = ()

    def of_notes(self, notes: State, state: State) -> Kept:
        like = left_out.without(state, self.left_out)
        return Kept(notes, nested.scalars_like(like))

    def state(self, known: Kept, i: tf.Tensor) -> State:
        kept = nested.at(known.states, i)
        kept = nested.whole(kept, known.like) if self.in_bfloat16 else kept
        return left_out.with_zeros(kept, self.left_out)
