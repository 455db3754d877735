"""What is tuned in a model, and what can't be tuned and why, in words."""

import math
from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_drmad import arguments, tunable_model
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.meta_optimizers.base import MetaOptimizer, mover_of
from keras_drmad.meta_optimizers.sign_consensus import SignConsensus
from keras_drmad.methods.base import Method
from keras_drmad.paragraphs import WIDTH, span_of, wrapped

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


def summary(
    model: keras.Model,
    optimizer: keras.Optimizer,
    tuned: Iterable[Hyperparameter],
    method: Method,
    *,
    meta_optimizer: keras.Optimizer | None = None,
    meta_iterations: int,
) -> str:
    """Returns a table of hyperparameters, and what can't be tuned and why.

    And how far a `fit` can move the values, where the meta-optimizer tells; how
    certain the signs of the gradients were, after `fit` with `SignConsensus`;
    and the random layers that `keras_drmad.tunable` would replace.

    Args:
        model: the elementary model, compiled.
        optimizer: the model's optimizer.
        tuned: the hyperparameters that are tuned.
        method: the method of the hypergradient.
        meta_optimizer: what moves the raw values, built; see
            `meta_optimizers.united`.
        meta_iterations: int, the length of the `fit`.
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
        *_reached(tuned, meta_optimizer, meta_iterations),
        *_certainty(tuned, meta_optimizer),
    ]
    refused = _refused(model, optimizer, method)
    if refused:
        lines.append(" Can't be tuned here:")
    for name, why in refused.items():
        lines += wrapped(f"{name}: {why}")
    found = tunable_model.replacements(model)
    if any(one.make for one in found):
        lines.append(" `keras_drmad.tunable(model)` would find:")
    for one in found:
        lines += wrapped(one.described())
    return "\n".join(lines)


def _row(h: Hyperparameter) -> str:
    return COLUMNS.format(
        f"{h.name} ({type(h).__name__})",
        str(tuple(h.raw.shape)),
        f"{math.prod(h.raw.shape):,}",
        span_of(h.value().numpy()),
        "{:.4g}, {:.4g}".format(*h.bounds),
    )


# ---- what the meta-optimizer tells


def _reached(
    tuned: list[Hyperparameter],
    meta_optimizer: keras.Optimizer | None,
    meta_iterations: int,
) -> list[str]:
    """Returns lines on where meta-iterations can move the values."""
    lines = []
    for h in tuned:
        mover = mover_of(h, meta_optimizer)
        if isinstance(mover, MetaOptimizer):
            ends = np.clip(
                mover.within_reach(h.raw, meta_iterations), *h.raw_bounds
            )
            span = span_of(h.transform.value(ends).numpy(), digits=2)
            warning = _warning(ends, h)
            lines += wrapped(f"{h.name}: {span}.{warning}")
    if lines:
        many = "" if meta_iterations == 1 else "s"
        head = f" Within reach of {meta_iterations} meta-iteration{many}"
        lines.insert(0, f"{head}, at most:")
    return lines


def _warning(ends: np.ndarray, h: Hyperparameter) -> str:
    """Returns a warning if less than half of what is within bounds is reached.

    Args:
        ends: `(2, *shape)`, the lowest and the highest raw values.
        h: the hyperparameter.
    """
    lowest, highest = h.raw_bounds
    reached = np.mean(ends[1] - ends[0]) / (highest - lowest)
    if not math.isfinite(highest - lowest) or reached >= 0.5:
        return ""
    bounds = "{:.4g}, {:.4g}".format(*h.bounds)
    return (
        f" WARNING: that is {reached:.0%} of the way between the bounds "
        f"({bounds}), in raw values. For more, raise `meta_iterations` or the "
        "meta-optimizer's `learning_rate`."
    )


def _certainty(
    tuned: list[Hyperparameter], meta_optimizer: keras.Optimizer | None
) -> list[str]:
    """Returns lines on how certain the signs of the gradients were."""
    lines = []
    for h in tuned:
        mover = mover_of(h, meta_optimizer)
        if not isinstance(mover, SignConsensus):
            continue
        votes, certainty = mover.votes(h.raw), mover.certainty(h.raw)
        if votes.any():
            lines += wrapped(
                f"{h.name}: median {np.median(certainty):.2f}, above 0.5 for "
                f"{np.mean(certainty > 0.5):.0%} of the entries, by up to "
                f"{votes.max():.0f} gradients."
            )
    if lines:
        head = " Certainty of the gradients' signs (1: all agreed):"
        lines.insert(0, head)
    return lines


# ---- what can't be tuned


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
