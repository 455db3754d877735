"""A way back along several straight lines."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import spread
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Trajectory

EXPONENTS = {"even": 1.0, "end": 1.5}  # of the distances to the end


class Anchored(Trajectory):
    """Straight lines between K + 1 anchors, parameters kept in bfloat16.

    The anchors lie in the last L iterations, evenly or denser towards the end:

        t_k = T − L (1 − k / K)^p,    k = 0 ... K,    p = 1 or 1.5.

    The optimizer's slots and the buffers are those of s_T, but for their
    counters, which are exact. R of the last L iterations are walked back,
    spread evenly.

    Approximates: the parameters, which tend to the path's (to bfloat16's 3
    digits) as K tends to L; the slots; with R < L the number of steps; and with
    L < T it leaves out what hyperparameters did before. Memory: (K + 1) / 2
    copies of the parameters, three times that while a loop there runs. Time: R
    adjoint steps, and a write for each step there.

    Denser anchors towards the end serve better: the adjoint is largest there.
    The walk ends at `growth_limit` where lines leave the region in which steps
    are stable. An exact adjoint was seen to grow 60 times; the limit leaves
    room for that.

    References: Fu et al., *DrMAD*, IJCAI 2016,
    https://arxiv.org/abs/1601.00917, for one line; `docs/ways_back.md` for
    what was tried with several.
    """

    growth_limit = 100.0

    def __init__(
        self,
        reverse_steps: int,
        last: int,
        anchors: int,
        spacing: str = "even",
        curvature: str = "hessian",
    ):
        """Initializes the way back.

        Args:
            reverse_steps: R, in [1, L].
            last: L, in [1, T].
            anchors: K, the number of lines, in [1, L].
            spacing: `"even"` (p = 1) or `"end"` (p = 1.5).
            curvature: `"hessian"` or `"gauss_newton"`.
        """
        self.reverse_steps = reverse_steps
        self.last = last
        self.anchors = anchors
        self.spacing = spacing
        self.curvature = curvature

    @property
    def traced_by(self) -> Hashable:
        return *super().traced_by, self.anchors  # type: ignore[misc]

    def iterations(self, T: int) -> np.ndarray:
        return spread(self.reverse_steps, self.last, T)

    def places(self, T: int) -> np.ndarray:
        """Returns t_0 < ... < t_K, integers, the last one T."""
        K, L = self.anchors, self.last
        part = np.linspace(1, 0, K + 1) ** EXPONENTS[self.spacing]
        distances = np.round(L * part).astype(np.int64)
        # No two at one iteration: the k-th is at least K - k from the end.
        return T - np.maximum(distances, np.arange(K, -1, -1))

    def nbytes(self, T: int, state: State) -> float:
        return (self.anchors + 1) * nested.nbytes(nested.halved(state.params))

    def cuts(self, T: int) -> Sequence[int]:
        return (self.notes_from(T),)

    # ---- on the way there

    def notes_from(self, T: int) -> int:
        return T - self.last

    def begin(self, s_0: State, T: int) -> dict[str, Any]:
        bits = nested.stacked_zeros(nested.halved(s_0.params), self.anchors + 1)
        return {"s_0": nested.counters(s_0), "T": T, "bits": bits}

    def notes(
        self, memory: dict[str, Any], iterations: np.ndarray, state: State
    ) -> "Notes":
        # What is written before an anchor is written over at the anchor.
        slots = np.searchsorted(self.places(memory["T"]), iterations)
        slots = np.resize(slots, self.chunk_size)
        return Notes(memory["bits"], tf.constant(slots, tf.int32))

    def open(self, notes: "Notes", state: State) -> "Notes":
        return notes._replace(bits=nested.unstack(notes.bits))

    def note(self, notes: "Notes", i: tf.Tensor, state: State) -> "Notes":
        bits = nested.halved(state.params)
        return notes._replace(
            bits=nested.write(notes.bits, nested.at(notes.slots, i), bits)
        )

    def close(self, notes: "Notes") -> "Notes":
        return notes._replace(bits=nested.stack(notes.bits))

    def remember(
        self,
        memory: dict[str, Any],
        iterations: np.ndarray,
        state: State,
        notes: Any,
    ) -> None:
        if notes:
            memory["bits"] = notes.bits

    def end(self, memory: dict[str, Any], s_T: State) -> None:
        memory["s_T"] = s_T
        memory["bits"] = tf.nest.map_structure(
            lambda bits, x: tf.concat([bits[:-1], x[tf.newaxis]], 0),
            memory["bits"],
            nested.halved(s_T.params),
        )

    # ---- on the way back

    def known(
        self, memory: dict[str, Any], iterations: np.ndarray, undo: Any
    ) -> "Lines":
        places = self.places(memory["T"])
        t = np.resize(iterations, self.chunk_size)
        k = np.searchsorted(places, t, side="right") - 1
        beta = (t - places[k]) / (places[k + 1] - places[k])
        return Lines(
            s_0=memory["s_0"],
            bits=memory["bits"],
            s_T=memory["s_T"],
            k=tf.constant(k, tf.int32),
            beta=tf.constant(beta, tf.float64),
            t=tf.constant(t, tf.int64),
            T=tf.constant(memory["T"], tf.int64),
        )

    def state(self, known: "Lines", i: tf.Tensor) -> State:
        k, like = nested.at(known.k, i), known.s_T.params
        first, last = (
            nested.whole(nested.at(known.bits, place), like)
            for place in (k, k + 1)
        )
        w = nested.interpolate(first, last, nested.at(known.beta, i))
        rest = nested.counted(
            known.s_0, known.s_T, nested.at(known.t, i), known.T
        )
        return rest._replace(params=w)


class Notes(NamedTuple):
    """What a chunk of the way there adds to.

    Attributes:
        bits: list of uint16 tensors `(K + 1, ...)`, the anchors so far.
        slots: `(chunk_size,)` int32, the anchor that comes at or after each
            iteration of the chunk.
    """

    bits: Any
    slots: tf.Tensor


class Lines(NamedTuple):
    """A chunk of the way back along straight lines.

    Attributes:
        s_0: the counters of the first state.
        bits: list of uint16 tensors `(K + 1, ...)`, the anchors.
        s_T: the last state.
        k: `(chunk_size,)` int32, the line of each iteration of the chunk.
        beta: `(chunk_size,)` float64, the place on that line.
        t: `(chunk_size,)` int64, the iterations of the chunk.
        T: int64 scalar, the number of iterations of the whole walk.
    """

    s_0: State
    bits: Any
    s_T: State
    k: tf.Tensor
    beta: tf.Tensor
    t: tf.Tensor
    T: tf.Tensor
