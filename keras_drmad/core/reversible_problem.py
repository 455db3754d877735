"""Momentum steps in fixed-point numbers, which can be undone bit for bit.

    forward:   v <- (n/d) v + q(c(w)),   w <- w + v
    undone:    w <- w − v,   v <- (v − q(c(w))) d/n

with the momentum n/d, c(w) the step that the optimizer takes at w from rest,
and q the rounding to the grid. The bits that the product loses go to an
information buffer, so the walk returns to w_0 bit for bit. To see the same
gradients to the last bit, one compiled loop serves both directions.

References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
Optimization through Reversible Learning*, ICML 2015,
https://arxiv.org/abs/1502.03492, Algorithms 2 and 3.
"""

import contextlib
import dataclasses
import fractions
from typing import Any, NamedTuple

import tensorflow as tf

from keras_drmad.core import fixed_point, nested
from keras_drmad.core.fixed_point import Words
from keras_drmad.core.state import Problem, State


class Exact(NamedTuple):
    """A state in fixed-point numbers.

    Attributes:
        w: list of int64 tensors, the parameters.
        v: list of int64 tensors, the velocities.
        buffer: list of uint64 tensors, the open words of the buffer.
        words: list of uint32 tensors `(places, ...)`, a ring of the words that
            were put away last.
        t: int64 scalar, the steps taken.
        is_undone: bool scalar, whether steps are undone.
        at_rest: `State` of the shapes and dtypes of the training: counters at
            the start, floats at zero.
    """

    w: list[tf.Tensor]
    v: list[tf.Tensor]
    buffer: list[tf.Tensor]
    words: list[tf.Tensor]
    t: tf.Tensor
    is_undone: tf.Tensor
    at_rest: State


def encoded(state: State, places: int) -> Exact:
    """Returns a state in fixed-point numbers.

    Args:
        state: parameters, a velocity for each, counters, and no buffers.
        places: int, the words in a ring.
    """
    return Exact(
        w=[fixed_point.to_fixed(w) for w in state.params],
        v=[fixed_point.to_fixed(v) for v in nested.float_leaves(state.slots)],
        buffer=[tf.zeros(w.shape, tf.uint64) for w in state.params],
        words=[tf.zeros([places, *w.shape], tf.uint32) for w in state.params],
        t=tf.constant(0, tf.int64),
        is_undone=tf.constant(False),
        at_rest=State(
            nested.zeros_like(state.params), _without_velocity(state.slots), []
        ),
    )


def decoded(state: Exact) -> State:
    """Returns a state in the numbers of the training."""
    velocities = iter(state.v)
    return State(
        [
            fixed_point.to_float(w, zero.dtype)
            for w, zero in zip(state.w, state.at_rest.params, strict=True)
        ],
        [
            fixed_point.to_float(next(velocities), x.dtype)
            if x.dtype.is_floating
            else x + tf.cast(state.t, x.dtype)
            for x in state.at_rest.slots
        ],
        [],
    )


def in_floats(state: Exact | State) -> State:
    """Returns a state of either problem in the numbers of the training."""
    return decoded(state) if isinstance(state, Exact) else state


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Makes of a training by momentum the same training in fixed point.

    Attributes:
        momentum: n/d, in (0, 1).
    """

    momentum: fractions.Fraction

    def problem(self, problem: Problem) -> "FixedPointProblem":
        """Returns the problem whose states are `Exact`."""
        return FixedPointProblem(problem, self.momentum)


class FixedPointProblem:
    """A training by momentum whose steps go forward or backward, exactly."""

    def __init__(self, problem: Problem, momentum: fractions.Fraction):
        """Initializes the problem.

        Args:
            problem: the training in floating-point numbers.
            momentum: n/d, in (0, 1).
        """
        self._problem = problem
        self._momentum = momentum
        self._words = Words(momentum)
        self.takes_any_size = problem.takes_any_size

    def at(self, constants: list[tf.Tensor]) -> "FixedPointProblem":
        """Returns the problem whose steps read these constants."""
        return FixedPointProblem(self._problem.at(constants), self._momentum)

    def constants(self) -> list[tf.Tensor]:
        """Returns what steps would read now."""
        return self._problem.constants()

    def holding(
        self, constants: list[tf.Tensor]
    ) -> contextlib.AbstractContextManager:
        """Returns a context in which steps read these constants."""
        return self._problem.holding(constants)

    def metrics_state(self) -> list[tf.Tensor]:
        """Returns the state of metrics that have seen nothing."""
        return self._problem.metrics_state()

    def logs(self, metrics: list[tf.Tensor]) -> dict[str, Any]:
        """Returns the results of metrics in a state, by name."""
        return self._problem.logs(metrics)

    def step(
        self, state: Exact, hparams: list[tf.Tensor], batch: Any, metrics: Any
    ) -> tuple[Exact, Any, tf.Tensor]:
        """Returns the next state (or the one before), metrics and loss."""
        # Undone, the state is that of t + 1, and becomes that of t.
        undoes = tf.cast(state.is_undone, tf.int64)
        t = state.t - undoes
        w = [w - undoes * v for w, v in zip(state.w, state.v, strict=True)]
        here = decoded(state._replace(w=w, t=t))
        at_rest = here._replace(slots=_without_velocity(here.slots))
        stepped, metrics, loss = self._problem.step(
            at_rest, hparams, batch, metrics
        )
        steps = nested.float_leaves(stepped.slots)
        c = [fixed_point.to_fixed(x) for x in steps]
        # Integers would wrap around, and the training go on in silence.
        fits = fixed_point.fit([*nested.float_leaves(here), *steps])
        loss = tf.where(fits, loss, tf.constant(float("nan"), loss.dtype))

        before, after = self._words.count(t), self._words.count(t + 1)
        has_word = after > before
        place = tf.cast(before, tf.int32) % tf.shape(state.words[0])[0]

        def taken():
            v, buffer, words = [], [], state.words
            for x, b in zip(state.v, state.buffer, strict=True):
                x, b = fixed_point.multiply(x, b, self._momentum)
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
                    fixed_point.take_back(b, tf.gather(words, place))
                    for b, words in zip(state.buffer, state.words, strict=True)
                ],
                lambda: state.buffer,
            )
            pairs = [
                fixed_point.divide(x - y, b, self._momentum)
                for x, y, b in zip(state.v, c, buffer, strict=True)
            ]
            v, buffer = map(list, zip(*pairs, strict=True))
            return state._replace(w=w, v=v, buffer=buffer, t=t)

        return tf.cond(state.is_undone, undone, taken), metrics, loss


def _without_velocity(slots: list[tf.Tensor]) -> list[tf.Tensor]:
    return [tf.zeros_like(x) if x.dtype.is_floating else x for x in slots]


def _put_away(buffer, words, place):
    """Returns buffers without a word, and rings with that word."""
    pairs = [fixed_point.put_away(b) for b in buffer]
    rings = [
        tf.tensor_scatter_nd_update(ring, [[place]], word[tf.newaxis])
        for ring, (_, word) in zip(words, pairs, strict=True)
    ]
    return [rest for rest, _ in pairs], rings
