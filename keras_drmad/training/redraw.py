"""New draws of the variables that still hold their initializers' draws."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.hyperparameters.values import RAW
from keras_drmad.training import kept_initializers
from keras_drmad.training.kept_initializers import Kept
from keras_drmad.training.randomness import Randomness, hashed
from keras_drmad.training.recognition import recognized

_NAMED = 3  # variables that a sentence names, at most
# How often, and of how many numbers, draws of a generator are tried at most.
_MOST, _MOST_NUMBERS = 1000, 10**8


class _Source(NamedTuple):
    """Where a variable's values come from.

    Attributes:
        initializer: function of a shape and a dtype.
        randomness: what it draws with; empty for one that always gives the
            same.
    """

    initializer: Callable
    randomness: Randomness


class Redraw:
    """Which variables still hold what their initializers gave, and new draws.

    An initializer of Keras keeps its seed, and called again it gives the very
    same values. So a variable that holds its draw is seen by its values, each
    for itself: nothing is built again from a config, and a loaded body stays
    where a new head is drawn.

    The initializers are those that the variable's layers keep. Where a layer
    keeps no initializer for a variable, as one's own layer that says
    `add_weight(initializer="glorot_uniform")`, a draw is known by the grain of
    random numbers, see `recognition`.

    Attributes:
        variables: list of `keras.Variable`.
        drawn: list of bool, as `variables`: it holds a random draw of its
            initializer, and is drawn anew.
        fixed: list of bool, as `variables`: it holds what an initializer
            without randomness gives, such as zeros or an identity; a new
            training starts there as well. Where neither holds, the values were
            loaded or trained, or nothing explains them: they stay.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        values: Sequence[Any] | None = None,
    ):
        """Looks at the values of the variables.

        Args:
            model: a built model.
            variables: those that training changes, in any order.
            values: list of tensors, what they held when the model was built or
                loaded; what they hold now by default.
        """
        self.variables = list(variables)
        if values is None:
            values = [v.value for v in self.variables]
        self._look = look = _Look(model)
        with keras_internals.unchanged_random_state():
            unique = {
                id(v): (v, value)
                for v, value in zip(self.variables, values, strict=True)
            }
            known = {key: look.source(*pair) for key, pair in unique.items()}
        self._sources = [known[id(v)] for v in self.variables]
        self._sort()

    def _sort(self) -> None:
        self.drawn = [
            s is not None and bool(s.randomness) for s in self._sources
        ]
        self.fixed = [s is not None and not s.randomness for s in self._sources]

    def resume(self, drawn: Sequence[bool]) -> None:
        """Draws the variables anew that were drawn where a run was saved.

        There their values were seen, which are lost here; it is the initializer
        that the layer keeps for a variable that draws.

        Args:
            drawn: list of bool, as the attribute.

        Raises:
            ValueError: if a layer keeps no initializer for such a variable.
        """
        for k, (variable, is_drawn) in enumerate(
            zip(self.variables, drawn, strict=True)
        ):
            if is_drawn == self.drawn[k]:
                continue
            self._sources[k] = self._look.kept(variable) if is_drawn else None
            if is_drawn and self._sources[k] is None:
                raise ValueError(
                    "A saved run has drawn initial weights anew that this "
                    f"model can't draw: no layer keeps the initializer of "
                    f"'{variable.path}'. Build the model anew, as before the "
                    "run that was saved, and load its weights within `fit` "
                    "alone, by `keras.callbacks.BackupAndRestore`."
                )
        self._sort()

    def draw(self, seed: int) -> list[tf.Tensor | None]:
        """Returns new values, in the order of `variables`.

        Equal seeds give equal bits, and each variable has a seed of its own,
        also where one initializer fills several. No variable is assigned, and
        no generator, here or global, goes on.

        Args:
            seed: int.

        Returns:
            List of tensors as the variables, `None` for those that are not
            drawn.
        """
        places: dict[int, int] = {}
        values: list[tf.Tensor | None] = []
        with keras_internals.unchanged_random_state():
            for k, variable in enumerate(self.variables):
                first = places.setdefault(id(variable), k)
                source = self._sources[k] if self.drawn[k] else None
                if first < k:
                    values.append(values[first])
                elif source is None:
                    values.append(None)
                else:
                    values.append(_anew(variable, source, hashed(seed, k)))
        return values

    @property
    def keeps_some(self) -> bool:
        """Whether weights that are trained start as they are, each time."""
        places = range(len(self.variables))
        return any(
            self._stays(k) and self.variables[k].trainable for k in places
        )

    @property
    def draws_none(self) -> bool:
        """Whether all draws of the weights that are trained would be alike."""
        return self.keeps_some and not any(
            is_drawn and v.trainable
            for v, is_drawn in zip(self.variables, self.drawn, strict=True)
        )

    def words(self) -> str:
        """Returns a sentence on what is drawn anew, and what stays."""
        unique = {id(v): k for k, v in enumerate(self.variables)}.values()
        trained = [k for k in unique if self.variables[k].trainable]
        drawn = [k for k in trained if self.drawn[k]]
        fixed = [k for k in trained if self.fixed[k]]
        stay = [k for k in unique if self._stays(k)]
        words = (
            f"{self._size(drawn):,} of {self._size(trained):,} trainable "
            f"numbers ({len(drawn)} of {len(trained)} variables) are drawn anew"
        )
        if fixed:
            words += f", {self._size(fixed):,} begin as initializers set them"
        if stay:
            as_is = "stay as they are" if len(stay) > 1 else "stays as it is"
            words += f"; {self._names(stay)} {as_is} (loaded, trained, or by "
            words += "no initializer that is known)"
        return words + "."

    def _stays(self, k: int) -> bool:
        """Returns whether a variable keeps its values.

        Not a count or a key, nor a hyperparameter within a layer, which does
        not belong to where trainings start.
        """
        variable = self.variables[k]
        is_number = "float" in keras.backend.standardize_dtype(variable.dtype)
        is_number &= variable.name != RAW
        return is_number and not (self.drawn[k] or self.fixed[k])

    def _names(self, stay: list[int]) -> str:
        paths = [f"'{self.variables[k].path}'" for k in stay[:_NAMED]]
        more = len(stay) - _NAMED
        paths += [f"{more} more"] if more > 0 else []
        return " and ".join(filter(None, [", ".join(paths[:-1]), paths[-1]]))

    def _size(self, places: list[int]) -> int:
        return sum(math.prod(self.variables[k].shape) for k in places)


class _Look:
    """A look at what variables hold now."""

    def __init__(self, model: keras.Model):
        self._owners = kept_initializers.owners(model)
        self._kept: dict[int, list[Kept]] = {}  # by the layer's id
        self._counts: dict[int, int] = {}  # draws of generators that were found

    def source(self, variable: keras.Variable, tensor: Any) -> _Source | None:
        """Returns where a variable's values come from, `None` if unknown."""
        value = np.asarray(tf.convert_to_tensor(tensor))
        kept = self._kept_for(variable)
        named = [one for one in kept if one.is_for(variable)]
        for one in named or kept:
            source = self._holding(variable, value, one.initializer)
            if source is not None:
                return source
        if _is_plain(value):
            return _source_of(keras.initializers.Constant(value.flat[0]))
        # What a named initializer did not give was loaded or trained.
        found = None if named else recognized(value)
        return None if found is None else _source_of(found)

    def kept(self, variable: keras.Variable) -> _Source | None:
        """Returns what draws by the names of things, `None` if unknown."""
        for one in self._kept_for(variable):
            source = _source_of(one.initializer)
            if one.is_for(variable) and source.randomness:
                return source
        return None

    def _kept_for(self, variable: keras.Variable) -> list[Kept]:
        layers = self._owners.get(id(variable), [])
        return [one for layer in layers for one in self._kept_by(layer)]

    def _kept_by(self, layer: keras.Layer) -> list[Kept]:
        if id(layer) not in self._kept:
            self._kept[id(layer)] = kept_initializers.kept_by(layer)
        return self._kept[id(layer)]

    def _holding(
        self, variable: keras.Variable, value: np.ndarray, initializer: Any
    ) -> _Source | None:
        """Returns an initializer as a source if it gives the very values."""
        source = _source_of(initializer)
        randomness = source.randomness
        for count in self._places(randomness, value.size):
            with randomness.kept():
                randomness.rewind(count)
                again = _called(variable, initializer)
            if again is None or again.shape != value.shape:
                return None
            if np.array_equal(again, value):
                for generator in randomness.generators:
                    self._counts[id(generator)] = count + 1
                return source
        return None

    def _places(self, randomness: Randomness, size: int) -> list[int]:
        """Returns the draws of an initializer's generators, likeliest first.

        A `SeedGenerator` counts its draws. Variables are mostly made in order,
        so the draw after the last one that was found comes first.
        """
        if not randomness.generators:
            return [0]
        places = list(range(randomness.draws))
        after = self._counts.get(id(randomness.generators[0]), 0)
        most = min(_MOST, max(1, _MOST_NUMBERS // max(1, size)))
        return (places[after:] + places[:after])[:most]


def _source_of(initializer: Callable) -> _Source:
    return _Source(initializer, Randomness(initializer))


def _anew(variable: keras.Variable, source: _Source, seed: int) -> tf.Tensor:
    with source.randomness.kept():
        source.randomness.reseed(seed)
        value = source.initializer(tuple(variable.shape), dtype=variable.dtype)
    return tf.convert_to_tensor(value, variable.dtype)


def _called(
    variable: keras.Variable, initializer: Callable
) -> np.ndarray | None:
    """Returns what an initializer gives for a variable, `None` on an error.

    An initializer that is for another variable of the layer may take no such
    shape, and a function that is none at all, no shape.
    """
    try:
        value = initializer(tuple(variable.shape), dtype=variable.dtype)
        return np.asarray(tf.convert_to_tensor(value, variable.dtype))
    except Exception:
        return None


def _is_plain(value: np.ndarray) -> bool:
    """Returns whether values are all zeros or all ones, or equal and several.

    As a string or a number in `add_weight` makes them.
    """
    if not value.size or np.any(value != value.flat[0]):
        return False
    return value.size > 1 or value.flat[0] in (0, 1)
