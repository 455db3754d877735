"""The straight way back of DrMAD."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import nested
from keras_drmad.adjoint import State
from keras_drmad.trajectories.base import CHUNK_SIZE, Trajectory


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

    def __init__(
        self,
        reverse_steps: int,
        anchors: int = 1,
        spacing: str = "even",
        curvature: str = "hessian",
    ):
        """Initializes the way back.

        Args:
            reverse_steps: R, in [1, T].
            anchors: K, the number of straight lines, in [1, T].
            spacing: `"even"`, or `"end"` for lines that grow shorter towards
                the end, like (1 − k / K)².
            curvature: `"hessian"` or `"gauss_newton"`.
        """
        self.reverse_steps = reverse_steps
        self.anchors = anchors
        self.spacing = spacing
        self.curvature = curvature

    def iterations(self, T: int) -> np.ndarray:
        R = self.reverse_steps
        return (np.arange(1, R + 1) * T) // R - 1

    def copies(self, T: int) -> float:
        return self.anchors + 1.0

    def cuts(self, T: int) -> Sequence[int]:
        return self._places(T)[1:-1].tolist()

    def _places(self, T: int) -> np.ndarray:
        """Returns the iterations t_0 = 0, ..., t_K = T of the known states."""
        K = self.anchors
        part = np.linspace(0, 1, K + 1)
        if self.spacing == "end":
            part = 1 - (1 - part) ** 2
        # No two at one iteration: the k-th is at least k and at most T-K+k.
        places = np.round(part * T).astype(np.int64)
        places = np.maximum.accumulate(places - np.arange(K + 1))
        return np.clip(places, 0, T - K) + np.arange(K + 1)

    def begin(self, s_0: State, T: int) -> dict[str, Any]:
        return {"T": T, "states": {}}

    def remember(
        self,
        memory: dict[str, Any],
        iterations: np.ndarray,
        state: State,
        kept: Any,
    ) -> None:
        if iterations[0] in self._places(memory["T"]):
            memory["states"][int(iterations[0])] = state

    def end(self, memory: dict[str, Any], s_T: State) -> None:
        states = [*memory.pop("states").values(), s_T]
        memory["states"] = tf.nest.map_structure(
            lambda *leaves: tf.stack(leaves), *states
        )

    def known(
        self, memory: dict[str, Any], iterations: np.ndarray, undo: Any
    ) -> "Lines":
        places = self._places(memory["T"])
        t = np.resize(iterations, CHUNK_SIZE)
        k = np.searchsorted(places, t, side="right") - 1
        return Lines(
            states=memory["states"],
            k=tf.constant(k, tf.int32),
            t=tf.constant(t - places[k], tf.int64),
            length=tf.constant(places[k + 1] - places[k], tf.int64),
        )

    def state(self, known: "Lines", i: tf.Tensor) -> State:
        k = known.k[i]
        return nested.interpolate(
            nested.at(known.states, k),
            nested.at(known.states, k + 1),
            known.t[i],
            known.length[i],
        )


class Lines(NamedTuple):
    """A chunk of the way back along straight lines.

    Attributes:
        states: the states at the ends of the K lines, `State` with tensors
            `(K + 1, ...)`.
        k: `(CHUNK_SIZE,)` int32, the line of each iteration of the chunk.
        t: `(CHUNK_SIZE,)` int64, the iteration counted from the line's begin.
        length: `(CHUNK_SIZE,)` int64, the iterations of that line.
    """

    states: State
    k: tf.Tensor
    t: tf.Tensor
    length: tf.Tensor
