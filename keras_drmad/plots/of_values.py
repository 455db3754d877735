"""The values of hyperparameters, drawn as users think of them.

A kind tells the form of its entries, by `Hyperparameter.parts`; here is a
drawing for each form. Where values started and where they ended are both shown.
"""

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_drmad import arguments
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.plots import forms
from keras_drmad.plots.basics import new_figure
from keras_drmad.plots.forms import Piece, pieces_of
from keras_drmad.plots.over_time import chosen
from keras_drmad.plots.pixels_read import PixelsRead

PANELS = 6  # of one picture, at most
ROWS = 40  # bars in one panel, at most
FEW = 3  # hyperparameters of which a title tells what is left out
NAMES = 6  # of hyperparameters in a title, at most


class Known(NamedTuple):
    """What is known of a model and its data, beside the values.

    Attributes:
        shape: tuple of int, of an image, or `None`.
        x: the training inputs, or `None`.
        y: their labels, or `None`.
        is_image: function of a `Piece`, whether its entries are an image's.
    """

    shape: tuple[int, ...] | None
    x: Any
    y: Any
    is_image: Callable[[Piece], bool]


class Panel(NamedTuple):
    """A part of a picture.

    Attributes:
        draw: function of matplotlib's figure, draws.
        size: `(width, height)` in inches.
        pieces: what is drawn.
    """

    draw: Callable[[Any], None]
    size: tuple[float, float]
    pieces: Sequence[Piece]


def values(
    model: Any,
    name: str | Sequence[str] | None = None,
    *,
    shape: Sequence[int] | None = None,
    x: Any = None,
    y: Any = None,
    figure: Any = None,
) -> Any:
    """Draws the values of a hyperparameter, at the start and now.

    As users think of them: single numbers, such as strengths in layers, as
    bars from start to end; schedules as curves over the steps; one number for
    each pixel, of a layer that reads the model's input as it lies, as an image;
    for each other input or unit, as a row of bars; one
    for each example, sorted, with pictures of the examples that weigh least;
    matrices as heat maps; learned examples as images. Of more than fit in a
    picture those that moved most, of each hyperparameter one at least as far as
    that goes; the title says of how many.

    Example:

    ```python
    kd.plots.values(model, "l2").savefig("penalties.png")
    kd.plots.values(model, "example_weights", x=x, y=y, shape=(28, 28))
    ```

    Args:
        model: a `DrMADModel` that was tuned.
        name: str, the hyperparameter; or a list of several to draw together.
            May be left out where the model has one.
        shape: `(height, width)` or `(height, width, channels)`, how the inputs
            of a flat model lie in an image; that of the model's input by
            default, where it is an image.
        x: array, the training inputs, for pictures of examples.
        y: array, their labels in the same order, written beside the pictures.
        figure: matplotlib `Figure` or `SubFigure` to draw on, a new one by
            default.

    Returns:
        The figure.

    Raises:
        ImportError: if there is no matplotlib.
        ValueError: if the model was not tuned, or has no such hyperparameter,
            or if `y` has not a label for each of `x`.
    """
    found = chosen(model, name)
    names = [one.name for one in found]
    if more := len(names[NAMES:]):
        names[NAMES:] = [f"{more} more"]
    pieces = pieces_of(found)
    own = panels(pieces, known_of(model, shape, x, y))
    title = [", ".join(names), left_out(pieces, own)]
    return draw(own, figure, "\n".join(filter(None, title)))


def known_of(model: Any, shape: Sequence[int] | None, x: Any, y: Any) -> Known:
    """Returns what is known beside the values.

    Args:
        model: a `DrMADModel` that was tuned.
        shape: as for `values`, and so are the others.
        x: the training inputs, or `None`.
        y: their labels, or `None`.
    """
    own = tuple(shape) if shape is not None else image_shape(model)
    sizes = (np.prod(own), np.prod(own[:2])) if own else ()
    pixels = PixelsRead(model.elementary_model)

    def is_image(piece: Piece) -> bool:
        # One for each output of a layer belongs to no pixel.
        if piece.size not in sizes or piece.part.axes == ("output",):
            return False
        reads = pixels.by(piece.part.layer)
        return shape is not None if reads is None else reads

    return Known(own, x, y, is_image)


def image_shape(model: Any) -> tuple[int, ...] | None:
    """Returns the shape of a model's input, if that is an image."""
    shape: Any = getattr(model, "input_shape", None)
    is_one = isinstance(shape, tuple) and all(
        n is None or isinstance(n, int) for n in shape
    )
    if not is_one or None in shape[1:]:
        return None
    is_image = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    return tuple(shape[1:]) if is_image else None


def draw(panels: Sequence[Panel], figure: Any, title: str) -> Any:
    """Draws panels on one figure; returns the figure.

    Args:
        panels: list of `Panel`.
        figure: to draw on, a new one for `None`.
        title: str, "" for none.
    """
    if figure is None:
        figure = new_figure(*size_of(panels))
    if title:
        figure.suptitle(title)
    rows = _in_rows(panels)
    heights = [_height(row) for row in rows]
    columns = len(rows[0])
    split = figure.subfigures(len(rows), columns, height_ratios=heights)
    grid = np.reshape(split, (len(rows), columns))
    for own, row in zip(grid, rows, strict=True):
        for place, panel in zip(own, row, strict=False):
            panel.draw(place)
    return figure


def size_of(panels: Sequence[Panel]) -> tuple[float, float]:
    """Returns width and height of a picture in inches."""
    rows = _in_rows(panels)
    width = panels[0].size[0] if len(rows[0]) == 1 else 10.0
    return width, sum(map(_height, rows)) + 0.4


def _in_rows(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    columns = 1 if len(panels) == 1 else 2
    return [panels[k : k + columns] for k in range(0, len(panels), columns)]


def _height(row: Sequence[Panel]) -> float:
    return max(panel.size[1] for panel in row)


def panels(pieces: Sequence[Piece], known: Known) -> list[Panel]:
    """Returns what a picture of several parts consists of.

    Args:
        pieces: list of `Piece`.
        known: what is known beside their values.
    """
    of_form: dict[str, list[Piece]] = {}
    for piece in pieces:
        of_form.setdefault(piece.part.form, []).append(piece)
    found: list[Panel] = []
    for form, own in of_form.items():
        found += FORMS[form](own, known)
    return _moved_most(found, PANELS, lambda panel: panel.pieces)


def left_out(pieces: Sequence[Piece], drawn: Sequence[Panel]) -> str:
    """Returns how many parts a picture leaves out, in words; "" for none.

    Args:
        pieces: list of `Piece`, all there are.
        drawn: list of `Panel`.
    """
    shown: dict[str, set[int]] = {piece.one.name: set() for piece in pieces}
    for panel in drawn:
        for piece in panel.pieces:  # one in several panels counts once
            shown[piece.one.name].add(int(piece.part.entries.flat[0]))
    count = collections.Counter(piece.one.name for piece in pieces)
    few = {k: len(own) for k, own in shown.items() if len(own) < count[k]}
    if len(few) > FEW:
        total, all_shown = len(pieces), sum(map(len, shown.values()))
        return f"{all_shown} that moved most of {total}"
    said = []
    for name, k in few.items():
        words = f"{k} that moved most of {count[name]}" if k else "not drawn"
        said.append(f"{name}: {words}" if len(count) > 1 else words)
    return "; ".join(said)


def _numbers(pieces, known) -> list[Panel]:
    return [_ranges(pieces)]


def _ranges(pieces: Sequence[Piece]) -> Panel:
    rows = _moved_most(pieces, ROWS)
    height = 1.2 + 0.32 * len(rows)
    return Panel(functools.partial(forms.ranges, rows), (7, height), rows)


def _curves(pieces, known) -> list[Panel]:
    by_kind: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_kind.setdefault(piece.one.name, []).append(piece)
    return [
        Panel(functools.partial(forms.curves, own), (7, 4), own)
        for own in by_kind.values()
    ]


def _examples(pieces, known) -> list[Panel]:
    found, images = [], _images_of(known.x, known.shape)
    # By place, as the images: a Series would be asked by its own index.
    labels = None if known.y is None else np.asarray(known.y)
    for piece in pieces:
        ranked = functools.partial(forms.ranked, piece)
        found.append(Panel(ranked, (7, 3.6), [piece]))
        if images is None or len(images) != piece.size:
            continue
        if labels is not None and len(labels) != len(images):
            raise arguments.value_error(
                "y", np.shape(labels), f"a label for each of {len(images)} `x`"
            )
        worst = functools.partial(forms.worst, piece, images, labels)
        found.append(Panel(worst, (7, 3.6), [piece]))
    return found


def _data(pieces, known) -> list[Panel]:
    found = []
    for piece in pieces:
        images: list[Any] = [
            _images_of(rows, known.shape or _own_shape(piece.part))
            for rows in (piece.start, piece.value)
        ]
        if images[0] is None:
            found += _matrices([piece], known)
        else:
            shown = functools.partial(forms.before_and_after, piece, images)
            found.append(Panel(shown, (9, 3), [piece]))
    return found


def _vectors(pieces, known) -> list[Panel]:
    found, rest = [], []
    for piece in pieces:
        if known.is_image(piece):
            is_whole = piece.size == np.prod(known.shape)
            own = known.shape if is_whole else known.shape[:2]
            image = functools.partial(forms.image, piece, own)
            found.append(Panel(image, (5.5, 4), [piece]))
        else:
            rest.append(piece)
    if len(rest) > 1 and len(rest) + len(found) > PANELS:
        return [*found, _ranges(rest)]
    return found + [
        Panel(functools.partial(forms.vector, piece), (7, 3), [piece])
        for piece in rest
    ]


def _matrices(pieces, known) -> list[Panel]:
    return [
        Panel(functools.partial(forms.matrix, piece), (8, 3.6), [piece])
        for piece in pieces
    ]


FORMS: dict[str, Callable[..., list[Panel]]] = {
    "number": _numbers,
    "curve": _curves,
    "examples": _examples,
    "data": _data,
    "vector": _vectors,
    "matrix": _matrices,
}


def _moved_most(
    items: Sequence[Any],
    count: int,
    pieces_in: Callable[[Any], Sequence[Piece]] = lambda piece: [piece],
) -> list[Any]:
    """Returns what moved most, in its own order.

    One of each hyperparameter before a second of any.

    Args:
        items: list of `Piece`, or of what has pieces.
        count: int, how many at most.
        pieces_in: function of one of them, returns its pieces.
    """
    if len(items) <= count:
        return list(items)
    far = [
        max(np.mean(np.abs(piece.moved)) for piece in pieces_in(one))
        for one in items
    ]
    order = np.argsort(-np.array(far), kind="stable")
    first: list[int] = []
    seen: set[str] = set()
    for k in order:
        names = {piece.one.name for piece in pieces_in(items[k])}
        if not names <= seen:
            first.append(k)
            seen |= names
    rest = [k for k in order if k not in first]
    return [items[k] for k in sorted([*first, *rest][:count])]


def _own_shape(part: Part) -> tuple[int, ...] | None:
    """Returns the shape of learned examples that are images."""
    shape = part.entries.shape[1:]
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    return shape if is_image else None


def _images_of(x: Any, shape: tuple[int, ...] | None) -> np.ndarray | None:
    """Returns examples as images `(count, height, width, ...)`, if they are."""
    if x is None:
        return None
    array = np.asarray(x)
    own = array.shape[1:]
    if len(own) == 2 or (len(own) == 3 and own[2] in (1, 3)):
        return array.squeeze(-1) if own[-1] == 1 else array
    for one in (shape, shape and shape[:2]):
        if one and np.prod(own) == np.prod(one):
            images = array.reshape(-1, *one)
            return images.squeeze(-1) if images.shape[-1] == 1 else images
    return None
