"""Pictures on one pair of axes each, of numbers that are given.

Each function draws on a matplotlib `Axes` and returns the axes; without `axes`
it draws on new ones. The numbers of `loss_along_line` come from the module of
that name, which needs no matplotlib.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_drmad import loss_along_line as line
from keras_drmad.hyperparameter_check import HyperparameterCheck
from keras_drmad.plots.scales import legend_above, plain, whole_ticks


def values_by_layer(
    values: Mapping[str, np.ndarray], *, axes: Any = None, label: str = ""
) -> Any:
    """Draws mean and spread of each layer's values against meta-iterations.

    Args:
        values: dict from a layer to its values `(meta_iterations, count)`, as
            `keras_drmad.hyperparameters.Hyperparameter.by_layer` returns them
            for a recorded history.
        axes: matplotlib `Axes`.
        label: str, of the vertical axis.

    Returns:
        The axes, with a line for the mean of the logarithms, and a band of one
        standard deviation of the logarithms to both sides.
    """
    axes = drawn_on(axes)
    for layer, rows in values.items():
        steps = np.arange(1, len(rows) + 1)
        name = plain(f"{layer} ({rows.shape[1]})")
        mean_and_band(steps, rows.T, axes=axes, label=name, log=True)
    axes.set_yscale("log")
    number_meta_iterations(axes)
    axes.set_ylabel(label)
    axes.legend()
    return axes


def mean_and_band(
    places: Sequence[float] | np.ndarray,
    rows: np.ndarray,
    *,
    axes: Any,
    label: str = "",
    log: bool = False,
    **style: Any,
) -> None:
    """Draws the mean of several rows, and one standard deviation around it.

    Args:
        places: `(n,)`, horizontal.
        rows: `(count, n)`, for instance a row for each seed.
        axes: matplotlib `Axes`.
        label: str, of the line.
        log: bool, whether to take mean and deviation of the logarithms.
        **style: arguments of `Axes.plot` for the line.
    """
    values = np.log(rows) if log else np.asarray(rows)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    back = np.exp if log else np.asarray
    style = _marker(mean) | style
    (drawn,) = axes.plot(places, back(mean), label=label, **style)
    axes.fill_between(
        places,
        back(mean - spread),
        back(mean + spread),
        color=drawn.get_color(),
        alpha=0.2,
        linewidth=0,
    )


def curves(
    history: Mapping[str, Sequence[float]],
    names: Mapping[str, str],
    *,
    axes: Any = None,
    ylabel: str = "",
) -> Any:
    """Draws entries of a history against meta-iterations.

    Args:
        history: `keras.callbacks.History.history`.
        names: dict from an entry to the label of its line.
        axes: matplotlib `Axes`.
        ylabel: str, of the vertical axis.

    Returns:
        The axes.
    """
    axes = drawn_on(axes)
    for name, label in names.items():
        values = history[name]
        places = np.arange(1, len(values) + 1)
        axes.plot(places, values, label=label, **_marker(values))
    number_meta_iterations(axes)
    axes.set_ylabel(ylabel)
    axes.legend()
    return axes


def hyperparameter_check(
    check: HyperparameterCheck, *, axes: Any = None
) -> Any:
    """Draws the losses of a `model.check_hyperparameters`, draw by draw.

    Args:
        check: what `check_hyperparameters` returned.
        axes: matplotlib `Axes`.

    Returns:
        The axes: for each loss and each set of values a point a draw, where
        thin lines join points of the same draw, and a bar for their mean.
    """
    axes = drawn_on(axes)
    sets = list(check.results)
    losses = list(check.differences)
    places = np.arange(len(sets), dtype=float)
    for number, loss in enumerate(losses):
        rows = np.array([check.results[name][loss] for name in sets])
        across = places + number * (len(sets) + 0.5)
        color = f"C{number}"
        axes.plot(across, rows, color=color, alpha=0.35, linewidth=0.8)
        axes.plot(across, rows, ".", color=color)
        label = "test loss" if loss == "test_loss" else "validation loss"
        axes.hlines(
            rows.mean(axis=1),
            across - 0.25,
            across + 0.25,
            color=color,
            linewidth=2.5,
            label=label,
        )
    shifts = np.arange(len(losses)) * (len(sets) + 0.5)
    axes.set_xticks(
        (places + shifts[:, None]).ravel(),
        sets * len(losses),
        rotation=20,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_ylabel("loss")
    title = f"On {check.draws} new draws: {check.verdict}"
    axes.set_title(title, loc="left", pad=22)  # above the legend
    legend_above(axes)  # wherever the points are
    return axes


def input_map(
    values: np.ndarray,
    shape: tuple[int, int],
    *,
    axes: Any = None,
    label: str = "",
) -> Any:
    """Draws one value for each input of an image as a heat map.

    Args:
        values: `(height * width,)`.
        shape: `(height, width)`.
        axes: matplotlib `Axes`.
        label: str, of the color bar.

    Returns:
        The axes, with a color bar, which is logarithmic if all are positive.
    """
    axes = drawn_on(axes)
    norm = "log" if np.min(values) > 0 else "linear"
    image = axes.imshow(np.reshape(values, shape), norm=norm, cmap="viridis")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(image, ax=axes, label=label)
    return axes


def loss_along_line(
    model: Any,
    data: Mapping[str, tuple],
    *,
    axes: Any = None,
    alphas: Sequence[float] | np.ndarray | None = None,
) -> Any:
    """Draws the loss on the straight line from the first to the last weights.

    `keras_drmad.loss_along_line.losses_along_line` returns the losses that are
    drawn. DrMAD walks backward along this line, on the premise that training
    loss falls smoothly along the line and has a single minimum near its end.
    Where instead the loss rises on the way by more than 5 % of its fall from
    α = 0 to α = 1, or does not fall at all, there is a barrier (see
    `keras_drmad.loss_along_line.barrier`): the picture marks the barrier, and a
    warning tells of it.

    Args:
        model: a `DrMADModel` that was fitted.
        data: dict from a label to `(x, y)` or `(x, y, sample_weight)`; the
            first one, the training data, is searched for a barrier.
        axes: matplotlib `Axes`.
        alphas: ascending places, 41 from −0.5 to 1.5 by default.

    Returns:
        The axes.

    Raises:
        ValueError: if the model was not fitted, if there is no data, if the
            places do not ascend, or if fewer than two of them are in [0, 1].

    Warns:
        UserWarning: if there is a barrier.

    References: Goodfellow, Vinyals, Saxe, *Qualitatively characterizing neural
    network optimization problems*, ICLR 2015, https://arxiv.org/abs/1412.6544.
    """
    places = line.checked_places(line.ALPHAS if alphas is None else alphas)
    losses = line.losses_along_line(model, data, alphas=places)
    axes = drawn_on(axes)
    for label, values in losses.items():
        axes.plot(places, values, label=plain(label))
    for alpha, name in ((0, "first weights"), (1, "last weights")):
        axes.axvline(alpha, color="gray", linewidth=0.8, linestyle=":")
        axes.annotate(
            name,
            (alpha, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            fontsize="small",
            color="gray",
        )
    first = next(iter(losses))
    found = line.barrier(places, losses[first])
    if found.is_there:
        label = f"barrier: {first} loss rises by {found.height:.3g}"
        axes.axvspan(found.foot, found.top, color="C3", alpha=0.15, label=label)
        _warn_of(found, first)
    axes.set_xlabel("α: place on the line (1 − α) · first + α · last weights")
    axes.set_ylabel("loss")
    axes.legend()
    return axes


def _warn_of(found: line.Barrier, label: str) -> None:
    warnings.warn(
        f"The {label} loss has a barrier on the line from the first weights "
        f"to the last: it rises by {found.height:.3g} from α = "
        f"{found.foot:.3g} to α = {found.top:.3g}, while from α = 0 to α = 1 "
        f"it falls by {found.fall:.3g}. DrMAD's premise, that the loss falls "
        "smoothly along this line, fails here, and its hypergradient may be "
        "poor. Use `hypergradient=keras_drmad.ReverseMode()`, `'auto'`, or a "
        "walk backward with anchors, `keras_drmad.DrMAD(0.7, anchors=39, "
        "spacing='end')`.",
        UserWarning,
        stacklevel=3,
    )


def _marker(values: Sequence[float] | np.ndarray) -> dict[str, str]:
    """Returns a style in which a line of a single point is seen."""
    return {"marker": "."} if len(values) == 1 else {}


def number_meta_iterations(axes: Any) -> None:
    """Names the horizontal axis, which has whole numbers."""
    axes.set_xlabel("meta-iteration")
    whole_ticks(axes.xaxis)


def drawn_on(axes: Any) -> Any:
    """Returns the axes, or new ones for `None`."""
    if axes is not None:
        return axes
    return new_figure(6, 4).add_subplot()


def new_figure(width: float, height: float) -> Any:
    """Returns a new figure of pyplot.

    Args:
        width: float, in inches.
        height: float, in inches.

    Raises:
        ImportError: if there is no matplotlib.
    """
    need_matplotlib()
    from matplotlib import pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def need_matplotlib() -> None:
    """Checks that there is matplotlib.

    Raises:
        ImportError: if there is none.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The pictures need matplotlib. Run "
            "`pip install keras_drmad[plots]`."
        ) from error
