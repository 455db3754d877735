"""The contract of a hyperparameter kind."""

import abc
import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.place import Place
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

    A kind overrides the hook for what the kind does; the other hooks change
    nothing. Hooks are pure: they take the raw tensor as an argument, and their
    derivative with respect to the raw tensor is the hypergradient's source.

    Attributes:
        name: str, unique among the hyperparameters of a model.
        raw: `keras.Variable`, unconstrained, what the meta-optimizer moves;
            `None` until a model is compiled with this object.
        model: the `keras.Model` it was last compiled into, or `None`.
        transform: `Transform`, from raw to the values that training uses.
        place: `Place`, where the kind acts; complete once the kind is bound.
    """

    transform: Transform
    place: Place = Place()

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
        self.bounds = values.checked_bounds(bounds, self.transform)
        self.raw: Any = None
        self.model: Any = None

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Checks that a model and its optimizer have something to act on.

        Changes nothing.

        Args:
            model: a built and compiled model.
            optimizer: the model's optimizer.

        Raises:
            arguments.Refused: if the model or the optimizer lacks what the kind
                needs; or another `ValueError`, if an argument of the kind does
                not fit the model or the optimizer.
        """

    @abc.abstractmethod
    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Creates `raw` for a model that passes `check`.

        Args:
            model: a built and compiled model.
            optimizer: the model's optimizer.

        Raises:
            ValueError: as `check` does.
        """

    def prepare(self, training: Training) -> None:
        """Checks that the kind fits a training, before it begins.

        Raises:
            ValueError: if it does not.
        """

    # ---- where the kind acts, as methods and checks ask for it

    @property
    def acts_on(self) -> str:
        """Where training feels the values; see `Place.through`."""
        return self.place.through

    @property
    def numbers(self) -> tuple[str, ...]:
        """The optimizer's numbers that the values change or replace."""
        return self.place.names if self.place.through == "update" else ()

    def reverse_steps(self, T: int) -> int:
        """Returns how many reverse steps it takes to see every value.

        Args:
            T: int, the number of iterations.
        """
        steps = self.place.reverse_steps
        return T if steps is None else min(steps, T)

    def acts_at(self) -> set[tuple[str, int]]:
        """Returns what the kind changes; see `Place.pairs`."""
        return self.place.pairs()

    def replaces(self) -> set[tuple[str, int]]:
        """Returns what the kind takes the place of; see `Place.overrides`."""
        return self.place.pairs() if self.place.overrides else set()

    # ---- hooks: a kind overrides the hook that does what the kind is for

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
        raw = values.raw_of(array, self.bounds, self.transform)
        fits = array.shape in ((), tuple(variable.shape))
        if not fits or not np.isfinite(raw).all():
            raise arguments.value_error(
                "value",
                value,
                f"a number, or an array of shape {tuple(variable.shape)}, "
                f"{values.range_in_words(self.bounds, self.transform)}, for "
                f"the hyperparameter '{self.name}'",
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

    def checked_initial(self, initial: Any) -> float | np.ndarray:
        """Returns the argument `initial`, as a float or as an array of floats.

        Raises:
            TypeError: if `initial` is not a number or an array of numbers.
            ValueError: if a number is out of the bounds or the kind's range.
        """
        return values.checked_initial(initial, self.bounds, self.transform)

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
        array = np.asarray(initial, float)
        raw = values.raw_of(array, self.bounds, self.transform)
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
            "bounds": values.given_bounds(self.bounds, self.transform),
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
