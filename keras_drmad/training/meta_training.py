"""Meta-iterations: train, differentiate, step the hyperparameters."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.core.walked import Watcher
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    Trained,
    check_finite,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.plan import Plan

_LOGGED = (
    "hypergradient_norm",
    "adjoint_growth",
    "reverse_steps_used",
    "copies",
)


class Snapshot(NamedTuple):
    """A completed meta-iteration.

    Attributes:
        meta_iteration: int, counted from 0.
        loss: float, its validation loss.
        s_T: the trained state.
        hparams: the raw hyperparameters it was trained with.
        pending: list of tensors, its hypergradient; `None` if that leads to
            a training that diverges.
    """

    meta_iteration: int
    loss: float
    s_T: State
    hparams: list[tf.Tensor]
    pending: list[tf.Tensor] | None


class Resumed(NamedTuple):
    """What `fit` needs to go on where a saved one was interrupted.

    Attributes:
        start: list of arrays, see `InitialState.values`.
        pending: list of arrays, see `MetaTraining.values`.
        best: list of arrays, see `MetaTraining.values`.
    """

    start: list
    pending: list
    best: list


NEW = Resumed([], [], [])  # a `fit` that resumes nothing


class Left(NamedTuple):
    """What a `fit` that ended with its best meta-iteration left to the next.

    Attributes:
        pending: list of arrays, the hypergradient of that meta-iteration.
        hparams: list of arrays, the raw values at which that is.
        steps: int, those that the meta-optimizer had taken; `None` if unknown.
    """

    pending: list
    hparams: list
    steps: int | None = None

    def at(self, hparams: list, meta_optimizer: keras.Optimizer) -> list:
        """Returns `pending`, or nothing if numbers were assigned since.

        Args:
            hparams: list of tensors λ, as they are now.
            meta_optimizer: as it is now.
        """
        if self.steps not in (None, int(meta_optimizer.iterations)):
            return []
        pairs = zip(self.hparams, map(np.asarray, hparams), strict=False)
        is_same = all(np.array_equal(a, b) for a, b in pairs)
        return self.pending if is_same else []


NOTHING = Left([], [])


class MetaTraining:
    """Tunes hyperparameters over meta-iterations.

    A meta-iteration trains with the hyperparameters as they are, reports, and
    ends with the step that its hypergradient asks for. Callbacks are told
    before the step: so whoever looks then, a checkpoint for instance, finds
    weights together with the hyperparameters they were trained with. Where a
    meta-iteration is restored, the next `fit` begins with its step.

    Attributes:
        best: `Snapshot` of the lowest validation loss, `None` before the first.
        pending: list of tensors, the hypergradient that is still to be
            followed, or `None`.
    """

    def __init__(
        self,
        training: ElementaryTraining,
        plan: Plan,
        meta_optimizer: keras.Optimizer,
        resumed: Resumed,
    ):
        """Initializes the meta-training.

        Args:
            training: the elementary training.
            plan: its data and length.
            meta_optimizer: a Keras optimizer that moves the raw values.
            resumed: where to go on, empty lists for a new beginning.
        """
        self.training = training
        self.plan = plan
        self.meta_optimizer = meta_optimizer
        self.pending: list[tf.Tensor] | None = None
        self.best: Snapshot | None = None
        self._has_warned = False
        problem = training.problem
        moved = [*problem.hyperparameters.raws, *meta_optimizer.variables]
        self._start = [(v, tf.convert_to_tensor(v.value)) for v in moved]
        if resumed.pending:
            self.pending = list(map(tf.constant, resumed.pending))
        if resumed.best:
            number, loss, *leaves = resumed.best
            rest = tf.nest.pack_sequence_as(
                (problem.state(), problem.hparams(), problem.hparams()),
                [tf.constant(leaf) for leaf in leaves],
            )
            self.best = Snapshot(int(number), float(loss), *rest)

    def values(self) -> dict[str, list[np.ndarray]]:
        """Returns `pending` and `best` of `Resumed`, as lists of arrays."""
        pending = self.pending or []
        best = [] if self.best is None else tf.nest.flatten(self.best)
        return {
            "pending": [np.asarray(x) for x in pending],
            "best": [np.asarray(x) for x in best],
        }

    def step_hyperparameters(self) -> None:
        """Follows the pending hypergradient, within the bounds."""
        if self.pending is None:
            return
        together = self.training.problem.hyperparameters
        self.meta_optimizer.apply(self.pending, together.raws)
        together.clip()
        self.pending = None

    def iterate(
        self,
        meta_iteration: int,
        s_0: State,
        plan: Plan,
        watcher: Watcher,
    ) -> tuple[Trained, dict[str, float]]:
        """Runs one meta-iteration.

        Args:
            meta_iteration: int, counted from 0.
            s_0: where its training starts.
            plan: its data and length.
            watcher: is told of the chunks of the training.

        Returns:
            The training, and the logs.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        training = self.training
        trained = training.forward(s_0, training.hparams(), plan, watcher)
        reported, slopes = training.differentiate(trained, plan.hyper)
        check_finite(reported["loss"], plan)
        logs = dict(trained.walked.logs)
        if plan.validation is not None:
            logs["hyper_loss"] = reported["loss"]
            reported = training.validate(
                trained.s_T, trained.hparams, plan.validation
            )
        logs |= {f"val_{name}": value for name, value in reported.items()}
        check_finite(logs["val_loss"], plan)
        self.pending, diagnostics = training.backward(trained, slopes, plan)
        trained = trained.forgotten()
        self._warn_if_cut_short(meta_iteration, diagnostics)
        logs |= {k: diagnostics[k] for k in _LOGGED}
        together = training.problem.hyperparameters
        logs |= together.statistics(trained.hparams)
        if self.best is None or logs["val_loss"] < self.best.loss:
            self.best = Snapshot(
                meta_iteration,
                logs["val_loss"],
                trained.s_T,
                trained.hparams,
                self.pending,
            )
        return trained, logs

    def restore_best(self) -> None:
        """Gives the model the best weights and hyperparameters so far.

        Without a completed meta-iteration, hyperparameters and meta-optimizer
        are those of the start.
        """
        problem = self.training.problem
        if self.best is None:
            for variable, value in self._start:
                variable.assign(value)
            return
        problem.hyperparameters.assign(self.best.hparams)
        problem.assign(self.best.s_T, self.best.hparams)
        self.pending = self.best.pending

    def left(self) -> Left:
        """Returns what the next `fit` follows first."""
        if self.pending is None:
            return NOTHING
        pending, hparams = (
            list(map(np.asarray, each))
            for each in (self.pending, self.training.hparams())
        )
        return Left(pending, hparams, int(self.meta_optimizer.iterations))

    def _warn_if_cut_short(self, meta_iteration: int, diagnostics) -> None:
        if not self._has_warned:
            self._has_warned = self.training.warn_cut_short(
                f"The walk backward of meta-iteration {meta_iteration + 1}",
                diagnostics,
            )


class Progress(NamedTuple):
    """A `fit` that is running.

    Attributes:
        meta: the meta-training.
        starts: where each training starts.
    """

    meta: MetaTraining
    starts: InitialState

    def values(self) -> dict[str, list]:
        """Returns what `Resumed` takes, lists of arrays by name."""
        return {"start": self.starts.values(), **self.meta.values()}
