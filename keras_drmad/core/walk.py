"""The algorithm: walk there, walk back.

    there:  s_{t+1} = step(s_t, λ, batch_t)                  t = 0 ... T-1
    F:      validation loss at s_T, a = ∂F/∂s_T, dλ = ∂F/∂λ
    back:   a, dλ <- aᵀ ∂step/∂s, dλ + aᵀ ∂step/∂λ           t = T-1 ... 0

Each of the three is one compiled loop over a chunk of minibatches, called for
one chunk after the other. The loops take every number as a tensor, so a new
length, seed or rate does not trace them again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.adjoint import second_products, step, step_back
from keras_drmad.core.state import Problem
from keras_drmad.differentiation.base import Trajectory


class WayBack(NamedTuple):
    """Where the walk back has come to.

    Attributes:
        adjoint: list of tensors a = ∂F/∂s_t, one for each floating leaf of the
            state.
        d_hparams: list of tensors dλ, as gathered so far.
        growth: scalar, the largest norm of the parameters' adjoint so far over
            its norm at s_T.
        steps: int32 scalar, the reverse steps taken.
        goes_on: bool scalar, False once the growth passed its limit.
    """

    adjoint: list[tf.Tensor]
    d_hparams: list[tf.Tensor]
    growth: tf.Tensor
    steps: tf.Tensor
    goes_on: tf.Tensor


class Loop:
    """A loop compiled by `tf.function`, with XLA or without.

    Without XLA, TensorFlow's graph rewriting (Grappler) is switched off for
    the calls: it turns long sums inside a `tf.while_loop` into temporary
    variables that collide between iterations ("Already exists: Resource ...
    TmpVar", TensorFlow issue 23780). The loops are as fast without it.
    """

    def __init__(self, function: Callable, jit_compile: bool):
        """Initializes the loop; it is traced at its first call."""
        self.function = tf.function(
            function, jit_compile=jit_compile, autograph=False
        )
        # TensorFlow counts the traces of all models' loops together.
        self.function._omit_frequent_tracing_warning = True
        self.jit_compile = jit_compile

    def __call__(self, *args: Any) -> Any:
        """Runs the loop."""
        if self.jit_compile:
            return self.function(*args)
        options = tf.config.optimizer
        name = "disable_meta_optimizer"
        before = options.get_experimental_options().get(name, False)
        options.set_experimental_options({name: True})
        try:
            return self.function(*args)
        finally:
            options.set_experimental_options({name: before})

    def experimental_get_tracing_count(self) -> int:
        """Returns how often the loop was traced."""
        return self.function.experimental_get_tracing_count()


class Walks:
    """The compiled loops of one elementary problem and one way back."""

    def __init__(
        self,
        problem: Problem,
        trajectory: Trajectory,
        jit_compile: bool,
    ):
        """Initializes the loops; they are traced at their first call.

        Args:
            problem: the elementary training.
            trajectory: the way back; the loops serve all that are
                `traced_by` the same.
            jit_compile: bool, whether XLA compiles the loops.
        """
        self.problem = problem
        self.trajectory = trajectory
        self.jit_compile = jit_compile
        self.there = Loop(self._there, jit_compile)
        self.there_noting = Loop(self._there_noting, jit_compile)
        self.validate = Loop(self._validate, jit_compile)
        self.differentiate = Loop(self._differentiate, jit_compile)
        self.back = Loop(self._back, jit_compile)
        self.second_products = Loop(self._second_products, jit_compile)

    def _there(self, state, hparams, metrics, chunk, n):
        """Walks n steps.

        Args:
            state: s_t at the first iteration of the chunk.
            hparams: list of tensors λ.
            metrics: list of tensors, the metrics' state.
            chunk: the minibatches.
            n: int32 scalar, the number of steps.

        Returns:
            The state after n steps, the metrics' state, the first step in
            [0, n) whose loss was not finite (n if there was none), and an
            empty tuple.
        """
        _, *walked = _loop(
            n,
            lambda i, *walked: (
                i + 1,
                *self._step_there(i, *walked, hparams, chunk),
            ),
            (state, metrics, n),
        )
        return *walked, ()

    def _there_noting(self, state, hparams, metrics, chunk, n, notes):
        """Walks n steps, and takes the trajectory's notes of each state.

        Args:
            state: as `_there`, and so are the others.
            notes: what the trajectory's `notes` returned for the chunk.

        Returns:
            As `_there`; last, the notes.
        """

        def step(i, state, metrics, lost, notes):
            notes = self.trajectory.note(notes, i, state)
            walked = self._step_there(i, state, metrics, lost, hparams, chunk)
            return i + 1, *walked, notes

        notes = self.trajectory.open(notes, state)
        _, *walked, notes = _loop(n, step, (state, metrics, n, notes))
        return *walked, self.trajectory.close(notes)

    def _step_there(self, i, state, metrics, lost, hparams, chunk):
        """Returns state, metrics and `lost` after the i-th step of a chunk."""
        state, metrics, loss = chunk.visit(
            i,
            lambda batch: self.trajectory.step(
                self.problem, state, hparams, batch, metrics
            ),
        )
        lost = tf.where(tf.math.is_finite(loss), lost, tf.minimum(lost, i))
        return state, metrics, lost

    def _validate(self, state, hparams, metrics, total, chunk, n):
        """Adds n batches to the validation loss.

        Args:
            state: s_T.
            hparams: list of tensors λ.
            metrics: list of tensors, the metrics' state.
            total: pair of scalars, the sum of losses and of examples so far.
            chunk: the minibatches.
            n: int32 scalar, the number of batches.

        Returns:
            The metrics' state and the total.
        """

        def add_batch(i, metrics, total):
            loss, size, metrics = chunk.visit(
                i,
                lambda batch: self.problem.validation_loss(
                    state, hparams, batch, metrics
                ),
            )
            return i + 1, metrics, [total[0] + size * loss, total[1] + size]

        _, metrics, total = _loop(n, add_batch, (metrics, total))
        return metrics, total

    def _differentiate(self, state, hparams, metrics, total, slopes, chunk, n):
        """Adds n batches to the validation loss and to its gradient.

        Args:
            state: s_T.
            hparams: list of tensors λ.
            metrics: list of tensors, the metrics' state.
            total: pair of scalars, the sum of losses and of examples so far.
            slopes: pair of lists of tensors, the gradients of the sum of losses
                so far: in s_T (the adjoint) and in λ (of what validation itself
                depends on, a hyperparameter in a layer for instance).
            chunk: the minibatches.
            n: int32 scalar, the number of batches.

        Returns:
            The metrics' state, the total and the slopes.
        """

        def gradient(batch, metrics):
            at = nested.float_leaves(state), hparams
            with tf.GradientTape() as tape:
                tape.watch(at)
                loss, size, metrics = self.problem.validation_loss(
                    state, hparams, batch, metrics
                )
                loss = size * loss
            slope = tape.gradient(
                loss, at, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            return loss, size, metrics, slope

        def add_batch(i, metrics, total, slopes):
            loss, size, metrics, slope = chunk.visit(
                i, lambda batch: gradient(batch, metrics)
            )
            total = [total[0] + loss, total[1] + size]
            return i + 1, metrics, total, nested.add(slopes, slope)

        _, metrics, total, slopes = _loop(
            n, add_batch, (metrics, total, slopes)
        )
        return metrics, total, slopes

    def _back(self, way, hparams, known, chunk, n, first_norm, growth_limit):
        """Walks back through n iterations of a chunk, the last one first.

        The walk ends before a step that would take the norm of the parameters'
        adjoint past `growth_limit` times its first value, or out of the finite
        numbers; that step's share of dλ is left out.

        Args:
            way: `WayBack`, where the walk has come to.
            hparams: list of tensors λ.
            known: what the trajectory knows of the chunk.
            chunk: the minibatches.
            n: int32 scalar, the number of iterations in the chunk.
            first_norm: scalar, the norm of ∂F/∂w_T.
            growth_limit: scalar.

        Returns:
            `WayBack` after the chunk.
        """

        def advance(i, state):
            return chunk.visit(
                i, lambda batch: step(self.problem, state, hparams, batch)
            )

        states = self.trajectory.unfold(known, n, advance)

        def back(k, way):
            i = n - 1 - k
            state = self.trajectory.state(states, i)
            adjoint, d_hparams = chunk.visit(
                i,
                lambda batch: step_back(
                    self.problem,
                    state,
                    hparams,
                    batch,
                    way.adjoint,
                    self.trajectory.curvature,
                ),
            )
            growth = nested.norm(adjoint[: len(state.params)]) / first_norm
            d_hparams = nested.add(way.d_hparams, d_hparams)
            finite = tf.math.is_finite(growth) & tf.math.is_finite(
                nested.norm(d_hparams)
            )
            goes_on = finite & (growth <= growth_limit)
            return k + 1, WayBack(
                adjoint=adjoint,
                d_hparams=nested.where(goes_on, d_hparams, way.d_hparams),
                growth=tf.maximum(
                    way.growth, tf.where(finite, growth, growth.dtype.max)
                ),
                steps=way.steps + tf.cast(goes_on, tf.int32),
                goes_on=goes_on,
            )

        _, way = tf.while_loop(
            lambda k, way: (k < n) & way.goes_on,
            back,
            (tf.constant(0), way),
            parallel_iterations=1,
        )
        return way

    def _second_products(self, state, hparams, chunk, n, vector):
        """Returns means over n batches; see `adjoint.second_products`."""

        def add_batch(i, sums):
            products = chunk.visit(
                i,
                lambda batch: second_products(
                    self.problem,
                    state,
                    hparams,
                    batch,
                    vector,
                    self.trajectory.curvature,
                ),
            )
            return i + 1, nested.add(sums, products)

        sums = nested.zeros_like((state.params, hparams))
        _, sums = _loop(n, add_batch, (sums,))
        return nested.scale(1 / n, sums)


def _loop(n, body, state):
    """Runs `body(i, *state)` for i = 0 ... n-1."""
    return tf.while_loop(
        lambda i, *_: i < n,
        body,
        (tf.constant(0), *state),
        parallel_iterations=1,
    )


def start_back(
    adjoint: list[tf.Tensor], d_hparams: list[tf.Tensor], params: int
) -> tuple[WayBack, tf.Tensor]:
    """Returns the walk back at s_T, and the norm that growth is measured by.

    That of ∂F/∂w_T; where it is 0, of ∂F/∂s_T; 1 where that is 0 too.

    Args:
        adjoint: list of tensors ∂F/∂s_T.
        d_hparams: list of tensors ∂F/∂λ.
        params: int, how many of the adjoint's tensors belong to parameters.
    """
    first_norm = nested.norm(adjoint[:params])
    # Averaged weights (`use_ema`) are slots; F does not depend on others then.
    first_norm = tf.where(
        first_norm > 0,
        first_norm,
        tf.cast(nested.norm(adjoint), first_norm.dtype),
    )
    way = WayBack(
        adjoint=adjoint,
        d_hparams=d_hparams,
        growth=tf.ones_like(first_norm),
        steps=tf.constant(0),
        goes_on=tf.constant(True),
    )
    one = tf.ones_like(first_norm)
    return way, tf.where(first_norm > 0, first_norm, one)
