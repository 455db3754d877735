"""Stock Keras optimizers and schedules from learned numbers."""

import json
import re
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_drmad import keras_internals

schedules = keras.optimizers.schedules
STOCK_SCHEDULES = (
    schedules.CosineDecay,
    schedules.CosineDecayRestarts,
    schedules.ExponentialDecay,
    schedules.InverseTimeDecay,
    schedules.PiecewiseConstantDecay,
    schedules.PolynomialDecay,
)
# Arguments of these that are rates; each schedule is linear in its rates.
RATES = ("initial_learning_rate", "end_learning_rate", "warmup_target")

# A number of an optimizer: a float, or an array `(T,)` with a number for each
# step; a learning rate may also be a schedule or another callable.
Number: TypeAlias = Any


class NumbersByWeight:
    """The numbers of an optimizer for each weight, as hyperparameters set them.

    Attributes:
        own: the model's optimizer, for the numbers that no hyperparameter sets.
        names: list of str, the hyperparameters that have set numbers.
    """

    def __init__(
        self, own: keras.Optimizer, weights: dict[str, keras.Variable]
    ):
        """Initializes the numbers as those of an optimizer.

        Args:
            own: a Keras optimizer.
            weights: dict from a weight's path to the weight.
        """
        self.own = own
        self.names: list[str] = []
        self._numbers: dict[str, dict[str, Number]] = {p: {} for p in weights}
        self._excluded = {p: excluded(own, v) for p, v in weights.items()}

    def number(self, path: str, attribute: str) -> Number:
        """Returns one of the numbers so far, for one weight."""
        return self._numbers[path].get(attribute, given(self.own, attribute))

    def assign(
        self, name: str, attribute: str, numbers: dict[str, Number]
    ) -> None:
        """Sets one of the numbers.

        Args:
            name: str, the hyperparameter's.
            attribute: str, the optimizer's, such as `"learning_rate"`.
            numbers: dict from a weight's path to its number.
        """
        for path, number in numbers.items():
            self._numbers[path][attribute] = number
        self.names.append(name)

    def forget(self) -> None:
        """Sets all numbers back to those of the optimizer, for all weights."""
        self._numbers = {path: {} for path in self._numbers}
        self._excluded = {path: {} for path in self._excluded}

    @property
    def differ(self) -> bool:
        """Whether the weights need several optimizers."""
        return len(self._parts()) > 1

    def optimizer(self) -> keras.Optimizer:
        """Returns a new optimizer with these numbers."""
        return united(self._parts())

    def learning_rates(self) -> dict[str, Number]:
        """Returns the learning rate of each weight, by the weights' paths."""
        return {p: self.number(p, "learning_rate") for p in self._numbers}

    def _parts(self) -> list[tuple[keras.Optimizer, list[str]]]:
        numbers = {p: a | self._excluded[p] for p, a in self._numbers.items()}
        return optimizers(self.own, numbers)


def given(optimizer: keras.Optimizer, name: str) -> Number:
    """Returns one of an optimizer's numbers, as the constructor took it."""
    if name != "learning_rate":
        return getattr(optimizer, name)
    rate = keras_internals.given_learning_rate(optimizer)
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else rate


def excluded(
    optimizer: keras.Optimizer, variable: keras.Variable
) -> dict[str, Number]:
    """Returns `{"weight_decay": 0}` for a weight without decay, else `{}`.

    A config does not tell what `exclude_from_weight_decay` was told.
    """
    if optimizer.weight_decay and not keras_internals.has_weight_decay(
        optimizer, variable
    ):
        return {"weight_decay": 0.0}
    return {}


def times(rate: Number, value: Any) -> Number:
    """Returns a rate times a value; `None` if Keras has no class for that.

    Args:
        rate: number, `(T,)`, or a schedule.
        value: number or `(T,)`. A schedule times `(T,)` is `(T,)`, without the
            rates after T steps.
    """
    if not callable(rate):
        return rate * value
    if not isinstance(rate, schedules.LearningRateSchedule):
        return None
    if np.ndim(value):
        return np.array([rate(t) for t in range(len(value))]) * value
    if not isinstance(rate, STOCK_SCHEDULES):
        return None
    config = rate.get_config()
    for name in RATES:
        if config.get(name) is not None:
            config[name] = float(config[name] * value)
    if "values" in config:
        config["values"] = [float(a * value) for a in config["values"]]
    return type(rate).from_config(config)


def learning_rate(rate: Number) -> Any:
    """Returns a learning rate as an optimizer's constructor takes it.

    Rates for each step become a `PiecewiseConstantDecay`, which is exact: in
    each step all summands of the decay but one are 0.
    """
    if not np.ndim(rate):
        return rate if callable(rate) else float(rate)
    rates = np.asarray(rate)
    last = np.flatnonzero(np.diff(rates))  # steps after which it changes
    if not len(last):
        return float(rates[0])
    first = [0, *(last + 1)]
    return schedules.PiecewiseConstantDecay(
        last.tolist(), rates[first].tolist()
    )


def optimizers(
    optimizer: keras.Optimizer, numbers: dict[str, dict[str, Number]]
) -> list[tuple[keras.Optimizer, list[str]]]:
    """Returns new optimizers, each with the paths of the weights that it moves.

    Args:
        optimizer: the optimizer whose config the new optimizers have.
        numbers: dict from a weight's path to the numbers that take the place
            of those in the config.
    """
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for path, own in numbers.items():
        rate = own.get("learning_rate", given(optimizer, "learning_rate"))
        rate = learning_rate(rate)
        config = keras_internals.config_apart_from_rate(optimizer) | own
        key = json.dumps(keras.saving.serialize_keras_object(config))
        key += words(rate)
        config["learning_rate"] = rate
        found.setdefault(key, (config, []))[1].append(path)
    return [
        (type(optimizer).from_config(config), paths)
        for config, paths in found.values()
    ]


def words(value: Any) -> str:
    """Returns text that is the same for what would be saved as the same.

    Args:
        value: what Keras saves, or a function or schedule of one's own.
    """
    if callable(value) and not isinstance(
        value, (*STOCK_SCHEDULES, keras.Regularizer)
    ):
        return str(id(value))  # may lack a config
    return json.dumps(keras.saving.serialize_keras_object(value))


def united(
    parts: list[tuple[keras.Optimizer, list[str]]],
) -> keras.Optimizer:
    """Returns one optimizer, which leaves the weights to several optimizers.

    Args:
        parts: the optimizers, each with the paths of its weights.
    """
    (first, _), *others = parts
    if not others:
        return first
    patterns = {"|".join(map(re.escape, paths)): one for one, paths in others}
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(first, patterns),
        loss_scale_factor=first.loss_scale_factor,
    )
