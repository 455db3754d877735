"""Meta-iterations: train, differentiate, step the hyperparameters."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    OnChunk,
    check_finite,
    warn_cut_short,
)
from keras_drmad.training.inputs import Plan

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
    """

    meta_iteration: int
    loss: float
    s_T: State
    hparams: list[tf.Tensor]


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


class MetaTraining:
    """Tunes hyperparameters over meta-iterations.

    A meta-iteration trains with the hyperparameters as they are, reports, and
    leaves a hypergradient behind; the next one begins with the step that it
    asks for. So whoever looks between two of them, a checkpoint for instance,
    finds weights together with the hyperparameters they were trained with.

    Attributes:
        best: `Snapshot` of the lowest validation loss, `None` before the first.
        pending: dict from names to the hypergradient that is still to be
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
        self.pending: dict[str, tf.Tensor] | None = None
        self.best: Snapshot | None = None
        self._has_warned = False
        problem = training.problem
        if resumed.pending:
            names = [h.name for h in problem.hyperparameters]
            gradients = map(tf.constant, resumed.pending)
            self.pending = dict(zip(names, gradients, strict=True))
        if resumed.best:
            number, loss, *leaves = resumed.best
            s_T, hparams = tf.nest.pack_sequence_as(
                (problem.state(), problem.hparams()),
                [tf.constant(leaf) for leaf in leaves],
            )
            self.best = Snapshot(int(number), float(loss), s_T, hparams)

    def values(self) -> dict[str, list[np.ndarray]]:
        """Returns what `Resumed` takes of it, as lists of arrays by name."""
        pending = list((self.pending or {}).values())
        best = [] if self.best is None else tf.nest.flatten(self.best)
        return {
            "pending": [np.asarray(x) for x in pending],
            "best": [np.asarray(x) for x in best],
        }

    def step_hyperparameters(self) -> None:
        """Follows the pending hypergradient, within the bounds."""
        if self.pending is None:
            return
        kinds = self.training.problem.hyperparameters
        self.meta_optimizer.apply(
            [self.pending[h.name] for h in kinds], [h.raw for h in kinds]
        )
        for h in kinds:
            h.clip()
        self.pending = None

    def iterate(
        self,
        meta_iteration: int,
        s_0: State,
        plan: Plan,
        on_chunk: OnChunk,
    ) -> tuple[State, dict[str, float]]:
        """Runs one meta-iteration.

        Args:
            meta_iteration: int, counted from 0.
            s_0: where its training starts.
            plan: its data and length.
            on_chunk: see `ElementaryTraining.there`.

        Returns:
            The state at its end, and the logs.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        trained = self.training.there(s_0, plan, on_chunk)
        reported, slopes = self.training.differentiate(trained.s_T, plan.hyper)
        check_finite(reported["loss"], plan)
        logs = dict(trained.logs)
        if plan.validation is not None:
            logs["hyper_loss"] = reported["loss"]
            reported = self.training.validate(trained.s_T, plan.validation)
        logs |= {f"val_{name}": value for name, value in reported.items()}
        check_finite(logs["val_loss"], plan)
        self.pending, diagnostics = self.training.back(trained, slopes, plan)
        self._warn_if_cut_short(meta_iteration, diagnostics)
        logs |= {k: diagnostics[k] for k in _LOGGED}
        logs |= self._statistics()
        if self.best is None or logs["val_loss"] < self.best.loss:
            self.best = Snapshot(
                meta_iteration,
                logs["val_loss"],
                trained.s_T,
                self.training.problem.hparams(),
            )
        return trained.s_T, logs

    def restore_best(self) -> None:
        """Gives the model the best weights and hyperparameters so far."""
        if self.best is None:
            return
        problem = self.training.problem
        for h, raw in zip(
            problem.hyperparameters, self.best.hparams, strict=True
        ):
            h.raw.assign(raw)
        problem.assign(self.best.s_T)

    def _statistics(self) -> dict[str, float]:
        logs = {}
        for h in self.training.problem.hyperparameters:
            values = h.value().numpy()
            logs[f"{h.name}/mean"] = float(values.mean())
            logs[f"{h.name}/std"] = float(values.std())
        return logs

    def _warn_if_cut_short(self, meta_iteration: int, diagnostics) -> None:
        if not self._has_warned:
            self._has_warned = warn_cut_short(
                f"The walk back of meta-iteration {meta_iteration + 1}",
                diagnostics,
                self.training.trajectory,
            )
