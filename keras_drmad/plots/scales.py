"""Scales, ticks, legends and pixels of pictures."""

from typing import Any

import numpy as np

LONG = 10_000  # from here on, numbers at ticks run into each other


def scale_of(axis: Any, is_log: bool, lowest: float) -> None:
    """Makes an axis logarithmic or not; call it after drawing.

    Args:
        axis: matplotlib `Axis`.
        is_log: bool, whether values belong on a logarithmic scale.
        lowest: float, of the values; one that is not positive has no place
            on such a scale.
    """
    if is_log and lowest > 0:
        is_x = axis.axis_name == "x"
        (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
        plain_ticks(axis)


def plain_ticks(axis: Any) -> None:
    """Writes 0.05 for 5 x 10^-2; between powers of ten where there are few."""
    from matplotlib import ticker

    low, high = sorted(axis.get_view_interval())
    plain = ticker.FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain)
    is_short = low > 0 and high / low < 30
    if is_short:
        axis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(plain if is_short else ticker.NullFormatter())


def legend_above(axes: Any) -> None:
    """Puts the legend above the axes, to the right."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
    )


def whole_ticks(axis: Any, count: int = 9) -> None:
    """Puts ticks, so many at most, at whole numbers; call it after drawing.

    Of long numbers fewer; a single one where there is a single place.
    """
    from matplotlib import ticker

    if max(axis.get_view_interval()) >= LONG:
        count = min(count, 4)
    axis.set_major_locator(
        ticker.MaxNLocator(count, integer=True, min_n_ticks=1)
    )


def plain(text: str) -> str:
    """Returns a name as matplotlib shows it as it is.

    A legend leaves out what begins with "_", and "$" begins a formula.
    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def pixels(image: np.ndarray) -> np.ndarray:
    """Returns an image as matplotlib takes it, colors within [0, 1]."""
    if image.ndim == 2:
        return image
    low, high = np.min(image), np.max(image)
    return (image - low) / max(high - low, 1e-12)


def label_of(label: Any) -> str:
    """Returns a label in a few letters; the class of a one-hot one."""
    array = np.asarray(label)
    if array.size > 1:
        return str(int(np.argmax(array)))
    return (
        f"{array.item():.4g}" if array.dtype.kind == "f" else str(array.item())
    )
