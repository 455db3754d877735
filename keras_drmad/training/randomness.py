"""What an initializer draws with: seeds, and generators of seeds."""

import contextlib
import functools
import random
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments


class Slot(NamedTuple):
    """A place that holds a seed.

    Attributes:
        seed: what the place holds, a whole number of any type.
        put: function that takes another seed.
    """

    seed: Any
    put: Callable[[Any], None]


class Randomness:
    """The seeds and generators that an initializer reaches.

    An initializer reaches its attributes, those of initializers in them, what
    a function closes over or takes by default, and the arguments of a partial.
    A seed is a whole number under a name that ends with "seed".

    Attributes:
        slots: list of `Slot`.
        generators: list of `keras.random.SeedGenerator`.
        streams: list of generators that other libraries draw numbers with: no
            one can ask these for what they gave before.
    """

    def __init__(self, initializer: Callable):
        """Initializes the randomness.

        Args:
            initializer: a function of a shape and a dtype.
        """
        self.slots: list[Slot] = []
        self.generators: list[keras.random.SeedGenerator] = []
        self.streams: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._walk(initializer)

    def __bool__(self) -> bool:
        """Whether the initializer gives other values with another seed."""
        return bool(self.slots or self.generators)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Restores all seeds and generators at the end."""
        generators = [(g, tf.identity(g.state.value)) for g in self.generators]
        restore = [_restorer(stream) for stream in self.streams]
        try:
            yield
        finally:
            for slot in self.slots:
                slot.put(slot.seed)
            for generator, state in generators:
                generator.state.assign(state)
            for function in restore:
                function()

    def reseed(self, seed: int) -> None:
        """Gives all seeds and generators another seed.

        Equal seeds stay equal. The first one becomes the given seed, so an
        initializer of Keras draws what a new one with this seed would draw.

        Args:
            seed: int.
        """
        new: dict[int, int] = {}
        for slot in self.slots:
            if int(slot.seed) not in new:
                new[int(slot.seed)] = hashed(seed, len(new)) if new else seed
            slot.put(new[int(slot.seed)])
        for generator in self.generators:
            generator.state.assign([seed, 0])

    def rewind(self, count: int) -> None:
        """Sets the generators back to where they were after some draws."""
        for generator in self.generators:
            first = int(generator.state.value[0])
            generator.state.assign([first, count])

    @property
    def draws(self) -> int:
        """How many seeds the generators gave, those of other users too."""
        counts = [int(g.state.value[1]) for g in self.generators]
        return max(counts, default=0)

    def _walk(self, thing: Any) -> None:
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing  # held, so that no id is used twice
        if isinstance(thing, keras.random.SeedGenerator):
            self.generators.append(thing)
        elif isinstance(thing, _STREAMS):
            self.streams.append(thing)
        elif isinstance(thing, dict):
            for name, value in thing.items():
                self._note(name, value, functools.partial(_put, thing, name))
        elif isinstance(thing, (list, tuple)):
            for value in thing:
                self._walk(value)
        elif isinstance(thing, functools.partial):
            for value in (thing.func, thing.args, thing.keywords):
                self._walk(value)
        elif isinstance(thing, types.MethodType):
            self._walk(thing.__self__)
            self._walk(thing.__func__)
        elif isinstance(thing, types.FunctionType):
            self._walk_function(thing)
        elif is_initializer(thing):
            self._walk(getattr(thing, "__dict__", {}))

    def _walk_function(self, function: types.FunctionType) -> None:
        self._walk(function.__kwdefaults__ or {})
        self._walk(function.__defaults__ or ())
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                put = functools.partial(setattr, cell, "cell_contents")
                self._note(name, cell.cell_contents, put)
        # What stands in a module is everybody's: only what draws is walked.
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, (*_DRAW, *_STREAMS)):
                self._walk(value)

    def _note(self, name: Any, value: Any, put: Callable) -> None:
        """Notes a seed under a name; other things are walked."""
        is_whole = isinstance(value, (int, np.integer))
        is_named = isinstance(name, str) and name.lower().endswith("seed")
        if is_named and is_whole and not isinstance(value, bool):
            self.slots.append(Slot(value, put))
        else:
            self._walk(value)


_DRAW = (keras.initializers.Initializer, keras.random.SeedGenerator)
_STREAMS = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    tf.random.Generator,
)


def is_initializer(thing: Any) -> bool:
    """Returns whether an object can be an initializer, to be called."""
    if isinstance(thing, keras.initializers.Initializer):
        return True
    not_these = (type, keras.Layer, keras.Variable, types.ModuleType)
    return callable(thing) and not isinstance(thing, not_these)


def drawn_seed(seed: int | None) -> int:
    """Returns the argument `seed`, or for `None` one of NumPy's generator.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is negative.
    """
    given = arguments.seed("seed", seed)
    return int(np.random.randint(2**31)) if given is None else given


def hashed(*numbers: int) -> int:
    """Returns a seed that depends on all the numbers, below 2³¹."""
    return zlib.crc32(np.array(numbers, np.int64).tobytes()) >> 1


def _put(holder: dict, name: str, value: Any) -> None:
    holder[name] = value


def _restorer(stream: Any) -> Callable[[], None]:
    """Returns a function that sets a stream back to where it is now."""
    if isinstance(stream, np.random.Generator):
        bits, state = stream.bit_generator, stream.bit_generator.state
        return lambda: setattr(bits, "state", state)
    if isinstance(stream, np.random.RandomState):
        return functools.partial(stream.set_state, stream.get_state())
    if isinstance(stream, random.Random):
        return functools.partial(stream.setstate, stream.getstate())
    return functools.partial(stream.state.assign, tf.identity(stream.state))
