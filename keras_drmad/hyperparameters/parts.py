"""The entries of a hyperparameter, ordered as users think of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TIMES = ("step", "knot")
EXAMPLES = ("example", "group")
COUNTED = {0: (), 1: ("index",)}


class Part(NamedTuple):
    """Entries that belong together: a layer's, a weight's, a schedule.

    Tables name entries by their parts, and pictures draw a part by its form.

    Attributes:
        layer: str, the path of the layer, or the name of what takes a layer's
            place, such as an output of the model; "" without one.
        weight: str, the name of the weight in the layer; "" where the entries
            are not those of one weight.
        entries: integers of any shape, the places of the entries among the
            flat raw values.
        axes: tuple of str, what each axis of `entries` counts, for instance
            `("step", "input")`.
        places: numbers, one for each place on the first axis; `None` where
            places are counted from 0.
    """

    layer: str
    weight: str
    entries: np.ndarray
    axes: tuple[str, ...]
    places: np.ndarray | None = None

    @property
    def label(self) -> str:
        """The layer, and the weight if there is one."""
        return "/".join(filter(None, (self.layer, self.weight)))

    @property
    def form(self) -> str:
        """How the entries are thought of, and drawn.

        `"number"`, a single one; `"curve"`, over the steps of a training;
        `"examples"`, one number for each example or group; `"data"`, whole
        examples; `"vector"`, for instance one number for each input; or
        `"matrix"`, of two axes or more.
        """
        if not self.axes:
            return "number"
        if self.axes[0] in TIMES:
            return "curve"
        if self.axes[0] in EXAMPLES:
            return "examples" if len(self.axes) == 1 else "data"
        return "vector" if len(self.axes) == 1 else "matrix"

    def of(self, values: np.ndarray) -> np.ndarray:
        """Returns what belongs to the entries, of the shape of `entries`.

        Args:
            values: `raw.shape`, or flat.
        """
        return np.ravel(values)[self.entries]

    def words(self, place: Sequence[int]) -> str:
        """Returns the name of an entry, such as "dense/kernel, input 17".

        Args:
            place: integers, an index of `entries`.
        """
        named = []
        for k, (axis, index) in enumerate(zip(self.axes, place, strict=True)):
            number = index
            if k == 0 and self.places is not None:
                number = self.places[index]
            named.append(f"{axis} {round(float(number), 1):.12g}")
        return ", ".join(filter(None, (self.label, *named)))


def axes_of(shape: Sequence[int]) -> tuple[str, ...]:
    """Returns names for axes of which nothing is known."""
    count = len(shape)
    return COUNTED.get(count) or tuple(f"axis_{k}" for k in range(count))


def sides_of(shape: Sequence[int]) -> tuple[str, ...]:
    """Returns names for the axes of a weight."""
    known = {1: ("output",), 2: ("input", "output")}
    return known.get(len(shape)) or axes_of(shape)
