"""Which layers read the pixels of a model's input, as they lie there.

As many entries as an image has pixels are no image yet: what convolutions and
pooling leave may be as many by chance.
"""

from typing import Any

import keras

from keras_drmad import keras_internals, layers

# What leaves each pixel in its place, whatever it does to its value.
IN_PLACE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianNoise,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    layers.Dropout,
    layers.GaussianNoise,
    layers.ImageAugmentation,
)
# The same of operations, such as `x / 255`, by the names of their classes.
OPERATIONS = ("Add", "Cast", "Multiply", "Reshape", "Subtract", "TrueDivide")


class PixelsRead:
    """Tells of layers of a graph whether they read the input's pixels."""

    def __init__(self, model: keras.Model):
        """Walks through the graph.

        Args:
            model: the elementary model. Of the layers of one that is no graph,
                and of those within layers, nothing is known.
        """
        self._model = model
        self._inputs = {id(x) for x in _flat(model, "inputs")}
        within = keras_internals.layers_within(model, with_itself=False)
        self._given: dict[int, list[Any]] = {}  # to the inputs of inner graphs
        for one in filter(keras_internals.is_graph, within):
            own, given = _flat(one, "inputs"), keras_internals.inputs_of(one)
            for k, x in enumerate(own):
                self._given[id(x)] = given[k :: len(own)]
        self._found: dict[str, bool] = {}
        for layer in within:
            given = keras_internals.inputs_of(layer)
            if not given:
                continue
            reads = any(map(self._is_pixels, given))
            for label in _labels(layer):  # of some layers the same
                self._found[label] = reads and self._found.get(label, True)

    def by(self, layer: str) -> bool | None:
        """Returns whether a layer reads the pixels; `None` if not known.

        Args:
            layer: str, its path or name.
        """
        return self._found.get(layer)

    def _is_pixels(self, x: Any) -> bool:
        """Returns whether a symbolic tensor has the pixels in their order."""
        if id(x) in self._inputs:
            return True
        if id(x) in self._given:
            return any(map(self._is_pixels, self._given[id(x)]))
        maker, place, given = keras_internals.made_by(x)
        if keras_internals.is_graph(maker):
            return self._is_pixels(_flat(maker, "outputs")[place])
        is_in_place = (
            isinstance(maker, IN_PLACE)
            if isinstance(maker, keras.Layer)
            else type(maker).__name__ in OPERATIONS
        )
        return is_in_place and len(given) == 1 and self._is_pixels(given[0])


def _flat(model: Any, which: str) -> list[Any]:
    """Returns the symbolic inputs or outputs of a model, if it has any."""
    return keras.tree.flatten(getattr(model, which, None) or [])


def _labels(layer: keras.Layer) -> set[str]:
    own = keras_internals.own_variables(layer)
    return {layer.name, *map(keras_internals.layer_path, own)}
