"""Meta-iterations: train, differentiate, step the hyperparameters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.walked import Watcher
from keras_drmad.training.elementary_training import (
    DIAGNOSTICS,
    ElementaryTraining,
    Trained,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.kept import NOTHING, Left, Resumed, Snapshot, Tail
from keras_drmad.training.plan import Plan
from keras_drmad.training.tuning import Tuning

RETREATS = 20  # in one meta-iteration


class MetaTraining:
    """Tunes hyperparameters over meta-iterations.

    A meta-iteration trains with the hyperparameters as they are, reports, and
    ends with the step that its hypergradient asks for. Callbacks are told
    before the step: so whoever looks then, a checkpoint for instance, finds
    weights together with the hyperparameters they were trained with. Where a
    meta-iteration is restored, the next `fit` begins with its step.

    Attributes:
        draws: `Draws`, the trainings.
        best: `Snapshot` of the lowest validation loss, `None` before the first.
        pending: list of tensors, the hypergradient that is still to be
            followed, or `None`.
        tail: `Tail`, the raw values of the last half of the steps.
        has_diverged: bool, whether a training diverged, the last one then.
        retreats: int, how often rates were halved in this meta-iteration, for
            its training diverged.
    """

    def __init__(
        self,
        draws: Any,
        meta_optimizer: keras.Optimizer,
        resumed: Resumed,
    ):
        """Initializes the meta-training.

        Args:
            draws: `Draws`, the trainings.
            meta_optimizer: a Keras optimizer that moves the raw values.
            resumed: where to go on, empty lists for a new beginning.
        """
        self.draws = draws
        self.training: ElementaryTraining = draws.training
        self.plan: Plan = draws.plan
        self.starts: InitialState = draws.starts
        self.tuning: Tuning = draws.tuning
        self.meta_optimizer = meta_optimizer
        self.pending: list[tf.Tensor] | None = None
        self.best: Snapshot | None = None
        self._has_warned = False
        self.has_diverged = False
        problem = self.training.problem
        start = [*problem.hyperparameters.raws, *meta_optimizer.variables]
        self._start = [(v, tf.convert_to_tensor(v.value)) for v in start]
        self.retreats = 0
        if resumed.retreat:
            self.retreats = int(resumed.retreat[0])
            raws = map(tf.constant, resumed.retreat[1:])
            of_raws = zip(problem.hyperparameters.raws, raws, strict=True)
            self._start[: len(resumed.retreat) - 1] = of_raws
        self.tail = Tail(resumed.tail)
        if resumed.pending:
            self.pending = list(map(tf.constant, resumed.pending))
        if resumed.best:
            self.best = Snapshot.of(
                resumed.best, problem.state(), problem.hparams()
            )

    def values(self) -> dict[str, list[np.ndarray]]:
        """Returns `pending`, `best`, `tail` and `retreat` of `Resumed`."""
        pending = self.pending or []
        retreat: list[Any] = []
        if self.retreats:
            count = len(self.training.problem.hyperparameters.raws)
            raws = [np.asarray(value) for _, value in self._start[:count]]
            retreat = [np.array(self.retreats), *raws]
        return {
            "pending": [np.asarray(x) for x in pending],
            "best": [] if self.best is None else self.best.values(),
            "tail": self.tail.values(),
            "retreat": retreat,
        }

    def follow(self) -> None:
        """Follows the pending hypergradient, within the bounds."""
        if self.pending is None:
            return
        together = self.training.problem.hyperparameters
        pending, self.pending = self.pending, None  # an interrupt: not twice
        self.meta_optimizer.apply(pending, together.raws)
        together.clip()
        self.tail.add([raw.numpy() for raw in together.raws])

    def iterate(
        self, meta_iteration: int, watchers: Sequence[Watcher]
    ) -> tuple[Trained, dict[str, Any], dict[str, Any]]:
        """Runs one meta-iteration, up to the step of the hyperparameters.

        Args:
            meta_iteration: int, counted from 0.
            watchers: are told of the chunks, of one training each.

        Returns:
            One of the trainings, the best where weights of the best are kept
            and else the last; and the means of the logs and of the diagnostics.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        draws, workers = self.tuning.draws, self.training.workers
        each_trained: dict[int, Trained] = {}
        gradients: list[list[tf.Tensor]] = []
        keeps_best, lowest = self.tuning.keep == "best", np.inf

        def logs_of(draw: int) -> dict[str, Any]:
            nonlocal lowest
            number = meta_iteration * draws + draw
            trained, logs, gradient = self.draws.draw(number, watchers[draw])
            if not keeps_best or logs["val_loss"] < lowest:
                lowest = logs["val_loss"]
                each_trained.clear()  # only one is of use
                each_trained[draw] = trained
            gradients.append(gradient)
            return logs

        each_logs = workers.each(draws, logs_of)
        losses = [one["val_loss"] for one in each_logs]
        kept = int(np.argmin(losses)) if keeps_best else draws - 1
        trained = workers.of_draw(kept, each_trained)
        logs = {k: _mean([one[k] for one in each_logs]) for k in each_logs[0]}
        sums = map(tf.add_n, zip(*gradients, strict=True))
        self.pending = [x / draws for x in workers.sum_of_draws([*sums])]
        norm = float(nested.norm(self.pending))
        if "past_edge" in logs:
            past = round(draws * logs["past_edge"])
            logs["past_edge"] = float(past + self.retreats)
        self.retreats = 0
        diagnostics = {k: logs.pop(k) for k in DIAGNOSTICS if k in logs}
        diagnostics |= {"hypergradient_norm": norm}
        self._warn_if_cut_short(meta_iteration, diagnostics)
        together = self.training.problem.hyperparameters
        logs |= together.means(trained.hparams)
        diagnostics |= together.deviations(trained.hparams)
        if self.best is None or logs["val_loss"] < self.best.loss:
            self.best = Snapshot(
                meta_iteration,
                logs["val_loss"],
                trained.s_T,
                trained.hparams,
                self.pending,
            )
        return trained, logs, diagnostics

    @property
    def best_number(self) -> int:
        """The number of the best meta-iteration, counted from 0."""
        return -1 if self.best is None else self.best.meta_iteration

    @property
    def is_mean(self) -> bool:
        """Whether the mean of the last half of the steps is what is kept."""
        return self.tuning.keep == "mean" and not self.tail.is_empty

    def retreat(self) -> bool:
        """Halves learning rates, for a training diverged.

        Returns:
            Whether any rate is lower now, and the training to begin again.
        """
        if self.retreats == RETREATS or not self.draws.rates.halve():
            return False
        self.retreats += 1
        if not self.tail.is_empty:  # its last values led here
            self.tail.drop()
            raws = self.training.problem.hyperparameters.raws
            self.tail.add([raw.numpy() for raw in raws])
        return True

    def give_up(self) -> None:
        """Takes back the last step, which led to a training that diverges."""
        self.has_diverged = True
        self.tail.drop()
        if self.best is not None:
            self.best = self.best._replace(pending=None)

    def settle(self) -> None:
        """Gives the model what is to be kept, before any last training."""
        keep = self.tuning.keep
        if keep != "best" and not self.has_diverged:
            self.follow()
        if self.is_mean:
            together = self.training.problem.hyperparameters
            together.assign(self.tail.mean())
        elif keep != "last" or self.has_diverged:
            self.restore_best()

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

    def restore_best_weights(self) -> None:
        """Gives the model the best weights so far, without hyperparameters."""
        if self.best is not None:
            best = self.best
            self.training.problem.assign(best.s_T, best.hparams)

    def left(self) -> Left:
        """Returns what the next `fit` follows first."""
        if self.pending is None:
            return NOTHING
        pending, hparams = (
            list(map(np.asarray, each))
            for each in (self.pending, self.training.hparams())
        )
        return Left(
            pending, hparams, int(self.meta_optimizer.iterations.numpy())
        )

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
    """

    meta: MetaTraining

    def values(self) -> dict[str, list]:
        """Returns what `Resumed` takes, lists of arrays by name."""
        starts = self.meta.starts
        return {
            "start": starts.values(),
            "origin": starts.origin.values(),
            **self.meta.values(),
        }


def _mean(values: Sequence[Any]) -> Any:
    """Returns the mean of numbers, or of arrays; the only one as it is."""
    if len(values) == 1:
        return values[0]
    mean = np.mean(np.stack(values), axis=0)
    return mean if mean.ndim else float(mean)
