"""Maps from unconstrained raw numbers to the values that training uses."""

import abc
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Transform(abc.ABC):
    """A smooth, increasing map from all numbers onto a hyperparameter's range.

    The meta-optimizer moves `raw`; training uses `value(raw)`.

    Attributes:
        lowest: float, the lower end of the range, which no value reaches.
        highest: float, the upper end of the range, which no value reaches.
        unit: float, how far a raw number sensibly moves: 1 for logarithms and
            logits; see `Hyperparameter.unit`.
    """

    lowest: float = -math.inf
    highest: float = math.inf
    unit: float = 1.0

    @abc.abstractmethod
    def value(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns the values of raw numbers.

        Args:
            raw: tensor.
        """

    @abc.abstractmethod
    def raw(self, value: float) -> float:
        """Returns the raw number of a value; ±inf at an end of the range.

        Args:
            value: float, within the range or at one of its ends.
        """

    def unit_of(self, initial: Any, bounds: tuple[float, float]) -> float:
        """Returns the unit for raw numbers whose values are known at first.

        Args:
            initial: number or array, the values at first.
            bounds: `(lowest, highest)` value.
        """
        del initial, bounds
        return self.unit

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Transform":
        """Returns the transform with these constructor arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_drmad")
class Log(Transform):
    """Positive values by their natural logarithm: value = exp(raw)."""

    lowest = 0.0

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        return tf.exp(raw)

    def raw(self, value: float) -> float:
        return -math.inf if value == 0 else math.log(value)


@keras.saving.register_keras_serializable("keras_drmad")
class Identity(Transform):
    """Any number, as it is.

    A plain scale has no unit of its own: a kind with plain numbers says how far
    these sensibly move, for instance by `unit_of`.
    """

    def unit_of(self, initial: Any, bounds: tuple[float, float]) -> float:
        """Returns the standard deviation of the values at first.

        Of equal values their size, and 1 for zeros. At most a tenth of the way
        between two bounds.

        Args:
            initial: number or array, the values at first.
            bounds: `(lowest, highest)` value.
        """
        array = np.asarray(initial, float)
        unit = np.std(array) if np.ptp(array) > 0 else abs(array.flat[0])
        return float(min(unit or 1.0, (bounds[1] - bounds[0]) / 10))

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        return tf.identity(raw)

    def raw(self, value: float) -> float:
        return float(value)


@keras.saving.register_keras_serializable("keras_drmad")
class Sigmoid(Transform):
    """Values between two ends: value = low + (high − low) / (1 + exp(−raw))."""

    def __init__(self, low: float = 0.0, high: float = 1.0):
        """Initializes the transform.

        Args:
            low: float, the lower end.
            high: float, the upper end.

        Raises:
            ValueError: if low and high are not finite numbers, low < high.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                "Invalid value for argument `high`. Expected finite numbers, "
                f"low < high. Received: low={low}, high={high}."
            )
        self.lowest, self.highest = float(low), float(high)

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        return self.lowest + (self.highest - self.lowest) * tf.sigmoid(raw)

    def raw(self, value: float) -> float:
        if value in (self.lowest, self.highest):
            return math.copysign(math.inf, value - self.lowest - 1e-300)
        return math.log((value - self.lowest) / (self.highest - value))

    def get_config(self) -> dict[str, Any]:
        return {"low": self.lowest, "high": self.highest}


BY_NAME = {"log": Log, "identity": Identity, "sigmoid": Sigmoid}


def checked_transform(transform: Any) -> Transform:
    """Returns the argument `transform` as a `Transform`.

    Args:
        transform: what was received: a name, a `Transform`, or its config.

    Raises:
        TypeError: if `transform` is none of these.
    """
    if isinstance(transform, dict):
        transform = keras.saving.deserialize_keras_object(transform)
    if isinstance(transform, str) and transform in BY_NAME:
        return BY_NAME[transform]()
    if not isinstance(transform, Transform):
        raise TypeError(
            "Invalid type for argument `transform`. Expected one of "
            f"{', '.join(map(repr, BY_NAME))} or a `Transform`. "
            f"Received: transform={transform!r}."
        )
    return transform
