"""The learned values in a model's layers, as hyperparameters."""

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.layers.learned_value import LearnedValue


class InLayer(base.Hyperparameter):
    """A `LearnedValue` of a layer, as a kind; `find` makes these.

    Its hooks change nothing: the layer reads the raw variable, for which the
    elementary problem puts the raw tensor.
    """

    def __init__(self, hyperparameter: LearnedValue, name: str):
        """Initializes the kind.

        Args:
            hyperparameter: the layer's.
            name: str.
        """
        self.transform = hyperparameter.transform
        super().__init__(name, None)
        self.bounds = hyperparameter.bounds
        self.raw = hyperparameter.raw

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Does nothing: it is bound to its layer."""

    def to_keras(self, plain: PlainTraining) -> None:
        plain.leave_out(
            self.name,
            "It is part of a layer of this package, and is saved and exported "
            "with it. Give its value to the layer that takes its place.",
        )


def find(model: keras.Model) -> list[InLayer]:
    """Returns a kind for each `LearnedValue` in a model's layers.

    Its name is that of the layer and that of the attribute, with a dot between
    them; of the first of the layers that share it.
    """
    found: dict[int, InLayer] = {}
    for owner in keras_internals.layers_within(model):
        for layer in keras_internals.layers_directly_within(owner):
            if isinstance(layer, LearnedValue) and id(layer) not in found:
                name = f"{owner.name}.{_attribute(owner, layer)}"
                found[id(layer)] = InLayer(layer, name)
    return list(found.values())


def _attribute(owner: keras.Layer, layer: LearnedValue) -> str:
    """Returns the name of a layer's attribute; in a list, the layer's name."""
    names = (name for name, value in vars(owner).items() if value is layer)
    return next(names, layer.name)
