"""The straight line from the first to the last weights, and the loss on it."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_drmad import keras_internals

ALPHAS = np.linspace(-0.5, 1.5, 41)  # places on the line, as in Goodfellow's
BATCH = 256  # examples evaluated at a time


class Barrier(NamedTuple):
    """The largest rise of a loss on the way from first to last weights.

    Attributes:
        height: float, the largest loss(α₂) − loss(α₁) with 0 ≤ α₁ ≤ α₂ ≤ 1; 0
            where the loss only falls.
        foot: float, α₁ of the largest rise.
        top: float, α₂ of the largest rise.
        fall: float, loss(0) − loss(1).
    """

    height: float
    foot: float
    top: float
    fall: float

    @property
    def is_there(self) -> bool:
        """Whether the rise exceeds 5 % of the fall, or 0 without a fall."""
        return self.height > 0.05 * max(self.fall, 0.0)


def barrier(
    alphas: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray
) -> Barrier:
    """Returns the largest rise of the loss between α = 0 and α = 1.

    A loss of nan or inf counts as the largest finite number.

    Args:
        alphas: `(n,)`, ascending places; places outside of [0, 1] are left
            out.
        losses: `(n,)`, the loss at each place.

    Raises:
        ValueError: if fewer than two places are in [0, 1], or the places do not
            ascend.
    """
    places = checked_places(alphas)
    inside = _on_the_way(places)
    most = np.finfo(float).max
    values = np.nan_to_num(
        np.asarray(losses, float)[inside], nan=most, posinf=most
    )
    places = places[inside]
    rises = values - np.minimum.accumulate(values)
    top = int(np.argmax(rises))
    foot = int(np.argmin(values[: top + 1]))
    return Barrier(
        float(rises[top]),
        float(places[foot]),
        float(places[top]),
        float(values[0] - values[-1]),
    )


def losses_along_line(
    model: Any,
    data: Mapping[str, tuple],
    *,
    alphas: Sequence[float] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Returns the losses on the straight line from first to last weights.

    The line is that of the model's last elementary training,
    w(α) = (1 − α) w_0 + α w_T, with the model's present hyperparameters. The
    losses are those of `evaluate`, without the penalties among the
    hyperparameters.

    Moving statistics of BatchNormalization belong to the last weights, and
    would make losses elsewhere on the line meaningless. So the statistics are
    estimated anew at each place, as means over the batches of the first data
    (Jordan et al., *REPAIR*, ICLR 2023, https://arxiv.org/abs/2211.08403).
    Training data, given first, is then normalized nearly as in training and in
    the walk backward; at α = 1 the losses differ a little from those that
    `evaluate` finds after `fit`.

    The model is left as it was. Time: an evaluation of all data at each place.

    Args:
        model: a `DrMADModel` that was fitted.
        data: dict from a label to `(x, y)` or `(x, y, sample_weight)`, the
            training data first.
        alphas: the places on the line, 41 from −0.5 to 1.5 by default.

    Returns:
        Dict from each label to an array with the loss at each place.

    Raises:
        ValueError: if the model was not fitted, or there is no data.
    """
    _check_line(model, data)
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    before = [np.array(v) for v in variables]
    places = ALPHAS if alphas is None else alphas
    try:
        rows = [_losses_at(model, alpha, data) for alpha in places]
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    return {label: np.array([row[label] for row in rows]) for label in data}


def checked_places(alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the argument `alphas` as an array.

    Raises:
        ValueError: if the places do not ascend, or fewer than two of them are
            in [0, 1].
    """
    places = np.asarray(alphas, float)
    if _on_the_way(places).sum() < 2 or np.any(np.diff(places) <= 0):
        raise ValueError(
            "Invalid value for argument `alphas`. Expected ascending places, "
            f"two or more of them in [0, 1]. Received: {places.tolist()}. Use "
            "`losses_along_line` for any other places."
        )
    return places


def _on_the_way(places: np.ndarray) -> np.ndarray:
    return (places > -1e-9) & (places < 1 + 1e-9)  # both ends, rounded


def _check_line(model: Any, data: Mapping[str, tuple]) -> None:
    if not model.start_weights:
        raise ValueError(
            "Invalid value for argument `model`. Expected a model that was "
            f"fitted in this session. Received: '{model.name}'. Call `fit`."
        )
    if not data:
        raise ValueError(
            "Invalid value for argument `data`. Expected a dict from labels to "
            f"`(x, y)`, the training data first. Received: {data}. Give at "
            "least the training data."
        )


def _losses_at(
    model: Any, alpha: float, data: Mapping[str, tuple]
) -> dict[str, float]:
    ends = zip(
        model.trainable_variables,
        model.start_weights,
        model.end_weights,
        strict=True,
    )
    for variable, first, last in ends:
        variable.assign((1 - alpha) * first + alpha * last)
    _estimate_statistics(model, next(iter(data.values()))[0])
    return {label: _loss(model, *arrays) for label, arrays in data.items()}


def _estimate_statistics(model: Any, x: Any) -> None:
    """Gives BatchNormalization its mean statistics over all batches."""
    kind = keras.layers.BatchNormalization
    layers = keras_internals.layers_within(model)
    norms = [layer for layer in layers if isinstance(layer, kind)]
    momenta = [norm.momentum for norm in norms]
    count = len(keras.tree.flatten(x)[0]) if norms else 0
    try:
        for seen in range(0, count, BATCH):
            part = operator.itemgetter(slice(seen, seen + BATCH))
            # The momentum with which a moving average becomes a mean.
            for norm in norms:
                norm.momentum = seen / min(seen + BATCH, count)
            model(keras.tree.map_structure(part, x), training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _loss(model: Any, x: Any, y: Any, sample_weight: Any = None) -> float:
    return model.evaluate(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=BATCH,
        verbose=0,
        return_dict=True,
    )["loss"]
