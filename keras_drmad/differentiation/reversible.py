"""Exact reverse mode that runs the training backward."""

import dataclasses
import fractions
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.fixed_point import WORD_BITS, Words
from keras_drmad.core.records import Recorder, Replay
from keras_drmad.core.reversible_problem import (
    Exact,
    FixedPoint,
    decoded,
    encoded,
)
from keras_drmad.core.span import Span
from keras_drmad.core.state import Problem, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation

CHUNK = 32  # iterations in a chunk, at most


@dataclasses.dataclass(frozen=True)
class Reversible(Differentiation):
    """The momentum steps undone, in fixed-point numbers.

    The training walks in fixed-point numbers both ways; see
    `core.reversible_problem`.

    Exact for this training, which differs from the one in floating point by
    rounding, and ends as diverged where a number passes 2^16. Memory: 24 bytes
    for each weight (two integers and an open word of the buffer), 32 states
    while those of one chunk are in use, and log2(d/n) bits for each weight and
    step: 0.15 for a momentum of 0.9, 3.3 for 0.1. Time: T adjoint steps and T
    steps undone. Differentiates every kind of hyperparameter. Serves SGD with a
    fixed momentum, and models without state of their own. Prefer
    `Checkpointed`, unless T is so large that √T states do not fit.

    Attributes:
        momentum: n/d, in (0, 1).

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithms 2 and 3.
    """

    momentum: fractions.Fraction

    @property
    def _words(self) -> Words:
        return Words(self.momentum)

    def iterations(self, span: Span) -> np.ndarray:
        return np.arange(*span)

    def nbytes(self, T: int, state: State) -> float:
        numbers = sum(w.shape.num_elements() for w in state.params)
        words = self._words.bits_per_step * T / 8
        ring = 4 * self._words.most(CHUNK)
        in_use = nested.nbytes(state) * min(T, CHUNK)
        # The walk's own numbers, and those of the start, to compare.
        return numbers * (2 * (3 * 8 + ring) + words) + in_use

    def check(self, problem: Problem, s_0: State) -> None:
        velocities = nested.float_leaves(s_0.slots)
        if problem.assigns_params:
            raise ValueError(
                "Reversible learning undoes the optimizer's steps only. A "
                "layer's call assigns weights that the optimizer adjusts, too. "
                "Use `keras_drmad.ReverseMode('checkpointed')` instead."
            )
        if s_0.buffers:
            raise ValueError(
                "Reversible learning undoes the steps of weights only. The "
                f"training changes {len(s_0.buffers)} other variables of the "
                "model (of BatchNormalization or Dropout, for instance). Use "
                "`keras_drmad.ReverseMode('checkpointed')` instead."
            )
        if [v.shape for v in velocities] != [w.shape for w in s_0.params]:
            raise ValueError(
                "Reversible learning needs an optimizer with one velocity for "
                f"each of the {len(s_0.params)} weights that training changes. "
                f"Received: one with {len(velocities)} slots. Use "
                "`keras_drmad.ReverseMode('checkpointed')` instead."
            )

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        start = encoded(s, self._words.most(CHUNK))
        memory: dict[str, dict] = {"put_away": {}, "undone": {}}
        # The notes of this loop are not needed, but the loop is: it is the one
        # that undoes.
        walking = walk.within(FixedPoint(self.momentum)).forward(
            start,
            hparams,
            span,
            DECODED,
            revisited=self.iterations(span),
            cuts=_cuts(span),
            keeps_chunks=True,
            memory=memory,
        )
        put_away, undone = memory["put_away"], memory["undone"]
        for part in walking:
            self._save_words(put_away, part.before)
        walked = walking.end(None)
        end: Any = walked.state
        if not undone:
            self._save_words(put_away, end)
        return walked._replace(
            state=decoded(end), memory=Fixed(start, end, put_away, undone)
        )

    def last_state(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> State:
        start = encoded(s, self._words.most(CHUNK))
        undoable = walk.within(FixedPoint(self.momentum))
        return decoded(undoable.through(start, hparams, span).state)

    def _save_words(
        self, put_away: dict[int, list[tf.Tensor]], state: Any
    ) -> None:
        """Takes the words put away since the last call out of their ring."""
        places = len(state.words[0])
        for number in range(len(put_away), self._words.count(int(state.t))):
            put_away[number] = [words[number % places] for words in state.words]

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span, (start, end, put_away, undone) = walked.span, walked.memory
        undoing = walk.within(FixedPoint(self.momentum))
        s = undone.get("state", end._replace(is_undone=tf.constant(True)))

        def known(iterations, chunk):
            nonlocal s
            first = int(iterations[0]) - span.first
            s = self._with_words(put_away, s, first)
            s, states = undoing.again(walked, s, iterations, chunk, DECODED)
            undone["state"] = s
            return Undone(states, decoded(s), tf.constant(len(iterations)))

        derivative = walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            FromUndone(HESSIAN),
            known,
            cuts=_cuts(span),
            keeps_chunks=True,
        )
        bits = WORD_BITS * self._words.count(span.steps) + _open_bits(end)
        derivative.report["buffer_bits"] = bits / span.steps
        derivative.report["is_reversed"] = float(_is_reversed(s, start))
        return derivative

    def _with_words(
        self, put_away: dict[int, list[tf.Tensor]], state: Exact, first: int
    ) -> Exact:
        """Returns the state with the words of a chunk in their ring."""
        places = len(state.words[0])
        ring = [list(tf.unstack(words)) for words in state.words]
        count = self._words.count
        for number in range(count(first), count(int(state.t))):
            for k, word in enumerate(put_away.pop(number)):
                ring[k][number % places] = word
        return state._replace(words=[tf.stack(words) for words in ring])


class Fixed(NamedTuple):
    """What is remembered of a span in fixed-point numbers.

    Attributes:
        start: the first state.
        end: the last state.
        put_away: dict from the number of a word to the words of all weights.
        undone: dict with `"state"`, where the walk backward has come to; empty
            before it begins.
    """

    start: Exact
    end: Exact
    put_away: dict[int, list[tf.Tensor]]
    undone: dict[str, Exact]


class Undone(NamedTuple):
    """The states of a chunk, as the steps were undone.

    Attributes:
        states: `State` with tensors `(CHUNK, ...)`, before each step undone.
        first: the state at the chunk's first iteration.
        n: int32 scalar, the number of iterations.
    """

    states: State
    first: State
    n: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Decoded(Recorder):
    """All states of a chunk in the numbers of the training, stacked."""

    def open(self, notes: Any, state: Any) -> State:
        return nested.arrays(decoded(state), CHUNK)

    def note(self, notes: State, i: tf.Tensor, state: Any) -> State:
        return nested.write(notes, i, decoded(state))

    def close(self, notes: State) -> State:
        return nested.stack(notes)


DECODED = Decoded()


@dataclasses.dataclass(frozen=True)
class FromUndone(Replay):
    """States as the steps that were undone passed them."""

    def state(self, known: Undone, i: tf.Tensor) -> State:
        # Before each step undone: s_{a+n}, ..., s_{a+1}.
        later = nested.at(known.states, tf.minimum(known.n - i, known.n - 1))
        return nested.where(i == 0, known.first, later)


def _cuts(span: Span) -> range:
    return range(*span, CHUNK)


def _open_bits(state: Exact) -> float:
    """Returns the bits in use of the buffer's open words, the most of any."""
    return max(
        math.log2(1.0 + float(tf.reduce_max(tf.cast(b, tf.float64))))
        for b in state.buffer
    )


def _is_reversed(state: Exact, start: Exact) -> bool:
    """Returns whether every bit of the start came back; warns if not."""
    now, then = ([*s.w, *s.v, *s.buffer] for s in (state, start))
    is_reversed = nested.equal(now, then)
    if int(state.t) == 0 and not is_reversed:
        warnings.warn(
            "Reversible learning did not come back to its start: the same "
            "gradient had other bits on the walk backward. The hypergradient "
            "is not exact. Use `keras_drmad.ReverseMode('checkpointed')` on "
            "this device.",
            RuntimeWarning,
            stacklevel=2,
        )
    return is_reversed
