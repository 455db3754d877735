"""One training: there, to the validation loss, and back."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.solve import implicit
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walks, start_back
from keras_drmad.differentiation import Trajectory
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.training.inputs import Plan, Source


class Diverged(FloatingPointError):
    """A training that left the finite numbers.

    Attributes:
        step: int, the elementary step at which it did, counted from 1.
        what: str, the loss that did.
    """

    def __init__(self, step: int, what: str, meta_iteration: int | None = None):
        where = f" of meta-iteration {meta_iteration}" if meta_iteration else ""
        super().__init__(
            f"The {what} loss became nan or inf at step {step}{where}. Lower "
            "the learning rate, or clip gradients with the optimizer's "
            "`clipnorm`; if hyperparameters drove it there, give them "
            "`bounds` or a smaller meta-optimizer step."
        )
        self.step = step
        self.what = what


class Hypergradient(NamedTuple):
    """The derivative of the validation loss of a training.

    Attributes:
        validation_loss: float, the loss F(w_T) of which this is the gradient.
        gradients: dict from the name of a hyperparameter to the tensor
            dF/d raw, of the shape of `raw`.
        diagnostics: dict of floats: `hypergradient_norm`, the norm of all
            gradients; `adjoint_growth`, the largest norm of the adjoint of the
            weights on the way back over its first one; `reverse_steps`, those
            asked for; `reverse_steps_used`, fewer where the walk was ended
            because the adjoint grew past its limit; `copies`, what is kept
            for the way back, in copies of the weights; `seconds_there`,
            `seconds_validation` and `seconds_back`. Reversible learning adds
            `buffer_bits` (for each weight and step) and `is_reversed` (1.0 if
            the walk returned to every bit of the start), conjugate gradients
            `residual`.
    """

    validation_loss: float
    gradients: dict[str, tf.Tensor]
    diagnostics: dict[str, float]


class Trained(NamedTuple):
    """A training that has come to its end.

    Attributes:
        s_0: the state that it was to start from, before hyperparameters of
            the start acted on it.
        s_T: the last state.
        memory: what the trajectory remembers.
        logs: dict of the training metrics over the last epoch.
    """

    s_0: State
    s_T: State
    memory: Any
    logs: dict[str, float]


class Slopes(NamedTuple):
    """The derivatives of the validation loss at the end of a training.

    Attributes:
        adjoint: list of tensors ∂F/∂s_T.
        d_hparams: list of tensors ∂F/∂λ, at this s_T.
    """

    adjoint: list[tf.Tensor]
    d_hparams: list[tf.Tensor]


class _Walked(NamedTuple):
    """A chunk of the way there: its first and last step, where it came to."""

    first: int
    last: int
    state: State
    logs: dict[str, float]


OnChunk = Callable[[int, int, dict[str, float]], None]


class ElementaryTraining:
    """Trains, validates and differentiates one problem by one method."""

    def __init__(
        self, problem: ElementaryProblem, walks: Walks, trajectory: Trajectory
    ):
        """Initializes the training.

        Args:
            problem: the pure functions of the model.
            walks: their compiled loops, made for this kind of trajectory.
            trajectory: the way back.
        """
        self.problem = problem
        self.walks = walks
        self.trajectory = trajectory

    def there(self, s_0: State, plan: Plan, on_chunk: OnChunk) -> Trained:
        """Walks from s_0 to s_T.

        Args:
            s_0: the first state.
            plan: data and length.
            on_chunk: called with the first and the last step of each chunk and
                the training metrics so far.

        Raises:
            Diverged: if the training loss leaves the finite numbers.
        """
        start = self.trajectory.encode(self.problem.started(s_0))
        memory = self.trajectory.begin(start, plan.T)
        state, logs = start, {}
        for chunk in self._chunks_there(start, plan, plan.last_epoch, memory):
            state, logs = chunk.state, chunk.logs
            on_chunk(chunk.first, chunk.last, logs)
        self.trajectory.end(memory, state)
        return Trained(s_0, self.trajectory.decode(state), memory, logs)

    def epochs_there(
        self, s_0: State, plan: Plan, on_chunk: OnChunk
    ) -> Iterator[tuple[State, dict[str, float]]]:
        """Walks from s_0; yields the state and the metrics of each epoch.

        For a trajectory that walks in plain states. The arguments and errors
        are those of `there`.
        """
        steps = plan.training.steps
        cuts = range(0, plan.T, steps)
        for chunk in self._chunks_there(s_0, plan, cuts, None):
            on_chunk(chunk.first % steps, chunk.last % steps, chunk.logs)
            if (chunk.last + 1) % steps == 0:
                yield chunk.state, chunk.logs

    def _chunks_there(self, start, plan, cuts, memory) -> Iterator["_Walked"]:
        """Walks chunk by chunk; the metrics start anew at each cut."""
        hparams = self.problem.hparams()
        fresh = self.problem.metrics_state()
        state, metrics = start, fresh
        revisited: Any = ()
        notes_from = plan.T
        if memory is not None:
            revisited = self.trajectory.iterations(plan.T)
            notes_from = self.trajectory.notes_from(plan.T)
        for iterations, chunk in plan.training.batches.there(
            plan.T, self._cuts(plan, cuts), revisited, self._cuts_back(plan)
        ):
            first, n = int(iterations[0]), len(iterations)
            if first in cuts:
                metrics = fresh
            walk, notes = self.walks.there, []
            if first >= notes_from:
                walk = self.walks.there_noting
                notes = [self.trajectory.notes(memory, iterations, state)]
            after, metrics, lost, taken = walk(
                state, hparams, metrics, chunk, tf.constant(n), *notes
            )
            if int(lost) < n:
                raise Diverged(first + int(lost) + 1, "training")
            if memory is not None:
                self.trajectory.remember(memory, iterations, state, taken)
            state = after
            yield _Walked(
                first, first + n - 1, state, self.problem.logs(metrics)
            )

    def _cuts(self, plan: Plan, epochs: Sequence[int]) -> list[int]:
        """Returns where chunks of the way there begin, at the latest."""
        cuts = self.trajectory.cuts(plan.T)
        # What keeps whole chunks would keep more of them for each pause.
        pauses = () if self.trajectory.keeps_chunks else plan.pauses
        return sorted({*epochs, *cuts, *pauses})

    def _cuts_back(self, plan: Plan) -> list[int]:
        """Returns where chunks of the way back begin, at the latest."""
        if self.trajectory.keeps_chunks:
            return self._cuts(plan, plan.last_epoch)
        return []

    def validate(self, state: State, source: Source) -> dict[str, float]:
        """Returns loss and metrics of a state on validation data."""
        metrics, total = self.problem.metrics_state(), _no_loss()
        hparams = self.problem.hparams()
        for chunk, n in _chunks(source):
            metrics, total = self.walks.validate(
                state, hparams, metrics, total, chunk, n
            )
        return self._validation_logs(metrics, total)

    def differentiate(
        self, state: State, source: Source
    ) -> tuple[dict[str, float], Slopes]:
        """Returns loss and metrics, and the slopes of the loss."""
        metrics, total = self.problem.metrics_state(), _no_loss()
        hparams = self.problem.hparams()
        slopes = nested.zeros_like((nested.float_leaves(state), hparams))
        for chunk, n in _chunks(source):
            metrics, total, slopes = self.walks.differentiate(
                state, hparams, metrics, total, slopes, chunk, n
            )
        logs = self._validation_logs(metrics, total)
        return logs, Slopes(*nested.scale(1 / total[1], slopes))

    def back(
        self, trained: Trained, slopes: Slopes, plan: Plan
    ) -> tuple[dict[str, tf.Tensor], dict[str, float]]:
        """Walks back; returns the gradients by name and diagnostics."""
        if self.trajectory.conjugate_gradients:
            d_hparams, diagnostics = self._solve(trained, slopes, plan)
        else:
            d_hparams, diagnostics = self._walk_back(trained, slopes, plan)
        diagnostics |= {
            "hypergradient_norm": float(nested.norm(d_hparams)),
            "copies": self._copies(plan.T),
            **self.trajectory.report(trained.memory),
        }
        names = [h.name for h in self.problem.hyperparameters]
        return dict(zip(names, d_hparams, strict=True)), diagnostics

    def _copies(self, T: int) -> float:
        """Returns what the way back keeps, in copies of the parameters."""
        state = self.problem.state()
        kept = self.trajectory.nbytes(T, state)
        return float(kept / nested.nbytes(state.params))

    def _walk_back(self, trained, slopes, plan):
        revisited = self.trajectory.iterations(plan.T)
        hparams = self.problem.hparams()
        params = len(self.problem.params)
        way, first_norm = start_back(*slopes, params)
        limit = tf.constant(self.trajectory.growth_limit, first_norm.dtype)
        for iterations, chunk in plan.training.batches.back(
            self._cuts_back(plan), revisited
        ):
            n = tf.constant(len(iterations))
            known = self.trajectory.known(
                trained.memory,
                iterations,
                self._undo(chunk, iterations, trained.memory),
            )
            way = self.walks.back(
                way, hparams, known, chunk, n, first_norm, limit
            )
            if not bool(way.goes_on):
                break
        d_hparams = way.d_hparams
        if bool(way.goes_on):  # the adjoint is that of the first state
            d_hparams = nested.add(
                d_hparams,
                self.problem.start_back(trained.s_0, way.adjoint[:params]),
            )
        return d_hparams, {
            "adjoint_growth": float(way.growth),
            "reverse_steps": float(len(revisited)),
            "reverse_steps_used": float(way.steps),
        }

    def _undo(self, chunk, iterations: np.ndarray, memory: Any) -> Callable:
        """Returns the walk over a chunk's minibatches, the last one first."""

        def undo(state):
            state, _, _, notes = self.walks.there_noting(
                state,
                self.problem.hparams(),
                self.problem.metrics_state(),
                chunk.backwards(len(iterations)),
                tf.constant(len(iterations)),
                self.trajectory.notes(memory, iterations, state),
            )
            return state, notes

        return undo

    def _solve(self, trained, slopes, plan):
        revisited = self.trajectory.iterations(plan.T)
        chunks = [
            (chunk, tf.constant(len(iterations)))
            for iterations, chunk in plan.training.batches.back((), revisited)
        ]
        d_hparams, solved = implicit(
            self.walks,
            trained.s_T,
            self.problem.hparams(),
            chunks,
            slopes.adjoint[: len(self.problem.params)],
            self.trajectory.conjugate_gradients,
        )
        if not np.isfinite(nested.norm(d_hparams)):
            d_hparams = nested.zeros_like(d_hparams)
            solved = solved._replace(iterations=0, residual=1.0)
        d_hparams = nested.add(d_hparams, slopes.d_hparams)
        asked = self.trajectory.conjugate_gradients
        return d_hparams, {
            "adjoint_growth": 1.0,
            "reverse_steps": float(
                solved.iterations if solved.is_solved else asked
            ),
            "reverse_steps_used": float(solved.iterations),
            "residual": solved.residual,
        }

    def hypergradient(self, s_0: State, plan: Plan) -> Hypergradient:
        """Trains from s_0 and returns the hypergradient."""
        begin = time.perf_counter()
        trained = self.there(s_0, plan, lambda *_: None)
        there = time.perf_counter()
        logs, slopes = self.differentiate(trained.s_T, plan.hyper)
        check_finite(logs["loss"], plan)
        validated = time.perf_counter()
        gradients, diagnostics = self.back(trained, slopes, plan)
        warn_cut_short("The walk back", diagnostics, self.trajectory)
        end = time.perf_counter()
        diagnostics["seconds_there"] = there - begin
        diagnostics["seconds_validation"] = validated - there
        diagnostics["seconds_back"] = end - validated
        return Hypergradient(logs["loss"], gradients, diagnostics)

    def validation_loss(self, s_0: State, plan: Plan) -> float:
        """Trains from s_0 and returns the validation loss."""
        s_0 = self.problem.started(s_0)
        state = start = self.trajectory.encode(s_0)
        for chunk in self._chunks_there(start, plan, plan.last_epoch, None):
            state = chunk.state
        s_T = self.trajectory.decode(state)
        loss = self.validate(s_T, plan.hyper)["loss"]
        check_finite(loss, plan)
        return loss

    def _validation_logs(self, metrics, total) -> dict[str, float]:
        logs = self.problem.logs(metrics)
        return logs | {"loss": float(total[0] / total[1])}


def _no_loss() -> list[tf.Tensor]:
    return [tf.zeros([], keras.config.floatx()) for _ in range(2)]


def _chunks(source: Source) -> Iterator[tuple[Any, tf.Tensor]]:
    for iterations, chunk in source.batches.there(source.steps):
        yield chunk, tf.constant(len(iterations))


def check_finite(validation_loss: float, plan: Plan) -> None:
    """Checks a validation loss.

    Raises:
        Diverged: if it is inf or nan.
    """
    if not np.isfinite(validation_loss):
        raise Diverged(plan.T, "validation")


def warn_cut_short(
    which: str, diagnostics: dict[str, float], trajectory: Trajectory
) -> bool:
    """Warns if a walk back took fewer steps than asked for; returns whether."""
    used = int(diagnostics["reverse_steps_used"])
    asked = int(diagnostics["reverse_steps"])
    if used == asked:
        return False
    if trajectory.conjugate_gradients:
        reason = (
            "the Hessian at the last weights has directions of negative "
            "curvature, so these are no minimum. The hypergradient is that of "
            "the subspace searched so far. Train for longer, or use "
            "`curvature='gauss_newton'`"
        )
    else:
        limit = trajectory.growth_limit
        grew = f", or grew past {limit:g} times its first norm"
        reason = (
            "the adjoint of the weights left the finite numbers"
            f"{grew if np.isfinite(limit) else ''}. The hypergradient is that "
            "of the steps taken: it leaves out what hyperparameters did "
            "earlier in the training. Lower the elementary learning rate, or "
            "use `hypergradient=keras_drmad.ReverseMode()` if this is another "
            "method"
        )
    warnings.warn(
        f"{which} was ended after {used} of {asked} reverse steps: {reason}. "
        "The diagnostics `adjoint_growth` and `reverse_steps_used` follow it.",
        RuntimeWarning,
        stacklevel=3,
    )
    return True
