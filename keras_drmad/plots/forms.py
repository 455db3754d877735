"""A drawing for each form that entries of hyperparameters have.

Each function draws on a figure or a part of a figure. The start is gray.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_drmad.hyperparameters.parts import Part
from keras_drmad.hyperparameters.transforms import Log
from keras_drmad.plots.scales import (
    label_of,
    legend_above,
    pixels,
    plain,
    plain_ticks,
    scale_of,
    whole_ticks,
)
from keras_drmad.results import Result
from keras_drmad.results import label_of as label_in

START = "0.55"  # the color of what was before
IMAGES = 12  # examples shown
LEARNED = 10  # learned examples shown
BARS = 400  # entries in a row of bars; more are sorted
LITTLE = 0.2  # units that a picture shows to both sides of a start
LINES = 10  # curves of one color each


class Piece(NamedTuple):
    """A part of a hyperparameter, with what happened to it.

    Attributes:
        one: the hyperparameter's `Result`.
        part: the `Part`.
        title: str, its label in this picture, or "".
    """

    one: Result
    part: Part
    title: str = ""

    @property
    def start(self) -> np.ndarray:
        """The values before, of the shape of the part."""
        return self.part.of(self.one.start)

    @property
    def value(self) -> np.ndarray:
        """The values now."""
        return self.part.of(self.one.value)

    @property
    def moved(self) -> np.ndarray:
        """How far raw values moved, in natural units."""
        return self.part.of(self.one.moved)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.part.entries.size

    @property
    def label(self) -> str:
        """The part's title, or the hyperparameter's name."""
        return self.title or plain(self.one.name)

    @property
    def is_log(self) -> bool:
        """Whether values belong on a logarithmic scale."""
        return isinstance(self.one.kind.transform, Log)


def pieces_of(found: Sequence[Result]) -> list[Piece]:
    """Returns the parts of hyperparameters that are drawn together."""
    return [
        Piece(one, part, plain(label_in(one, part.label, found)))
        for one in found
        for part in one.kind.parts()
    ]


def ranges(pieces: Sequence[Piece], figure: Any) -> None:
    """Draws a bar from start to end for each part.

    Of a part with several entries the medians, and a thin line from the 10 %
    quantile to that of 90 %.
    """
    axes = figure.add_subplot()
    for row, piece in enumerate(pieces):
        start, end = np.median(piece.start), np.median(piece.value)
        axes.plot([start, end], [row, row], "C0", linewidth=7, alpha=0.45)
        if piece.size > 1:
            spread = np.quantile(piece.value, [0.1, 0.9])
            axes.plot(spread, [row, row], "C0", linewidth=1)
        axes.plot(_around(piece), [row, row], alpha=0)  # no tiny move is wide
        axes.plot(start, row, "o", color=START, label=_once("start", row))
        axes.plot(end, row, "o", color="C0", label=_once("end", row))
        axes.annotate(
            f"{end:.3g}",
            (end, row),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    labels = [_with_size(piece) for piece in pieces]
    axes.set_yticks(range(len(pieces)), labels)
    axes.set_ylim(len(pieces) - 0.4, -0.7)
    axes.set_xlabel("value")
    axes.margins(x=0.1)
    scale(axes.xaxis, pieces)
    axes.grid(axis="x", alpha=0.25)
    legend_above(axes)


def curves(pieces: Sequence[Piece], figure: Any) -> None:
    """Draws values over the steps of a training.

    Of a part with several values in each step the median, and a band between
    the quantiles of 10 and 90 %. Where there are more than ten parts, likewise
    over all of them.
    """
    axes = figure.add_subplot()
    if len(pieces) > LINES:
        pieces = [_together(pieces)]
    for number, piece in enumerate(pieces):
        color = f"C{number}"
        steps = piece.part.places
        rows = _rows(piece.value)
        if steps is None:
            steps = np.arange(len(rows))
        marker = "." if len(rows) < 30 else ""
        before = np.median(_rows(piece.start), axis=1)
        # Most starts are alike: then one line is enough.
        is_new = not any(
            np.allclose(before, _before(p)) for p in pieces[:number]
        )
        if is_new:
            label = _once("start", number)
            axes.plot(steps, before, "--", color=START, label=label)
        axes.plot(
            steps,
            np.median(rows, axis=1),
            color=color,
            marker=marker,
            label=piece.label,
        )
        if rows.shape[1] > 1:
            band = np.quantile(rows, [0.1, 0.9], axis=1)
            axes.fill_between(steps, *band, color=color, alpha=0.2, lw=0)
    axes.set_xlabel("training step" if _is_step(pieces[0]) else "knot")
    whole_ticks(axes.xaxis)
    axes.set_ylabel(pieces[0].one.name)
    scale(axes.yaxis, pieces)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="small")


def vector(piece: Piece, figure: Any) -> None:
    """Draws a bar from start to end for each entry of a row."""
    axes = figure.add_subplot()
    start, end = piece.start, piece.value
    (axis,) = piece.part.axes
    place = np.arange(piece.size)
    is_long, is_far = piece.size > BARS, _is_far(piece)
    if is_long:
        start, end = np.sort(start), np.sort(end)
        axes.plot(place, end, color="C0", label="end")
        axes.set_xlabel(f"{axis}s, sorted by value")
    else:
        axes.plot(place, end, "o", color="C0", markersize=3, label="end")
        axes.set_xlabel(axis)
        whole_ticks(axes.xaxis)
    words = ""
    if is_far:
        words = _start_in_words(piece)
    elif is_long:
        axes.plot(place, start, "--", color=START, label="start")
    else:
        axes.vlines(place, start, end, color="C0", alpha=0.45)
        axes.plot(place, start, "_", color=START, label="start")
    title = ", ".join(filter(None, (piece.title, words)))
    axes.set_title(title, loc="left", fontsize="medium")
    scale(axes.yaxis, [piece])
    axes.grid(axis="y", alpha=0.25)
    if not is_far:
        legend_above(axes)


def image(piece: Piece, shape: Sequence[int], figure: Any) -> None:
    """Draws one value for each pixel; channels side by side."""
    height, width, *channels = shape
    rest = channels[0] if channels else 1

    def laid_out(values):
        pixels = np.reshape(values, (height, width, rest))
        return pixels.transpose(0, 2, 1).reshape(height, rest * width)

    _maps(piece, laid_out(piece.start), laid_out(piece.value), figure, True)


def matrix(piece: Piece, figure: Any) -> None:
    """Draws values of two axes as a heat map; first axes come together."""

    def laid_out(values):
        return values.reshape(-1, values.shape[-1])

    start, end = laid_out(piece.start), laid_out(piece.value)
    _maps(piece, start, end, figure, False)


def ranked(piece: Piece, figure: Any) -> None:
    """Draws one number for each example, sorted, and how many have it."""
    left, right = figure.subplots(
        1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 1]}
    )
    (axis,) = piece.part.axes
    place = np.arange(1, piece.size + 1)
    marker = "." if piece.size < 60 else ""
    left.plot(place, np.sort(piece.start), "--", color=START, label="start")
    left.plot(place, np.sort(piece.value), "C0", marker=marker, label="end")
    left.set_xlabel(f"{axis}s, sorted")
    left.set_ylabel(piece.one.name)
    whole_ticks(left.xaxis, 5)
    left.grid(alpha=0.25)
    left.legend()
    right.hist(
        np.ravel(piece.value), bins=30, orientation="horizontal", color="C0"
    )
    right.set_xlabel("how many")  # there is little room
    whole_ticks(right.xaxis, 3)
    scale(left.yaxis, [piece])


def worst(piece: Piece, images: np.ndarray, labels: Any, figure: Any) -> None:
    """Draws the examples with the lowest values."""
    values = np.ravel(piece.value)
    lowest = np.argsort(values, kind="stable")[:IMAGES]
    grid = figure.subplots(2, IMAGES // 2).ravel()
    for axes, k in zip(grid, lowest, strict=False):
        axes.imshow(pixels(images[k]), cmap="gray")
        label = "" if labels is None else f"\nlabel {label_of(labels[k])}"
        axes.set_title(f"{k}:\n{values[k]:.2g}{label}", fontsize="small")
    for axes in grid:
        axes.set_axis_off()
    figure.suptitle("lowest values", fontsize="medium")


def before_and_after(
    piece: Piece, images: Sequence[np.ndarray], figure: Any
) -> None:
    """Draws learned examples: above as they were, below as they are."""
    count = min(LEARNED, len(images[0]))
    grid = figure.subplots(2, count, squeeze=False)
    for row, rows, title in zip(grid, images, ("start", "end"), strict=True):
        for k, axes in enumerate(row):
            axes.imshow(pixels(rows[k]), cmap="gray")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(title)
    shown = f" (the first {count})" if count < len(images[0]) else ""
    figure.suptitle(f"{piece.label}{shown}", fontsize="medium")


# ---- colors and scales


def _maps(
    piece: Piece,
    start: np.ndarray,
    end: np.ndarray,
    figure: Any,
    is_image: bool,
) -> None:
    """Draws two heat maps; one, around the start, where that is one number."""
    from matplotlib import colors

    is_even = _is_even(start)
    shown = [("end", end)] if is_even else [("start", start), ("end", end)]
    both = np.stack([start, end])
    middle = float(start.flat[0]) if is_even else 0.0
    is_centred = (np.min(both) < middle < np.max(both)) or np.ptp(both) == 0
    if is_even and not is_centred:
        both = end  # all on one side of the start, which is far for most
    norm: Any
    if is_centred and piece.is_log:
        far = max(np.max(np.abs(np.log(end / middle))), 0.05)
        norm = colors.LogNorm(middle * np.exp(-far), middle * np.exp(far))
    elif is_centred:
        far = max(np.max(np.abs(both - middle)), 1e-3 * abs(middle), 1e-12)
        norm = colors.Normalize(middle - far, middle + far)
    else:
        kind = colors.LogNorm if piece.is_log else colors.Normalize
        norm = kind(np.min(both), np.max(both))
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, values) in zip(grid, shown, strict=True):
        drawn = axes.imshow(
            values,
            norm=norm,
            cmap="RdBu_r" if is_centred else "viridis",
            aspect="equal" if is_image or _is_square(values) else "auto",
            interpolation="nearest",
        )
        head = piece.title if axes is grid[0] else ""
        named = (head, "" if is_even else title)
        axes.set_title(": ".join(filter(None, named)), fontsize="medium")
        if is_image:
            axes.set(xticks=[], yticks=[])
        else:
            axes.set_xlabel(piece.part.axes[-1])
            axes.set_ylabel(", ".join(piece.part.axes[:-1]))
            whole_ticks(axes.xaxis)
            whole_ticks(axes.yaxis)
    bar = figure.colorbar(drawn, ax=list(grid), label=piece.one.name)
    if piece.is_log:
        plain_ticks(bar.ax.yaxis)
    if is_even and not is_centred:
        words = filter(None, (piece.title, _start_in_words(piece)))
        grid[0].set_title(", ".join(words), fontsize="medium")
    elif is_even:
        bar.ax.axhline(middle, color="black", linewidth=1)
        bar.ax.annotate(
            "start",
            (0, middle),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize="small",
        )


def _is_even(start: np.ndarray) -> bool:
    """Returns whether all entries began with the same value."""
    return bool(np.ptp(start) <= 1e-6 * np.max(np.abs(start)))


def _is_far(piece: Piece) -> bool:
    """Returns whether the start is so far that it would dwarf differences."""
    raw = piece.part.of(piece.one.raw)
    start = piece.part.of(piece.one.start_raw)
    if not _is_even(start):
        return False
    away = raw - start.flat[0]
    return bool(np.min(np.abs(away)) > 2 * np.ptp(raw) > 0)


def _start_in_words(piece: Piece) -> str:
    return f"start: {piece.start.flat[0]:.3g} everywhere"


def _around(piece: Piece) -> np.ndarray:
    """Returns values a little below and above the start."""
    raw = np.median(piece.part.of(piece.one.start_raw))
    unit = np.median(piece.one.kind.unit)
    ends = np.array([raw - LITTLE * unit, raw + LITTLE * unit], "float32")
    return np.asarray(piece.one.kind.transform.value(ends))


def _is_square(values: np.ndarray) -> bool:
    return 0.5 <= values.shape[0] / values.shape[1] <= 2


def scale(axis: Any, pieces: Sequence[Piece]) -> None:
    """Makes an axis logarithmic where values belong on such a scale.

    Some of them: on another one, penalties beside a momentum would all be 0.
    """
    values = [x for piece in pieces for x in (piece.start, piece.value)]
    is_log = any(piece.is_log for piece in pieces)
    scale_of(axis, is_log, min(map(np.min, values)))


def _once(label: str, number: int) -> str:
    return label if number == 0 else "_"


def _with_size(piece: Piece) -> str:
    return f"{piece.label} ({piece.size:,})" if piece.size > 1 else piece.label


def _rows(values: np.ndarray) -> np.ndarray:
    """Returns the values of each step, `(steps, count)`."""
    return values.reshape(len(values), -1)


def _before(piece: Piece) -> np.ndarray:
    return np.median(_rows(piece.start), axis=1)


def _is_step(piece: Piece) -> bool:
    return piece.part.axes[0] == "step"


def _together(pieces: Sequence[Piece]) -> Piece:
    """Returns the parts of one hyperparameter as one part."""
    rows = [_rows(piece.part.entries) for piece in pieces]
    first = pieces[0].part
    part = Part(
        f"{len(pieces)} layers and weights",
        "",
        np.concatenate(rows, axis=1),
        (first.axes[0], "part"),
        first.places,
    )
    return pieces[0]._replace(part=part, title=part.label)
