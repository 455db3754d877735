"""The initializers that layers keep, and which variable each is for."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.training.randomness import is_initializer


class Kept(NamedTuple):
    """An initializer that a layer keeps.

    Attributes:
        name: str, the attribute, or the key of a dict in it.
        initializer: function of a shape and a dtype.
    """

    name: str
    initializer: Callable

    def is_for(self, variable: keras.Variable) -> bool:
        """Returns whether the name says that the variable is filled by it.

        As `kernel_initializer` is for "kernel", and `recurrent_initializer`
        for "recurrent_kernel".
        """
        stem = self.name.strip("_").removesuffix("initializer").strip("_")
        begins = variable.name.startswith(f"{stem}_")
        return bool(stem) and (begins or variable.name == stem)


def owners(model: keras.Model) -> dict[int, list[keras.Layer]]:
    """Returns the layers that own each variable, by the variable's id."""
    found: dict[int, list[keras.Layer]] = {}
    for layer in keras_internals.layers_within(model):
        for variable in keras_internals.own_variables(layer):
            found.setdefault(id(variable), []).append(layer)
    return found


def kept_by(layer: keras.Layer) -> list[Kept]:
    """Returns the initializers that a layer keeps, the likeliest first.

    In attributes, and in lists, tuples, dicts and dataclasses in them. Objects
    of Keras's class are known as such, functions by the name of their
    attribute. Ahead of them stands what Keras makes of the layer's initializers
    before it calls them. Last stand those of the layer's config that have a
    seed, where no attribute has them.
    """
    found = [*_adapted(layer), *_within("", vars(layer))]
    if not isinstance(layer, keras.Model):
        found += _in_config(layer, {kept.name for kept in found})
    return found


def hand_over(layer: keras.Layer, copy: keras.Layer) -> None:
    """Gives a copy of a layer the initializers that the layer keeps.

    A copy from a config has initializers with seeds of their own, if the user
    gave no seeds: what these draw is not what the layer holds.

    Args:
        layer: a layer.
        copy: a layer of the same class, or what takes the layer's place.
    """
    for name, thing in list(vars(layer).items()):
        if name in vars(copy):
            own = getattr(copy, name)
            handed = _handed(name, thing, own)
            if handed is not own:
                setattr(copy, name, handed)


def _handed(name: str, thing: Any, own: Any) -> Any:
    """Returns a copy's value of an attribute, with another's initializers.

    Lists and dicts of the copy are changed in place.

    Args:
        name: str, the attribute, or the key of a dict in it.
        thing: the value of the layer that was copied.
        own: the value of the copy.
    """
    if _is_kept(name, thing):
        return thing
    if type(thing) is not type(own):
        return own
    if isinstance(thing, dict):
        for key in [key for key in own if key in thing]:
            inner = key if isinstance(key, str) else name
            _put(own, key, _handed(inner, thing[key], own[key]))
    elif isinstance(thing, list) and len(thing) == len(own):
        for k, pair in enumerate(zip(thing, own, strict=True)):
            _put(own, k, _handed(name, *pair))
    elif type(thing) is tuple and len(thing) == len(own):
        pairs = list(zip(thing, own, strict=True))
        new = tuple(_handed(name, *pair) for pair in pairs)
        if any(a is not b for a, b in zip(new, own, strict=True)):
            return new
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            both = [getattr(one, field.name, None) for one in (thing, own)]
            handed = _handed(field.name, *both)
            if handed is not both[1]:
                object.__setattr__(own, field.name, handed)  # also if frozen
    return own


def _put(holder: Any, key: Any, value: Any) -> None:
    """Puts a value into a list or dict, if another one is there."""
    if holder[key] is not value:
        holder[key] = value


def _is_kept(name: str, thing: Any) -> bool:
    """Returns whether an attribute's value is an initializer."""
    if isinstance(thing, keras.initializers.Initializer):
        return True
    return "init" in name and is_initializer(thing)


def _within(name: str, thing: Any) -> Iterator[Kept]:
    """Yields the initializers in an attribute's value."""
    if _is_kept(name, thing):
        yield Kept(name, thing)
    elif isinstance(thing, dict):
        if {"class_name", "config"} <= set(thing):
            yield from _deserialized(name, thing)
            return
        for key, value in list(thing.items()):
            yield from _within(key if isinstance(key, str) else name, value)
    elif isinstance(thing, (list, tuple)):
        for value in list(thing):
            yield from _within(name, value)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from _within(field.name, getattr(thing, field.name, None))


def _deserialized(name: str, config: dict) -> Iterator[Kept]:
    """Yields the initializer that a config stands for, if one does.

    Without a seed of its own the config says nothing of values.
    """
    inner = config["config"]
    if isinstance(inner, dict) and isinstance(inner.get("seed"), int):
        try:
            made = keras.initializers.get(dict(config))
        except (TypeError, ValueError):
            return
        if isinstance(made, keras.initializers.Initializer):
            yield Kept(name, made)


def _in_config(layer: keras.Layer, known: set[str]) -> Iterator[Kept]:
    """Yields initializers of a layer's config that no attribute has."""
    try:
        config = layer.get_config()
    except Exception:  # a config of one's own may fail in any way
        return
    for kept in _within("", config):
        if kept.name not in known:
            yield kept


# ---- what layers of Keras make of their initializers


def _adapted(layer: keras.Layer) -> Iterator[Kept]:
    """Yields initializers that call a layer's own as the layer does it."""
    if isinstance(layer, keras.layers.EinsumDense):
        given = layer.kernel_initializer
        # Before Keras 3.15 there were no such axes.
        if getattr(given, "input_axes", ()) is None:
            yield Kept("kernel_initializer", _with_axes(layer.equation, given))
    elif getattr(layer, "unit_forget_bias", False):
        given = getattr(layer, "bias_initializer", None)
        if given is not None:
            yield Kept("bias_initializer", _with_forget_bias(given))


def _with_axes(equation: str, initializer: Any) -> Callable:
    """Returns an initializer that knows which axes are a kernel's inputs.

    As `EinsumDense` tells a `VarianceScaling`.

    Args:
        equation: str, as "abc,cd->abd".
        initializer: a `VarianceScaling`.
    """
    kernel, _, outputs = equation.partition(",")[2].partition("->")
    letters = list(enumerate(kernel.strip()))
    axes = {
        "input_axes": [k for k, letter in letters if letter not in outputs],
        "output_axes": [k for k, letter in letters if letter in outputs],
    }

    def call(shape, dtype=None):
        config = {**initializer.get_config(), "seed": initializer.seed, **axes}
        return type(initializer).from_config(config)(shape, dtype=dtype)

    return call


def _with_forget_bias(initializer: Callable) -> Callable:
    """Returns the initializer of the bias of an LSTM: ones to remember with."""

    def call(shape, dtype=None):
        units = shape[-1] // 4
        pieces = [
            initializer((units,), dtype=dtype),
            tf.ones((units,), dtype),
            initializer((2 * units,), dtype=dtype),
        ]
        return tf.concat(pieces, axis=0)

    return call
