"""Pictures that explain what a meta-training did.

Each function draws on a matplotlib `Axes` (a new one by default) and returns
it. matplotlib is an optional requirement: `pip install keras_drmad[plots]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def penalties_by_layer(
    values: Mapping[str, np.ndarray], axes: Any = None, label: str = ""
) -> Any:
    """Draws mean and spread of each layer's values against meta-iterations.

    Args:
        values: dict from a layer to its values `(meta_iterations, count)`, as
            `Hyperparameter.by_layer` returns them for a recorded history.
        axes: matplotlib `Axes`.
        label: str, of the vertical axis.

    Returns:
        The axes: a line for the mean of the logarithms, and a band of one
        standard deviation of the logarithms to both sides.
    """
    axes = _axes(axes)
    for layer, rows in values.items():
        steps = np.arange(1, len(rows) + 1)
        name = f"{layer} ({rows.shape[1]})"
        mean_and_band(steps, rows.T, axes, name, log=True)
    axes.set_yscale("log")
    _number_meta_iterations(axes)
    axes.set_ylabel(label)
    axes.legend()
    return axes


def mean_and_band(
    places: Sequence[float] | np.ndarray,
    rows: np.ndarray,
    axes: Any,
    label: str = "",
    log: bool = False,
    **style: Any,
) -> None:
    """Draws the mean of several rows, and one standard deviation around it.

    Args:
        places: `(n,)`, horizontal.
        rows: `(count, n)`; of different seeds, for instance.
        axes: matplotlib `Axes`.
        label: str, of the line.
        log: bool, whether mean and deviation are those of the logarithms.
        **style: of the line, as for `Axes.plot`.
    """
    values = np.log(rows) if log else np.asarray(rows)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    back = np.exp if log else np.asarray
    (line,) = axes.plot(places, back(mean), label=label, **style)
    axes.fill_between(
        places,
        back(mean - spread),
        back(mean + spread),
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
    )


def curves(
    history: Mapping[str, Sequence[float]],
    names: Mapping[str, str],
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
    axes = _axes(axes)
    for name, label in names.items():
        values = history[name]
        axes.plot(np.arange(1, len(values) + 1), values, label=label)
    _number_meta_iterations(axes)
    axes.set_ylabel(ylabel)
    axes.legend()
    return axes


def input_map(
    values: np.ndarray,
    shape: tuple[int, int],
    axes: Any = None,
    label: str = "",
) -> Any:
    """Draws one value for each input of an image as a heat map.

    Args:
        values: `(height * width,)`, positive.
        shape: `(height, width)`.
        axes: matplotlib `Axes`.
        label: str, of the color bar.

    Returns:
        The axes, with a logarithmic color bar.
    """
    from matplotlib import colors

    axes = _axes(axes)
    image = axes.imshow(
        np.reshape(values, shape), norm=colors.LogNorm(), cmap="viridis"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(image, ax=axes, label=label)
    return axes


def loss_along_line(
    model: Any,
    data: Mapping[str, tuple],
    axes: Any = None,
    alphas: Sequence[float] | None = None,
) -> Any:
    """Draws the loss on the straight line from the first to the last weights.

    The line of `model`'s last elementary training: w(α) = (1 − α) w_0 + α w_T.
    DrMAD walks back along it, on the premise that the loss falls smoothly
    along it. Statistics of BatchNormalization stay those the model has now.
    The model is left as it was.

    Args:
        model: a `DrMADModel` that was fitted.
        data: dict from a label to `(x, y)` or `(x, y, sample_weight)`.
        axes: matplotlib `Axes`.
        alphas: where to evaluate, 41 points from −0.5 to 1.5 by default.

    Returns:
        The axes.

    Raises:
        ValueError: if the model was not fitted.

    References: Goodfellow, Vinyals, Saxe, *Qualitatively characterizing neural
    network optimization problems*, ICLR 2015, https://arxiv.org/abs/1412.6544.
    """
    if not model.start_weights:
        raise ValueError(
            "Invalid value for argument `model`. Expected a model that was "
            f"fitted in this session. Received: '{model.name}'. Call `fit`."
        )
    places = np.linspace(-0.5, 1.5, 41) if alphas is None else alphas
    axes = _axes(axes)
    before = model.get_weights()
    try:
        for label, arrays in data.items():
            losses = [_loss_at(model, alpha, arrays) for alpha in places]
            axes.plot(places, losses, label=label)
    finally:
        model.set_weights(before)
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
    axes.set_xlabel("α: place on the line (1 − α) · first + α · last weights")
    axes.set_ylabel("loss")
    axes.legend(loc="lower left")
    return axes


def _loss_at(model: Any, alpha: float, arrays: tuple) -> float:
    ends = zip(
        model.trainable_variables,
        model.start_weights,
        model.end_weights,
        strict=True,
    )
    for variable, first, last in ends:
        variable.assign((1 - alpha) * first + alpha * last)
    x, y, *weight = arrays
    results = model.evaluate(
        x,
        y,
        sample_weight=weight[0] if weight else None,
        batch_size=256,
        verbose=0,
        return_dict=True,
    )
    return results["loss"]


def _number_meta_iterations(axes: Any) -> None:
    from matplotlib import ticker

    axes.set_xlabel("meta-iteration")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "The pictures need matplotlib. Run "
            "`pip install keras_drmad[plots]`."
        ) from error
    return plt.figure(figsize=(6, 4), layout="constrained").add_subplot()
