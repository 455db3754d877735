"""The contract of a hyperparameter kind."""

import abc
import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Transform


class Training(NamedTuple):
    """The elementary training that hyperparameters are about to act on.

    Attributes:
        steps: int, T.
        examples: int, those in the training arrays; `None` for a stream.
        batch: `Batch`, the first minibatch.
        is_tuned: bool, whether hyperparameters are learned, or only used.
        initial_weights: str, `fit`'s argument.
    """

    steps: int
    examples: int | None
    batch: Batch
    is_tuned: bool = True
    initial_weights: str = "same"


class Hyperparameter(abc.ABC):
    """Hyperparameters of one kind, learned by gradient.

    A kind overrides the hook that says where it acts; the others change
    nothing. Hooks are pure: they take the raw tensor as an argument, and their
    derivative with respect to it is the hypergradient's source.

    Attributes:
        name: str, unique among the hyperparameters of a model.
        raw: `keras.Variable`, unconstrained, what the meta-optimizer moves;
            `None` until a model is compiled with this object.
        model: the `keras.Model` it was last compiled into, or `None`.
        transform: `Transform`, from raw to the values that training uses.
        acts_on: where training feels it: `"loss"`, through the gradient of
            the training loss in every step; `"update"`, through the
            optimizer's numbers; `"start"`, through the first weights alone.
            Methods refuse what they cannot see.
        numbers: the optimizer's attributes that it takes the place of.
    """

    transform: Transform
    acts_on: str = "loss"
    numbers: tuple[str, ...] = ()

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
        self.bounds = checked_bounds(bounds, self.transform)
        self.raw: Any = None
        self.model: Any = None

    @abc.abstractmethod
    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Creates `raw` for a built model and its optimizer.

        Raises:
            ValueError: if there is nothing in the model to act on.
        """

    def prepare(self, training: Training) -> None:
        """Checks that the kind fits a training, before it begins.

        Raises:
            ValueError: if it does not.
        """

    def reverse_steps(self, T: int) -> int:
        """Returns how many reverse steps it takes to see every value.

        More than 1 for values that act at some iterations of a training only.
        A walk back of fewer than the whole training can't see these at all.

        Args:
            T: int, the number of iterations.
        """
        del T
        return 1

    def replaces(self) -> set[tuple[str, int]]:
        """Returns what it puts a value in the place of, whatever was there.

        Pairs of a name and the id of a variable: a kind that acts on one of
        these before (`acts_at`) would have no effect, and is refused.
        """
        return set()

    def acts_at(self) -> set[tuple[str, int]]:
        """Returns what it changes of what other kinds may replace."""
        return self.replaces()

    # ---- hooks: where it acts

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> Any:
        """Returns what is added to the training loss, a scalar.

        Args:
            raw: tensor of the shape of `self.raw`.
            params: dict from the id of a `keras.Variable` to its tensor.
        """
        del raw, params
        return 0.0

    def number(
        self,
        raw: tf.Tensor,
        name: str,
        variable: keras.Variable,
        number: Any,
        t: tf.Tensor,
    ) -> Any:
        """Returns one of the optimizer's numbers, for one variable.

        Args:
            raw: tensor of the shape of `self.raw`.
            name: str, the optimizer's attribute, `"learning_rate"` for one.
            variable: what is being updated.
            number: the number so far.
            t: integer scalar, the iteration in [0, T).
        """
        del raw, name, variable, t
        return number

    def batch(self, raw: tf.Tensor, batch: Batch) -> Batch:
        """Returns the training minibatch, given the one so far.

        Metrics see the minibatch as it was.
        """
        del raw
        return batch

    def outputs(self, raw: tf.Tensor, y_pred: Any) -> Any:
        """Returns the outputs that the training loss sees."""
        del raw
        return y_pred

    def loss(
        self, raw: tf.Tensor, loss: tf.Tensor, batch: Batch, y_pred: Any
    ) -> tf.Tensor:
        """Returns the training loss, given the one so far."""
        del raw, batch, y_pred
        return loss

    def start(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        """Returns the first weights of a training.

        Args:
            raw: tensor of the shape of `self.raw`.
            params: dict from the id of a `keras.Variable` to its tensor.
        """
        del raw
        return params

    def weights(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        """Returns the weights that the model computes with.

        Args:
            raw: tensor of the shape of `self.raw`.
            params: what training adjusts, as for `start`.
        """
        del raw
        return params

    def params(self, raw: tf.Tensor, weights: dict[int, Any]) -> dict[int, Any]:
        """Returns parameters for which `weights` are the model's weights."""
        del raw
        return weights

    # ---- how it leaves

    def to_keras(self, plain: PlainTraining) -> None:
        """Puts the values where plain Keras has a place for them.

        A kind changes attributes of `plain`, or calls `add_regularizers`,
        `set_numbers` or `leave_out`. A kind without this hook is left out, and
        its values are kept in the record.

        Args:
            plain: `PlainTraining`, with the values of the kinds before this
                one.
        """
        plain.leave_out(
            self.name, f"Its values are in plain.values['{self.name}']."
        )

    # ---- values

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
        raw = raw_of(array, self.bounds, self.transform)
        fits = array.shape in ((), tuple(variable.shape))
        if not fits or not np.isfinite(raw).all():
            raise ValueError(
                "Invalid value for argument `value`. Expected a number, or an "
                f"array of shape {tuple(variable.shape)}, "
                f"{range_in_words(self.bounds, self.transform)} for the "
                f"hyperparameter '{self.name}'. Received: value={value}."
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

    def create(self, shape: tuple[int, ...], initial: Any) -> None:
        """Creates `raw`; called by `bind`.

        Args:
            shape: of `raw`.
            initial: values at first, a number or an array of this shape.
        """
        if self.raw is not None and tuple(self.raw.shape) == shape:
            return  # compiled again: what was learned stays
        raw = raw_of(np.asarray(initial, float), self.bounds, self.transform)
        self.raw = keras.Variable(
            np.broadcast_to(raw, shape),
            dtype=keras.config.floatx(),
            trainable=True,
            name=self.name,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "bounds": given_bounds(self.bounds, self.transform),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Hyperparameter":
        """Returns the kind with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"

    def _bound(self) -> keras.Variable:
        if self.raw is None:
            raise ValueError(
                f"The hyperparameter '{self.name}' has no values yet. Pass it "
                "to `DrMADModel.compile(hyperparameters=[...])` of a built "
                "model first."
            )
        return self.raw


# ---- values, bounds and ranges


def raw_of(
    value: np.ndarray, bounds: tuple[float, float], transform: Transform
) -> np.ndarray:
    """Returns raw numbers; nan for values out of bounds or out of range."""
    lowest, highest = bounds
    inside = (value >= lowest) & (value <= highest)
    to_raw = np.vectorize(transform.raw, otypes=[float])
    middle = 0.5 if transform.lowest > -math.inf else 0.0
    if math.isfinite(transform.highest):
        middle = (transform.lowest + transform.highest) / 2
    return np.where(inside, to_raw(np.where(inside, value, middle)), np.nan)


def check_initial(
    initial: Any, bounds: tuple[float, float], transform: Transform
) -> Any:
    """Returns `initial`, as a float or an array, if it can be a start.

    Raises:
        TypeError: if it is not a number or an array of numbers.
        ValueError: if it is outside the bounds or the kind's range.
    """
    array = np.asarray(initial)
    if isinstance(initial, bool) or array.dtype.kind not in "fiu":
        raise TypeError(
            "Invalid type for argument `initial`. Expected a number"
            f" or an array of numbers. Received: initial={initial!r}."
        )
    if not np.isfinite(raw_of(array.astype(float), bounds, transform)).all():
        raise ValueError(
            "Invalid value for argument `initial`. Expected finite numbers "
            f"{range_in_words(bounds, transform)}. "
            f"Received: initial={initial!r}."
        )
    return array.astype(float) if array.ndim else float(array)


def range_in_words(bounds: tuple[float, float], transform: Transform) -> str:
    """Returns which values may be taken, in words."""
    low, high = transform.lowest, transform.highest
    words = [f"above {low:g}"] if math.isfinite(low) else []
    words += [f"below {high:g}"] if math.isfinite(high) else []
    words.append(f"within the bounds [{bounds[0]}, {bounds[1]}]")
    return " and ".join(words)


def given_bounds(
    bounds: tuple[float, float], transform: Transform
) -> list[float | None]:
    """Returns bounds as a user gives them, `None` for an end of the range."""
    ends = transform.lowest, transform.highest
    return [
        None if bound == end else bound
        for bound, end in zip(bounds, ends, strict=True)
    ]


def checked_bounds(bounds: Any, transform: Transform) -> tuple[float, float]:
    """Returns the argument `bounds` as numbers.

    Raises:
        ValueError: if it is not an increasing pair within the range.
    """
    low, high = transform.lowest, transform.highest
    try:
        first, last = (None, None) if bounds is None else bounds
        lowest = low if first is None else float(first)
        highest = high if last is None else float(last)
        valid = low <= lowest < highest <= high
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "Invalid value for argument `bounds`. Expected `None` or a pair "
            "(lowest, highest) of numbers with "
            f"{low:g} <= lowest < highest <= {high:g}, either "
            f"of which may be `None`. Received: bounds={bounds!r}."
        )
    return lowest, highest
