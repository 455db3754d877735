"""The compiled loops, each over a chunk of minibatches.

    forward:   s_{t+1} = step(s_t, λ, batch_t)               t = 0 ... T-1
    F:         validation loss at s_T, a = ∂F/∂s_T, dλ = ∂F/∂λ
    backward:  a, dλ <- aᵀ ∂step/∂s, dλ + aᵀ ∂step/∂λ        t = T-1 ... 0

The loops take every number as a tensor, so a new length, seed or rate does not
trace them again; λ, learning rates and frozen weights come in as a
`Setting`.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.adjoint import second_products, step, step_back
from keras_drmad.core.apart import apart
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.records import NOTHING, Recorder, Replay
from keras_drmad.core.state import Adjoint, Curvature, Wrapper
from keras_drmad.core.walked import adjoint_at_end, finite_limit


class Loop(Protocol):
    """A compiled function."""

    def __call__(self, *args: Any) -> Any:
        """Runs the function."""

    def traces(self) -> int:
        """Returns how often the function was traced."""


class Compiler(Protocol):
    """What makes a compiled loop of a function."""

    @property
    def jit_compile(self) -> bool:
        """Whether XLA compiles the function."""

    @property
    def jit_validation(self) -> bool:
        """Whether XLA compiles a function that validates."""

    @property
    def apart(self) -> bool:
        """Whether loops that TensorFlow runs call a step, see `core.apart`."""

    def __call__(
        self, function: Callable, name: str, *, validates: bool = False
    ) -> Loop:
        """Returns a function compiled; its first call traces it.

        Args:
            function: of tensors.
            name: str, what it is called where compiling is spoken of.
            validates: bool, whether it goes through held-out batches alone.
        """


class Loops:
    """The compiled loops of one problem.

    A loop is made when it is first asked for, and kept under the record that
    it was made for.

    Attributes:
        problem: a `Problem`; of wrapped loops, only `Steps`.
        compiler: makes a compiled loop of a function.
    """

    def __init__(self, problem: Any, compiler: Compiler):
        """Initializes the loops; nothing is traced yet."""
        self.problem = problem
        self.compiler = compiler
        self._loops: dict[tuple, Loop] = {}
        self._wrapped: dict[Wrapper, Loops] = {}
        self._needs_sizes = not problem.takes_any_size

    def go_on(
        self, problem: Any, is_same: Callable[[str, tuple], bool]
    ) -> None:
        """Takes another problem, and keeps loops that are the same for it.

        Args:
            problem: a `Problem` with the same steps.
            is_same: function of a loop's name and what it was made for, which
                says whether to keep the loop.
        """
        self.problem = problem
        self._wrapped = {}
        self._loops = {
            key: loop
            for key, loop in self._loops.items()
            if is_same(key[0], key[1:])
        }

    def wrapped(self, wrapper: Wrapper) -> "Loops":
        """Returns the loops of the problem that a wrapper makes of this one."""
        if wrapper not in self._wrapped:
            self._wrapped[wrapper] = Loops(
                wrapper.problem(self.problem), self.compiler
            )
        return self._wrapped[wrapper]

    def forward(self, recorder: Recorder) -> Loop:
        """Returns the loop `(state, setting, metrics, chunk, n, notes)`.

        The loop walks n steps from a state, and returns the state after them,
        the metrics' state, the first step in [0, n) whose loss was not finite
        (n if all were), and the recorder's notes.
        """
        said = "forward" if recorder == NOTHING else "forward that records"
        return self._loop("forward", self._forward, recorder, said=said)

    def backward(self, replay: Replay) -> Loop:
        """Returns the loop `(adjoint, setting, known, chunk, bounds, ...)`.

        The loop takes the adjoint back through the iterations [first, last) of
        a chunk, the last one first; see `_backward`.
        """
        return self._loop("backward", self._backward, replay)

    def products(self, curvature: Curvature) -> Loop:
        """Returns the loop `(state, setting, chunk, n, vector)`.

        The loop returns means over n batches of `adjoint.second_products`.
        """
        return self._loop("products", self._products, curvature)

    def window(self, recorder: Recorder, replay: Replay) -> Loop:
        """Returns the function `(state, setting, metrics, chunk, n, ...)`.

        The function walks n steps forward, to a loss, and backward; see
        `_window`.
        """
        return self._loop("window", self._window, recorder, replay)

    @property
    def validate(self) -> Loop:
        """The loop `(state, setting, metrics, total, chunk, n)`.

        The loop adds n batches to the validation loss, and returns the
        metrics' state and the total.
        """
        return self._loop("validate", self._validate, validates=True)

    @property
    def differentiate(self) -> Loop:
        """The loop `(state, setting, metrics, total, slopes, chunk, n)`.

        The loop adds n batches to the validation loss and to its gradient, and
        returns the metrics' state, the total and the slopes.
        """
        return self._loop("differentiate", self._differentiate, validates=True)

    @property
    def validate_one(self) -> Loop:
        """The function `(state, setting, metrics, total, chunk, i)`.

        The function adds batch i to the validation loss, and returns the
        metrics' state, the total and the buffers after the batch.
        """
        return self._loop("validate_one", self._validate_one, validates=True)

    @property
    def slope_of_one(self) -> Loop:
        """The function `(state, setting, d_buffers, chunk, i)`.

        The function returns the gradients, in the state's floating leaves and
        in λ, of the loss of batch i, and of what its buffers do later.
        """
        return self._loop("slope_of_one", self._slope_of_one, validates=True)

    @property
    def same(self) -> Loop:
        """The function of two lists of tensors that says if they are equal."""
        return self._loop("same", _same)

    def traces(self) -> dict[str, int]:
        """Returns how often each loop was traced, by name and record."""
        counts = {
            " ".join([name, *map(repr, record)]): loop.traces()
            for (name, *record), loop in self._loops.items()
        }
        for wrapper, loops in self._wrapped.items():
            for name, count in loops.traces().items():
                counts[f"{name} of {wrapper!r}"] = count
        return counts

    def _loop(
        self,
        name: str,
        function: Callable,
        *record: Any,
        said: str = "",
        validates: bool = False,
    ) -> Loop:
        key = name, *record
        if key not in self._loops:
            bound = functools.partial(function, *record)
            self._loops[key] = self.compiler(
                bound, said or name, validates=validates
            )
        return self._loops[key]

    # ---- what is compiled

    def _visit(self, chunk, i, function, *, in_xla=None):
        """Returns `function(batch)` for the i-th minibatch of a chunk.

        XLA needs the sizes of minibatches, and traces a short one apart; so do
        layers and losses that compute with a size in Python.
        """
        in_xla = self.compiler.jit_compile if in_xla is None else in_xla
        if self.compiler.apart and not in_xla:
            function = apart(function)
        if not self._needs_sizes and not in_xla:
            try:
                return chunk.visit(i, function, any_size=True)
            except Exception:  # whatever they raise of a size that is `None`
                self._needs_sizes = True
        return chunk.visit(i, function)

    def _forward(self, recorder, state, setting, metrics, chunk, n, notes):
        problem = self.problem.at(setting.constants)

        def take_step(i, state, metrics, lost, notes):
            notes = recorder.note(notes, i, state)
            followed = notes if recorder.follows else ()

            def visit(batch):
                taken = problem.step(state, setting.hparams, batch, metrics)
                return taken, recorder.follow(
                    followed, problem, state, setting.hparams, batch
                )

            (state_after, metrics, loss), followed = self._visit(
                chunk, i, visit
            )
            notes = followed if recorder.follows else notes
            is_finite = tf.math.is_finite(loss)
            lost = tf.where(is_finite, lost, tf.minimum(lost, i))
            return i + 1, state_after, metrics, lost, notes

        notes = recorder.open(notes, state)
        _, state, metrics, lost, notes = _while(
            n, take_step, (state, metrics, n, notes)
        )
        return state, metrics, lost, recorder.close(notes)

    def _validate(self, state, setting, metrics, total, chunk, n):
        """Adds n batches to the validation loss.

        Args:
            state: s_T.
            setting: `Setting`.
            metrics: list of tensors, the metrics' state.
            total: pair of scalars, the sum of losses and of examples so far.
            chunk: the minibatches.
            n: int32 scalar, the number of batches.
        """
        problem = self.problem.at(setting.constants)

        def add_batch(i, metrics, total):
            loss, size, metrics = self._visit(
                chunk,
                i,
                lambda batch: problem.validation_loss(
                    state, setting.hparams, batch, metrics
                ),
                in_xla=self.compiler.jit_validation,
            )
            return i + 1, metrics, [total[0] + size * loss, total[1] + size]

        _, metrics, total = _while(n, add_batch, (metrics, total))
        return metrics, total

    def _validate_one(self, state, setting, metrics, total, chunk, i):
        problem = self.problem.at(setting.constants)
        loss, size, metrics, buffers = self._visit(
            chunk,
            i,
            lambda batch: problem.carrying_validation_loss(
                state, setting.hparams, batch, metrics
            ),
            in_xla=self.compiler.jit_validation,
        )
        total = [total[0] + size * loss, total[1] + size]
        return metrics, total, buffers

    def _slope_of_one(self, state, setting, d_buffers, chunk, i):
        problem = self.problem.at(setting.constants)

        def slope(batch):
            loss, size, _, buffers = problem.carrying_validation_loss(
                state, setting.hparams, batch, problem.metrics_state()
            )
            loss = size * loss
            at = nested.float_leaves(state), setting.hparams
            outputs = [loss, *nested.float_leaves(buffers)]
            return vjp(outputs, at, [tf.ones_like(loss), *d_buffers])

        in_xla = self.compiler.jit_validation
        return self._visit(chunk, i, slope, in_xla=in_xla)

    def _differentiate(
        self, state, setting, metrics, total, slopes, chunk, n, *, in_xla=None
    ):
        """Adds n batches to the validation loss and to its gradient.

        Args:
            state: s_T, and the others as for `_validate`.
            slopes: pair of lists of tensors, the gradients of the sum of losses
                so far: in s_T (the adjoint) and in λ (of what validation itself
                depends on, a value in a layer for instance).
            in_xla: bool, whether XLA compiles the function that this is a part
                of; by default what it does of functions that validate.
        """
        problem = self.problem.at(setting.constants)
        in_xla = self.compiler.jit_validation if in_xla is None else in_xla

        def gradient(batch, metrics):
            at = nested.float_leaves(state), setting.hparams
            loss, size, metrics = problem.validation_loss(
                state, setting.hparams, batch, metrics
            )
            loss = size * loss
            return loss, size, metrics, vjp([loss], at)

        def add_batch(i, metrics, total, slopes):
            loss, size, metrics, slope = self._visit(
                chunk, i, lambda batch: gradient(batch, metrics), in_xla=in_xla
            )
            total = [total[0] + loss, total[1] + size]
            return i + 1, metrics, total, nested.add(slopes, slope)

        _, metrics, total, slopes = _while(
            n, add_batch, (metrics, total, slopes)
        )
        return metrics, total, slopes

    def _backward(
        self,
        replay,
        adjoint,
        setting,
        known,
        chunk,
        n,
        bounds,
        first_norm,
        growth_limit,
    ):
        """Walks backward through a part of a chunk, the last iteration first.

        The walk ends before a step that would take the norm of the parameters'
        adjoint past `growth_limit` times its first value, or out of the finite
        numbers; that step's share of dλ is left out.

        Args:
            replay: `Replay`, how states are known.
            adjoint: `Adjoint`, where the walk has come to.
            setting: `Setting` of these iterations.
            known: what the replay takes of the chunk.
            chunk: the minibatches.
            n: int32 scalar, the number of iterations in the chunk.
            bounds: pair of int32 scalars, the iterations [first, last) of the
                chunk that are walked.
            first_norm: scalar, what growth is measured by.
            growth_limit: scalar.
        """
        problem = self.problem.at(setting.constants)
        hparams, (first, last) = setting.hparams, bounds
        norm = functools.partial(nested.norm, in_xla=self.compiler.jit_compile)

        def advance(i, state):
            return self._visit(
                chunk, i, lambda batch: step(problem, state, hparams, batch)
            )

        states = replay.unfold(known, n, advance)

        def step_from(i, so_far):
            i -= 1
            state = replay.state(states, i)
            a, d_hparams = self._visit(
                chunk,
                i,
                lambda batch: step_back(
                    problem,
                    state,
                    hparams,
                    batch,
                    so_far.adjoint,
                    replay.curvature,
                ),
            )
            growth = norm(a[: len(state.params)]) / first_norm
            d_hparams = nested.add(so_far.d_hparams, d_hparams)
            finite = tf.math.is_finite(growth) & tf.math.is_finite(
                norm(d_hparams)
            )
            goes_on = finite & (growth <= growth_limit)
            return i, Adjoint(
                adjoint=a,
                d_hparams=nested.where(goes_on, d_hparams, so_far.d_hparams),
                growth=tf.maximum(
                    so_far.growth, tf.where(finite, growth, growth.dtype.max)
                ),
                steps=so_far.steps + tf.cast(goes_on, tf.int32),
                goes_on=goes_on,
            )

        _, adjoint = tf.while_loop(
            lambda i, so_far: (i > first) & so_far.goes_on,
            step_from,
            (last, adjoint),
            parallel_iterations=1,
        )
        return adjoint

    def _window(
        self,
        recorder,
        replay,
        state,
        setting,
        metrics,
        chunk,
        n,
        held_so_far,
        held,
        held_n,
        growth_limit,
    ):
        """Walks n steps forward, to a loss on held-out batches, and backward.

        Args:
            recorder: `Recorder`, what is written down of the states.
            replay: `Replay`, how they are known from that, see
                `Replay.of_notes`.
            state: the state to begin with.
            setting: `Setting`.
            metrics: list of tensors, the state of the training metrics.
            chunk: the minibatches.
            n: int32 scalar, the number of steps.
            held_so_far: pair, the state of the metrics and the sums of losses
                and of examples to begin with.
            held: the held-out minibatches.
            held_n: int32 scalar, the number of these.
            growth_limit: float, as for `Walk.backward`.

        Returns:
            The state after n steps, the training metrics' state, the first step
            whose loss was not finite (n if all were), the held-out loss,
            dλ, and the `Adjoint` at the end of the walk backward.
        """
        hparams, first = setting.hparams, state
        state, metrics, lost, notes = self._forward(
            recorder, state, setting, metrics, chunk, n, ()
        )
        at = nested.float_leaves(state), hparams
        _, (loss, size), slopes = self._differentiate(
            state,
            setting,
            *held_so_far,
            nested.zeros_like(at),
            held,
            held_n,
            in_xla=self.compiler.jit_compile,
        )
        adjoint, d_hparams = nested.scale(1 / size, slopes)
        so_far, first_norm = adjoint_at_end(adjoint, hparams, len(state.params))
        back = self._backward(
            replay,
            so_far,
            setting,
            replay.of_notes(notes, first),
            chunk,
            n,
            (tf.constant(0), n),
            first_norm,
            finite_limit(growth_limit, first_norm.dtype),
        )
        d_hparams = nested.add(d_hparams, back.d_hparams)
        return state, metrics, lost, loss / size, d_hparams, back

    def _products(self, curvature, state, setting, chunk, n, vector):
        problem, hparams = self.problem.at(setting.constants), setting.hparams

        def add_batch(i, sums):
            products = self._visit(
                chunk,
                i,
                lambda batch: second_products(
                    problem, state, hparams, batch, vector, curvature
                ),
            )
            return i + 1, nested.add(sums, products)

        sums = nested.zeros_like((state.params, hparams))
        _, sums = _while(n, add_batch, (sums,))
        return nested.scale(1 / n, sums)


def _same(some, others):
    """Returns whether all numbers are equal; nan equals nan."""
    equal = [
        tf.reduce_all((x == y) | ((x != x) & (y != y)))
        for x, y in zip(some, others, strict=True)
    ]
    return tf.reduce_all(equal)


def _while(n, body, state):
    """Runs `body(i, *state)` for i = 0 ... n-1."""
    return tf.while_loop(
        lambda i, *_: i < n,
        body,
        (tf.constant(0), *state),
        parallel_iterations=1,
    )
