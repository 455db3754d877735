"""Warnings at the end of a `fit` that tell what its results are worth."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_drmad import arguments
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.values import STILL, are_at_bounds, room
from keras_drmad.training.plan import Plan

AT_BOUND = 0.1  # the share of the values from which bounds are worth a warning
ENOUGH = 5  # meta-iterations, in which it could have
SURE = 2.0  # standard errors


def on_numbers(hyperparameters: Sequence[Hyperparameter], plan: Plan) -> str:
    """Returns a note if few examples are to determine many values.

    Args:
        hyperparameters: those that are tuned.
        plan: of the training. A split that is drawn anew lets each example
            count, and streams do not tell their size.
    """
    size = plan.hyper.batches.size
    count = sum(h.count for h in hyperparameters)
    if plan.split is not None or size is None or count <= size:
        return ""
    return (
        f"Note: {count:,} values are fitted to {size:,} validation examples; "
        "whether they hold for others tells "
        "`check_hyperparameters(..., test_data=...)`"
    )


class Advice:
    """Looks at the meta-iterations of a `fit`, and warns at its end."""

    def __init__(self, hyperparameters: Sequence[Hyperparameter]):
        """Initializes the advice; the hyperparameters have their first values.

        Args:
            hyperparameters: those that are tuned.
        """
        self._each = list(hyperparameters)
        self._first = [h.raw.numpy() for h in self._each]
        self._farthest = [0.0 for _ in self._each]
        self._is_zero = True
        self._steps = 0
        self._past_edge: list[float] = []

    def note(self, diagnostics: Mapping[str, Any]) -> None:
        """Looks at the values after a meta-iteration's step."""
        self._steps += 1
        self._past_edge.append(diagnostics.get("past_edge", 0.0))
        if diagnostics["hypergradient_norm"] != 0:  # nan is none of 0 either
            self._is_zero = False
        for k, h in enumerate(self._each):
            distances = np.abs(h.raw.numpy() - self._first[k]) / h.unit
            self._farthest[k] = max(self._farthest[k], float(distances.max()))

    def give(
        self,
        history: Mapping[str, Sequence[float]],
        callbacks: Sequence[Any],
    ) -> None:
        """Warns of what a user should know, in the order of importance.

        Args:
            history: of the `fit`, an entry for each meta-iteration.
            callbacks: those of the `fit`, of which some hold out examples.

        Warns:
            UserWarning: if values ended at a bound, if values hardly moved, if
                learning rates ended at the edge of stability, and if
                hyperparameters overfit the data that they are fitted to.
        """
        fitted = history.get("hyper_loss", history.get("val_loss", ()))
        texts = [*map(_at_bounds, self._each), *self._stood_still(fitted)]
        texts.append(_at_the_edge(self._past_edge))
        texts += [
            _overfit(history, fitted, held_out)
            for fitted, held_out in _losses(history, callbacks)
        ]
        for text in filter(None, texts):
            warnings.warn(text, UserWarning, stacklevel=arguments.users_level())

    def _stood_still(self, losses: Sequence[float] = ()) -> list[str]:
        """Returns warnings of what hardly moved.

        Args:
            losses: those that are fitted, of each meta-iteration.
        """
        if not self._steps:
            return []
        count = f"{self._steps} step" + "s" * (self._steps > 1)
        if self._is_zero and len(losses) and not np.any(losses):
            return [
                f"The validation loss was exactly 0 in each of {count}, and "
                "nothing was tuned. Expected data with a loss to fit "
                "hyperparameters to. Look at the sample weights of the "
                "validation data: where all are 0, there is none."
            ]
        if self._is_zero:
            return [
                f"The hypergradient was 0 in each of {count}: nothing that is "
                "tuned has an effect on the validation loss. Look at "
                "`model.hyperparameter_summary()` for what is tuned; a "
                "hyperparameter of a layer that is not trained, for instance, "
                "has no effect."
            ]
        if self._steps < ENOUGH:
            return []
        each = zip(self._each, self._first, self._farthest, strict=True)
        return [
            _stood_still(h, first, far, count)
            for h, first, far in each
            if far < STILL
        ]


def _stood_still(
    h: Hyperparameter, first: np.ndarray, far: float, count: str
) -> str:
    """Returns a warning of a hyperparameter that hardly moved.

    "" where all values are at their bounds, of which another one tells.

    Args:
        h: the hyperparameter.
        first: array, its first raw values.
        far: how far any of them was from that, in natural units.
        count: str, the number of steps.
    """
    low, high = are_at_bounds(h.raw.numpy(), h.raw_bounds, h.unit)
    if np.all(low | high):
        return ""
    told = (
        f"The values of '{h.name}' hardly moved in {count}: their raw numbers "
        f"by {far:.2g} natural units at most, where a few units make a "
        "difference."
    )
    if room(first, h.raw_bounds, h.unit) < STILL:
        return f"{told} Pass wider `bounds=` to the hyperparameter."
    return (
        f"{told} Raise the `learning_rate` of the meta-optimizer, or use "
        "`meta_optimizer=keras_drmad.SignConsensus()`, whose steps have a "
        "natural size."
    )


def _at_bounds(h: Hyperparameter) -> str:
    """Returns a warning if values are at a bound that a user has set."""
    raw, count = h.raw.numpy(), h.raw.numpy().size
    at_bounds = are_at_bounds(raw, h.raw_bounds, h.unit)
    sides = []
    for side, at_bound, value in zip(
        ("lower", "upper"), at_bounds, h.bounds, strict=True
    ):
        number = int(np.sum(at_bound))
        if number >= max(1, AT_BOUND * count):
            sides.append(
                f"{number:,} of {count:,} at the {side} bound {value:.4g}"
            )
    if not sides:
        return ""
    return (
        f"Values of '{h.name}' ended at their bounds: {' and '.join(sides)}. "
        "Better values may lie beyond. Pass wider `bounds=` to the "
        "hyperparameter, unless these are the limits of what makes sense."
    )


def _at_the_edge(past_edge: Sequence[float]) -> str:
    """Returns a warning if trainings were past the edge of stability lately.

    Args:
        past_edge: for each meta-iteration, how many trainings were.
    """
    last = past_edge[-max(1, len(past_edge) // 3) :]
    count = round(sum(last))
    if not count:
        return ""
    trainings = "1 training" if count == 1 else f"{count} trainings"
    return (
        "Learning rates ended near the edge of stability: in the last "
        f"{len(last)} of {len(past_edge)} meta-iterations {trainings} "
        "diverged, made nothing better, or had an adjoint that grew a "
        "thousandfold. There a hypergradient says little, and rates are "
        "lowered as far as their bounds allow. On other draws the values "
        "found may pass the edge: "
        "`model.check_hyperparameters` tells. Use more `meta_iterations`, or "
        "pass an upper bound, `bounds=(None, highest)`, to the hyperparameter."
    )


def _losses(
    history: Mapping[str, Any], callbacks: Sequence[Any]
) -> list[tuple[str, str]]:
    """Returns names of a loss that is fitted and of one that is held out."""
    fitted, pairs = "val_loss", []
    if "hyper_loss" in history:
        fitted = "hyper_loss"
        pairs.append((fitted, "val_loss"))
    prefixes = [getattr(one, "prefix", "") for one in callbacks]
    pairs += [(fitted, f"{prefix}loss") for prefix in prefixes if prefix]
    return [pair for pair in pairs if pair[1] in history]


def _overfit(
    history: Mapping[str, Sequence[float]], fitted: str, held_out: str
) -> str:
    """Returns a warning if one loss fell, and another one rose surely.

    The first third of the meta-iterations is compared with the last one.
    """
    rows = {
        name: np.asarray(history[name], float) for name in (fitted, held_out)
    }
    if len(rows[fitted]) != len(rows[held_out]):
        return ""
    is_known = np.isfinite(rows[fitted]) & np.isfinite(rows[held_out])
    rows = {name: row[is_known] for name, row in rows.items()}
    third = len(rows[fitted]) // 3
    if third < 2:
        return ""
    ends = {name: (row[:third], row[-third:]) for name, row in rows.items()}
    means = {k: (a.mean(), b.mean()) for k, (a, b) in ends.items()}
    rise = means[held_out][1] - means[held_out][0]
    variance = sum(x.var(ddof=1) / third for x in ends[held_out])
    is_sure = rise > SURE * variance**0.5
    if not (is_sure and means[fitted][1] < means[fitted][0]):
        return ""
    told = {k: f"from {a:.4g} to {b:.4g}" for k, (a, b) in means.items()}
    return (
        "The hyperparameters overfit the data that they are fitted to: from "
        "the first third of the meta-iterations to the last, "
        f"`{fitted}` fell {told[fitted]}, while `{held_out}`, of examples "
        f"that they are not fitted to, rose {told[held_out]}. Fit them to more "
        "examples, to a `validation_split` that is drawn anew, or stop "
        "earlier; or tune fewer values (`per='layer'`)."
    )
