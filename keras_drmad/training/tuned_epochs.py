"""The epochs of a training in which hyperparameters are tuned meanwhile."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.training import moves
from keras_drmad.training.advice import Advice
from keras_drmad.training.epoch_loop import Epochs
from keras_drmad.training.reporter import Reached, Reporter
from keras_drmad.training.windows import TOLD, Windows


class TunedEpochs(Epochs):
    """Windows, each with a step of the hyperparameters after it.

    None goes from one epoch into the next: what is left of an epoch after its
    last window is walked without a step.
    """

    resumes = False

    def __init__(self, model: Any, windows: Windows, advice: Advice):
        """Initializes the epochs.

        Args:
            model: the `DrMADModel` that callbacks look at.
            windows: where the training starts.
            advice: looks at each step of the hyperparameters.
        """
        super().__init__(windows.training, windows.plan, windows.state)
        self._model = model
        self._windows = windows
        self._advice = advice
        tuning, steps = windows.tuning, windows.plan.training.steps
        self.backward = steps // tuning.every * tuning.look_back
        self._started: list[tf.Tensor] = []

    def begin(self, watcher: Reporter, base: Mapping[str, Any], k: int) -> None:
        self._windows.plan = self.plan
        if base:
            self._windows.resume(base["windows"])
            self.state = self._windows.state

    def take(
        self, k: int, watcher: Reporter, back_up: Callable[[], None]
    ) -> Mapping[str, float]:
        windows, tuning = self._windows, self._windows.tuning
        steps = self.plan.training.steps
        last = (k + 1) * steps
        if windows.t == last - steps:  # and not in its middle
            windows.losses = []
        self._started = self.hparams()
        logs: Mapping[str, float] = {}
        while windows.t < last:
            to = min(windows.t + tuning.every, last)
            logs, diagnostics = windows.through(to, watcher)
            self.state = windows.state
            if diagnostics:
                watcher.walked_back += tuning.look_back
                self._model.note(diagnostics)
                self._advice.note(diagnostics)
            if windows.t < last and watcher.course.is_due(tuning.every):
                back_up()
        return logs

    def hparams(self) -> list[tf.Tensor]:
        return self.training.hparams()

    def stop(self, reached: Reached) -> None:
        super().stop(reached)
        self._windows.t, self._windows.state = reached.t, reached.state

    def values(self) -> dict[str, Any]:
        return {"windows": self._windows.values()}

    def report(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Returns means of the hyperparameters, and of the windows' losses."""
        model, losses = self._model, self._windows.losses
        together = self.training.problem.hyperparameters
        hparams = self.hparams()
        model.trained_with = hparams
        own = {}
        for name in TOLD:  # an entry for each window
            row = model.diagnostics.get(name, [])
            own[name] = row[len(row) - len(losses) :]
        model.latest = {
            k: float(np.mean(row)) if row else np.nan for k, row in own.items()
        }
        reported = together.means(hparams)
        if self.plan.validation is not None and losses:
            reported["hyper_loss"] = float(np.mean(losses))
        model.tuning_record.add(
            model.hyperparameters, hparams, {**logs, **reported, **model.latest}
        )
        return reported

    def amend(self, logs: Mapping[str, Any]) -> None:
        self._model.tuning_record.amend(logs)

    def words(self) -> str:
        together = self.training.problem.hyperparameters
        return moves.words(together, self._started, self.hparams())

    def end(self, how: str | BaseException) -> None:
        record = self._model.tuning_record
        if isinstance(how, BaseException):
            record.break_off(how)
        else:
            record.end(how)
