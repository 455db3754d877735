"""What happens between two trainings, and what a backup has there."""

import warnings
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.training.plan import Plan
from keras_drmad.training.tuning_record import renamed

# Weights and other variables of a model, and what they hold.
Left: TypeAlias = list[tuple[keras.Variable, tf.Tensor]]
ASSIGNED = (
    "A callback has set {names} between two epochs. Training goes on from the "
    "values before: its state is its own until `fit` ends. To set weights in "
    "between, call `fit` with one epoch several times, and set them after each."
)


def go_on(
    model: Any, problem: Any, plan: Plan, callbacks: Any, base: dict[str, Any]
) -> None:
    """Gives model, data and history what a backup has of them."""
    known = base["model"]
    model.know(known)
    own = [h.name for h in model.hyperparameters]
    names = dict(zip(known.get("names", own), own, strict=True))
    plan.skip(base["passes"])
    problem.assign_strays(base["strays"])
    for one in callbacks.callbacks:
        if isinstance(one, keras.callbacks.History):
            one.history = renamed(base["history"], names)
            one.epoch = list(base["epochs"])


class PassesForBackup:
    """The passes over the data of one training, as a backup has them.

    A walk that goes on reads the training data from the beginning, so their
    passes stay those of the training's first step.
    """

    def __init__(self, plan: Plan, begun: dict[str, Any]):
        """Initializes the passes.

        Args:
            plan: the data.
            begun: what a backup has of a `fit` that goes on; empty for a new
                one.
        """
        self._plan = plan
        self._read = (begun.get("passes") or plan.passes()).get("training")

    def now(self) -> dict[str, Any]:
        """Returns what a new process would skip; see `Plan.skip`."""
        passes = self._plan.passes()
        if self._read is not None:
            passes["training"] = self._read
        return passes


def base(
    model: Any,
    problem: Any,
    callbacks: Any,
    number: int,
    **others: Any,
) -> dict[str, Any]:
    """Returns what a backup has of all these, between trainings.

    Args:
        model: the `DrMADModel`.
        problem: the elementary problem.
        callbacks: Keras's list.
        number: int, of the meta-iteration, or epoch, that is to come.
        **others: what else the backup has.
    """
    histories = [
        one
        for one in callbacks.callbacks
        if isinstance(one, keras.callbacks.History)
    ]
    epochs = [list(one.epoch) for one in histories][-1:]
    logs = [
        {name: list(map(_plain, row)) for name, row in one.history.items()}
        for one in histories
    ]
    return {
        "number": number,
        "strays": problem.strays(),
        "model": model.known(),
        "epochs": epochs[0] if epochs else [],
        "history": logs[-1] if logs else {},
        **others,
    }


def left_to_callbacks(problem: Any) -> Left:
    """Returns what a model's variables hold where callbacks look at an epoch.

    Args:
        problem: the elementary problem.
    """
    return [
        (v, keras_internals.value_of(v))
        for v in [*problem.params, *problem.buffers]
        if not keras_internals.is_seed_state(v)
    ]


def warn_of_assigned(left: Left, callbacks: Any) -> None:
    """Warns of variables that callbacks have assigned since.

    But for `SwapEMAWeights`, which brings back what it takes away.

    Args:
        left: what the variables held.
        callbacks: Keras's list.
    """
    swap = keras.callbacks.SwapEMAWeights
    if any(isinstance(one, swap) for one in callbacks.callbacks):
        return
    names = [
        v.path
        for v, value in left
        if not np.array_equal(keras_internals.value_of(v), value)
    ]
    if names:
        named = ", ".join(map(repr, dict.fromkeys(names)))
        text = ASSIGNED.format(names=named)
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _plain(value: Any) -> Any:
    """Returns an entry of a history as a backup takes it."""
    if isinstance(value, keras.Variable):
        return value.numpy()
    numbers = (bool, int, float, str, np.ndarray, np.generic)
    is_plain = value is None or isinstance(value, numbers)
    return value if is_plain or tf.is_tensor(value) else repr(value)
