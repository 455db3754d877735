"""The straight way back of DrMAD."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import nested
from keras_drmad.adjoint import State
from keras_drmad.trajectories.base import Trajectory


class Shortcut(Trajectory):
    """The line between the first and the last state.

    The state at iteration t is taken to be

        s(β) = (1 − β) s_0 + β s_T,    β = t / T,

    for the parameters, the optimizer's slots and the buffers alike; counters
    are exact (`nested.interpolate`). Of the T iterations R are walked back,
    spread evenly over [0, T) and ending with the last one; each is one
    elementary step with its own minibatch, learning rate and β.

    Approximates: the states, and with R < T the number of steps. Exact when
    R = T and neither the Hessian nor the mixed derivative of the training loss
    depends on the parameters.
    Memory: two states, whatever T.
    Time: R adjoint steps.

    The line may leave the region where steps are stable; the adjoint then grows
    without bound, and the walk ends early at `growth_limit` (see
    `hypergradient.Walks.back`). The limit was chosen on MNIST (784-50-50-50-10,
    T = 1,000, R = T): of 3, 10, 30 and 100 times the first norm, 3 gave the
    highest cosine to the exact hypergradient for SGD with momentum, Adam and
    RMSprop alike. Interpolated slots serve SGD and Adam; RMSprop's are far
    from the line, and its hypergradients are poor.

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917, Algorithm 1.
    """

    growth_limit = 3.0

    def __init__(self, reverse_steps: int):
        """Initializes the way back.

        Args:
            reverse_steps: R, in [1, T].
        """
        self.reverse_steps = reverse_steps

    def iterations(self, T: int) -> np.ndarray:
        R = self.reverse_steps
        return (np.arange(1, R + 1) * T) // R - 1

    def begin(self, s_0: State, T: int) -> dict[str, Any]:
        return {"s_0": s_0, "T": T}

    def remember(
        self, memory: dict[str, Any], iterations: np.ndarray, states: State
    ) -> None:
        """Nothing: the states between the two ends are not kept."""

    def end(self, memory: dict[str, Any], s_T: State) -> None:
        memory["s_T"] = s_T

    def known(
        self, memory: dict[str, Any], iterations: np.ndarray, chunk_size: int
    ) -> "Line":
        t = np.zeros(chunk_size, np.int64)
        t[: len(iterations)] = iterations
        return Line(
            s_0=memory["s_0"],
            s_T=memory["s_T"],
            t=tf.constant(t),
            T=tf.constant(memory["T"], tf.int64),
        )

    def state(self, known: "Line", i: tf.Tensor) -> State:
        return nested.interpolate(
            known.s_0, known.s_T, tf.gather(known.t, i), known.T
        )


class Line(NamedTuple):
    """A chunk of the straight way back.

    Attributes:
        s_0: the first state.
        s_T: the last state.
        t: `(chunk_size,)`, the iterations of the chunk.
        T: scalar, the number of iterations of the whole walk.
    """

    s_0: State
    s_T: State
    t: tf.Tensor
    T: tf.Tensor
