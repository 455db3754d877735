"""What the meta-optimizers of this package share: natural units."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters.base import Hyperparameter


class Facts(NamedTuple):
    """What a meta-optimizer knows of a raw variable.

    Attributes:
        unit: array that broadcasts to the variable, how far raw values
            sensibly move; see `Hyperparameter.unit`.
        bounds: `(lowest, highest)` raw number, ±inf without a bound.
        layers: `(size,)` integers, for each entry of the flat variable the
            number of the layer to which the entry belongs, from 1; 0 for the
            only entry of a layer, and for all entries where there is one
            layer.
        reach: float, by how much further than others entries go by consensus;
            see `Hyperparameter.reach`.
    """

    unit: np.ndarray
    bounds: tuple[float, float]
    layers: np.ndarray
    reach: float = 1.0

    @property
    def layer_count(self) -> int:
        """The highest number of a layer; 0 where no layer has a number."""
        return int(self.layers.max(initial=0))


class Known:
    """The kinds of hyperparameters that a meta-optimizer was told of.

    An object of its own, so that Keras does not take the raw variables of the
    kinds for slots of the optimizer.

    Attributes:
        facts: list of `Facts`, in the order of the variables for which the
            optimizer was built.
    """

    def __init__(self):
        self.facts: list[Facts] = []
        self._kinds: dict[int, Hyperparameter] = {}

    def add(self, kind: Hyperparameter) -> None:
        """Remembers a kind that is bound to a model."""
        self._kinds[id(kind.raw)] = kind

    def look_up(self, variables: Sequence[keras.Variable]) -> None:
        """Completes `facts`; unknown variables are plain, free numbers."""
        self.facts = [
            facts_of(self._kinds[id(v)])
            if id(v) in self._kinds
            else Facts(
                np.ones(()),
                (-np.inf, np.inf),
                np.zeros(np.prod(v.shape, dtype=int), "int32"),
            )
            for v in variables
        ]


class MetaOptimizer(keras.optimizers.Optimizer):
    """A meta-optimizer that moves raw values in natural units.

    `know` tells the optimizer of the kinds whose raw values it will move, and
    comes before `build`. Any other variable has unit 1, no bounds and one
    layer: alone, the optimizer works on any Keras variables.

    Attributes:
        units: list of slots, how far the raw values of each variable sensibly
            move; saved with the other slots, for a model that is loaded may
            have drawn other weights first.
    """

    def __init__(self, learning_rate: Any, *, name: str, **kwargs: Any):
        """Initializes the optimizer.

        Args:
            learning_rate: positive float or a `LearningRateSchedule`, in units
                of the raw values.
            name: str.
            **kwargs: arguments of `keras.optimizers.Optimizer`.

        Raises:
            TypeError: if the learning rate is not a number or a schedule.
            ValueError: if the learning rate is not positive.
        """
        rate = _checked_rate(learning_rate)
        super().__init__(learning_rate=rate, name=name, **kwargs)
        self.known = Known()

    def know(self, kinds: Iterable[Hyperparameter]) -> None:
        """Tells of units, bounds and layers; to be called before `build`.

        Args:
            kinds: hyperparameters, bound to a model.
        """
        for kind in kinds:
            self.known.add(kind)

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the slots.

        Args:
            variables: list of `keras.Variable`, the raw values.

        Raises:
            ValueError: if the unit of a kind is not made of positive numbers,
                or does not broadcast to the raw values.
        """
        if self.built:
            return
        self.known.look_up(variables)
        super().build(variables)
        self.units = [
            self.add_variable(
                facts.unit.shape,
                keras.initializers.Constant(facts.unit),
                dtype=variable.dtype,
                name=f"{variable.name}_unit",
            )
            for variable, facts in zip(variables, self.known.facts, strict=True)
        ]

    def within_reach(
        self, raw: keras.Variable, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns how far steps can move raw values from now on.

        Args:
            raw: `keras.Variable`, which the optimizer moves.
            steps: int, the number of steps.

        Returns:
            The lowest and the highest raw values, two arrays of the shape of
            `raw`, without regard to bounds.
        """
        raise NotImplementedError

    def place(self, raw: keras.Variable) -> int:
        """Returns the place of a variable among those of the optimizer.

        Raises:
            ValueError: if the optimizer was not built for the variable.
        """
        try:
            return keras_internals.place_in(self, raw)
        except KeyError:
            raise arguments.value_error(
                "raw",
                raw,
                "the `raw` of a hyperparameter that this optimizer moves",
                advice="A `compile` with the optimizer as `meta_optimizer` "
                "comes first.",
            ) from None

    def rates(self, steps: int) -> float:
        """Returns the sum of the learning rates of the next steps."""
        rate = keras_internals.given_learning_rate(self)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            now = int(self.iterations.numpy())
            return sum(float(rate(k)) for k in range(now, now + steps))
        return steps * float(self.learning_rate.numpy())


def facts_of(kind: Hyperparameter) -> Facts:
    """Returns the facts about a kind that is bound to a model.

    Raises:
        TypeError: if the reach of the kind is not a number.
        ValueError: if the reach is not positive, or the unit is not made of
            positive numbers, or does not broadcast to the raw values.
    """
    unit, shape = np.asarray(kind.unit, float), tuple(kind.raw.shape)
    is_positive = np.all((unit > 0) & (unit < np.inf))
    fits = len(unit.shape) <= len(shape) and all(
        n in (1, m) for n, m in zip(unit.shape[::-1], shape[::-1], strict=False)
    )
    if not (is_positive and fits):
        raise ValueError(
            f"The hyperparameter '{kind.name}' has an invalid `unit`. Expected "
            "a positive, finite number, or an array of such numbers that "
            f"broadcasts to the raw values of shape {shape}. Received: "
            f"unit={kind.unit!r}."
        )
    reach = arguments.positive(f"reach of '{kind.name}'", kind.reach)
    return Facts(unit, kind.raw_bounds, _layer_numbers(kind), reach)


def mover_of(
    h: Hyperparameter, meta_optimizer: keras.Optimizer | None
) -> keras.Optimizer | None:
    """Returns the one of the optimizers that moves a hyperparameter.

    `None` for a hyperparameter that stays as it is.

    Args:
        h: the hyperparameter.
        meta_optimizer: what moves the raw values; see `united`.
    """
    if meta_optimizer is None:
        return None
    for one in keras_internals.optimizers_within(meta_optimizer):
        if any(v is h.raw for v in keras_internals.trained_by(one)):
            return one
    return None


def _layer_numbers(kind: Hyperparameter) -> np.ndarray:
    """Returns the layers of a kind's entries by number; see `Facts.layers`."""
    shape = tuple(kind.raw.shape)
    size = np.prod(shape, dtype=int)
    layers = np.zeros(size, "int32")
    entries = kind.by_layer(np.arange(size).reshape(1, *shape)).values()
    if len(entries) > 1:
        several = (np.ravel(own) for own in entries if np.size(own) > 1)
        for number, own in enumerate(several, 1):
            layers[own] = number
    return layers


def signs(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the signs of a gradient; 0 where the gradient is not finite."""
    return tf.where(tf.math.is_finite(gradient), tf.sign(gradient), 0.0)


def _checked_rate(learning_rate: Any) -> Any:
    """Returns the argument `learning_rate`, as a float or a schedule.

    Raises:
        TypeError: if the learning rate is neither a number nor a schedule.
        ValueError: if the learning rate is not positive.
    """
    if callable(learning_rate) or isinstance(learning_rate, dict):
        return learning_rate  # a schedule, or its config
    return arguments.positive(
        "learning_rate",
        learning_rate,
        expected="a positive number or a `LearningRateSchedule`",
    )
