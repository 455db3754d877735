"""The learned values in a model's layers, as hyperparameters."""

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.layers.learned_value import LearnedValue


class InLayer(base.Hyperparameter):
    """A `LearnedValue` of a layer, as a kind of hyperparameter.

    The hooks change nothing: the layer itself reads the raw variable, in whose
    place the elementary problem puts the raw tensor.
    """

    def __init__(self, hyperparameter: LearnedValue, name: str):
        """Initializes the kind.

        Args:
            hyperparameter: the `LearnedValue` of the layer.
            name: str, unique among the hyperparameters of a model.
        """
        self.transform = hyperparameter.transform
        super().__init__(name, None)
        self.bounds = hyperparameter.bounds
        self.raw = hyperparameter.raw

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Does nothing: `raw` belongs to the layer, which has created it."""

    def to_keras(self, plain: PlainTraining) -> None:
        plain.leave_out(
            self.name,
            "The value is part of a layer of this package, which saves and "
            "exports the value. Give the value to the layer of Keras that "
            "takes this layer's place.",
        )


def find(model: keras.Model) -> list[InLayer]:
    """Returns a kind for each `LearnedValue` in a model's layers.

    The kind is named "<layer>.<attribute>"; a value that several layers share
    is named for the first of these layers.
    """
    found: dict[int, InLayer] = {}
    for owner in keras_internals.layers_within(model):
        for layer in keras_internals.layers_directly_within(owner):
            if isinstance(layer, LearnedValue) and id(layer) not in found:
                name = f"{owner.name}.{_attribute(owner, layer)}"
                found[id(layer)] = InLayer(layer, name)
    return list(found.values())


def _attribute(owner: keras.Layer, layer: LearnedValue) -> str:
    """Returns the attribute under which a layer keeps a value.

    For a value in a list of values, its own name.
    """
    names = (name for name, value in vars(owner).items() if value is layer)
    return next(names, layer.name)
