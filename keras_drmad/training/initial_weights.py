"""Where each elementary training starts."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.state import State
from keras_drmad.training.randomness import hashed
from keras_drmad.training.redraw import Redraw
from keras_drmad.training.workers import Workers

CHECKED = 10**9  # the first number of trainings that no `fit` counts up to


class Origin:
    """The weights from which the trainings of a model start.

    A `fit` leaves trained weights in the model. Where these still are when the
    next `fit` begins, its trainings start where those of the first one did;
    other weights were put in meanwhile, and start as they are. A `fit` of one
    training leaves trained weights, too, but itself goes on from the model's.
    Within a `fit` the model's weights are its own, whoever looks.

    Attributes:
        redraw: `Redraw`, which of the model's variables are drawn anew.
    """

    def __init__(self, model: keras.Model):
        """Initializes the origin with the model's weights as they are.

        Args:
            model: the elementary model, built.
        """
        self._model = model
        self._variables = [
            v for v in model.variables if not keras_internals.is_seed_state(v)
        ]
        self._values = [tf.convert_to_tensor(v.value) for v in self._variables]
        self._left: list[bytes] = []
        self._is_in_use = False
        self.redraw = Redraw(model, self._variables, self._values)

    @property
    def is_complete(self) -> bool:
        """Whether the model still has these weights, and no others."""
        now = {
            id(v)
            for v in self._model.variables
            if not keras_internals.is_seed_state(v)
        }
        return now == set(map(id, self._variables))

    @property
    def has_left(self) -> bool:
        """Whether a `fit` has left weights in the model."""
        return bool(self._left)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, a `fit` runs, and what it trains was not put in."""
        self._is_in_use = True
        try:
            yield
        finally:
            self._is_in_use = False

    def leave(self) -> None:
        """Notes that the model has the weights that a `fit` left in it."""
        self._left = list(map(_digest, self._variables))

    def look(self) -> None:
        """Takes over weights that were put into the model since `leave`."""
        if self._is_in_use:
            return
        found = list(map(_digest, self._variables))
        left = self._left or [b""] * len(found)
        if found == left:
            return
        for k, variable in enumerate(self._variables):
            if found[k] != left[k]:
                self._values[k] = tf.convert_to_tensor(variable.value)
        self.redraw = Redraw(self._model, self._variables, self._values)

    def by_variable(self) -> dict[int, tf.Tensor]:
        """Returns the weights by the ids of their variables."""
        return dict(zip(map(id, self._variables), self._values, strict=True))

    def agree(self, workers: Workers) -> None:
        """Takes the chief's word for what is drawn, and what is not.

        An initializer without a seed draws otherwise in each process.
        """
        replicas = workers.replicas
        if replicas.workers > 1:
            drawn = replicas.from_chief(np.array(self.redraw.drawn))
            self.redraw.resume(list(map(bool, np.asarray(drawn))))
            self._values = list(replicas.from_chief(self._values))

    def values(self) -> list[np.ndarray]:
        """Returns what `resume` takes: enough to go on in another process."""
        changed = [
            _digest(variable) != _digest(value)
            for variable, value in zip(
                self._variables, self._values, strict=True
            )
        ]
        left = [np.frombuffer(one, np.uint8) for one in self._left]
        starts = zip(self._values, changed, strict=True)
        return [
            np.array(self.redraw.drawn),
            np.array(changed),
            np.array(left),
            *(np.asarray(value) for value, is_changed in starts if is_changed),
        ]

    def resume(self, saved: Sequence[np.ndarray]) -> None:
        """Starts where trainings started in another process.

        Args:
            saved: list of arrays, as `values` returned them there.

        Raises:
            ValueError: if the model can't draw what was drawn there.
        """
        drawn, changed, left, *values = saved
        self.redraw.resume(list(map(bool, drawn)))
        # The others are as the model has them, which was loaded before.
        self._values = [tf.convert_to_tensor(v.value) for v in self._variables]
        for k, value in zip(np.flatnonzero(changed), values, strict=True):
            self._values[k] = tf.convert_to_tensor(value)
        self._left = [one.tobytes() for one in left]

    def of(self, state: State, problem: Any) -> State:
        """Returns a state with the weights of the origin."""
        return self._replaced(state, problem, self._values)

    def drawn(self, state: State, problem: Any, seed: int) -> State:
        """Returns a state with new draws of the weights that have draws."""
        return self._replaced(state, problem, self.redraw.draw(seed))

    def _replaced(self, state: State, problem: Any, values: Sequence) -> State:
        known = dict(zip(map(id, self._variables), values, strict=True))

        def replaced(variables, values):
            pairs = zip(variables, values, strict=True)
            new = [(known.get(id(v)), value) for v, value in pairs]
            return [value if one is None else one for one, value in new]

        return state._replace(
            params=replaced(problem.params, state.params),
            buffers=replaced(problem.buffers, state.buffers),
        )


def _digest(value: Any) -> bytes:
    """Returns a few bytes that are different for different values."""
    if isinstance(value, keras.Variable):
        value = value.value
    array = np.ascontiguousarray(tf.convert_to_tensor(value).numpy())
    return hashlib.blake2b(array.tobytes()).digest()


class InitialState:
    """The first states of the trainings of one `fit`.

    Attributes:
        repeats: bool, whether all trainings start from the same state and see
            the same batches.
        first: `State`, the first of them.
    """

    def __init__(
        self,
        problem: Any,
        policy: str,
        seed: int,
        origin: Any = None,
        start: Sequence = (),
    ):
        """Initializes the starts.

        Args:
            problem: the elementary problem.
            policy: `"resample"`, `"same"` or `"continue"`.
            seed: int.
            origin: `Origin`, where trainings start; `None` for the model's
                weights as they are. Training that continues starts from these
                in any case.
            start: values of parameters and buffers to start from in place of
                the model's own, as `values` returns them; empty for these.
        """
        self.problem = problem
        self.policy = policy
        self.seed = seed
        self.origin = origin
        self.repeats = policy == "same"
        self.first = problem.initial_state()
        if start:
            values = [tf.constant(value) for value in start]
            count = len(self.first.params)
            self.first = self.first._replace(
                params=values[:count], buffers=values[count:]
            )
        elif origin is not None and policy != "continue":
            self.first = origin.of(self.first, problem)

    def values(self) -> list[tf.Tensor]:
        """Returns the parameters and buffers of the first state."""
        return [*self.first.params, *self.first.buffers]

    def of(self, number: int) -> State:
        """Returns the state from which a training starts.

        Args:
            number: int, of the training, counted from 0.
        """
        if self.repeats:
            return self.seeded(self.first, 0)
        if self.policy == "resample":
            seed = self.seed_of(number)
            state = self.origin.drawn(self.first, self.problem, seed)
        else:
            state = self.problem.recovered(self.problem.initial_state())
        return self.seeded(state, number)

    def going_on(self) -> State:
        """Returns the state of a training that goes on from the model's own.

        With the optimizer's slots as they are.
        """
        return self.seeded(self.problem.recovered(self.problem.state()), 0)

    def seed_of(self, number: int) -> int:
        """Returns the seed of the draws of a training."""
        if self.repeats:
            return self.seed
        return hashed(self.seed, number)

    def seeded(self, state: State, number: int) -> State:
        """Returns the state with random generators that follow the seed."""
        buffers = list(state.buffers)
        for k, variable in enumerate(self.problem.buffers):
            if keras_internals.is_seed_state(variable):
                seed = hashed(self.seed, number, k)
                buffers[k] = tf.constant([seed, 0], buffers[k].dtype)
        return state._replace(buffers=buffers)
