"""The tool of a differentiation: walks over the minibatches of one training.

A walk goes through a span of iterations in chunks, each chunk a call of a
compiled loop. What a step is given (λ, the learning rate, frozen weights) is
read once before the call and travels on in `Walked`, so a walk backward sees
the very values that the steps were taken with.
"""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.records import NOTHING, Recorder, Replay
from keras_drmad.core.span import Span
from keras_drmad.core.state import Setting, Wrapper
from keras_drmad.core.walked import (
    NOBODY,
    Derivative,
    Diverged,
    Ended,
    Part,
    Walked,
    Watcher,
    Window,
    adjoint_at_end,
    finite_limit,
)


class Walk:
    """Walks over the minibatches of one training.

    Attributes:
        loops: the compiled loops.
        batches: the minibatches, a function of the iteration.
    """

    def __init__(
        self,
        loops: Any,
        batches: Any,
        *,
        epochs: Sequence[int] = (),
        pauses: Sequence[int] = (),
        pauses_backward: Sequence[int] = (),
        last: int | None = None,
        watcher: Watcher = NOBODY,
        d_start: Callable[[], list[tf.Tensor]] | None = None,
        carried: dict[str, Any] | None = None,
    ):
        """Initializes the walk.

        Args:
            loops: `Loops`.
            batches: `ArrayBatches` or `StreamBatches`.
            epochs: iterations at which the metrics start anew, ascending.
            pauses: iterations at which a chunk is to begin, so that progress
                is seen, ascending.
            pauses_backward: iterations with which a chunk of a walk backward
                is to end, so that the walk can be ended, ascending.
            last: int, where the training ends, and a stream is let go; `None`
                where other spans may follow.
            watcher: is told of the chunks of walks forward.
            d_start: function that returns the tangents ∂s_0/∂λ of the first
                parameters, see `tangents.none`; `None` where λ does not act on
                these.
            carried: dict that has the state of the metrics, under "metrics",
                between walks through spans of one epoch; empty at first.
                Each span is then a window: what λ did before is left out.
                `None` where spans have metrics of their own, and are parts of
                a whole.
        """
        self.carried = carried
        self.loops = loops
        self.batches = batches
        self.epochs = epochs
        self.pauses = pauses
        self.pauses_backward = pauses_backward
        self.last = last
        self.watcher = watcher
        self.d_start = d_start

    @property
    def is_window(self) -> bool:
        """Whether what λ did before a span is left out."""
        return self.carried is not None

    def within(self, wrapper: Wrapper) -> "Walk":
        """Returns the walk through the problem that a wrapper makes."""
        return Walk(
            self.loops.wrapped(wrapper),
            self.batches,
            epochs=self.epochs,
            pauses=self.pauses,
            pauses_backward=self.pauses_backward,
            last=self.last,
            watcher=self.watcher,
            d_start=self.d_start,
            carried=self.carried,
        )

    # ---- forward

    def forward(
        self,
        s: Any,
        hparams: list[tf.Tensor],
        span: Span,
        recorder: Recorder = NOTHING,
        *,
        records_from: int = 0,
        notes: Callable[[np.ndarray], Any] = lambda iterations: (),
        revisited: Sequence[int] | np.ndarray = (),
        cuts: Sequence[int] = (),
        keeps_chunks: bool = False,
        memory: dict | None = None,
    ) -> "Forward":
        """Returns the walk through a span; iterating it takes the steps.

        Args:
            s: the state at the span's first iteration.
            hparams: list of tensors λ, those of the whole walk.
            span: the iterations.
            recorder: what loops write down.
            records_from: int, the first iteration of which they do.
            notes: function from a chunk's iterations to the notes that the
                recorder begins with.
            revisited: iterations whose minibatches `backward` will ask for.
            cuts: iterations at which a chunk has to begin, ascending.
            keeps_chunks: bool, whether the walk backward goes through the very
                chunks of the walk forward.
            memory: dict that the caller fills after each part, all that is
                remembered of the parts so far; `None` where nothing is. A walk
                that goes on where an earlier one was fills the dict first.
        """
        begun = self.watcher.begun("forward")
        # To keep whole chunks is to keep more of them for each pause.
        pauses = () if keeps_chunks else self.pauses
        gone_on_at = [begun["last"] + 1] if begun else []
        begins = sorted({*self.epochs, *cuts, *pauses, *gone_on_at})
        chunks = self.batches.forward(
            span,
            begins,
            revisited,
            begins if keeps_chunks else (),
            waits=self.epochs,  # callbacks may change the data between them
            goes_on=self.last is None or span.last < self.last,
        )
        recording = recorder, records_from, notes
        return Forward(self, chunks, s, hparams, span, recording, memory, begun)

    def through(
        self,
        s: Any,
        hparams: list[tf.Tensor],
        span: Span,
        revisited: Sequence[int] | np.ndarray = (),
    ) -> Walked:
        """Walks through a span and remembers nothing; see `forward`."""
        walking = self.forward(s, hparams, span, revisited=revisited)
        for _ in walking:
            pass
        return walking.end(None)

    def window(
        self,
        s: Any,
        hparams: list[tf.Tensor],
        span: Span,
        recorder: Recorder,
        replay: Replay,
        held: tuple[Any, ...],
        growth_limit: float,
    ) -> Window:
        """Walks through a span of one chunk, to a loss, and backward, at once.

        Args:
            s: the state at the span's first iteration.
            hparams: list of tensors λ.
            span: the iterations, no more than the recorder takes.
            recorder: what is written down.
            replay: how states are known again, from that.
            held: `(so_far, minibatches, n)` of the held-out loss; see
                `Loops._window`.
            growth_limit: as for `backward`.

        Raises:
            Diverged: if a loss leaves the finite numbers.
        """
        loops = self.loops
        carried = {} if self.carried is None else self.carried
        goes_on = self.last is None or span.last < self.last
        chunks = self.batches.forward(span, goes_on=goes_on)
        ((iterations, chunk),) = chunks
        self.watcher.on_begin(span.first)
        setting = Setting(hparams, loops.problem.constants())
        metrics = loops.problem.metrics_state()
        if span.first not in self.epochs:
            metrics = carried.get("metrics", metrics)
        n = len(iterations)
        state, metrics, lost, loss, d_hparams, back = loops.window(
            recorder, replay
        )(s, setting, metrics, chunk, tf.constant(n), *held, growth_limit)
        if int(lost) < n:
            raise Diverged(span.first + int(lost) + 1, "training")
        carried["metrics"] = metrics
        logs = loops.problem.logs(metrics)
        self.watcher.on_end(span.last - 1, logs)
        self.watcher.on_chunk("forward", n, {"state": state})
        self.watcher.on_chunk("backward", int(back.steps), {})
        report = {
            "adjoint_growth": float(back.growth),
            "reverse_steps": float(n),
            "reverse_steps_used": float(back.steps),
        }
        return Window(state, logs, float(loss), d_hparams, report)

    # ---- backward

    def backward(
        self,
        walked: Walked,
        adjoint: list[tf.Tensor],
        iterations: np.ndarray,
        replay: Replay,
        known: Callable[[np.ndarray, Any], Any],
        *,
        growth_limit: float = float("inf"),
        cuts: Sequence[int] = (),
        keeps_chunks: bool = False,
    ) -> Derivative:
        """Takes an adjoint back through a span, the last chunk first.

        Args:
            walked: the span, as it was walked forward.
            adjoint: list of tensors a, one for each floating leaf of the state
                at the span's end.
            iterations: those that are walked, ascending.
            replay: how loops know the states.
            known: function from a chunk's iterations and its minibatches to
                what the replay takes.
            growth_limit: float, how many times its first norm the adjoint of
                the parameters may come to before the walk ends early.
            cuts: as for `forward`.
            keeps_chunks: as for `forward`.
        """
        loop = self.loops.backward(replay)
        params = len(walked.state.params)
        so_far, first_norm = adjoint_at_end(adjoint, walked.hparams, params)
        limit = finite_limit(growth_limit, first_norm.dtype)
        begun = self.watcher.begun("backward")
        so_far = begun.get("so_far", so_far)
        end = begun.get("first", walked.span.last)
        begins = sorted({*self.pauses_backward, end})
        if keeps_chunks:  # chunks are those of the walk forward
            begins = sorted({*self.epochs, *cuts})
        for part, chunk in self.batches.backward(
            walked.span, begins, iterations
        ):
            if part[0] >= end:
                continue  # was done before the walk was broken off
            if not bool(so_far.goes_on):
                break
            facts, n = known(part, chunk), tf.constant(len(part))
            for setting, *bounds in reversed(walked.settings_of(part)):
                with self.loops.problem.holding(setting.constants):
                    so_far = loop(
                        so_far,
                        setting,
                        facts,
                        chunk,
                        n,
                        [tf.constant(place) for place in bounds],
                        first_norm,
                        limit,
                    )
            tree = {"first": int(part[0]), "so_far": so_far}
            self.watcher.on_chunk("backward", len(part), tree)
        return Derivative(
            so_far.d_hparams,
            so_far.adjoint,
            bool(so_far.goes_on),
            {
                "adjoint_growth": float(so_far.growth),
                "reverse_steps": float(len(iterations)),
                "reverse_steps_used": float(so_far.steps),
            },
        )

    def again(
        self,
        walked: Walked,
        state: Any,
        iterations: np.ndarray,
        chunk: Any,
        recorder: Recorder,
    ) -> tuple[Any, Any]:
        """Walks over a chunk's minibatches in the opposite order.

        Args:
            walked: the span, as it was walked forward.
            state: the state to begin with.
            iterations: `(n,)`, those of the chunk.
            chunk: the minibatches.
            recorder: what the loop writes down.

        Returns:
            The state after n steps, and the notes.
        """
        ((setting, _, n),) = walked.settings_of(iterations)
        problem = self.loops.problem
        with problem.holding(setting.constants):
            state, _, _, notes = self.loops.forward(recorder)(
                state,
                setting,
                problem.metrics_state(),
                chunk.reversed(n),
                tf.constant(n),
                (),
            )
        return state, notes

    def products(
        self,
        walked: Walked,
        iterations: np.ndarray,
        curvature: Any,
    ) -> Callable[[list[tf.Tensor]], tuple[list, list]]:
        """Returns the mean products of second derivatives at the span's end.

        Args:
            walked: the span, as it was walked forward.
            iterations: those whose minibatches count, ascending.
            curvature: the second derivative.

        Returns:
            The function from a list of tensors d, as the parameters, to the
            means of `adjoint.second_products`.
        """
        loop, watcher = self.loops.products(curvature), self.watcher
        setting = walked.settings[-1][1]
        chunks = list(self.batches.backward(walked.span, (), iterations))
        # Those of a walk that was broken off: the same vectors follow them.
        known = watcher.begun("backward").get("memory", {})
        count = itertools.count()

        def products(vector):
            k = next(count)
            if k in known:
                return known[k]
            sums = nested.zeros_like((walked.state.params, setting.hparams))
            for part, chunk in chunks:
                n = tf.constant(len(part))
                with self.loops.problem.holding(setting.constants):
                    means = loop(walked.state, setting, chunk, n, vector)
                share = len(part) / len(iterations)
                sums = nested.add(sums, nested.scale(share, means))
            if watcher.keeps:
                known[k] = sums
            watcher.on_chunk("backward", len(iterations), {"memory": known})
            return sums

        return products


@contextlib.contextmanager
def told_of_interrupts(chunks: Generator) -> Iterator[None]:
    """Within it, Ctrl-C reaches what reads chunks, which then reads no more.

    So does `Ended`. After other errors a chunk that is being read is read to
    its end, for further walks may follow; see `StreamBatches`.

    Args:
        chunks: generator of the chunks that are gone through.
    """
    try:
        yield
    except (KeyboardInterrupt, Ended) as end:
        chunks.throw(end)


class Forward:
    """A walk forward through a span; iterating it takes the steps."""

    def __init__(
        self,
        walk: Walk,
        chunks: Generator,
        s: Any,
        hparams: list[tf.Tensor],
        span: Span,
        recording: tuple,
        memory: dict | None,
        begun: dict[str, Any],
    ):
        """Initializes the walk; see `Walk.forward`."""
        self._walk = walk
        self._chunks = chunks
        self._hparams = hparams
        self._span = span
        self._recording = recording
        self._settings: list[tuple[int, Setting]] = []
        self._state = s
        self._logs: dict[str, float] = {}
        self._memory = memory
        self._begun = begun
        if begun:
            self._settings = list(begun["settings"].items())
            self._state, self._logs = begun["state"], begun["logs"]
            if memory is not None:
                memory |= begun["memory"]

    def __iter__(self) -> Iterator[Part]:
        """Yields a `Part` for each chunk.

        Raises:
            Diverged: if the training loss leaves the finite numbers.
        """
        with told_of_interrupts(self._chunks):
            yield from self._parts()

    def _parts(self) -> Iterator[Part]:
        walk, problem = self._walk, self._walk.loops.problem
        recorder, records_from, notes_of = self._recording
        fresh = problem.metrics_state()
        carried = {} if walk.carried is None else walk.carried
        metrics = self._begun.get("metrics", carried.get("metrics", fresh))
        gone_on_at = self._span.first
        if self._begun:
            gone_on_at = self._begun["last"] + 1
            self._tell(0, self._begun)
        for iterations, chunk in self._chunks:
            first, n = int(iterations[0]), len(iterations)
            if first < gone_on_at:  # was done before the walk was broken off
                is_last = first + n == gone_on_at
                if is_last and walk.batches.seen != self._begun["seen"]:
                    walk.watcher.on_other_batches()
                continue
            if first in walk.epochs:
                metrics = fresh
            loop, notes = walk.loops.forward(NOTHING), ()
            if first >= records_from:
                loop, notes = walk.loops.forward(recorder), notes_of(iterations)
            walk.watcher.on_begin(first)
            before = self._state
            self._state, metrics, lost, notes = loop(
                before,
                self._setting(first),
                metrics,
                chunk,
                tf.constant(n),
                notes,
            )
            if int(lost) < n:
                raise Diverged(first + int(lost) + 1, "training")
            carried["metrics"] = metrics
            self._logs = problem.logs(metrics)
            walk.watcher.on_end(first + n - 1, self._logs)
            tree = {
                "last": first + n - 1,
                "state": self._state,
                "metrics": metrics,
                "logs": self._logs,
                "settings": dict(self._settings),
                "seen": walk.batches.seen,
            }
            if self._memory is None:
                self._tell(n, tree)
            yield Part(iterations, before, self._state, notes, self._logs)
            if self._memory is not None:  # now with what is remembered of it
                self._tell(n, tree)

    def _tell(self, steps: int, tree: dict[str, Any]) -> None:
        memory = {} if self._memory is None else self._memory
        self._walk.watcher.on_chunk("forward", steps, tree | {"memory": memory})

    def end(self, memory: Any) -> Walked:
        """Returns the span as it was walked, with what is remembered of it."""
        return Walked(
            self._span, self._state, self._settings, memory, self._logs
        )

    def _setting(self, first: int) -> Setting:
        """Returns what the steps of a chunk are given, read only here."""
        loops = self._walk.loops
        if self._settings and not self._walk.watcher.may_assign:
            return self._settings[-1][1]
        constants = loops.problem.constants()
        if not self._settings or not bool(
            loops.same(constants, self._settings[-1][1].constants)
        ):
            self._settings.append((first, Setting(self._hparams, constants)))
        return self._settings[-1][1]
