"""What hyperparameters of the first weights share."""

import abc
from typing import Any

import tensorflow as tf

from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.grouped import Grouped
from keras_drmad.hyperparameters.place import Place


class Start(Grouped):
    """Hyperparameters of the first weights of each training.

    A training with `meta_iterations=0` starts from the model's weights, which
    these hyperparameters do not change.
    """

    # A walk that ends before the start sees nothing: hence two reverse steps.
    place = Place("start", ("start",), reverse_steps=2)

    @staticmethod
    @abc.abstractmethod
    def first(entries: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        """Returns first weights, of the shape of w.

        Args:
            entries: the values for these weights, which broadcast with w.
            w: the weights with which training would start.
        """

    def prepare(self, training: base.Training) -> None:
        if training.initial_weights == "continue":
            raise ValueError(
                "Invalid value for argument `initial_weights`. The "
                f"hyperparameter '{self.name}' says where trainings start. "
                "Received: 'continue', which starts each training where the "
                "last training ended. Use 'same' or 'resample'."
            )

    def start(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        values = self.transform.value(raw)
        started = dict(params)
        for member in self._groups.members:
            key = id(member.variable)
            if key in params:  # a weight that was not frozen meanwhile
                w = params[key]
                entries = tf.cast(member.entries(values), w.dtype)
                started[key] = self.first(entries, w)
        return started
