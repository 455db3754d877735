"""Which weights share a hyperparameter: all, a layer's, a tensor's, ..."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters import kernel_sides

PER = ("all", "layer", "tensor", "input", "output", "weight")
Layers: TypeAlias = "str | keras.Layer | Sequence[str | keras.Layer] | None"


class Member(NamedTuple):
    """One weight tensor and its place in a vector of hyperparameters.

    Attributes:
        variable: the `keras.Variable`.
        start: int, the first of its entries in the vector.
        shape: shape of its entries, which broadcasts with the variable's.
    """

    variable: keras.Variable
    start: int
    shape: tuple[int, ...]

    def entries(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns this member's entries; a scalar is everyone's entry."""
        if vector.shape.rank == 0:
            return vector
        size = math.prod(self.shape)
        return tf.reshape(vector[self.start : self.start + size], self.shape)


class Groups(NamedTuple):
    """Weights and the hyperparameters they share.

    Attributes:
        members: list of `Member`.
        shape: shape of the hyperparameters, `()` or `(count,)`.
    """

    members: list[Member]
    shape: tuple[int, ...]

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values `(..., count)` into those of each layer's weights."""
        if not self.shape:
            return {"all layers": values[..., None]}
        places: dict[str, list[int]] = {}
        for member in self.members:
            size = math.prod(member.shape)
            own = range(member.start, member.start + size)
            places.setdefault(owner_path(member.variable), []).extend(own)
        return {
            layer: values[..., list(dict.fromkeys(own))]
            for layer, own in places.items()
        }

    def by_weight(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Splits values `(..., count)` by the weights' paths.

        Returns:
            Dict from a path to an array `(..., *shape)`, of a shape that
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
    """Returns `per` if `group` knows it.

    Raises:
        ValueError: if it does not.
    """
    if per == "unit":
        raise ValueError(
            "Invalid value for argument `per`. A unit has two sides: expected "
            "'input', one for each row of a kernel's input side (the paper's "
            "unit), or 'output', one for each column (what Keras calls "
            "`units`). Received: per='unit'. Choose one of the two."
        )
    return arguments.choice("per", per, PER)


def group(
    model: keras.Model, per: str, layers: Layers, *, only_kernels: bool
) -> Groups:
    """Groups the trainable weights of a model.

    Args:
        model: a built model.
        per: which weights share an entry: `"all"`, all of them; `"layer"`,
            those of a layer; `"tensor"`, those of a kernel or a bias;
            `"input"`, those of a row of a kernel's input side, or of a bias;
            `"output"`, those of a unit: of a column of a kernel's output side,
            together with the unit's bias; `"weight"`, none. The sides are told
            by `kernel_sides.sides`, whose bias a unit has by
            `kernel_sides.kernel_of_units`; each entry of another bias, or of a
            scale or shift of a normalization layer, is a unit of its own.
        layers: which layers; see `chosen`.
        only_kernels: bool, whether to leave out weights that are no kernels;
            see `kernel_sides.is_kernel`.

    Raises:
        ValueError: if no weight is chosen.
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
    for variable in chosen(model, layers, only_kernels):
        layer = layer_of[id(variable)]
        shape = _entries_shape(layer, variable, per)
        owner = id(_owner(model, layer, variable, per))
        if owner not in starts:
            starts[owner] = count
            count += math.prod(shape)
        members.append(Member(variable, starts[owner], shape))
    return Groups(members, () if per == "all" else (count,))


def chosen(
    model: keras.Model, layers: Layers, only_kernels: bool
) -> list[keras.Variable]:
    """Returns the trainable weights of the chosen layers.

    Args:
        model: a built model.
        layers: a layer, its name or path, a regular expression that matches
            the whole of either, or a list of these; `None` for all layers.
        only_kernels: bool, as for `group`.

    Raises:
        ValueError: if one of `layers` chooses no weight.
        TypeError: if one is neither a string nor a layer.
    """
    everything = [
        v
        for v in model.trainable_variables
        if not only_kernels or kernel_sides.is_kernel(v)
    ]
    if layers is None:
        if not everything:
            kind = "kernel" if only_kernels else "weight"
            raise arguments.Refused(
                f"The model '{model.name}' has no trainable {kind} to act on.",
                received=f"{len(model.trainable_variables)} trainable weights",
                advice="Use `biases=True` to include biases and the weights of "
                "normalization layers, or check `layer.trainable`.",
            )
        return everything
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        layers = [layers]
    keep: set[int] = set()
    for one in layers:
        found = _of_layer(everything, one)
        if not found:
            raise ValueError(
                "Invalid value for argument `layers`. Expected names, regular "
                "expressions or layers that own trainable "
                f"{'kernels' if only_kernels else 'weights'}. Received: "
                f"{one!r}, which matches none. The layers with some are: "
                f"{', '.join(dict.fromkeys(map(owner_path, everything)))}."
            )
        keep |= {id(v) for v in found}
    return [v for v in everything if id(v) in keep]


def chosen_layers(model: keras.Model, layers: Layers) -> list[keras.Layer]:
    """Returns the layers chosen by name, whether or not they have weights.

    Args:
        model: a built model.
        layers: as for `chosen`; an empty list or `None` for none.

    Raises:
        ValueError: if one of `layers` chooses none.
        TypeError: if one is neither a string nor a layer.
    """
    if layers is None:
        return []
    if isinstance(layers, (str, keras.Layer)):
        layers = [layers]
    found: dict[int, keras.Layer] = {}
    for one in layers:
        matching = [
            layer
            for layer in keras_internals.layers_within(model, with_itself=False)
            if (layer is one)
            or (
                isinstance(one, str) and _matches(one, layer.path or layer.name)
            )
        ]
        if not matching:
            raise ValueError(
                "Invalid value for argument `layers`. Expected names, regular "
                f"expressions or layers of the model. Received: {one!r}, which "
                "matches none."
            )
        found |= {id(layer): layer for layer in matching}
    return list(found.values())


def owner_path(variable: keras.Variable) -> str:
    """Returns the path of the layer that owns a variable."""
    return variable.path.rpartition("/")[0] or variable.path


def layer_names(layers: Layers) -> Any:
    """Returns `layers` with names in place of layers, for a config."""
    if layers is None or isinstance(layers, str):
        return layers
    if isinstance(layers, keras.Layer):
        return layers.name
    return [layer_names(one) for one in layers]


def _of_layer(variables: list, one: Any) -> list:
    if isinstance(one, keras.Layer):
        own = {id(v) for v in one.trainable_variables}
        return [v for v in variables if id(v) in own]
    if not isinstance(one, str):
        raise TypeError(
            "Invalid type for argument `layers`. Expected names, regular "
            f"expressions or layers. Received: {one!r}."
        )
    return [v for v in variables if _matches(one, owner_path(v))]


def _matches(pattern: str, path: str) -> bool:
    """Returns whether a name or pattern is that of a path or a part of it."""
    names = [path, *path.split("/")]
    return pattern in names or any(
        re.fullmatch(pattern, name) for name in names
    )


def _owner(
    model: keras.Model, layer: keras.Layer, variable: keras.Variable, per: str
) -> Any:
    """Returns the object whose weights share entries with a variable's."""
    if per == "all":
        return model
    if per == "layer":
        return layer
    if per == "output":
        kernel = kernel_sides.kernel_of_units(layer, variable)
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
