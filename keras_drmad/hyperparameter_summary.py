"""What is tuned in a model, and what can't be tuned and why, in words."""

import math
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.methods.base import Method

# The kinds whose constructors need no data.
POSSIBLE: tuple[Callable[[], Hyperparameter], ...] = (
    kinds.L2,
    kinds.L1,
    kinds.LearningRate,
    kinds.Momentum,
    kinds.WeightDecay,
    kinds.InitialScale,
    kinds.InitialWeights,
    kinds.LabelSmoothing,
    kinds.Temperature,
    kinds.LossWeights,
)
COLUMNS = "{:<36}{:<14}{:>10}  {:<24}{}"
WIDTH = 104


def summary(
    model: keras.Model,
    optimizer: keras.Optimizer,
    tuned: Iterable[Hyperparameter],
    method: Method,
) -> str:
    """Returns a table of hyperparameters, and what can't be tuned and why.

    Args:
        model: the elementary model, compiled.
        optimizer: the model's optimizer.
        tuned: the hyperparameters that are tuned.
        method: the method of the hypergradient.
    """
    rule = "─" * WIDTH
    tuned = list(tuned)
    total = sum(math.prod(h.raw.shape) for h in tuned)
    lines = [
        f'Hyperparameters of "{model.name}"',
        rule,
        COLUMNS.format("Name (kind)", "Shape", "Count", "Values", "Bounds"),
        rule,
        *map(_row, tuned),
        rule,
        f" Tuned by gradient: {total:,}",
        f" Hypergradient: {method!r}",
    ]
    refused = _refused(model, optimizer, method)
    if refused:
        lines.append(" Can't be tuned here:")
    for name, why in refused.items():
        lines += textwrap.wrap(
            f"{name}: {why}",
            WIDTH,
            initial_indent="   ",
            subsequent_indent="     ",
        )
    return "\n".join(lines)


def _row(h: Hyperparameter) -> str:
    return COLUMNS.format(
        f"{h.name} ({type(h).__name__})",
        str(tuple(h.raw.shape)),
        f"{math.prod(h.raw.shape):,}",
        _span(h.value().numpy()),
        "{:.4g}, {:.4g}".format(*h.bounds),
    )


def _span(values: Any) -> str:
    low, high = (f"{x:.4g}" for x in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _refused(
    model: keras.Model, optimizer: keras.Optimizer, method: Method
) -> dict[str, str]:
    """Returns why kinds can't be tuned, by the kinds' names."""
    reasons: dict[str, str] = {}
    for make in POSSIBLE:
        kind = make()
        try:
            kind.check(model, optimizer)
            method.check(optimizer, [kind])
        except arguments.Refused as refused:
            reasons[type(kind).__name__] = refused.reason
        except ValueError as error:
            reasons[type(kind).__name__] = str(error)
    return reasons
