"""Where each elementary training starts."""

import random
import zlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.state import State
from keras_drmad.seam.states import States

POLICIES = ("same", "resample", "continue")


class InitialState:
    """The first states of the trainings of one `fit`.

    Attributes:
        repeats: bool, whether all trainings start from the same state and see
            the same batches.
        first: `State`, the first of them.
    """

    def __init__(
        self,
        problem: States,
        policy: str,
        seed: int,
        start: Sequence = (),
    ):
        """Initializes the starts.

        Args:
            problem: the elementary problem.
            policy: `"same"`, `"resample"` or `"continue"`.
            seed: int.
            start: values of parameters and buffers to start from in place of
                the model's own, as `values` returns them; empty for these.
        """
        self.problem = problem
        self.policy = policy
        self.seed = seed
        self.repeats = policy == "same"
        self.first = problem.initial_state()
        if start:
            values = [tf.constant(value) for value in start]
            count = len(self.first.params)
            self.first = self.first._replace(
                params=values[:count], buffers=values[count:]
            )

    def values(self) -> list[tf.Tensor]:
        """Returns the parameters and buffers of the first state."""
        return [*self.first.params, *self.first.buffers]

    def of(self, meta_iteration: int) -> State:
        """Returns the state from which a meta-iteration's training starts."""
        if self.repeats:
            return self.seeded(self.first, 0)
        if self.policy == "resample":
            with _seeded_random(self.seed_of(meta_iteration)):
                _draw_initial_weights(self.problem)
        state = self.problem.initial_state()
        if self.policy == "continue":
            state = self.problem.recovered(state)
        return self.seeded(state, meta_iteration)

    def going_on(self) -> State:
        """Returns the state of a training that goes on from the model's own.

        With the optimizer's slots as they are.
        """
        return self.seeded(self.problem.recovered(self.problem.state()), 0)

    def seed_of(self, meta_iteration: int) -> int:
        """Returns the seed of a meta-iteration's batches."""
        if self.repeats:
            return self.seed
        return _hash(self.seed, meta_iteration)

    def seeded(self, state: State, meta_iteration: int) -> State:
        """Returns the state with random generators that follow the seed."""
        buffers = list(state.buffers)
        for k, variable in enumerate(self.problem.buffers):
            if keras_internals.is_seed_state(variable):
                seed = _hash(self.seed, meta_iteration, k)
                buffers[k] = tf.constant([seed, 0], buffers[k].dtype)
        return state._replace(buffers=buffers)


def _hash(*numbers: int) -> int:
    return zlib.crc32(np.array(numbers, np.int64).tobytes()) >> 1


class _seeded_random:
    """Seeds Python's generator, from which Keras draws unset seeds."""

    def __init__(self, seed: int):
        self.seed = seed

    def __enter__(self):
        self.before = random.getstate()
        random.seed(self.seed)

    def __exit__(self, *exception):
        random.setstate(self.before)


def _draw_initial_weights(problem: States) -> None:
    """Gives what training changes a new draw from the layers' initializers.

    Frozen weights, of a pretrained layer for instance, stay as they are.

    Raises:
        ValueError: if a copy of the model can't be built from its config.
    """
    model = problem.model
    try:
        copy = keras.models.clone_model(model)
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        shapes = [v.shape for v in copy.variables]
        if shapes != [v.shape for v in model.variables]:
            raise ValueError(f"its copy has variables of shapes {shapes}")
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            "Invalid value for argument `initial_weights`. 'resample' needs a "
            f"model that can be built again from its config; '{model.name}' "
            f"can't: {error}. Use 'same' or 'continue', or give the model "
            "`get_config` and `build`."
        ) from error
    changed = {id(v) for v in (*problem.params, *problem.buffers)}
    for variable, fresh in zip(model.variables, copy.variables, strict=True):
        if id(variable) in changed:
            variable.assign(fresh)
