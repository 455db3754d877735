"""The optimizer's numbers, as hyperparameters."""

import abc
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import base, groups
from keras_drmad.hyperparameters.plain_training import PlainTraining

SCHEDULES = (None, "step", "piecewise")


class OptimizerNumber(base.Hyperparameter):
    """One number of the optimizer: for all weights, some, or some steps.

    With a schedule the values are those of N iterations: `"step"`, one row for
    each of N = T iterations; `"piecewise"`, one for each of N knots, spread
    evenly from the first iteration to the last, and between two of them the
    raw values are interpolated:

        value(t) = transform((1 − f) raw_k + f raw_{k+1}),
        k + f = t (N − 1) / (T − 1),    t in [0, T − 1].

    A training beyond these iterations keeps the last values.
    """

    acts_on = "update"
    _multiplies = False  # the optimizer's number, in whose place it is else

    def __init__(
        self,
        per: str,
        initial: float | None,
        schedule: str | None,
        steps: int | None,
        knots: int,
        layers: groups.Layers,
        bounds: tuple[float | None, float | None] | None,
        name: str,
    ):
        """Initializes the numbers; the arguments are those of the kinds.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if one of the others is not valid.
        """
        super().__init__(name, bounds)
        self.per = groups.check_per(per)
        if initial is not None:
            initial = base.check_initial(initial, self.bounds, self.transform)
        self.initial = initial
        self.schedule = schedule
        self.steps = steps
        self.knots = knots
        self._check_schedule()
        self.layers = layers
        self._groups = groups.Groups([], ())
        self._last_step = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._set_steps(steps)

    @abc.abstractmethod
    def _given(self, optimizer: keras.Optimizer) -> float:
        """Returns the number that the optimizer was given.

        Raises:
            ValueError: if there is none to take the place of.
        """

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        initial = self._given(optimizer)
        if self.initial is None:
            base.check_initial(initial, self.bounds, self.transform)
        else:
            initial = self.initial
        self._groups = groups.group(
            model, self.per, self.layers, only_kernels=False
        )
        self.create((*self._rows(), *self._groups.shape), initial)

    def _rows(self) -> tuple[int, ...]:
        if self.schedule is None:
            return ()
        if self.schedule == "step" and self.steps:
            return (self.steps,)
        return (self.knots,)

    def prepare(self, training: base.Training) -> None:
        if self.schedule == "step":
            if training.is_tuned and training.steps != self.steps:
                raise ValueError(
                    f"The hyperparameter '{self.name}' has a value for each of "
                    "its `steps`. Expected a training of "
                    f"{self.steps} steps, epochs * steps_per_epoch. Received: "
                    f"one of {training.steps}. Pass `steps="
                    f"{training.steps}`, or `schedule='piecewise'`, which "
                    "serves any number."
                )
        elif training.is_tuned or self.steps is None:
            self._set_steps(training.steps)

    def _set_steps(self, steps: int | None) -> None:
        """Sets the number of iterations that the values are those of."""
        self.steps = steps
        if steps is not None:
            self._last_step.assign(max(steps - 1, 1))

    def reverse_steps(self, T: int) -> int:
        if self.schedule is None:
            return 1
        return T if self.schedule == "step" else min(T, 4 * self.knots)

    def acts_at(self) -> set[tuple[str, int]]:
        (attribute,) = self.numbers
        return {(attribute, id(m.variable)) for m in self._groups.members}

    def replaces(self) -> set[tuple[str, int]]:
        return set() if self._multiplies else self.acts_at()

    def number(
        self,
        raw: tf.Tensor,
        name: str,
        variable: keras.Variable,
        number: Any,
        t: tf.Tensor,
    ) -> Any:
        if name not in self.numbers:
            return number
        for member in self._groups.members:
            if member.variable is variable:
                entries = member.entries(self._at(raw, t))
                if self.per in ("all", "layer", "tensor"):
                    entries = tf.reshape(entries, [])
                value = self.transform.value(entries)
                return self._instead_of(number, tf.cast(value, variable.dtype))
        return number

    def _instead_of(self, number: Any, value: tf.Tensor) -> tf.Tensor:
        """Returns what takes the place of the optimizer's number."""
        del number
        return value

    def _at(self, raw: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
        """Returns the raw values at an iteration."""
        if self.schedule is None:
            return raw
        last = raw.shape[0] - 1
        if self.schedule == "step":
            return raw[tf.minimum(tf.cast(t, tf.int32), last)]
        place = tf.cast(t, tf.float64) * last / self._last_step
        place = tf.minimum(place, tf.cast(last, tf.float64))
        before = tf.minimum(tf.cast(place, tf.int32), max(last - 1, 0))
        part = tf.cast(place - tf.cast(before, tf.float64), raw.dtype)
        after = tf.minimum(before + 1, last)
        return (1 - part) * raw[before] + part * raw[after]

    def over_time(self, T: int) -> np.ndarray:
        """Returns the values at each of T iterations, `(T, *shape)`.

        Shape is `()` for `per="all"`, otherwise `(count,)`.
        """
        raw = self._bound().value
        rows = [self._at(raw, tf.constant(t)) for t in range(T)]
        return self.transform.value(tf.stack(rows)).numpy()

    def to_keras(self, plain: PlainTraining) -> None:
        (attribute,) = self.numbers
        values = self.value().numpy()
        if self.schedule == "step":
            values = self.over_time(len(values))
        elif self.schedule == "piecewise":
            last_step = int(self._last_step.numpy())
            if not last_step:
                return plain.leave_out(
                    self.name,
                    "Its knots are spread over the steps of a training. Call "
                    "`fit` first.",
                )
            values = self.over_time(last_step + 1)
        plain.set_numbers(
            self.name,
            attribute,
            self._groups.by_weight(values),
            is_schedule=self.schedule is not None,
            is_factor=self._multiplies,
        )

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return self._groups.by_layer(values)

    def get_config(self) -> dict[str, Any]:
        return {
            "per": self.per,
            "initial": self.initial,
            "schedule": self.schedule,
            "steps": self.steps,
            "knots": self.knots,
            "layers": groups.layer_names(self.layers),
            **super().get_config(),
        }

    def _check_schedule(self) -> None:
        arguments.choice("schedule", self.schedule, SCHEDULES)
        arguments.whole("knots", self.knots, 2)
        if self.steps is not None:
            arguments.whole("steps", self.steps, 1)
        elif self.schedule == "step":
            raise arguments.value_error(
                "steps",
                None,
                "the number of training steps, epochs * steps_per_epoch, "
                "which schedule='step' needs",
                advice="Use schedule='piecewise' for any number.",
            )
