"""The contract of a hyperparameter kind."""

import abc
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.parts import Part, axes_of
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Transform


class Training(NamedTuple):
    """The elementary training that hyperparameters are about to act on.

    Attributes:
        steps: int, T, the number of iterations.
        examples: int, how many examples the training arrays have; `None` for a
            stream.
        batch: `Batch`, the first minibatch.
        is_tuned: bool, whether hyperparameters are learned, or only used.
        initial_weights: str, the argument of `fit`.
    """

    steps: int
    examples: int | None
    batch: Batch
    is_tuned: bool = True
    initial_weights: str = "same"


class Hyperparameter(abc.ABC):
    """Hyperparameters of one kind, learned by gradient.

    A kind overrides the hook for the part of a training that its values
    change; the other hooks change nothing. Hooks are pure: they take the raw
    tensor as an argument, and their derivatives with respect to the raw tensor
    are the source of the hypergradient.

    Attributes:
        name: str, unique among the hyperparameters of a model.
        bounds: `(lowest, highest)` value; an end of the kind's range where the
            user gives no bound.
        raw: `keras.Variable`, the unconstrained numbers that the meta-optimizer
            moves; `None` until a model is compiled with this object.
        model: the `keras.Model` that was last compiled with this object, or
            `None`.
        transform: `Transform`, from raw to the values that training uses.
        place: `Place`, where the kind acts; complete once the kind is bound.
        axes: tuple of str, what each axis of `raw` counts, such as `"class"`,
            for tables and pictures; empty where that is not known.
        units_at_first: array that `bind` has read from a model and from which
            `unit` follows, to be saved with the model; `None` for a kind
            whose config says all.
        followed: array, the raw values as `bind` or `follow` has read them from
            a model; `None` for a kind that follows no weights.
    """

    transform: Transform
    place: Place = Place()
    axes: tuple[str, ...] = ()
    units_at_first: np.ndarray | None = None
    followed: np.ndarray | None = None

    def __init__(
        self,
        name: str,
        bounds: tuple[float | None, float | None] | None,
    ):
        """Initializes what all kinds have.

        Args:
            name: str, unique among the hyperparameters of a model.
            bounds: `(lowest, highest)` value, either may be `None`.

        Raises:
            TypeError: if the kind has no `transform`.
            ValueError: if the bounds are not an increasing pair within the
                range of the kind.
        """
        if not isinstance(getattr(self, "transform", None), Transform):
            raise TypeError(
                f"The kind {type(self).__name__} has no `transform`. Expected "
                "an attribute such as `transform = "
                "keras_drmad.hyperparameters.Log()`."
            )
        self.name = name
        self.bounds = values.checked_bounds(bounds, self.transform)
        self.raw: Any = None
        self.model: Any = None

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Checks that the kind can act on a model and its optimizer.

        A check changes nothing; this one is for kinds that not every model or
        optimizer can use.

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

    def follow(self, weights: Callable[[], dict[int, Any]]) -> None:
        """Takes over what was put into the model since `bind`.

        For kinds whose values are read from the model at first, as long as
        nobody has moved or assigned them. Called before each training, and
        before values are saved.

        Args:
            weights: returns a dict from the id of a `keras.Variable` to the
                tensor with which trainings start.
        """

    @property
    def follows(self) -> bool:
        """Whether the values are still those that were read from the model."""
        return self.followed is not None and np.array_equal(
            self._bound(), self.followed
        )

    def prepare(self, training: Training) -> None:
        """Prepares the kind for a training that is about to begin.

        Args:
            training: `Training`.

        Raises:
            ValueError: if the kind does not fit the training.
        """

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """Within, the kind is prepared for trainings that change nothing.

        Such as those of `hypergradient`, whose length may be another than the
        one that the values were learned for. A kind that keeps what `prepare`
        tells overrides this, and is as it was at the end.
        """
        yield

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

    def acts_from(self, T: int) -> np.ndarray:
        """Returns the iteration from which on each value acts, at the earliest.

        Args:
            T: int, the number of iterations.

        Returns:
            `(count,)` integers, in the order of the raw values; zeros unless a
            kind has values that act later.
        """
        del T
        return np.zeros(self.count, int)

    @property
    def examples(self) -> int | None:
        """How many training examples the kind knows by their places.

        `None` for a kind that does not ask for `Batch.index`. A stream whose
        places are not in [0, examples) is refused.
        """
        return None

    def acts_at(self) -> set[tuple[str, int]]:
        """Returns what the kind changes; see `Place.pairs`."""
        return self.place.pairs()

    def replaces(self) -> set[tuple[str, int]]:
        """Returns what the kind takes the place of; see `Place.overrides`."""
        return self.place.pairs() if self.place.overrides else set()

    # ---- hooks, of which a kind overrides one

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> Any:
        """Returns a scalar, which is added to the training loss.

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
            name: str, the optimizer's attribute, such as `"learning_rate"`.
            variable: the weight that the optimizer updates.
            number: the number so far, by the optimizer and the kinds before
                this kind.
            t: integer scalar, the iteration in [0, T).
        """
        del raw, name, variable, t
        return number

    def batch(self, raw: tf.Tensor, batch: Batch) -> Batch:
        """Returns the training minibatch, as training sees the minibatch.

        Metrics see the minibatch that was given to `fit`.

        Args:
            raw: tensor of the shape of `self.raw`.
            batch: `Batch`, the minibatch so far.
        """
        del raw
        return batch

    def outputs(self, raw: tf.Tensor, y_pred: Any) -> Any:
        """Returns the model's outputs, as the training loss sees them.

        Args:
            raw: tensor of the shape of `self.raw`.
            y_pred: nested tensors, the outputs so far.
        """
        del raw
        return y_pred

    def loss(
        self, raw: tf.Tensor, loss: tf.Tensor, batch: Batch, y_pred: Any
    ) -> tf.Tensor:
        """Returns the training loss of a minibatch, a scalar.

        Args:
            raw: tensor of the shape of `self.raw`.
            loss: scalar, the training loss so far.
            batch: `Batch`, the minibatch.
            y_pred: nested tensors, the model's outputs.
        """
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
            params: the parameters that training adjusts, as for `start`.
        """
        del raw
        return params

    def params(self, raw: tf.Tensor, weights: dict[int, Any]) -> dict[int, Any]:
        """Returns parameters from which `weights` gives certain weights.

        Args:
            raw: tensor of the shape of `self.raw`.
            weights: the weights that the model computes with, as for `start`.
        """
        del raw
        return weights

    # ---- leaving for plain Keras

    def to_keras(self, plain: PlainTraining) -> None:
        """Puts the values where plain Keras has a place for them.

        A kind changes attributes of `plain`, or calls `add_regularizers`,
        `set_numbers` or `leave_out`. A kind that does not override this method
        is left out; the record keeps its values.

        Args:
            plain: `PlainTraining`, with the values of the kinds before this
                kind.
        """
        plain.leave_out(
            self.name, f"Its values are in plain.values['{self.name}']."
        )

    # ---- values

    @property
    def count(self) -> int:
        """How many values there are, once the kind is bound."""
        return math.prod(self._bound().shape)

    @property
    def unit(self) -> float | np.ndarray:
        """How far a raw value sensibly moves: a natural size of steps.

        A positive number, or an array that broadcasts to `raw`. The
        meta-optimizers of this package move in these units. The unit is 1 for
        logarithms and logits; a kind with plain numbers (`Identity`) overrides
        this property, for instance by `Transform.unit_of`.
        Meta-optimizers ask once, when they are built, and keep the answer;
        tables and advice ask later, so it must not change with the values.
        """
        return self.transform.unit

    @property
    def reach(self) -> float:
        """By how much further than others the entries go where signs agree.

        A positive number, by which `SignConsensus` multiplies its own `reach`:
        1 but for kinds that were found to gain by more on new draws.
        Meta-optimizers ask once, when they are built, and keep the answer.
        """
        return 1.0

    @property
    def raw_bounds(self) -> tuple[float, float]:
        """The raw numbers of the bounds; ±inf where there is no bound."""
        lowest, highest = self.bounds
        return self.transform.raw(lowest), self.transform.raw(highest)

    def value(self) -> tf.Tensor:
        """Returns the values that training uses, of the shape of `raw`."""
        return self.transform.value(self._bound().value)

    def assign(self, value: Any) -> None:
        """Sets the values.

        Args:
            value: a number for all values, or an array of the shape of `raw`.
                In an array that also has the dtype of `raw`, as `value`
                returns one, an end of the range may stand for what rounding
                took there.

        Raises:
            ValueError: if a value is out of the bounds or the kind's range, or
                the array has another shape.
        """
        self._bound().assign(self.checked_raw(value))

    def checked_raw(self, value: Any, argument: str = "value") -> np.ndarray:
        """Returns the raw numbers of values, of the shape of `raw`.

        Args:
            value: as for `assign`.
            argument: str, what it came in, for errors.

        Raises:
            ValueError: as `assign`.
        """
        variable = self._bound()
        array = np.asarray(value)
        if (array.dtype, array.shape) == (variable.dtype, variable.shape):
            array = values.off_the_ends(array, self.transform)
        array = array.astype(float)
        raw = values.raw_of(array, self.bounds, self.transform)
        fits = array.shape in ((), tuple(variable.shape))
        if not fits or not np.isfinite(raw).all():
            raise arguments.value_error(
                argument,
                value,
                f"a number, or an array of shape {tuple(variable.shape)}, "
                f"{values.range_in_words(self.bounds, self.transform)}, for "
                f"the hyperparameter '{self.name}'",
            )
        return np.broadcast_to(raw, variable.shape)

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values by the layers whose values they are.

        Args:
            values: `(..., *raw.shape)`, for instance one row for each
                meta-iteration.

        Returns:
            Dict from a layer's path to its values `(..., count)`; from the
            kind's own name to all values where these belong to no layers.
        """
        return {self.name: values.reshape(*values.shape[:1], -1)}

    def parts(self) -> list[Part]:
        """Returns the entries as users think of them, for tables and pictures.

        By default a part for each layer of `by_layer`; the only one has the
        shape of `raw`, and the names of `axes`.
        """
        shape = tuple(self._bound().shape)
        flat = np.arange(self.count)
        split = self.by_layer(flat.reshape(1, *shape))
        if list(split) == [self.name]:
            axes = self.axes if len(self.axes) == len(shape) else axes_of(shape)
            return [Part("", "", flat.reshape(shape), axes)]
        parts = []
        for layer, rows in split.items():
            own = rows[0].reshape(()) if rows[0].size == 1 else rows[0]
            parts.append(Part(layer, "", own, axes_of(own.shape)))
        return parts

    def checked_initial(self, initial: Any) -> float | np.ndarray:
        """Returns the argument `initial`, as a float or as an array of floats.

        Raises:
            TypeError: if `initial` is not a number or an array of numbers.
            ValueError: if a number is out of the bounds or the kind's range.
        """
        return values.checked_initial(initial, self.bounds, self.transform)

    def clip(self) -> None:
        """Moves each raw value that left the bounds to the bound it passed."""
        lowest, highest = self.raw_bounds
        if math.isfinite(lowest) or math.isfinite(highest):
            raw = self._bound()
            raw.assign(tf.clip_by_value(raw.value, lowest, highest))

    def create(self, shape: tuple[int, ...], initial: Any) -> None:
        """Creates `raw`; for `bind`. A `raw` of this shape stays as it is.

        Args:
            shape: tuple of int, the shape of `raw`.
            initial: the values at first, a number or an array of this shape.

        Raises:
            TypeError: if these are no numbers.
            ValueError: if one is out of the bounds or the kind's range.
        """
        if self.raw is not None and tuple(self.raw.shape) == shape:
            return  # compiled again: what was learned stays
        array = np.asarray(self.checked_initial(initial))
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
        given = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({given})"

    def _bound(self) -> keras.Variable:
        if self.raw is None:
            raise ValueError(
                f"The hyperparameter '{self.name}' has no values yet. Pass it "
                "to `DrMADModel.compile(hyperparameters=[...])` of a built "
                "model first."
            )
        return self.raw
