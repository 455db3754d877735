"""The hypergradient of one net by loops written by hand: the floor.

A 784-50-50-50-10 net of tanh, cross-entropy, an L2 penalty for each input of
each layer, SGD with momentum. No more than the numbers asked for: no metrics,
no check for nan, no growth limit, no progress, one net, one optimizer, one
kind. What the package takes beyond this is the price of what users see.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

SIZES = (784, 50, 50, 50, 10)
START = -9.0  # log penalty


class Setting(NamedTuple):
    """What a training is.

    Attributes:
        steps: int, T.
        batch_size: int.
        rate: float.
        momentum: float.
    """

    steps: int
    batch_size: int = 50
    rate: float = 0.01
    momentum: float = 0.9

    @property
    def last(self) -> int:
        """How many of the last steps the line's end is the mean of."""
        return self.steps // 10


def first_weights() -> list[np.ndarray]:
    """Returns kernels and biases in turn."""
    generator = np.random.default_rng(0)
    weights: list[np.ndarray] = []
    for a, b in zip(SIZES, SIZES[1:], strict=False):
        kernel = generator.normal(size=(a, b)) / a**0.5
        weights += [kernel.astype("float32"), np.zeros(b, "float32")]
    return weights


class ByHand:
    """Loops forward and backward, compiled by XLA.

    Attributes:
        line: pair of functions: the first trains, and returns w_T and the mean
            of the last weights; the second takes them, and returns the
            hypergradient along the line between the first weights and these.
        stored: pair of functions: the first trains, and returns w_T and all
            weights, stacked; the second takes them, and returns the exact
            hypergradient.
    """

    def __init__(self, setting: Setting, train, held_out):
        """Initializes the loops; the first calls compile them.

        Args:
            setting: `Setting`.
            train: pair of arrays, whose examples come in their order.
            held_out: pair of arrays, one batch.
        """
        self.setting = setting
        T, B = setting.steps, setting.batch_size
        order = np.resize(np.arange(len(train[0])), (T, B))
        self._order = tf.constant(order, tf.int32)
        self._train = tuple(map(tf.constant, train))
        self._held_out = tuple(map(tf.constant, held_out))
        self._w = [tf.constant(w) for w in first_weights()]
        self._log = [tf.fill([n], START) for n in SIZES[:-1]]

        def compiled(function):
            return tf.function(function, jit_compile=True, autograph=False)

        self.line = (
            functools.partial(compiled(self._forward_line), self._w, self._log),
            functools.partial(compiled(self._backward_line), self._log),
        )
        self.stored = (
            functools.partial(
                compiled(self._forward_stored), self._w, self._log
            ),
            functools.partial(compiled(self._backward_stored), self._log),
        )

    # ---- a step

    def _gradient(self, w, log, index):
        x, y = (tf.gather(a, index) for a in self._train)
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = cross_entropy(w, x, y)
            for log_penalty, kernel in zip(log, w[::2], strict=True):
                penalty = tf.exp(log_penalty)[:, None] * tf.square(kernel)
                loss += tf.reduce_sum(penalty)
        return tape.gradient(loss, w)

    def _step(self, w, v, log, index):
        g = self._gradient(w, log, index)
        rate, momentum = self.setting.rate, self.setting.momentum
        v = [momentum * a - rate * b for a, b in zip(v, g, strict=True)]
        return _sum(w, v), v

    def _step_back(self, w, log, index, dw, dv, d_log):
        rate, momentum = self.setting.rate, self.setting.momentum
        dv = _sum(dv, dw)
        with tf.GradientTape() as tape:
            tape.watch([w, log])
            g = self._gradient(w, log, index)
            dot = tf.add_n(
                [tf.reduce_sum(a * b) for a, b in zip(g, dv, strict=True)]
            )
        of_w, of_log = tape.gradient(dot, [w, log])
        dw = [a - rate * b for a, b in zip(dw, of_w, strict=True)]
        d_log = [a - rate * b for a, b in zip(d_log, of_log, strict=True)]
        return dw, [momentum * a for a in dv], d_log

    def _last_slope(self, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = cross_entropy(w, *self._held_out)
        return tape.gradient(loss, w)

    # ---- loops

    def _forward_line(self, w, log):
        T, W = self.setting.steps, self.setting.last

        def body(t, w, v, total):
            is_last = tf.cast(t >= T - W, tf.float32)
            total = [a + is_last * b for a, b in zip(total, w, strict=True)]
            return t + 1, *self._step(w, v, log, self._order[t]), total

        _, w, _, total = _while(T, body, w, _zeros(w), _zeros(w))
        return w, [a / W for a in total]

    def _backward_line(self, log, w_T, mean):
        T, W = self.setting.steps, self.setting.last
        end = T - (W + 1) / 2

        def body(i, dw, dv, d_log):
            t = T - 1 - i
            beta = tf.cast(t, tf.float32) / end
            w = [
                (1 - beta) * a + beta * b
                for a, b in zip(self._w, mean, strict=True)
            ]
            return i + 1, *self._step_back(
                w, log, self._order[t], dw, dv, d_log
            )

        dw = self._last_slope(w_T)
        return _while(W, body, dw, _zeros(dw), _zeros(log))[3]

    def _forward_stored(self, w, log):
        T = self.setting.steps
        states = [
            tf.TensorArray(tf.float32, T, element_shape=a.shape) for a in w
        ]

        def body(t, w, v, states):
            states = [a.write(t, b) for a, b in zip(states, w, strict=True)]
            return t + 1, *self._step(w, v, log, self._order[t]), states

        _, w, _, states = _while(T, body, w, _zeros(w), states)
        return w, [a.stack() for a in states]

    def _backward_stored(self, log, w_T, states):
        T = self.setting.steps

        def body(i, dw, dv, d_log):
            t = T - 1 - i
            w = [a[t] for a in states]
            return i + 1, *self._step_back(
                w, log, self._order[t], dw, dv, d_log
            )

        dw = self._last_slope(w_T)
        return _while(T, body, dw, _zeros(dw), _zeros(log))[3]


def cross_entropy(w, x, y) -> tf.Tensor:
    """Returns the mean loss of a net with weights w."""
    for k in range(0, len(w), 2):
        x = x @ w[k] + w[k + 1]
        if k + 2 < len(w):
            x = tf.tanh(x)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x)
    return tf.reduce_mean(losses)


def _zeros(tensors):
    return [tf.zeros_like(a) for a in tensors]


def _sum(some, others):
    return [a + b for a, b in zip(some, others, strict=True)]


def _while(n, body, *state):
    return tf.while_loop(
        lambda i, *_: i < n, body, (tf.constant(0), *map(list, state))
    )
