"""The hypergradient of `floor_loops`, by JAX's `scan`; JAX is an extra."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.floor_loops import SIZES, START, Setting, first_weights


def hypergradient(
    method: str, setting: Setting, train, held_out
) -> Callable[[], np.ndarray]:
    """Returns a compiled function that returns a hypergradient.

    Args:
        method: "exact", the gradient of one `scan`; "checkpointed", that of
            nested ones with `jax.checkpoint` around the inner one; "drmad".
        setting: `Setting`; T must have a whole root, or a divisor near it.
        train: pair of arrays, whose examples come in their order.
        held_out: pair of arrays, one batch.
    """
    T, B = setting.steps, setting.batch_size
    order = np.resize(np.arange(len(train[0])), (T, B)).astype(np.int32)
    train, held_out = (tuple(map(jnp.array, x)) for x in (train, held_out))
    start = [jnp.array(w) for w in first_weights()]
    log = [jnp.full([n], START) for n in SIZES[:-1]]

    def objective(w, log, index):
        x, y = (a[index] for a in train)
        return cross_entropy(w, x, y) + sum(
            jnp.sum(jnp.exp(log_penalty)[:, None] * kernel**2)
            for log_penalty, kernel in zip(log, w[::2], strict=True)
        )

    def step(log, state, index):
        w, v = state
        g = jax.grad(objective)(w, log, index)
        rate, momentum = setting.rate, setting.momentum
        v = [momentum * a - rate * b for a, b in zip(v, g, strict=True)]
        return [a + b for a, b in zip(w, v, strict=True)], v

    def validated(log):
        def body(state, index):
            return step(log, state, index), None

        walk = functools.partial(jax.lax.scan, body)
        indices = jnp.array(order)
        if method == "checkpointed":
            inner = jax.checkpoint(walk)
            walk = functools.partial(jax.lax.scan, inner)
            parts = max(n for n in range(1, math.isqrt(T) + 1) if T % n == 0)
            indices = indices.reshape(parts, T // parts, B)
        state, _ = walk((start, zeros(start)), indices)
        return cross_entropy(state[0], *held_out)

    def along_line(log):
        W = setting.last

        def forward(carry, given):
            t, index = given
            state, total = carry
            total = [
                a + (t >= T - W) * b
                for a, b in zip(total, state[0], strict=True)
            ]
            return (step(log, state, index), total), None

        begin = (start, zeros(start)), zeros(start)
        (state, total), _ = jax.lax.scan(
            forward, begin, (jnp.arange(T), jnp.array(order))
        )

        def backward(carry, given):
            t, index = given
            dw, dv, d_log = carry
            beta = t / (T - (W + 1) / 2)
            w = [
                (1 - beta) * a + beta * b / W
                for a, b in zip(start, total, strict=True)
            ]
            _, vjp = jax.vjp(
                lambda w, v, log: step(log, (w, v), index), w, zeros(w), log
            )
            dw, dv, more = vjp((dw, dv))
            return (
                dw,
                dv,
                [a + b for a, b in zip(d_log, more, strict=True)],
            ), None

        dw = jax.grad(cross_entropy)(state[0], *held_out)
        last = jnp.arange(T - W, T), jnp.array(order[T - W :])
        begin = dw, zeros(dw), zeros(log)
        (_, _, d_log), _ = jax.lax.scan(backward, begin, last, reverse=True)
        return d_log

    found = along_line if method == "drmad" else jax.grad(validated)
    compiled = jax.jit(found)
    return lambda: np.concatenate([np.asarray(x) for x in compiled(log)])


def cross_entropy(w, x, y):
    """Returns the mean loss of a net with weights w."""
    for k in range(0, len(w), 2):
        x = x @ w[k] + w[k + 1]
        if k + 2 < len(w):
            x = jnp.tanh(x)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1)
    return -jnp.mean(chosen)


def zeros(arrays):
    """Returns as many arrays of zeros."""
    return [jnp.zeros_like(a) for a in arrays]
