"""The straight way back of DrMAD."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import spread
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Trajectory


class Shortcut(Trajectory):
    """The line through the first parameters and the last, or their mean.

    The parameters at iteration t are taken to be

        w(β) = (1 − β) w_0 + β w̄,    β = t / t̄,

    where w̄ is the mean of the last W parameters before w_T and t̄ the mean of
    their iterations; with W = 0 it is w_T, as in the paper, and t̄ = T. The
    optimizer's slots and the buffers are those of s_T, but for their counters,
    which are exact. R of the last L iterations are walked back, spread evenly
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
    `hypergradient.Walks.back`). Of 3, 10, 30 and 100 times the first norm, 3
    served SGD with momentum, Adam and RMSprop best. Where the exact adjoint
    grows itself, as when training leaves a plateau, the hypergradient of every
    straight line is poor, and mostly small.

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917, Algorithm 1.
    """

    growth_limit = 3.0

    def __init__(
        self,
        reverse_steps: int,
        last: int,
        mean_of: int,
        curvature: str = "hessian",
    ):
        """Initializes the way back.

        Args:
            reverse_steps: R, in [1, L].
            last: L, in [1, T].
            mean_of: W, in [0, T].
            curvature: `"hessian"` or `"gauss_newton"`.
        """
        self.reverse_steps = reverse_steps
        self.last = last
        self.mean_of = mean_of
        self.curvature = curvature

    def iterations(self, T: int) -> np.ndarray:
        return spread(self.reverse_steps, self.last, T)

    def nbytes(self, T: int, state: State) -> float:
        return 2 * nested.nbytes(state.params)

    def cuts(self, T: int) -> Sequence[int]:
        return (self.notes_from(T),) if self.mean_of else ()

    # ---- on the way there

    def notes_from(self, T: int) -> int:
        return T - self.mean_of

    def begin(self, s_0: State, T: int) -> dict[str, Any]:
        return {
            "s_0": nested.counters(s_0)._replace(params=s_0.params),
            "T": T,
            "sum": nested.zeros_like(s_0.params),
        }

    def notes(
        self, memory: dict[str, Any], iterations: np.ndarray, state: State
    ) -> list[tf.Tensor]:
        return memory["sum"]

    def note(
        self, notes: list[tf.Tensor], i: tf.Tensor, state: State
    ) -> list[tf.Tensor]:
        return nested.add(notes, state.params)

    def remember(
        self,
        memory: dict[str, Any],
        iterations: np.ndarray,
        state: State,
        notes: Any,
    ) -> None:
        if notes:
            memory["sum"] = notes

    def end(self, memory: dict[str, Any], s_T: State) -> None:
        W, T = self.mean_of, memory["T"]
        memory["s_T"] = s_T
        memory["end"], memory["t_end"] = s_T.params, T
        if W:
            memory["end"] = nested.scale(1 / W, memory.pop("sum"))
            memory["t_end"] = T - (W + 1) / 2

    # ---- on the way back

    def known(
        self, memory: dict[str, Any], iterations: np.ndarray, undo: Any
    ) -> "Line":
        t = np.resize(iterations, self.chunk_size)
        return Line(
            s_0=memory["s_0"],
            end=memory["end"],
            s_T=memory["s_T"],
            beta=tf.constant(t / max(memory["t_end"], 1), tf.float64),
            t=tf.constant(t, tf.int64),
            T=tf.constant(memory["T"], tf.int64),
        )

    def state(self, known: "Line", i: tf.Tensor) -> State:
        w = nested.interpolate(
            known.s_0.params, known.end, nested.at(known.beta, i)
        )
        rest = nested.counted(
            known.s_0, known.s_T, nested.at(known.t, i), known.T
        )
        return rest._replace(params=w)


class Line(NamedTuple):
    """A chunk of the straight way back.

    Attributes:
        s_0: the first parameters; of slots and buffers only the counters.
        end: list of tensors, the parameters at the line's end.
        s_T: the last state.
        beta: `(chunk_size,)` float64, the place of each iteration on the line.
        t: `(chunk_size,)` int64, the iterations of the chunk.
        T: int64 scalar, the number of iterations of the whole walk.
    """

    s_0: State
    end: list[tf.Tensor]
    s_T: State
    beta: tf.Tensor
    t: tf.Tensor
    T: tf.Tensor
