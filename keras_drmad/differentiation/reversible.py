"""Exact reverse mode that runs the training backwards."""

import fractions
import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import fixed_point as exact
from keras_drmad.core import nested
from keras_drmad.core.state import Problem, State
from keras_drmad.differentiation.base import Trajectory


class Reversible(Trajectory):
    """The momentum steps undone, in fixed-point arithmetic.

    Training itself walks in fixed-point numbers (`exact_arithmetic`),

        there:  v <- (n/d) v + q(c(w)),   w <- w + v
        back:   w <- w − v,   v <- (v − q(c(w))) d/n

    with the momentum n/d, c(w) the step that the optimizer takes at w from
    rest, and q the rounding to the grid. The bits that the product loses go to
    an information buffer, so the walk returns to w_0 bit for bit. To see the
    same gradients to the last bit, one compiled loop serves both directions.

    Exact for this training, which differs from the one in floating point by
    rounding, and ends as diverged where a number passes 2^16. Memory: 24 bytes
    for each weight (two integers and an open word of the buffer), 32 states
    while those of one chunk are in use, and log2(d/n) bits for each weight and
    step: 0.15 for a momentum of 0.9, 3.3 for 0.1. Time: T adjoint steps and T
    steps undone. Differentiates every kind of hyperparameter. Serves SGD with a
    fixed momentum, and models without state of their own. Prefer
    `Checkpointed`, unless T is so large that √T states do not fit.

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithms 2 and 3.
    """

    keeps_chunks = True
    chunk_size = 32

    def __init__(self, momentum: fractions.Fraction):
        """Initializes the way back.

        Args:
            momentum: n/d, in (0, 1).
        """
        self.momentum = momentum
        self._words = exact.Words(momentum)

    @property
    def traced_by(self) -> Hashable:
        return *super().traced_by, self.momentum  # type: ignore[misc]

    def iterations(self, T: int) -> np.ndarray:
        return np.arange(T)

    def nbytes(self, T: int, state: State) -> float:
        numbers = sum(w.shape.num_elements() for w in state.params)
        words = self._words.bits_per_step * T / 8
        ring = 4 * self._words.most(self.chunk_size)
        in_use = nested.nbytes(state) * min(T, self.chunk_size)
        # The walk's own numbers, and those of the start, to compare.
        return numbers * (2 * (3 * 8 + ring) + words) + in_use

    def cuts(self, T: int) -> Sequence[int]:
        return range(0, T, self.chunk_size)

    def check(self, problem: Problem, s_0: State) -> None:
        velocities = nested.float_leaves(s_0.slots)
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

    # ---- on the way there

    def encode(self, state: State) -> "Exact":  # type: ignore[override]
        places = self._words.most(self.chunk_size)
        return Exact(
            w=[exact.to_fixed(w) for w in state.params],
            v=[exact.to_fixed(v) for v in nested.float_leaves(state.slots)],
            buffer=[tf.zeros(w.shape, tf.uint64) for w in state.params],
            words=[
                tf.zeros([places, *w.shape], tf.uint32) for w in state.params
            ],
            t=tf.constant(0, tf.int64),
            is_undone=tf.constant(False),
            state=State(
                nested.zeros_like(state.params),
                _without_velocity(state.slots),
                [],
            ),
        )

    def decode(self, state: "Exact") -> State:  # type: ignore[override]
        at_rest = state.state
        velocities = iter(state.v)
        return State(
            [
                exact.to_float(w, zero.dtype)
                for w, zero in zip(state.w, at_rest.params, strict=True)
            ],
            [
                exact.to_float(next(velocities), x.dtype)
                if x.dtype.is_floating
                else x + tf.cast(state.t, x.dtype)
                for x in at_rest.slots
            ],
            [],
        )

    def step(  # type: ignore[override]
        self,
        problem: Problem,
        state: "Exact",
        hparams: list[tf.Tensor],
        batch: Any,
        metrics: Any,
    ) -> tuple["Exact", Any, tf.Tensor]:
        # Undone, the state is that of t + 1, and becomes that of t.
        back = tf.cast(state.is_undone, tf.int64)
        t = state.t - back
        w = [w - back * v for w, v in zip(state.w, state.v, strict=True)]
        here = self.decode(state._replace(w=w, t=t))
        at_rest = here._replace(slots=_without_velocity(here.slots))
        stepped, metrics, loss = problem.step(at_rest, hparams, batch, metrics)
        steps = nested.float_leaves(stepped.slots)
        c = [exact.to_fixed(x) for x in steps]
        # Integers would wrap around, and the training go on in silence.
        fits = exact.fit([*nested.float_leaves(here), *steps])
        loss = tf.where(fits, loss, tf.constant(float("nan"), loss.dtype))

        before, after = self._words.count(t), self._words.count(t + 1)
        has_word = after > before
        place = tf.cast(before, tf.int32) % tf.shape(state.words[0])[0]

        def there():
            v, buffer, words = [], [], state.words
            for x, b in zip(state.v, state.buffer, strict=True):
                x, b = exact.multiply(x, b, self.momentum)
                v.append(x)
                buffer.append(b)
            buffer, words = tf.cond(
                has_word,
                lambda: _put_away(buffer, words, place),
                lambda: (buffer, words),
            )
            v = nested.add(v, c)
            return state._replace(
                w=nested.add(w, v), v=v, buffer=buffer, words=words, t=t + 1
            )

        def undone():
            buffer = tf.cond(
                has_word,
                lambda: [
                    exact.take_back(b, tf.gather(words, place))
                    for b, words in zip(state.buffer, state.words, strict=True)
                ],
                lambda: state.buffer,
            )
            pairs = [
                exact.divide(x - y, b, self.momentum)
                for x, y, b in zip(state.v, c, buffer, strict=True)
            ]
            v, buffer = map(list, zip(*pairs, strict=True))
            return state._replace(w=w, v=v, buffer=buffer, t=t)

        return tf.cond(state.is_undone, undone, there), metrics, loss

    def notes_from(self, T: int) -> int:
        return 0

    def open(self, notes: Any, state: "Exact") -> State:  # type: ignore[override]
        return nested.arrays(self.decode(state), self.chunk_size)

    def note(self, notes: State, i: tf.Tensor, state: "Exact") -> State:  # type: ignore[override]
        return nested.write(notes, i, self.decode(state))

    def close(self, notes: State) -> State:
        return nested.stack(notes)

    def begin(self, s_0: "Exact", T: int) -> dict[str, Any]:  # type: ignore[override]
        return {"s_0": s_0, "words": {}, "first": 0, "T": T}

    def remember(  # type: ignore[override]
        self,
        memory: dict[str, Any],
        iterations: np.ndarray,
        state: "Exact",
        notes: Any,
    ) -> None:
        self._save_words(memory, state)

    def end(self, memory: dict[str, Any], s_T: "Exact") -> None:  # type: ignore[override]
        self._save_words(memory, s_T)
        memory["s"] = s_T._replace(is_undone=tf.constant(True))
        open_bits = max(
            math.log2(1.0 + float(tf.reduce_max(tf.cast(b, tf.float64))))
            for b in s_T.buffer
        )
        words = self._words.count(memory["T"])
        memory["bits"] = exact.WORD_BITS * words + open_bits

    def _save_words(self, memory: dict[str, Any], state: "Exact") -> None:
        """Takes the words put away since the last call out of their ring."""
        count, places = self._words.count(int(state.t)), len(state.words[0])
        for number in range(memory["first"], count):
            memory["words"][number] = [
                words[number % places] for words in state.words
            ]
        memory["first"] = count

    # ---- on the way back

    def known(  # type: ignore[override]
        self,
        memory: dict[str, Any],
        iterations: np.ndarray,
        undo: Callable[["Exact"], tuple["Exact", Any]],
    ) -> "Undone":
        state = memory["s"]
        memory["s"], kept = undo(self._with_words(memory, state, iterations))
        n = tf.constant(len(iterations))
        return Undone(kept, self.decode(memory["s"]), n)

    def _with_words(
        self, memory: dict[str, Any], state: "Exact", iterations: np.ndarray
    ) -> "Exact":
        """Returns the state with the words of a chunk in their ring."""
        places = len(state.words[0])
        first = self._words.count(int(iterations[0]))
        ring = [list(tf.unstack(words)) for words in state.words]
        for number in range(first, self._words.count(int(state.t))):
            for k, word in enumerate(memory["words"].pop(number)):
                ring[k][number % places] = word
        return state._replace(words=[tf.stack(words) for words in ring])

    def state(self, known: "Undone", i: tf.Tensor) -> State:
        # Kept before each step undone: s_{a+n}, ..., s_{a+1}.
        later = nested.at(known.kept, tf.minimum(known.n - i, known.n - 1))
        return nested.where(i == 0, known.first, later)

    def report(self, memory: dict[str, Any]) -> dict[str, float]:
        """Returns the buffer's bits, and whether the walk returned to s_0.

        `buffer_bits` are bits for each weight and step, the used ones of the
        open word included; `is_reversed` is 1 if every bit of s_0 came back.
        """
        s, s_0 = memory["s"], memory["s_0"]
        pairs = zip(
            [*s.w, *s.v, *s.buffer], [*s_0.w, *s_0.v, *s_0.buffer], strict=True
        )
        same = all(bool(tf.reduce_all(a == b)) for a, b in pairs)
        if int(s.t) == 0 and not same:
            warnings.warn(
                "Reversible learning did not come back to its start: the same "
                "gradient had other bits on the way back. The hypergradient is "
                "not exact. Use `keras_drmad.ReverseMode('checkpointed')` on "
                "this device.",
                RuntimeWarning,
                stacklevel=2,
            )
        return {
            "buffer_bits": memory["bits"] / memory["T"],
            "is_reversed": float(same),
        }


class Exact(NamedTuple):
    """A state in fixed-point numbers.

    Attributes:
        w: list of int64 tensors, the parameters.
        v: list of int64 tensors, the velocities.
        buffer: list of uint64 tensors, the open words of the buffer.
        words: list of uint32 tensors `(places, ...)`, a ring of the words that
            were put away last.
        t: int64 scalar, the iteration.
        is_undone: bool scalar, whether steps are undone.
        state: `State` of the shapes and dtypes of the training: counters at
            the start, floats at zero.
    """

    w: list[tf.Tensor]
    v: list[tf.Tensor]
    buffer: list[tf.Tensor]
    words: list[tf.Tensor]
    t: tf.Tensor
    is_undone: tf.Tensor
    state: State


class Undone(NamedTuple):
    """The states of a chunk, as the steps were undone.

    Attributes:
        kept: `State` with tensors `(chunk_size, ...)`, before each step undone.
        first: the state at the chunk's first iteration.
        n: int32 scalar, the number of iterations.
    """

    kept: State
    first: State
    n: tf.Tensor


def _without_velocity(slots: list[tf.Tensor]) -> list[tf.Tensor]:
    return [tf.zeros_like(x) if x.dtype.is_floating else x for x in slots]


def _put_away(buffer, words, place):
    """Returns buffers without a word, and rings with it."""
    pairs = [exact.put_away(b) for b in buffer]
    rings = [
        tf.tensor_scatter_nd_update(ring, [[place]], word[tf.newaxis])
        for ring, (_, word) in zip(words, pairs, strict=True)
    ]
    return [rest for rest, _ in pairs], rings
