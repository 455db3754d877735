"""Layers that hyperparameters were given as objects, through a file."""

from typing import Any

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters.base import Hyperparameter


def chosen(model: keras.Model, kinds: list[Hyperparameter]) -> dict[str, list]:
    """Returns the places of layers that kinds were given as objects.

    Names and paths can be those of several layers, or change in a file.

    Args:
        model: the elementary model.
        kinds: its hyperparameters.

    Returns:
        Dict from the kind's name to a list with an entry for each one of its
        `layers`: the place among all layers, or `None` for a name.
    """
    places = {id(layer): k for k, layer in enumerate(_layers(model))}
    places_of = {}
    for h in kinds:
        layers = getattr(h, "layers", None)
        entries = layers if isinstance(layers, (list, tuple)) else [layers]
        found = [places.get(id(entry)) for entry in entries]
        if any(place is not None for place in found):
            places_of[h.name] = found
    return places_of


def choose(
    model: keras.Model, given: dict[str, Any], places_of: dict[str, list]
) -> None:
    """Gives kinds the layers that `chosen` found.

    Args:
        model: the elementary model.
        given: the arguments of `compile`, with new kinds.
        places_of: what `chosen` returned.
    """
    layers = _layers(model)
    for h in given.get("hyperparameters", []):
        if h.name not in places_of:
            continue
        own: Any = h
        entries = own.layers if isinstance(own.layers, list) else [own.layers]
        own.layers = [
            entry if place is None else layers[place]
            for entry, place in zip(entries, places_of[h.name], strict=True)
        ]


def _layers(model: keras.Model) -> list[keras.Layer]:
    return keras_internals.layers_within(model, with_itself=False)
