"""The course of a tuning, over its meta-iterations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_drmad import arguments, results
from keras_drmad.hyperparameters.transforms import Log
from keras_drmad.plots.basics import (
    drawn_on,
    new_figure,
    number_meta_iterations,
)
from keras_drmad.plots.scales import plain, scale_of
from keras_drmad.training.tuning_record import ALL, QUANTILES, TuningRecord

WIDE = 20  # times the lowest loss: then their scale is logarithmic
LAYERS = 8  # lines in one picture, at most
TITLES = {
    "loss": "training",
    "val_loss": "validation",
    "test_loss": "test",
    "hyper_loss": "fitted to",
}
# Of the walk backward, with what they are.
DIAGNOSTICS = {
    "hypergradient_norm": "norm of the hypergradient",
    "adjoint_growth": "growth of the adjoint",
}
LOW, MEDIAN, HIGH = (QUANTILES.index(q) for q in (0.1, 0.5, 0.9))


def losses(model: Any, *, axes: Any = None) -> Any:
    """Draws the losses of each training of the `fit`s since `compile`.

    And, at the end, as crosses, those of the last training with the values that
    were kept, if there was one. Dotted lines stand where a further `fit` began.

    Args:
        model: a `DrMADModel` that was tuned.
        axes: matplotlib `Axes`.

    Returns:
        The axes.

    Raises:
        ImportError: if there is no matplotlib.
        ValueError: if the model was not tuned.
    """
    results.of_model(model)
    record, axes = model.tuning_record, drawn_on(axes)
    names = record.losses
    places = np.arange(1, len(record.rows) + 1)
    for number, name in enumerate(names):
        color = f"C{number}"
        label = plain(TITLES.get(name, name))
        axes.plot(places, record.series(name), ".-", color=color, label=label)
        if name in record.final:
            last = record.final[name]
            axes.plot(len(places) + 1, last, "X", color=color)
    if record.final:
        axes.plot([], [], "X", color="0.55", label="with the values kept")
    _mark_fits(record, axes)
    _name_rows(record, axes)
    axes.set_ylabel("loss")
    shown = np.array([record.series(name) for name in names])
    lowest = np.nanmin(shown)
    scale_of(axes.yaxis, np.nanmax(shown) > WIDE * lowest, lowest)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="small")
    return axes


def course(
    model: Any, name: str | Sequence[str] | None = None, *, axes: Any = None
) -> Any:
    """Draws the values of a hyperparameter against meta-iterations.

    A line for the median, and a band between the quantiles of 10 and 90 %; for
    each layer, where there are at most eight lines. Of more than eight
    hyperparameters those that moved most; the legend says how many there are
    more. The cross at the end is the median of the values that the model has
    now.

    Args:
        model: a `DrMADModel` that was tuned.
        name: str, the hyperparameter, or a list of several; all by default.
        axes: matplotlib `Axes`.

    Returns:
        The axes.

    Raises:
        ImportError: if there is no matplotlib.
        ValueError: if the model was not tuned, or has no such hyperparameter.
    """
    found = chosen(model, name)
    record, axes = model.tuning_record, drawn_on(axes)
    places = np.arange(1, len(record.rows) + 1)
    lines = [
        (plain(results.label_of(one, label, found) or one.name), rows, now)
        for one in found
        for label, rows, now in _lines(one, record)
    ]
    more = 0
    if len(lines) > LAYERS:
        far = [-np.mean(np.abs(one.moved)) for one in found]
        most = np.sort(np.argsort(far, kind="stable")[:LAYERS])
        lines = [
            (plain(one.name), record.spreads[one.name][ALL], one.value)
            for one in (found[k] for k in most)
        ]
        more = len(found) - len(lines)
    for number, (label, rows, now) in enumerate(lines):
        color, spread = f"C{number}", np.array(rows).T
        axes.plot(places, spread[MEDIAN], ".-", color=color, label=label)
        if not np.array_equal(spread[LOW], spread[HIGH]):
            axes.fill_between(
                places,
                spread[LOW],
                spread[HIGH],
                color=color,
                alpha=0.2,
                linewidth=0,
            )
        axes.plot(len(places) + 1, np.median(now), "X", color=color)
    if axes.collections:
        axes.fill_between([], [], color="0.8", linewidth=0, label="10 to 90 %")
    axes.plot([], [], "X", color="0.55", label="kept")
    if more:
        axes.plot([], [], " ", label=f"{more} more, which moved less")
    _mark_fits(record, axes)
    _name_rows(record, axes)
    axes.set_ylabel(found[0].name if len(found) == 1 else "value")
    is_log = any(isinstance(one.kind.transform, Log) for one in found)
    lowest = min(min(np.min(rows), np.min(now)) for _, rows, now in lines)
    scale_of(axes.yaxis, is_log, lowest)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="small")
    return axes


def diagnostics(model: Any, *, figure: Any = None) -> Any:
    """Draws what the walks backward told: how sure their numbers are.

    The norm of the hypergradient, and the growth of the adjoint: how much
    larger its largest norm on the way was than its first one. A growth of 1e6
    or so means that a training is too hot for its hypergradient to guide.

    Args:
        model: a `DrMADModel` that was tuned.
        figure: matplotlib `Figure` or `SubFigure`, a new one by default.

    Returns:
        The figure.

    Raises:
        ImportError: if there is no matplotlib.
        ValueError: if the model was not tuned.
    """
    results.of_model(model)
    record = model.tuning_record
    figure = new_figure(9, 3.2) if figure is None else figure
    grid = figure.subplots(1, len(DIAGNOSTICS))
    places = np.arange(1, len(record.rows) + 1)
    for axes, (name, title) in zip(grid, DIAGNOSTICS.items(), strict=True):
        rows = record.series(name)
        axes.plot(places, rows, ".-")
        axes.set_title(title, fontsize="medium")
        scale_of(axes.yaxis, True, np.nanmin(rows, initial=1.0))
        _mark_fits(record, axes)
        _name_rows(record, axes)
        axes.grid(alpha=0.25)
    return figure


def chosen(
    model: Any, name: str | Sequence[str] | None
) -> list[results.Result]:
    """Returns the results of the hyperparameters of these names.

    Raises:
        ValueError: if the model was not tuned, or has no such hyperparameter.
    """
    found = {one.name: one for one in results.of_model(model)}
    names = list(found) if name is None else name
    names = [names] if isinstance(names, str) else list(names)
    if not names or not set(names) <= set(found):
        raise arguments.value_error(
            "name",
            name,
            f"names of hyperparameters of this model, {list(found)}",
        )
    return [found[one] for one in names]


def _lines(
    one: results.Result, record: TuningRecord
) -> list[tuple[str, list, np.ndarray]]:
    """Returns label, quantiles and present values of each line."""
    spreads = record.spreads[one.name]
    if len(spreads) == 1:
        return [("", spreads[ALL], one.value)]
    split = one.kind.by_layer(one.value[np.newaxis])
    return [(layer, spreads[layer], now) for layer, now in split.items()]


def _name_rows(record: TuningRecord, axes: Any) -> None:
    """Names the horizontal axis: within one training, rows are epochs."""
    number_meta_iterations(axes)
    if all(one["every"] for one in record.fits):
        axes.set_xlabel("epoch")


def _mark_fits(record: TuningRecord, axes: Any) -> None:
    for one in record.fits:
        if 0 < one["first"] < len(record.rows):
            axes.axvline(one["first"] + 0.5, color="0.55", ls=":", lw=1)
