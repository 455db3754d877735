"""One training: forward, to the validation loss, and backward."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core import nested
from keras_drmad.core.loops import Loops
from keras_drmad.core.span import Span
from keras_drmad.core.state import Setting, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import (
    NOBODY,
    Diverged,
    Walked,
    Watcher,
    Window,
)
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.training import validation
from keras_drmad.training.hypergradients import Hypergradient
from keras_drmad.training.plan import Plan, Source
from keras_drmad.training.workers import ALONE, Workers

# What tells how a hypergradient was computed.
DIAGNOSTICS = (
    "hypergradient_norm",
    "adjoint_growth",
    "reverse_steps",
    "reverse_steps_used",
    "copies",
    "residual",
    "past_edge",
)


class Trained(NamedTuple):
    """A training that has come to its end.

    Attributes:
        s_0: the state that it was to start from, before hyperparameters of
            the start acted on it.
        walked: the whole training, as it was walked forward.
    """

    s_0: State
    walked: Walked

    @property
    def s_T(self) -> State:
        """The last state."""
        return self.walked.state

    @property
    def hparams(self) -> list[tf.Tensor]:
        """The raw values λ that the training used."""
        return self.walked.hparams

    def forgotten(self) -> "Trained":
        """Returns the training without what was kept for a walk backward."""
        return self._replace(walked=self.walked._replace(memory=None))


class Slopes(NamedTuple):
    """The derivatives of the validation loss at the end of a training.

    Attributes:
        adjoint: list of tensors ∂F/∂s_T.
        d_hparams: list of tensors ∂F/∂λ, at this s_T.
    """

    adjoint: list[tf.Tensor]
    d_hparams: list[tf.Tensor]


class ElementaryTraining:
    """Trains, validates and differentiates one problem in one way.

    The raw values λ are read once, by `hparams`, before a training; what is
    assigned to them meanwhile counts from the next training on.
    """

    def __init__(
        self,
        problem: Any,
        loops: Loops,
        differentiation: Differentiation | None,
        *,
        check: Callable[[], None] = lambda: None,
        goes_on: bool = False,
        workers: Workers = ALONE,
    ):
        """Initializes the training.

        Args:
            problem: the pure functions of the model.
            loops: their compiled loops.
            differentiation: how dF/dλ is known; `None` where nothing is
                differentiated.
            check: function that checks derivatives where nobody has: called
                before each of `differentiate`, and where a training diverges.
            goes_on: bool, whether trainings go on from the weights that the
                last one left.
            workers: those who train together.
        """
        self.problem = problem
        self.loops = loops
        self.differentiation: Any = differentiation
        self._check = check
        self.goes_on = goes_on
        self.workers = workers

    def hparams(self) -> list[tf.Tensor]:
        """Returns the raw values λ as they are now."""
        return self.problem.hparams()

    # ---- the three walks

    def forward(
        self,
        s_0: State,
        hparams: list[tf.Tensor],
        plan: Plan,
        watcher: Watcher = NOBODY,
    ) -> Trained:
        """Walks from s_0 to s_T.

        Args:
            s_0: the first state.
            hparams: list of tensors λ.
            plan: data and length.
            watcher: is told of the chunks.

        Raises:
            Diverged: if the training loss leaves the finite numbers.
            ValueError: if derivatives are checked then, and one is wrong.
        """
        start = self.problem.started(s_0, hparams)
        self._take_up(watcher)
        walk = self.walk(
            plan,
            watcher,
            lambda: self.problem.start_forward(
                s_0, hparams, goes_on=self.goes_on
            ),
        )
        try:
            walked = self.differentiation.forward(
                walk, start, hparams, plan.span
            )
        except Diverged:
            self._check()  # who may know why
            raise
        return Trained(s_0, walked)

    def differentiate(
        self, trained: Trained, source: Source, watcher: Watcher = NOBODY
    ) -> tuple[dict[str, float], Slopes]:
        """Returns loss and metrics, and the slopes of the loss.

        Raises:
            ValueError: if derivatives are checked now, and one is wrong.
        """
        self._check()
        setting = self._setting(trained.hparams)
        metrics, total, slopes = validation.differentiated(
            self.loops, trained.s_T, setting, source, watcher
        )
        logs = self._validation_logs(metrics, total)
        return logs, Slopes(*nested.scale(1 / total[1], slopes))

    def window(
        self,
        walk: Walk,
        s: State,
        hparams: list[tf.Tensor],
        span: Span,
        source: Source,
        held: Span,
        watcher: Watcher = NOBODY,
    ) -> Window:
        """Walks through a span, to a held-out loss, and backward.

        In one call where the differentiation does so, and validation carries no
        variables along; otherwise by one loop after the other.

        Args:
            walk: through the training's minibatches, by windows.
            s: the state at the span's first iteration.
            hparams: list of tensors λ.
            span: the iterations.
            source: the held-out batches.
            held: which of them.
            watcher: is told of the chunks.

        Raises:
            Diverged: if a loss leaves the finite numbers.
        """
        problem = self.loops.problem

        def read() -> tuple:
            ((chunk, n),) = validation.chunks(source, span=held)
            return (problem.metrics_state(), validation.no_loss()), chunk, n

        if not problem.carries and source.batches.is_one_chunk(held):
            window = self.differentiation.window(walk, s, hparams, span, read)
            if window is not None:
                return window
        walked = self.differentiation.forward(walk, s, hparams, span)
        _, total, slopes = validation.differentiated(
            self.loops,
            walked.state,
            self._setting(hparams),
            source,
            watcher,
            held,
        )
        adjoint, d_hparams = nested.scale(1 / total[1], slopes)
        derivative = self.differentiation.backward(walk, walked, adjoint)
        return Window(
            walked.state,
            walked.logs,
            float(total[0] / total[1]),
            nested.add(d_hparams, derivative.d_hparams),
            derivative.report,
        )

    def backward(
        self,
        trained: Trained,
        slopes: Slopes,
        plan: Plan,
        watcher: Watcher = NOBODY,
    ) -> tuple[list[tf.Tensor], dict[str, float]]:
        """Walks backward; returns dF/dλ as a list, and diagnostics."""
        problem, walked = self.problem, trained.walked
        derivative = self.differentiation.backward(
            self.walk(plan, watcher), walked, slopes.adjoint
        )
        d_hparams = nested.add(slopes.d_hparams, derivative.d_hparams)
        if derivative.is_whole:
            d_params = derivative.adjoint[: len(problem.params)]
            d_start = problem.start_backward(
                trained.s_0, walked.hparams, d_params, goes_on=self.goes_on
            )
            d_hparams = nested.add(d_hparams, d_start)
        return d_hparams, derivative.report | {
            "hypergradient_norm": float(nested.norm(d_hparams)),
            "copies": self._copies(plan.T, trained.s_0),
        }

    def validate(
        self,
        state: State,
        hparams: list[tf.Tensor],
        source: Source,
        watcher: Watcher = NOBODY,
        parts: list[float] | None = None,
    ) -> dict[str, float]:
        """Returns loss and metrics of a state on validation data."""
        setting = self._setting(hparams)
        metrics, total = validation.validated(
            self.loops, state, setting, source, watcher, parts
        )
        return self._validation_logs(metrics, total)

    # ---- whole trainings

    def epochs(
        self,
        s_0: State,
        hparams: list[tf.Tensor],
        plan: Plan,
        watcher: Watcher,
        first: int = 0,
    ) -> Iterator[tuple[State, dict[str, float]]]:
        """Walks from s_0; yields the state and the metrics of each epoch.

        The other arguments and errors are those of `forward`.

        Args:
            first: int, the first epoch that is asked for, where those before
                were walked earlier.
        """
        steps = plan.training.steps
        begun = self._take_up(watcher)
        if begun and begun["last"] + 1 == (first + 1) * steps:
            yield begun["state"], begun["logs"]
        epochs = range(0, plan.T, steps)
        walk = Walk(
            self.loops,
            plan.training.batches,
            epochs=epochs,
            pauses=range(0, plan.T, watcher.longest(plan.pause)),
            last=plan.T,
            watcher=watcher,
        )
        for part in walk.forward(s_0, hparams, plan.span):
            if (part.last + 1) % steps == 0:
                yield part.after, part.logs

    def hypergradient(self, s_0: State, plan: Plan) -> Hypergradient:
        """Trains from s_0 and returns the hypergradient."""
        begin = time.perf_counter()
        trained = self.forward(s_0, self.hparams(), plan)
        walked = time.perf_counter()
        logs, slopes = self.differentiate(trained, plan.hyper)
        check_finite(logs["loss"], plan)
        validated = time.perf_counter()
        d_hparams, diagnostics = self.backward(trained, slopes, plan)
        self.warn_cut_short("The walk backward", diagnostics)
        end = time.perf_counter()
        diagnostics["seconds_forward"] = walked - begin
        diagnostics["seconds_validation"] = validated - walked
        diagnostics["seconds_backward"] = end - validated
        gradients = self.problem.hyperparameters.named(d_hparams)
        return Hypergradient(logs["loss"], gradients, diagnostics)

    def validation_loss(self, s_0: State, plan: Plan) -> float:
        """Trains from s_0 and returns the validation loss."""
        logs = self.outcome(s_0, self.hparams(), plan, {"": plan.hyper})
        check_finite(logs["loss"], plan)
        return logs["loss"]

    def parts_of(self, source: Source) -> int:
        """Returns of how many parts of a source `outcome` tells the loss."""
        if self.loops.problem.carries:
            return 0
        return len(validation.places_of_parts(source))

    def outcome(
        self,
        s_0: State,
        hparams: list[tf.Tensor],
        plan: Plan,
        sources: Mapping[str, Source],
        parts: dict[str, list[float]] | None = None,
    ) -> dict[str, float]:
        """Trains from s_0 and returns losses and metrics.

        Args:
            s_0: the first state.
            hparams: list of tensors λ.
            plan: data and length.
            sources: dict from a prefix of names to batches to validate on.
            parts: dict that takes the losses of parts of each source; see
                `validation.validated`.

        Raises:
            Diverged: if the training loss leaves the finite numbers.
        """
        start = self.problem.started(s_0, hparams)
        s_T = self.differentiation.last_state(
            self.walk(plan), start, hparams, plan.span
        )
        return {
            prefix + name: value
            for prefix, source in sources.items()
            for name, value in self.validate(
                s_T,
                hparams,
                source,
                parts=None if parts is None else parts.setdefault(prefix, []),
            ).items()
        }

    # ---- inside

    def _take_up(self, watcher: Watcher) -> dict[str, Any]:
        """Returns where a walk forward was broken off; {} where it begins.

        Variables that steps only read have the values that they had there,
        whatever a callback had put into them.
        """
        begun = watcher.begun("forward")
        if begun:
            last = max(begun["settings"])
            constants = begun["settings"][last].constants
            self.problem.assign_constants(constants)
        return begun

    def walk(
        self,
        plan: Plan,
        watcher: Watcher = NOBODY,
        d_start: Callable[[], list[tf.Tensor]] | None = None,
        carried: dict[str, Any] | None = None,
    ) -> Walk:
        """Returns a walk through a plan's minibatches; see `Walk`.

        Args:
            plan: data and length.
            watcher: is told of the chunks.
            d_start: as for `Walk`.
            carried: as for `Walk`; where it is given, epochs are epochs.
        """
        longest = watcher.longest(plan.pause)
        # A step backward takes longer than one forward.
        backward = max(1, longest // 3) if longest < plan.pause else longest
        return Walk(
            self.loops,
            plan.training.batches,
            epochs=(
                plan.last_epoch
                if carried is None
                else range(0, plan.T, plan.training.steps)
            ),
            pauses=range(0, plan.T, longest),
            pauses_backward=range(0, plan.T, backward),
            last=plan.T,
            watcher=watcher,
            d_start=d_start,
            carried=carried,
        )

    def _setting(self, hparams: list[tf.Tensor]) -> Setting:
        return Setting(hparams, self.problem.constants())

    def _copies(self, T: int, state: State) -> float:
        """Returns what is kept for the walk backward, in copies of params."""
        kept = self.differentiation.nbytes(T, state)
        return float(kept / nested.nbytes(state.params))

    def _validation_logs(self, metrics, total) -> dict[str, float]:
        logs = self.problem.logs(metrics)
        return logs | {"loss": float(total[0] / total[1])}

    def warn_cut_short(self, which: str, diagnostics: dict[str, float]) -> bool:
        """Warns if a walk backward took fewer steps than it was to take.

        Args:
            which: str, the walk, in words.
            diagnostics: those of the walk.

        Returns:
            Whether it did.
        """
        used = int(diagnostics["reverse_steps_used"])
        asked = int(diagnostics["reverse_steps"])
        if used == asked:
            return False
        if "residual" in diagnostics:
            reason = (
                "the Hessian at the last weights has directions of negative "
                "curvature, so these are no minimum. The hypergradient is that "
                "of the subspace searched so far. Train for longer, or use "
                "`curvature='gauss_newton'`"
            )
        else:
            limit = self.differentiation.growth_limit
            grew = f", or grew past {limit:g} times its first norm"
            reason = (
                "the adjoint of the weights left the finite numbers"
                f"{grew if np.isfinite(limit) else ''}. The hypergradient is "
                "that of the steps taken: it leaves out what hyperparameters "
                "did earlier in the training. Lower the elementary learning "
                "rate, or use `hypergradient=keras_drmad.ReverseMode()` if "
                "this is another method"
            )
        warnings.warn(
            f"{which} was ended after {used} of {asked} reverse steps: "
            f"{reason}. The diagnostics `adjoint_growth` and "
            "`reverse_steps_used` follow it.",
            RuntimeWarning,
            stacklevel=arguments.users_level(),
        )
        return True


def check_finite(validation_loss: float, plan: Plan) -> None:
    """Checks a validation loss.

    Raises:
        Diverged: if it is inf or nan.
    """
    if not np.isfinite(validation_loss):
        raise Diverged(plan.T, "validation")
