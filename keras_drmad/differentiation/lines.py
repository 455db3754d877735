"""DrMAD with anchors: backward along several straight lines."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.records import Recorder, Replay
from keras_drmad.core.span import CHUNK_SIZE, Span, spread
from keras_drmad.core.state import Curvature, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation

EXPONENTS = {"even": 1.0, "end": 1.5}  # of the distances to the end


@dataclasses.dataclass(frozen=True)
class Lines(Differentiation):
    """Straight lines between K + 1 anchors, parameters kept in bfloat16.

    The anchors lie in the last L iterations, evenly or denser towards the end:

        t_k = T − L (1 − k / K)^p,    k = 0 ... K,    p = 1 or 1.5.

    The optimizer's slots and the buffers are those of s_T, but for their
    counters, which are exact. R of the last L iterations are visited,
    spread evenly.

    Approximates: the parameters, which tend to the path's (to bfloat16's 3
    digits) as K tends to L; the slots; with R < L the number of steps; and with
    L < T it leaves out what hyperparameters did before. Memory: (K + 1) / 2
    copies of the parameters, three times that during the walk forward. Time: R
    adjoint steps, and a write for each step forward.

    Denser anchors towards the end serve better: the adjoint is largest there.
    The walk ends at `growth_limit` where lines leave the region in which steps
    are stable. An exact adjoint was seen to grow 60 times; the limit leaves
    room for that.

    Attributes:
        reverse_steps: R, in [1, L].
        part: L, in [1, T].
        anchors: K, the number of lines, in [1, L].
        spacing: `"even"` (p = 1) or `"end"` (p = 1.5).
        curvature: the second derivative.
        every: n, where weights move at every n-th iteration only.

    References: Fu et al., *DrMAD*, IJCAI 2016,
    https://arxiv.org/abs/1601.00917, for one line; `docs/ways_back.md` for
    what was tried with several.
    """

    reverse_steps: int
    part: int
    anchors: int
    spacing: str = "even"
    curvature: Curvature = HESSIAN
    every: int = 1

    growth_limit = 100.0

    def iterations(self, span: Span) -> np.ndarray:
        return spread(self.reverse_steps, self.part, span, self.every)

    def places(self, steps: int) -> np.ndarray:
        """Returns t_0 < ... < t_K, integers, the last one T.

        Args:
            steps: T, the number of iterations in the span.
        """
        K, L = self.anchors, self.part
        part = np.linspace(1, 0, K + 1) ** EXPONENTS[self.spacing]
        distances = np.round(L * part).astype(np.int64)
        # No two at one iteration: the k-th is at least K - k from the end.
        return steps - np.maximum(distances, np.arange(K, -1, -1))

    def nbytes(self, T: int, state: State) -> float:
        return (self.anchors + 1) * nested.nbytes(nested.halved(state.params))

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        places = span.first + self.places(span.steps)
        halved = nested.halved(s.params)
        memory = {"bits": nested.stacked_zeros(halved, len(places))}

        def notes(iterations):
            # What is written before an anchor is written over at the anchor.
            slots = np.resize(np.searchsorted(places, iterations), CHUNK_SIZE)
            return Notes(memory["bits"], tf.constant(slots, tf.int32))

        walking = walk.forward(
            s,
            hparams,
            span,
            ANCHORS,
            records_from=int(places[0]),
            notes=notes,
            revisited=self.iterations(span),
            cuts=[int(places[0])],
            memory=memory,
        )
        for part in walking:
            if part.notes:
                memory["bits"] = part.notes.bits
        walked = walking.end(None)
        bits = tf.nest.map_structure(
            lambda bits, x: tf.concat([bits[:-1], x[tf.newaxis]], 0),
            memory["bits"],
            nested.halved(walked.state.params),
        )
        return walked._replace(memory=(nested.counters(s), bits))

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span, (first, bits) = walked.span, walked.memory
        places = self.places(span.steps)

        def known(iterations, chunk):
            t = np.resize(iterations - span.first, CHUNK_SIZE)
            k = np.searchsorted(places, t, side="right") - 1
            beta = (t - places[k]) / (places[k + 1] - places[k])
            return OnLines(
                first=first,
                bits=bits,
                last=walked.state,
                k=tf.constant(k, tf.int32),
                beta=tf.constant(beta, tf.float64),
                t=tf.constant(t, tf.int64),
                steps=tf.constant(span.steps, tf.int64),
            )

        return walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            AlongLines(self.curvature),
            known,
            growth_limit=self.growth_limit,
        )


class Notes(NamedTuple):
    """What the loops forward write anchors into.

    Attributes:
        bits: list of uint16 tensors `(K + 1, ...)`, the anchors so far.
        slots: `(CHUNK_SIZE,)` int32, the anchor that comes at or after each
            iteration of the chunk.
    """

    bits: Any
    slots: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Anchors(Recorder):
    """The parameters in bfloat16, each written into the slot of its anchor."""

    def open(self, notes: Notes, state: State) -> Notes:
        return notes._replace(bits=nested.unstack(notes.bits))

    def note(self, notes: Notes, i: tf.Tensor, state: State) -> Notes:
        bits = nested.halved(state.params)
        return notes._replace(
            bits=nested.write(notes.bits, nested.at(notes.slots, i), bits)
        )

    def close(self, notes: Notes) -> Notes:
        return notes._replace(bits=nested.stack(notes.bits))


ANCHORS = Anchors()


class OnLines(NamedTuple):
    """A chunk of the walk backward along straight lines.

    Attributes:
        first: the counters of the first state.
        bits: list of uint16 tensors `(K + 1, ...)`, the anchors.
        last: the last state of the span.
        k: `(CHUNK_SIZE,)` int32, the line of each iteration of the chunk.
        beta: `(CHUNK_SIZE,)` float64, the place on that line.
        t: `(CHUNK_SIZE,)` int64, the iterations, counted from the span's first.
        steps: int64 scalar, the number of iterations in the span.
    """

    first: State
    bits: Any
    last: State
    k: tf.Tensor
    beta: tf.Tensor
    t: tf.Tensor
    steps: tf.Tensor


@dataclasses.dataclass(frozen=True)
class AlongLines(Replay):
    """States between two anchors; slots and buffers are those of the end."""

    def state(self, known: OnLines, i: tf.Tensor) -> State:
        k, like = nested.at(known.k, i), known.last.params
        before, after = (
            nested.whole(nested.at(known.bits, place), like)
            for place in (k, k + 1)
        )
        w = nested.interpolate(before, after, nested.at(known.beta, i))
        rest = nested.counted(
            known.first, known.last, nested.at(known.t, i), known.steps
        )
        return rest._replace(params=w)
