"""Stock Keras optimizers and schedules from learned numbers."""

import json
import re
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

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
        self._setters: list[tuple[str, str]] = []  # of names and attributes
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
        self._setters.append((name, attribute))

    def keep_common(self) -> list[str]:
        """Sets numbers that are not the same for all weights back to `own`'s.

        Returns:
            List of the names of the hyperparameters that have set these.
        """
        names = []
        for name, attribute in self._setters:
            each = [self.number(p, attribute) for p in self._numbers]
            if len({words(learning_rate(one)) for one in each}) > 1:
                names.append(name)
        for name, attribute in self._setters:
            if name in names:
                for numbers in self._numbers.values():
                    numbers.pop(attribute, None)
        return list(dict.fromkeys(names))

    def forget_excluded(self) -> list[str]:
        """Lets the decay act on all weights; returns those it did not act on.

        Returns:
            List of the paths of weights.
        """
        paths = [path for path, numbers in self._excluded.items() if numbers]
        self._excluded = {path: {} for path in self._excluded}
        return paths

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


def exclude(
    optimizer: keras.Optimizer, paths: list[str], others: list[str]
) -> bool:
    """Lets an optimizer leave weights out of the decay, if names tell which.

    Args:
        optimizer: an optimizer that is not built.
        paths: the paths of the weights.
        others: the paths of all other weights.

    Returns:
        bool, whether it does now. An optimizer that has no weights yet knows
        them by their names alone, such as "bias".
    """
    names, of_others = (
        {path.rpartition("/")[2] for path in one} for one in (paths, others)
    )
    if names & of_others:
        return False
    # TensorFlow's variables, which Keras asks for, are named as "bias:0".
    patterns = [rf"(^|/){re.escape(name)}(:\d+)?$" for name in sorted(names)]
    optimizer.exclude_from_weight_decay(var_names=patterns)
    return True


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
        # Traced, as in training: eager calls cost up to ten times as much.
        traced = tf.function(lambda step: rate(step))
        return np.array([traced(t) for t in tf.range(len(value))]) * value
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
