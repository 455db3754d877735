"""Maps between unconstrained raw values and the values training uses."""

import abc
import math

import tensorflow as tf


class Transform(abc.ABC):
    """A smooth, increasing map from all numbers onto a hyperparameter's range.

    The meta-optimizer moves `raw`; training uses `value(raw)`.
    """

    @abc.abstractmethod
    def value(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns the value for a raw tensor."""

    @abc.abstractmethod
    def raw(self, value: float) -> float:
        """Returns the raw number for a value; ±inf at the ends of the range."""


class Log(Transform):
    """Positive values by their natural logarithm: value = exp(raw)."""

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        return tf.exp(raw)

    def raw(self, value: float) -> float:
        return -math.inf if value == 0 else math.log(value)
