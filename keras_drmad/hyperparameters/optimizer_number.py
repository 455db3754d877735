"""The optimizer's numbers, as hyperparameters."""

import abc
import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import base, layer_choice
from keras_drmad.hyperparameters.grouped import Grouped
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.hyperparameters.plain_training import PlainTraining

SCHEDULES = (None, "step", "piecewise")


class Given(NamedTuple):
    """A number of an optimizer.

    Attributes:
        name: str, the optimizer's attribute, such as `"learning_rate"`.
        number: float; 1.0 where the optimizer has a schedule.
        is_scheduled: bool, whether the optimizer has a schedule, which the
            values multiply.
    """

    name: str
    number: float
    is_scheduled: bool = False


class OptimizerNumber(Grouped):
    """One number of the optimizer: of all weights, of some, in each step.

    With a schedule there are values for each of N iterations. `"step"`: for
    each of the N = T iterations of a training. `"piecewise"`: for each of N
    knots, which are spread evenly from the first iteration to the last; between
    two knots the raw values are interpolated:

        value(t) = transform((1 − f) raw_k + f raw_{k+1}),
        k + f = t (N − 1) / (T − 1),    t in [0, T − 1].

    A training beyond these iterations keeps the last values.

    Attributes:
        default_name: str, the kind's name.
    """

    default_name: str

    def __init__(
        self,
        per: str = "all",
        initial: float | None = None,
        *,
        schedule: str | None = None,
        steps: int | None = None,
        knots: int = 5,
        layers: layer_choice.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str | None = None,
    ):
        """Initializes the numbers.

        Args:
            per: `"all"`; `"layer"`, where a bias shares its kernel's number;
                `"tensor"`, one for each kernel and each bias; `"input"`, one
                for each row of a kernel's input side and one for each bias;
                `"output"`, one for each column of a kernel's output side, which
                a unit's bias shares; `"weight"`, one for each weight.
            initial: float, where the numbers start. By default the optimizer's
                number (1.0 for a factor on a learning rate's schedule).
            schedule: `None`, `"step"` for a value at each step, or
                `"piecewise"` for a value at each knot.
            steps: int, T, with `schedule="step"`; otherwise `fit` sets it.
            knots: int, the number of knots, with `schedule="piecewise"`.
            layers: the layers whose number is learned: a layer, its name, a
                regular expression for names, or a list of these. All layers by
                default; the others keep the optimizer's number.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model; the kind's
                name by default.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
        """
        super().__init__(
            per,
            layers=layers,
            biases=True,
            bounds=bounds,
            name=name or self.default_name,
        )
        self.initial = None
        if initial is not None:
            self.initial = self.checked_initial(initial)
        self.schedule = arguments.choice("schedule", schedule, SCHEDULES)
        self.steps = _checked_steps(steps, schedule)
        self.knots = arguments.whole("knots", knots, 2)
        steps_back = {None: 1, "step": None, "piecewise": 4 * self.knots}
        self.place = dataclasses.replace(
            self.place, reverse_steps=steps_back[schedule]
        )
        # T − 1, where the last knot is; a variable, as T may change.
        self._last_step = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._set_steps(self.steps)

    @abc.abstractmethod
    def given(self, optimizer: keras.Optimizer) -> Given:
        """Returns the number of an optimizer that the values are learned for.

        Raises:
            arguments.Refused: if the optimizer has no such number.
        """

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        super().check(model, optimizer)
        given = self.given(optimizer)
        if self.initial is None:
            self.checked_initial(given.number)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.check(model, optimizer)
        given = self._given = self.given(optimizer)
        self.place = dataclasses.replace(
            self.place, names=(given.name,), overrides=not given.is_scheduled
        )
        self._group(model)
        initial = given.number if self.initial is None else self.initial
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
        self._warn_if_set()

    def _warn_if_set(self) -> None:
        """Warns, once, of a number that was set since and changes nothing."""
        before, self._given = self._given, self.given(self.model.optimizer)
        if self._given == before or not self.place.overrides:
            return
        now = "a schedule"
        if not self._given.is_scheduled:
            now = f"{self._given.number:.4g}"
        warnings.warn(
            f"The optimizer's `{self._given.name}` was set, to {now}, which "
            "changes nothing for the weights of the hyperparameter "
            f"'{self.name}': its values take the place of that number. Set "
            "them by its method `assign`, or call `compile` again, with a new "
            "hyperparameter or without.",
            UserWarning,
            stacklevel=arguments.users_level(),
        )

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        before = self.steps
        try:
            yield
        finally:
            self._set_steps(before)

    def _set_steps(self, steps: int | None) -> None:
        """Sets the number of iterations over which the values are spread.

        Args:
            steps: int, or `None` where no training has told it.
        """
        self.steps = steps
        self._last_step.assign(0 if steps is None else max(steps - 1, 1))

    def number(
        self,
        raw: tf.Tensor,
        name: str,
        variable: keras.Variable,
        number: Any,
        t: tf.Tensor,
    ) -> Any:
        if name not in self.place.names:
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
        """Returns the number with which the optimizer updates a weight.

        Args:
            number: the number so far.
            value: the learned value.
        """
        del number
        return value

    def _at(self, raw: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
        """Returns the raw values at an iteration, or at each of several.

        Args:
            raw: tensor of the shape of `self.raw`.
            t: integers, a scalar or `(T,)`.
        """
        if self.schedule is None:
            return raw
        last = raw.shape[0] - 1
        if self.schedule == "step":
            return _rows_at(raw, tf.minimum(tf.cast(t, tf.int32), last))
        place = tf.cast(t, tf.float64) * last / self._last_step
        place = tf.minimum(place, tf.cast(last, tf.float64))
        before = tf.minimum(tf.cast(place, tf.int32), max(last - 1, 0))
        part = tf.cast(place - tf.cast(before, tf.float64), raw.dtype)
        after = tf.minimum(before + 1, last)
        if t.shape.rank:
            part = tf.reshape(part, [-1, *[1] * (raw.shape.rank - 1)])
        first, second = _rows_at(raw, before), _rows_at(raw, after)
        return (1 - part) * first + part * second

    def acts_from(self, T: int) -> np.ndarray:
        places = super().acts_from(T)
        if self.schedule is None:
            return places
        rows = self._rows()[0]
        begins = np.arange(rows, dtype=float)
        if self.schedule == "piecewise":
            # A knot acts where the values leave the knot before.
            between = float(self._last_step.numpy()) / max(rows - 1, 1)
            begins = np.maximum(begins - 1, 0) * between
        return np.repeat(np.floor(begins).astype(int), self.count // rows)

    def over_time(self, T: int) -> np.ndarray:
        """Returns the values at each of T iterations.

        Args:
            T: int, the number of iterations.

        Returns:
            `(T,)` for `per="all"`, otherwise `(T, count)`.
        """
        raw = tf.convert_to_tensor(self._bound().value)
        rows = self._at(raw, tf.range(T))
        if self.schedule is None:
            rows = tf.broadcast_to(raw, [T, *raw.shape])
        return self.transform.value(rows).numpy()

    def parts(self) -> list[Part]:
        split = super().parts()
        if self.schedule is None:
            return split
        time, places = "step", None
        if self.schedule == "piecewise":
            last_step = float(self._last_step.numpy())
            time = "step" if last_step else "knot"
            if last_step:
                places = np.linspace(0, last_step, self._bound().shape[0])
        return [
            one._replace(axes=(time, *one.axes[1:]), places=places)
            for one in split
        ]

    def to_keras(self, plain: PlainTraining) -> None:
        (attribute,) = self.place.names
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
            is_factor=not self.place.overrides,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["biases"]  # always among the weights
        return config | {
            "initial": self.initial,
            "schedule": self.schedule,
            "steps": self.steps,
            "knots": self.knots,
        }


def _rows_at(raw: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns a row of raw values, or several.

    Args:
        raw: `(rows, ...)`.
        index: integers, a scalar or `(T,)`.
    """
    return tf.gather(raw, index) if index.shape.rank else raw[index]


def _checked_steps(steps: Any, schedule: str | None) -> int | None:
    """Returns the argument `steps`.

    Raises:
        TypeError: if `steps` is neither a whole number nor `None`.
        ValueError: if `steps` is below 1, or `None` where the schedule needs a
            number.
    """
    if steps is not None:
        return arguments.whole("steps", steps, 1)
    if schedule == "step":
        raise arguments.value_error(
            "steps",
            steps,
            "the number of training steps, epochs * steps_per_epoch, which "
            "schedule='step' needs",
            advice="Use schedule='piecewise' for any number.",
        )
    return None
