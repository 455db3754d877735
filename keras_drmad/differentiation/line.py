"""DrMAD: backward along one straight line."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.records import Replay
from keras_drmad.core.span import CHUNK_SIZE, Span, spread
from keras_drmad.core.state import Curvature, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.recorders import SUM, Summed


@dataclasses.dataclass(frozen=True)
class Line(Differentiation):
    """The line through the first parameters and the last, or their mean.

    The parameters at iteration t are taken to be

        w(β) = (1 − β) w_0 + β w̄,    β = t / t̄,

    where w̄ is the mean of the last W parameters before w_T and t̄ the mean of
    their iterations; with W = 0 it is w_T, as in the paper, and t̄ = T. The
    optimizer's slots and the buffers are those of s_T, but for their counters,
    which are exact. R of the last L iterations are visited, spread evenly
    and ending with the last one; each is one elementary step with its own
    minibatch, learning rate and β.

    Approximates: the states, with R < L the number of steps, and with L < T it
    leaves out what hyperparameters did before. Exact when R = T and neither the
    Hessian nor the mixed derivative of the training loss depends on the
    parameters. Memory: two copies of the parameters, whatever T. Time: R
    adjoint steps. `docs/ways_back.md` compares what was tried: w_T itself is a
    noisy end (its minibatch gradients and its curvature are not those of the
    path), the mean is nearer to the states that count; slots that are
    interpolated, or computed again along the line, serve no better than those
    at the end.

    The line may leave the region where steps are stable; the adjoint then grows
    without bound, and the walk ends early at `growth_limit` (see
    `core.loops`). Of 3, 10, 30 and 100 times the first norm, 3
    served SGD with momentum, Adam and RMSprop best. Where the exact adjoint
    grows itself, as when training leaves a plateau, the hypergradient of every
    straight line is poor, and mostly small.

    Attributes:
        reverse_steps: R, in [1, L].
        part: L, in [1, T].
        mean_of: W, in [0, T].
        curvature: the second derivative.
        every: n, where weights move at every n-th iteration only.

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917, Algorithm 1.
    """

    reverse_steps: int
    part: int
    mean_of: int
    curvature: Curvature = HESSIAN
    every: int = 1

    growth_limit = 3.0

    def iterations(self, span: Span) -> np.ndarray:
        return spread(self.reverse_steps, self.part, span, self.every)

    def nbytes(self, T: int, state: State) -> float:
        return 2 * nested.nbytes(state.params)

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        memory, W = {"sum": nested.zeros_like(s.params)}, self.mean_of
        summed_from = span.last - W

        def notes(iterations: np.ndarray) -> Summed:
            begin = max(summed_from - int(iterations[0]), 0)
            return Summed(tf.constant(begin), memory["sum"])

        walking = walk.forward(
            s,
            hparams,
            span,
            SUM,
            records_from=span.first if W else span.last,
            notes=notes,
            revisited=self.iterations(span),
            memory=memory,
        )
        for part in walking:
            if W:
                memory["sum"] = part.notes.total
        walked = walking.end(None)
        first = nested.counters(s)._replace(params=s.params)
        end, t_end = walked.state.params, float(span.steps)
        if W:
            end, t_end = (
                nested.scale(1 / W, memory["sum"]),
                span.steps - (W + 1) / 2,
            )
        return walked._replace(memory=Ends(first, end, t_end))

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        span, ends = walked.span, walked.memory

        def known(iterations, chunk):
            t = np.resize(iterations - span.first, CHUNK_SIZE)
            return OnLine(
                first=ends.first,
                end=ends.end,
                last=walked.state,
                beta=tf.constant(t / max(ends.t_end, 1), tf.float64),
                t=tf.constant(t, tf.int64),
                steps=tf.constant(span.steps, tf.int64),
            )

        return walk.backward(
            walked,
            adjoint,
            self.iterations(span),
            AlongLine(self.curvature),
            known,
            growth_limit=self.growth_limit,
        )


class Ends(NamedTuple):
    """The ends of a straight line.

    Attributes:
        first: the first parameters; of slots and buffers only the counters.
        end: list of tensors, the parameters at the line's end.
        t_end: float, the steps from the span's first iteration to that end.
    """

    first: State
    end: list[tf.Tensor]
    t_end: float


class OnLine(NamedTuple):
    """A chunk of the straight walk backward.

    Attributes:
        first: as in `Ends`.
        end: as in `Ends`.
        last: the last state of the span.
        beta: `(CHUNK_SIZE,)` float64, the place of each iteration on the line.
        t: `(CHUNK_SIZE,)` int64, the iterations, counted from the span's first.
        steps: int64 scalar, the number of iterations in the span.
    """

    first: State
    end: list[tf.Tensor]
    last: State
    beta: tf.Tensor
    t: tf.Tensor
    steps: tf.Tensor


@dataclasses.dataclass(frozen=True)
class AlongLine(Replay):
    """States on a straight line; slots and buffers are those of its end."""

    def state(self, known: OnLine, i: tf.Tensor) -> State:
        w = nested.interpolate(
            known.first.params, known.end, nested.at(known.beta, i)
        )
        rest = nested.counted(
            known.first, known.last, nested.at(known.t, i), known.steps
        )
        return rest._replace(params=w)
