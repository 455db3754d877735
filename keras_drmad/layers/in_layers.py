"""The learned values in a model, as hyperparameters."""

import functools
import itertools
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.layers.learned_value import LearnedValue

# What the training loss and its gradient ask.
OBJECTS = (keras.regularizers.Regularizer, keras.losses.Loss)
# What does something else than add to the training loss.
ELSEWHERE = (
    keras.constraints.Constraint,
    keras.initializers.Initializer,
    keras.metrics.Metric,
)
COMPILED = ("loss", "_compile_loss", "_compile_metrics")  # of a model
DEPTH = 6


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
        self.initial = hyperparameter.initial

    @property
    def unit(self) -> float:
        """The size of the values at first, where these are plain numbers."""
        size = np.mean(np.abs(self.initial))
        return self.transform.unit_of(size, self.bounds)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Does nothing: `raw` belongs to the layer, which has created it."""

    def parts(self) -> list[Part]:
        (one,) = super().parts()
        layer, _, attribute = self.name.rpartition(".")
        return [one._replace(layer=layer, weight=attribute)]

    def to_keras(self, plain: PlainTraining) -> None:
        plain.leave_out(
            self.name,
            "The value is part of a layer of this package, which saves and "
            "exports the value. Give the value to the layer of Keras that "
            "takes this layer's place.",
        )


def find(model: keras.Model) -> list[InLayer]:
    """Returns a kind for each `LearnedValue` of a model.

    The kind is named "<layer>.<attribute>", or "<layer>_1.<attribute>" where
    inner models have layers of one name; a value that several layers share is
    named for the first of these layers. Those in regularizers, losses and
    functions come after those in layers.

    Raises:
        ValueError: if a value is where no hypergradient can reach it.
    """
    found: dict[int, InLayer] = {}
    for owner in keras_internals.layers_within(model):
        for layer in keras_internals.layers_directly_within(owner):
            if isinstance(layer, LearnedValue) and id(layer) not in found:
                end = f".{_attribute(owner, layer)}"
                names = [one.name for one in found.values()]
                name = _unused(owner.name, names, end)
                found[id(layer)] = InLayer(layer, name)
    for name, value in _in_objects(model):
        if id(value) not in found:
            names = [one.name for one in found.values()]
            found[id(value)] = InLayer(value, _unused(name, names))
    return list(found.values())


def _unused(name: str, names: list[str], end: str = "") -> str:
    """Returns a name and its end, with a number if it is among some names."""
    numbered = (f"{name}_{k}{end}" for k in itertools.count(1))
    each = itertools.chain([name + end], numbered)
    return next(n for n in each if n not in names)


def _attribute(owner: keras.Layer, layer: LearnedValue) -> str:
    """Returns the attribute under which a layer keeps a value.

    For a value in a list of values, its own name.
    """
    names = (name for name, value in vars(owner).items() if value is layer)
    return next(names, layer.name)


# ---- in regularizers, losses and functions, which Keras does not track


def _in_objects(model: keras.Model) -> Iterator[tuple[str, LearnedValue]]:
    """Yields the values in a model's regularizers, functions and losses.

    With the name of the object, such as "dense.kernel_regularizer"; a value as
    often as it is found.

    Args:
        model: a built and compiled model.

    Raises:
        ValueError: if a value is in a constraint, an initializer or a metric.
    """
    for name, thing, is_elsewhere in _things(model):
        for value in _values(thing, DEPTH):
            if is_elsewhere:
                raise ValueError(
                    f"A `LearnedValue` is in '{name}', a constraint, an "
                    "initializer or a metric: the derivative of the training "
                    "loss by the value does not pass there. Use a number, or "
                    "put the value into a layer, a regularizer or a loss."
                )
            yield name, value


def _things(model: keras.Model) -> Iterator[tuple[str, Any, bool]]:
    """Yields what may keep a value, with its name, and whether in vain."""
    for layer in keras_internals.layers_within(model):
        for attribute, thing in vars(layer).items():
            if attribute not in COMPILED:
                name = f"{layer.name}.{attribute}"
                yield name, thing, isinstance(thing, ELSEWHERE)
        for variable in keras_internals.own_trainable_variables(layer):
            name = f"{layer.name}.{variable.name}"
            yield f"{name}_regularizer", variable.regularizer, False
            yield f"{name}_constraint", variable.constraint, True
    yield "loss", model.loss, False
    yield "metrics", keras_internals.given_metrics(model), True


def _values(thing: Any, depth: int) -> Iterator[LearnedValue]:
    """Yields the values in an object, a function or a container."""
    if isinstance(thing, LearnedValue):
        yield thing
    elif depth and not isinstance(thing, keras.layers.Layer):
        for one in _parts(thing):
            yield from _values(one, depth - 1)


def _parts(thing: Any) -> list[Any]:
    """Returns what an object, a function or a container consists of."""
    if isinstance(thing, (list, tuple, set)):
        return list(thing)
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__]
    if isinstance(thing, types.FunctionType):
        names = thing.__code__.co_names
        used = [thing.__globals__[k] for k in names if k in thing.__globals__]
        # Of a module's names only the values themselves.
        found = [one for one in used if isinstance(one, LearnedValue)]
        cells = [cell.cell_contents for cell in _full(thing.__closure__)]
        return found + cells + list(thing.__defaults__ or ())
    if isinstance(thing, (*OBJECTS, *ELSEWHERE)):
        return list(vars(thing).values())
    return []


def _full(closure: Any) -> list[Any]:
    """Returns the cells of a closure that hold something."""

    def is_full(cell):
        try:
            return cell.cell_contents is not None
        except ValueError:
            return False

    return [cell for cell in closure or () if is_full(cell)]
