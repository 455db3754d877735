"""What was learned, as plain Keras takes it."""

import json
import math
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.export import plain_optimizer
from keras_drmad.export.plain_optimizer import Number

SUMMABLE = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)
# `PiecewiseConstantDecay` compares the step with all of its boundaries: with
# 2,000 a model takes most of a minute to compile, many where the optimizer
# reads its rate for each weight, and a step several times as long.
MANY_RATES = 200


class PlainKeras:
    """What plain Keras needs to train as a `DrMADModel` does.

    `DrMADModel.to_keras` makes one. Weights are known by their paths, such as
    "dense/kernel": name the layers, and models within models, so that the same
    model has them anywhere. Only classes of Keras itself are used.

    Example:

    ```python
    plain = model.to_keras()
    for v in other.trainable_variables:  # a plain model of the same layers
        v.regularizer = plain.regularizers[v.path]
    other.compile(plain.optimizer, plain.loss, plain.loss_weights)
    other.fit(x, y, sample_weight=plain.sample_weight)
    ```

    Keras's `val_loss` then has the regularizers, the loss weights and the label
    smoothing in it, which that of `DrMADModel` has not. Metrics are the same.

    Attributes:
        regularizers: dict from the path of each weight to its regularizer, or
            `None`: a `keras.regularizers.L1L2` where something was learned,
            with the layer's own added to it.
        learning_rate: float or `LearningRateSchedule`; a dict of these by the
            weights' paths where they differ.
        optimizer: a new one, the model's with what was learned in it; a
            `keras.optimizers.MultiOptimizer` where weights differ.
        loss: as `keras.Model.compile` takes it.
        loss_weights: as `keras.Model.compile` takes them.
        sample_weight: array `(n,)`, which multiplies the user's own, or
            `None`.
        training_data: array `(n, ...)`, the inputs to train with, or `None`.
        initial_weights: dict from a weight's path to where it starts.
        initial_scales: dict from a weight's path to the factor on where it
            would start, an array that broadcasts with it.
        left_out: dict from the name of a hyperparameter that has no place in
            plain Keras, or not with all it does, to why, and what to do.
        arrays: dict from "<name>/<path>" to the values of one left out for one
            weight, an array that broadcasts with it.
        values: dict from a hyperparameter's name to its values, an array.
        rates: array `(T,)`, the learning rate in each step, where it has one
            for each; a dict of these by the weights' paths where they differ;
            or `None`.
        record: list with a dict for each hyperparameter, ready for JSON: its
            name, kind, config and values, these by layer too, and why it is
            left out, or `None`.
    """

    def __init__(self, model: keras.Model, optimizer: keras.Optimizer):
        """Initializes what a training without hyperparameters needs.

        Args:
            model: a built and compiled model.
            optimizer: its optimizer.

        Raises:
            ValueError: if two weights have the same path.
        """
        weights = _by_path(model.trainable_variables)
        self._own = optimizer
        self._excluded = {
            path: plain_optimizer.excluded(optimizer, v)
            for path, v in weights.items()
        }
        self._numbers: dict[str, dict[str, Number]] = {p: {} for p in weights}
        self._in_optimizer: list[str] = []  # names of hyperparameters
        self._has_many = False
        self.regularizers: dict[str, keras.Regularizer | None] = {
            path: v.regularizer for path, v in weights.items()
        }
        self.learning_rate: Any = None
        self.optimizer: keras.Optimizer = None
        self.loss = model.loss
        self.loss_weights = model._compile_loss and (
            model._compile_loss._user_loss_weights
        )
        self.sample_weight: np.ndarray | None = None
        self.training_data: np.ndarray | None = None
        self.initial_weights: dict[str, np.ndarray] = {}
        self.initial_scales: dict[str, np.ndarray] = {}
        self.left_out: dict[str, str] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {}
        self.rates: np.ndarray | dict[str, np.ndarray] | None = None
        self.record: list[dict[str, Any]] = []

    # ---- for kinds, beside the attributes

    def add_regularizers(
        self, name: str, argument: str, by_weight: dict[str, np.ndarray]
    ) -> None:
        """Adds penalties to those that weights have.

        Args:
            name: str, the hyperparameter's.
            argument: str, that of `keras.regularizers.L1L2`.
            by_weight: dict from a weight's path to its coefficients.
        """
        if any(np.size(a) > 1 for a in by_weight.values()):
            because = (
                "Keras's regularizers have one coefficient for all of a "
                "weight. A function can be one, too: `v.regularizer = lambda "
                "w: keras.ops.sum(c * w**2)` (abs(w) for L1), with c = "
                f"plain.arrays['{name}/' + v.path]; let it add what is in "
                "plain.regularizers."
            )
            return self.leave_out(name, because, by_weight)
        given = {path: self.regularizers[path] for path in by_weight}
        if any(
            r is not None and type(r) not in SUMMABLE for r in given.values()
        ):
            because = (
                "A weight has one regularizer, and a layer's own is neither L1 "
                "nor L2. Let `v.regularizer` be a function that adds both."
            )
            return self.leave_out(name, because, by_weight)
        for path, coefficient in by_weight.items():
            own = given[path]
            sums = {} if own is None else own.get_config()
            sums[argument] = sums.get(argument, 0.0) + coefficient.item()
            self.regularizers[path] = keras.regularizers.L1L2(**sums)

    def set_numbers(
        self,
        name: str,
        attribute: str,
        by_weight: dict[str, np.ndarray],
        *,
        is_schedule: bool = False,
        is_factor: bool = False,
    ) -> None:
        """Sets one of the optimizer's numbers.

        Args:
            name: str, the hyperparameter's.
            attribute: str, the optimizer's, such as `"learning_rate"`.
            by_weight: dict from a weight's path to its values.
            is_schedule: bool, whether the first axis of the values is that of
                T steps.
            is_factor: bool, whether they multiply what is there.
        """
        axes = int(is_schedule)
        because = ""
        if is_schedule and attribute != "learning_rate":
            because = "Keras has schedules of the learning rate only."
        elif any(
            a.size > math.prod(a.shape[:axes]) for a in by_weight.values()
        ):
            because = (
                f"Keras's optimizers have one `{attribute}` for all of a "
                "weight. Learn one per layer or per tensor."
            )
        if because:
            return self.leave_out(name, because, by_weight)
        numbers: dict[str, Number] = {
            path: values.reshape(-1) if is_schedule else values.item()
            for path, values in by_weight.items()
        }
        if is_factor:
            numbers = {
                path: plain_optimizer.times(self._number(path, attribute), a)
                for path, a in numbers.items()
            }
        if any(number is None for number in numbers.values()):
            because = (
                "It multiplies a learning rate that is no schedule of Keras's "
                "own. Multiply it there."
            )
            return self.leave_out(name, because, by_weight)
        for path, number in numbers.items():
            self._numbers[path][attribute] = number
        self._in_optimizer.append(name)

    def leave_out(
        self,
        name: str,
        because: str,
        by_weight: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Says that a hyperparameter has no place, or not all of it.

        Args:
            name: str, the hyperparameter's.
            because: str, why, and what to do.
            by_weight: dict from a weight's path to its values.
        """
        self.left_out[name] = because
        for path, array in (by_weight or {}).items():
            self.arrays[f"{name}/{path}"] = array

    # ---- for users

    def save(self, folder: str | os.PathLike) -> None:
        """Writes hyperparameters.json and arrays.npz.

        Keras, json and NumPy read them:

        ```python
        with open("tuned/hyperparameters.json") as file:
            tuned = json.load(file)["keras"]
        tuned = keras.saving.deserialize_keras_object(tuned)
        arrays = np.load("tuned/arrays.npz")
        for v in model.trainable_variables:
            v.regularizer = tuned["regularizers"][v.path]
        model.compile(tuned["optimizer"], tuned["loss"], tuned["loss_weights"])
        model.fit(x, y, sample_weight=arrays.get("sample_weight"))
        ```

        hyperparameters.json has under "keras" what `compile` needs and the
        learning rate, and under "hyperparameters" the `record`. arrays.npz has
        "sample_weight", "training_data", "initial_weights/<path>",
        "initial_scales/<path>", "values/<name>", "left_out/<name>/<path>" and,
        where a rate has a value for each step, "learning_rate", an array
        `(T,)`, or "learning_rate/<path>".

        The schedule in the optimizer takes Keras long to compile if T is in the
        thousands. One that looks its rates up takes no time:

        ```python
        class Rates(keras.optimizers.schedules.LearningRateSchedule):
            def __init__(self, rates):
                self.rates = rates

            def __call__(self, step):
                last = len(self.rates) - 1
                return keras.ops.take(self.rates, keras.ops.minimum(step, last))

        tuned["optimizer"].learning_rate = Rates(arrays["learning_rate"])
        ```

        Args:
            folder: path, created if it is not there.
        """
        names = (
            "regularizers",
            "optimizer",
            "learning_rate",
            "loss",
            "loss_weights",
        )
        entries = {name: getattr(self, name) for name in names}
        content = {
            "keras": keras.saving.serialize_keras_object(entries),
            "hyperparameters": self.record,
        }
        text = json.dumps(content, indent=1) + "\n"
        path = pathlib.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / "hyperparameters.json").write_text(text, encoding="utf-8")
        np.savez(path / "arrays.npz", allow_pickle=False, **self._all_arrays())

    def _all_arrays(self) -> dict[str, Any]:
        """Returns the content of arrays.npz."""
        content = {
            "sample_weight": self.sample_weight,
            "training_data": self.training_data,
            "learning_rate": self.rates,
            "initial_weights": self.initial_weights,
            "initial_scales": self.initial_scales,
            "values": self.values,
            "left_out": self.arrays,
        }
        arrays: dict[str, Any] = {}
        for name, one in content.items():
            if isinstance(one, dict):
                arrays |= {f"{name}/{key}": array for key, array in one.items()}
            elif one is not None:
                arrays[name] = one
        return arrays

    # ---- from hyperparameters

    def _number(self, path: str, attribute: str) -> Number:
        """Returns one of the optimizer's numbers so far, for one weight."""
        given = plain_optimizer.given(self._own, attribute)
        return self._numbers[path].get(attribute, given)

    def put_in(self, hyperparameters: Sequence[Any]) -> None:
        """Puts all hyperparameters in, and makes the optimizer.

        Args:
            hyperparameters: kinds, bound to the model.
        """
        for h in hyperparameters:
            self.values[h.name] = h.value().numpy()
            h.to_keras(self)
        self._make_optimizer()
        self.record = [self._recorded(h) for h in hyperparameters]

    def _make_optimizer(self) -> None:
        numbers = {p: a | self._excluded[p] for p, a in self._numbers.items()}
        parts = plain_optimizer.optimizers(self._own, numbers)
        if len(parts) > 1 and self._own.global_clipnorm:
            for name in self._in_optimizer or ["exclude_from_weight_decay"]:
                self.leave_out(
                    name,
                    "Keras clips by `global_clipnorm` only where all weights "
                    "share an optimizer's numbers. Use `clipnorm`, or learn "
                    "one number for all, and exclude none from weight decay.",
                )
            self._numbers = {path: {} for path in self._numbers}
            parts = plain_optimizer.optimizers(self._own, self._numbers)
        self.optimizer = plain_optimizer.united(parts)
        given = {p: self._number(p, "learning_rate") for p in self._numbers}
        self.learning_rate = _one_or_all(
            {p: plain_optimizer.learning_rate(a) for p, a in given.items()}
        )
        rates = {p: a for p, a in given.items() if np.ndim(a)}
        self._has_many = any(len(a) > MANY_RATES for a in rates.values())
        if isinstance(self.learning_rate, dict):
            self.rates = rates or None
        elif rates:
            self.rates = next(iter(rates.values()))

    def _recorded(self, h: Any) -> dict[str, Any]:
        """Returns what the record says of one hyperparameter."""
        values = self.values[h.name]
        by_layer = h.by_layer(values[None])  # of rows of values, here one
        if list(by_layer) == [h.name]:
            by_layer = {}  # it knows no layers
        return {
            "name": h.name,
            "kind": type(h).__name__,
            "config": keras.saving.serialize_keras_object(h.get_config()),
            "values": values.tolist(),
            "by_layer": {k: a[0].tolist() for k, a in by_layer.items()},
            "left_out": self.left_out.get(h.name),
        }


def exported(
    model: keras.Model,
    optimizer: keras.Optimizer,
    hyperparameters: Sequence[Any],
) -> PlainKeras:
    """Returns what was learned, as plain Keras takes it.

    Warns of what has no place there, and of what will be slow.

    Args:
        model: a built and compiled model.
        optimizer: its optimizer.
        hyperparameters: kinds, bound to the model.

    Raises:
        ValueError: if two weights have the same path.
    """
    plain = PlainKeras(model, optimizer)
    plain.put_in(hyperparameters)
    words = [
        f"The hyperparameter '{name}' has no place in plain Keras, or not with "
        f"all it does. {because}"
        for name, because in plain.left_out.items()
    ]
    if plain._has_many:
        words.append(
            "The learning rate has another value in each of more than "
            f"{MANY_RATES} steps. Keras will take long to compile the "
            "schedule. `PlainKeras.save` shows one that looks `plain.rates` up."
        )
    for one in words:
        warnings.warn(one, UserWarning, stacklevel=4)
    return plain


def _by_path(variables: list[keras.Variable]) -> dict[str, keras.Variable]:
    """Returns variables by their paths.

    Raises:
        ValueError: if two have the same.
    """
    paths = [v.path for v in variables]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            "Plain Keras knows weights by their paths. Expected different "
            f"ones. Received: several weights of {twice}. Give the layers "
            "different names."
        )
    return dict(zip(paths, variables, strict=True))


def _one_or_all(by_weight: dict[str, Any]) -> Any:
    """Returns what all weights share, or the dict where they differ."""
    serialize = keras.saving.serialize_keras_object
    different = {json.dumps(serialize(one)) for one in by_weight.values()}
    if len(different) == 1:
        return next(iter(by_weight.values()))
    return by_weight
