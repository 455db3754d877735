"""Which weights share a hyperparameter: all, a layer's, a unit's, ..."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters import kernel_sides
from keras_drmad.hyperparameters.parts import Part, axes_of, sides_of

ALL = "all layers"
PER = ("all", "layer", "tensor", "input", "output", "weight")


class Member(NamedTuple):
    """A weight tensor, and its entries in a vector of hyperparameters.

    Attributes:
        variable: the `keras.Variable`.
        start: int, the place of the variable's first entry in the vector.
        shape: tuple of int, the shape of the variable's entries, which
            broadcasts with the variable.
    """

    variable: keras.Variable
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of the variable's entries."""
        return math.prod(self.shape)

    def entries(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns the entries of this variable.

        Args:
            vector: `(count,)`; or a scalar, the entry of all variables.
        """
        if vector.shape.rank == 0:
            return vector
        end = self.start + self.size
        return tf.reshape(vector[self.start : end], self.shape)


class Groups(NamedTuple):
    """Weights, and the hyperparameters that these share.

    Attributes:
        members: list of `Member`.
        shape: shape of the hyperparameters: `()` for one of all weights,
            otherwise `(count,)`.
    """

    members: list[Member]
    shape: tuple[int, ...]

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values by the layers whose weights have these values.

        Args:
            values: `(..., count)`, or `(...)` for one of all weights.

        Returns:
            Dict from a layer's path to an array `(..., values of the layer)`.
        """
        if not self.shape:
            return {ALL: values[..., None]}
        places: dict[str, dict[int, int]] = {}
        for member in self.members:
            layer = keras_internals.layer_path(member.variable)
            # By their starts: weights of a layer may share entries.
            own = places.setdefault(layer, {})
            own[member.start] = member.size
        return {
            layer: values[
                ...,
                np.concatenate([np.arange(k, k + n) for k, n in own.items()]),
            ]
            for layer, own in places.items()
        }

    def parts(self, places: np.ndarray, per: str) -> list[Part]:
        """Returns the entries by weight, or by layer where weights share them.

        Args:
            places: `(..., count)`, or `(...)` for one of all weights: integers
                that number the entries.
            per: str, what a group is.
        """
        rows = axes_of(places.shape[: places.ndim - len(self.shape)])
        if not self.shape:
            return [Part(ALL, "", places, rows)]
        users: dict[int, list[Member]] = {}
        for member in self.members:
            users.setdefault(member.start, []).append(member)
        found = []
        for start, (member, *others) in users.items():
            shape = member.shape
            if per != "weight":
                shape = tuple(n for n in shape if n > 1)
            axes = sides_of(shape)
            if per in ("input", "output"):
                axes = (per,) if len(shape) == 1 else axes_of(shape)
            own = places[..., start : start + member.size]
            own = own.reshape((*own.shape[:-1], *shape))
            layer = keras_internals.layer_path(member.variable)
            weight = member.variable.path[len(layer) + 1 :]
            weight = "" if others else weight
            found.append(Part(layer, weight, own, (*rows, *axes)))
        return found

    def by_weight(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values by the weights that have these values.

        Args:
            values: `(..., count)`, or `(...)` for one of all weights.

        Returns:
            Dict from a weight's path to an array `(..., *shape)`, where shape
            broadcasts with the weight.
        """
        rows = values.shape[: values.ndim - len(self.shape)]
        split = {}
        for variable, start, shape in self.members:
            own = values
            if self.shape:
                own = values[..., start : start + math.prod(shape)]
                own = own.reshape(*rows, *shape)
            split[variable.path] = own
        return split


def check_per(per: str) -> str:
    """Returns the argument `per`.

    Raises:
        ValueError: if `per` is not one of `PER`; "unit" may mean two of these.
    """
    if per == "unit":
        raise arguments.value_error(
            "per",
            per,
            "'input', one for each row of a kernel's input side (the paper's "
            "unit), or 'output', one for each column of a kernel's output side "
            "(a unit of Keras, as in `Dense(units)`)",
            advice="Choose one of the two.",
        )
    return arguments.choice("per", per, PER)


def group(
    model: keras.Model, variables: Sequence[keras.Variable], per: str
) -> Groups:
    """Groups weights of a model.

    Args:
        model: a built model.
        variables: trainable weights of the model.
        per: which weights share an entry. `"all"`: all weights. `"layer"`: the
            weights of a layer. `"tensor"`: those of a kernel, or of a bias.
            `"input"`: those of a row of a kernel's input side, or of a bias.
            `"output"`: those of a unit, which are a column of a kernel's output
            side and the unit's bias. `"weight"`: each weight has its own entry.
            `kernel_sides` tells which axes are the two sides, and which biases
            belong to the units of a kernel; any other bias, and the scales and
            shifts of normalization layers, have entries of their own for
            `"output"`, one for each of their numbers.
    """
    # By identity: layers of a subclassed model may have the same name.
    layer_of = {
        id(v): layer
        for layer in keras_internals.layers_within(model)
        for v in keras_internals.own_trainable_variables(layer)
    }
    members: list[Member] = []
    starts: dict[int, int] = {}
    count = 0
    for variable in variables:
        layer = layer_of[id(variable)]
        shape = _entries_shape(layer, variable, per)
        owner = id(_owner(model, layer, variable, per))
        if owner not in starts:
            starts[owner] = count
            count += math.prod(shape)
        members.append(Member(variable, starts[owner], shape))
    return Groups(members, () if per == "all" else (count,))


def _owner(
    model: keras.Model, layer: keras.Layer, variable: keras.Variable, per: str
) -> Any:
    """Returns the object whose weights share entries with a variable's."""
    if per == "all":
        return model
    if per == "layer":
        return layer
    if per == "output":
        own = keras_internals.own_trainable_variables(layer)
        kernel = kernel_sides.kernel_of_units(layer, own, variable)
        return variable if kernel is None else kernel
    return variable


def _entries_shape(
    layer: keras.Layer, variable: keras.Variable, per: str
) -> tuple[int, ...]:
    """Returns the shape of a variable's entries; see `Member`."""
    shape = tuple(variable.shape)
    is_kernel = kernel_sides.is_kernel(variable)
    if per == "weight" or (per == "output" and not is_kernel):
        return shape
    axes: tuple[int, ...] = ()
    if per in ("input", "output") and is_kernel:
        sides = kernel_sides.sides(layer, variable)
        axes = sides.inputs if per == "input" else sides.outputs
    return tuple(n if k in axes else 1 for k, n in enumerate(shape))
