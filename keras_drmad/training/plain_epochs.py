"""The epochs of a training with the hyperparameters as they are."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.epoch_loop import Epochs
from keras_drmad.training.plan import Plan
from keras_drmad.training.reporter import Reporter


class PlainEpochs(Epochs):
    """One walk, of which each epoch is a part."""

    def __init__(self, training: ElementaryTraining, plan: Plan, s_0: State):
        super().__init__(training, plan, s_0)
        self._hparams = training.hparams()

    def begin(self, watcher: Reporter, base: Mapping[str, Any], k: int) -> None:
        self._parts = self.training.epochs(
            self.state, self._hparams, self.plan, watcher, k
        )
        self.state = watcher.begun("forward").get("state", self.state)

    def take(
        self, k: int, watcher: Reporter, back_up: Callable[[], None]
    ) -> Mapping[str, float]:
        self.state, logs = next(self._parts)
        return logs

    def hparams(self) -> list[tf.Tensor]:
        return self._hparams
