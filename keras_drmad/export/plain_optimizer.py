"""Stock Keras optimizers and schedules from learned numbers."""

import json
import re
from typing import Any, TypeAlias

import keras
import numpy as np

schedules = keras.optimizers.schedules
STOCK_SCHEDULES = (
    schedules.CosineDecay,
    schedules.CosineDecayRestarts,
    schedules.ExponentialDecay,
    schedules.InverseTimeDecay,
    schedules.PiecewiseConstantDecay,
    schedules.PolynomialDecay,
)
# Their arguments that are rates; each schedule is linear in its own.
RATES = ("initial_learning_rate", "end_learning_rate", "warmup_target")

# A number of an optimizer: one, one for each of T steps `(T,)`, or, of the
# learning rate, a schedule or another callable.
Number: TypeAlias = Any


def given(optimizer: keras.Optimizer, name: str) -> Number:
    """Returns one of an optimizer's numbers, as its constructor took it."""
    if name != "learning_rate":
        return getattr(optimizer, name)
    rate = optimizer._learning_rate
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else rate


def excluded(
    optimizer: keras.Optimizer, variable: keras.Variable
) -> dict[str, Number]:
    """Returns `{"weight_decay": 0}` for a weight excluded from it, else `{}`.

    A config does not tell what `exclude_from_weight_decay` was told.
    """
    decays = optimizer.weight_decay
    is_excluded = decays and not optimizer._use_weight_decay(variable)
    return {"weight_decay": 0.0} if is_excluded else {}


def times(rate: Number, value: Any) -> Number:
    """Returns a rate times a value; `None` where Keras has no class for it.

    Args:
        rate: number, `(T,)`, or a schedule.
        value: number or `(T,)`. A schedule times `(T,)` is `(T,)`: what it is
            after T steps is lost.
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
    each step all of its summands but one are 0.
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
    """Returns new optimizers, each with the paths of the weights it is for.

    Args:
        optimizer: whose config they have.
        numbers: dict from a weight's path to the numbers that take the place
            of the config's.
    """
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for path, own in numbers.items():
        rate = own.get("learning_rate", given(optimizer, "learning_rate"))
        rate = learning_rate(rate)
        config = optimizer.get_config() | own | {"learning_rate": rate}
        key = json.dumps(keras.saving.serialize_keras_object(config))
        found.setdefault(key, (config, []))[1].append(path)
    return [
        (type(optimizer).from_config(config), paths)
        for config, paths in found.values()
    ]


def united(
    parts: list[tuple[keras.Optimizer, list[str]]],
) -> keras.Optimizer:
    """Returns one optimizer that leaves weights to several."""
    (first, _), *others = parts
    if not others:
        return first
    patterns = {"|".join(map(re.escape, paths)): one for one, paths in others}
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(first, patterns),
        loss_scale_factor=first.loss_scale_factor,
    )
