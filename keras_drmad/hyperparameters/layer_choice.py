"""The argument `layers`: which layers of a model a hyperparameter acts on."""

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters import kernel_sides

Layers: TypeAlias = "str | keras.Layer | Sequence[str | keras.Layer] | None"


def weights(
    model: keras.Model, layers: Layers, *, only_kernels: bool
) -> list[keras.Variable]:
    """Returns the trainable weights of the chosen layers.

    Args:
        model: a built model.
        layers: a layer, its name or path, a regular expression that matches
            the whole of a name or path, or a list of these; `None` for all
            layers.
        only_kernels: bool, whether to leave out weights that are no kernels;
            see `kernel_sides.is_kernel`.

    Raises:
        ValueError: if an entry of `layers` chooses no weight, or the model has
            none.
        TypeError: if an entry is neither a string nor a layer.
    """
    everything = [
        v
        for v in model.trainable_variables
        if not only_kernels or kernel_sides.is_kernel(v)
    ]
    kind = "kernel" if only_kernels else "weight"
    if layers is None:
        if not everything:
            raise arguments.Refused(
                f"The model '{model.name}' has no trainable {kind} to act on.",
                received=f"{len(model.trainable_variables)} trainable weights",
                advice="Use `biases=True` to include biases and the weights of "
                "normalization layers, or check `layer.trainable`.",
            )
        return everything
    entries = _entries(layers)
    if not entries:
        raise arguments.value_error(
            "layers",
            layers,
            f"names, regular expressions or layers that own trainable {kind}s",
            advice="Use `layers=None` for all layers.",
        )
    chosen: set[int] = set()
    for entry in entries:
        found = [v for v in everything if _has(entry, v)]
        if not found:
            owners = ", ".join(
                dict.fromkeys(map(keras_internals.layer_path, everything))
            )
            raise ValueError(
                "Invalid value for argument `layers`. Expected names, regular "
                f"expressions or layers that own trainable {kind}s. Received: "
                f"{entry!r}, {_flaw(entry)}. The layers with some are: "
                f"{owners}."
            )
        chosen |= {id(v) for v in found}
    return [v for v in everything if id(v) in chosen]


def layers_of(model: keras.Model, layers: Layers) -> list[keras.Layer]:
    """Returns the chosen layers, whether or not these have weights.

    Args:
        model: a built model.
        layers: as for `weights`, but a name or path is that of the layer
            itself; an empty list or `None` for no layer.

    Raises:
        ValueError: if an entry of `layers` chooses no layer, or a chosen layer
            is inside another one.
        TypeError: if an entry is neither a string nor a layer.
    """
    within = keras_internals.layers_within(model, with_itself=False)
    chosen: dict[int, keras.Layer] = {}
    for entry in [] if layers is None else _entries(layers):
        found = [layer for layer in within if _is(entry, layer)]
        if not found:
            raise ValueError(
                "Invalid value for argument `layers`. Expected names, regular "
                "expressions or layers of the model. Received: "
                f"{entry!r}, {_flaw(entry)}."
            )
        chosen |= {id(layer): layer for layer in found}
    for outer in chosen.values():
        for inner in keras_internals.layers_within(outer, with_itself=False):
            if id(inner) in chosen:
                raise arguments.value_error(
                    "layers",
                    names(layers),
                    "layers of which no layer is inside another one, such as "
                    f"'{inner.name}' in '{outer.name}', whose losses are those "
                    "of both",
                    advice="Choose one of the two.",
                )
    return list(chosen.values())


def names(layers: Layers) -> Any:
    """Returns `layers` with names in place of layers, for a config."""
    if layers is None or isinstance(layers, str):
        return layers
    if isinstance(layers, keras.Layer):
        return layers.name
    return [names(entry) for entry in layers]


def apart(labels: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Returns labels of layers, none of which is there twice.

    Layers of two models inside a model may have one name.

    Args:
        labels: list of str.
        taken: list of str, what else has a name; a layer named like that is
            called "NAME (layer)".
    """
    found: list[str] = []
    for label in labels:
        first = one = f"{label} (layer)" if label in taken else label
        count = 1
        while one in found:
            count += 1
            one = f"{first} ({count})"
        found.append(one)
    return found


def _entries(layers: Any) -> list[str | keras.Layer]:
    """Returns the entries of `layers`, which may be a single one.

    Raises:
        TypeError: if an entry is neither a string nor a layer.
    """
    is_list = isinstance(layers, Sequence) and not isinstance(layers, str)
    entries = list(layers) if is_list else [layers]
    for entry in entries:
        if not isinstance(entry, (str, keras.Layer)):
            expected = "names, regular expressions or layers"
            raise arguments.type_error("layers", entry, expected)
    return entries


def _has(entry: str | keras.Layer, variable: keras.Variable) -> bool:
    """Returns whether a layer that is chosen owns a variable."""
    if isinstance(entry, str):
        path = keras_internals.layer_path(variable)
        return _matches(entry, [path, *path.split("/")])
    return any(v is variable for v in entry.trainable_variables)


def _is(entry: str | keras.Layer, layer: keras.Layer) -> bool:
    """Returns whether a layer is chosen."""
    if isinstance(entry, str):
        return _matches(entry, [layer.path or layer.name, layer.name])
    return layer is entry


def _matches(pattern: str, candidates: list[str]) -> bool:
    """Returns whether a pattern is one of some names, or matches one."""
    if pattern in candidates:
        return True
    try:
        return any(re.fullmatch(pattern, one) for one in candidates)
    except re.error:
        return False


def _flaw(entry: str | keras.Layer) -> str:
    """Returns why an entry chooses nothing, in words."""
    try:
        re.compile(entry if isinstance(entry, str) else "")
    except re.error as error:
        return f"which is no name and no regular expression: {error}"
    return "which matches none"
