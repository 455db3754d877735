"""The contract of a hyperparameter kind."""

import abc
import math
import numbers
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters.transforms import Transform


class Hyperparameter(abc.ABC):
    """Hyperparameters of one kind, learned by gradient.

    A kind overrides the hooks that say where it acts; the others change
    nothing. Hooks are pure: they take the raw tensor as an argument.

    Attributes:
        name: str, unique among the hyperparameters of a model.
        raw: `keras.Variable`, unconstrained, what the meta-optimizer moves;
            `None` until a model is compiled with this object.
        model: the `keras.Model` it was last compiled into, or `None`.
        acts_through_gradient: bool, whether training feels it only through the
            gradient of the loss. An optimizer that follows the gradient's sign
            cannot pass such a derivative on.
    """

    transform: Transform
    acts_through_gradient = True

    def __init__(
        self,
        name: str,
        bounds: tuple[float | None, float | None] | None,
    ):
        """Initializes what all kinds have.

        Args:
            name: str.
            bounds: `(lowest, highest)` value, either may be `None`.

        Raises:
            ValueError: if the bounds are not an increasing pair within the
                range of the kind.
        """
        self.name = name
        self.bounds = _checked_bounds(bounds)
        self.raw: Any = None
        self.model: Any = None

    @abc.abstractmethod
    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Creates `raw` for a built model and its optimizer.

        Raises:
            ValueError: if there is nothing in the model to act on.
        """

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> Any:
        """Returns what is added to the training loss, a scalar.

        Args:
            raw: tensor of the shape of `self.raw`.
            params: dict from the id of a `keras.Variable` to its tensor.
        """
        del raw, params
        return 0.0

    def learning_rate(
        self, raw: tf.Tensor, variable: keras.Variable, rate: tf.Tensor
    ) -> tf.Tensor:
        """Returns the learning rate of one variable, given the one so far."""
        del raw, variable
        return rate

    def value(self) -> tf.Tensor:
        """Returns the values that training uses, of the shape of `raw`."""
        return self.transform.value(self._bound().value)

    def assign(self, value: Any) -> None:
        """Sets the values, a number or an array of the shape of `raw`.

        Raises:
            ValueError: if they leave the bounds or the range of the kind, or
                are of another shape.
        """
        variable = self._bound()
        array = np.asarray(value, float)
        lowest, highest = self.bounds
        inside = (array >= lowest) & (array <= highest)
        to_raw = np.vectorize(self.transform.raw, otypes=[float])
        raw = to_raw(np.where(inside, array, np.nan))
        fits = array.shape in ((), tuple(variable.shape))
        if not fits or not np.isfinite(raw).all():
            raise ValueError(
                "Invalid value for argument `value`. Expected a number, or an "
                f"array of shape {tuple(variable.shape)}, above 0 and in "
                f"[{lowest}, {highest}] for the hyperparameter "
                f"'{self.name}'. Received: value={value}."
            )
        variable.assign(np.broadcast_to(raw, variable.shape))

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values by the layers they belong to.

        Args:
            values: `(..., *raw.shape)`, for instance one row for each
                meta-iteration.

        Returns:
            Dict from a layer's path to its values `(..., count)`.
        """
        return {self.name: values.reshape(*values.shape[:1], -1)}

    def clip(self) -> None:
        """Moves raw values that left the bounds back to them."""
        lowest, highest = (self.transform.raw(x) for x in self.bounds)
        if math.isfinite(lowest) or math.isfinite(highest):
            raw = self._bound()
            raw.assign(tf.clip_by_value(raw.value, lowest, highest))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        bounds = [x if 0 < x < math.inf else None for x in self.bounds]
        return {"name": self.name, "bounds": bounds}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Hyperparameter":
        """Returns the kind with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"

    def _create(self, shape: tuple[int, ...], initial: float) -> None:
        """Creates `raw`, all of it at the value `initial`."""
        if self.raw is not None and tuple(self.raw.shape) == shape:
            return  # compiled again: what was learned stays
        self.raw = keras.Variable(
            np.full(shape, self.transform.raw(initial)),
            dtype=keras.config.floatx(),
            trainable=True,
            name=self.name,
        )

    def _bound(self) -> keras.Variable:
        if self.raw is None:
            raise ValueError(
                f"The hyperparameter '{self.name}' has no values yet. Pass it "
                "to `DrMADModel.compile(hyperparameters=[...])` of a built "
                "model first."
            )
        return self.raw


def check_initial(
    initial: float, bounds: tuple[float, float], transform: Transform
) -> float:
    """Returns `initial` if a hyperparameter can start there.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is outside the bounds or the kind's range.
    """
    if not isinstance(initial, numbers.Real) or isinstance(initial, bool):
        raise TypeError(
            "Invalid type for argument `initial`. Expected a number. "
            f"Received: initial={initial!r}."
        )
    lowest, highest = bounds
    inside = lowest <= initial <= highest
    if not inside or not math.isfinite(transform.raw(float(initial))):
        raise ValueError(
            "Invalid value for argument `initial`. Expected a finite number "
            f"above 0 and within the bounds [{lowest}, {highest}]. "
            f"Received: initial={initial!r}."
        )
    return float(initial)


def _checked_bounds(bounds: Any) -> tuple[float, float]:
    try:
        low, high = (None, None) if bounds is None else bounds
        lowest = 0.0 if low is None else float(low)
        highest = math.inf if high is None else float(high)
        valid = 0 <= lowest < highest
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "Invalid value for argument `bounds`. Expected `None` or a pair "
            "(lowest, highest) of numbers with 0 <= lowest < highest, either "
            f"of which may be `None`. Received: bounds={bounds!r}."
        )
    return lowest, highest
