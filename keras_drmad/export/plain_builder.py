"""The builder of a `PlainKeras`, into which hyperparameters put values."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad import keras_internals
from keras_drmad.export import plain_optimizer
from keras_drmad.export.plain_keras import PlainKeras
from keras_drmad.export.plain_optimizer import Number, NumbersByWeight
from keras_drmad.hyperparameters.base import Hyperparameter

SUMMABLE = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)
# `PiecewiseConstantDecay` compares the step with all of its boundaries: with
# 2,000 a model takes most of a minute to compile, many where the optimizer
# reads its rate for each weight, and a step several times as long.
MANY_RATES = 200


def exported(
    model: keras.Model,
    optimizer: keras.Optimizer,
    hyperparameters: Sequence[Hyperparameter],
) -> PlainKeras:
    """Returns what was learned, as plain Keras takes it.

    Warns of each hyperparameter without a place there, and of a schedule that
    will be slow to compile.

    Args:
        model: a built and compiled model.
        optimizer: the model's optimizer.
        hyperparameters: the model's, in the order in which these act.

    Raises:
        ValueError: if two weights have the same path.
    """
    builder = PlainBuilder(model, optimizer)
    for h in hyperparameters:
        h.to_keras(builder)
    plain = builder.finished(hyperparameters)
    for words in _warnings(plain):
        warnings.warn(words, UserWarning, stacklevel=3)
    return plain


class PlainBuilder:
    """A `PlainTraining` of a model, from which `finished` makes a `PlainKeras`.

    The attributes are those of `PlainKeras`, with the values of the
    hyperparameters so far.
    """

    def __init__(self, model: keras.Model, optimizer: keras.Optimizer):
        """Initializes a training without hyperparameters.

        Args:
            model: a built and compiled model.
            optimizer: the model's optimizer.

        Raises:
            ValueError: if two weights have the same path.
        """
        weights = _by_path(model.trainable_variables)
        self._optimizer = NumbersByWeight(optimizer, weights)
        self.regularizers: dict[str, keras.Regularizer | None] = {
            path: v.regularizer for path, v in weights.items()
        }
        self.loss = model.loss
        self.loss_weights = keras_internals.given_loss_weights(model)
        self.sample_weight: np.ndarray | None = None
        self.training_data: np.ndarray | None = None
        self.initial_weights: dict[str, np.ndarray] = {}
        self.initial_scales: dict[str, np.ndarray] = {}
        self.left_out: dict[str, str] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def add_regularizers(
        self, name: str, argument: str, by_weight: dict[str, np.ndarray]
    ) -> None:
        if any(np.size(a) > 1 for a in by_weight.values()):
            because = (
                "Keras's regularizers have one coefficient for all of a "
                "weight. Let `v.regularizer` be one of your own, a subclass of "
                "`keras.regularizers.Regularizer` that gives "
                "`keras.ops.sum(c * w**2)` of a weight w (abs(w) for L1), with "
                f"c = plain.arrays['{name}/' + v.path], and adds "
                "`plain.regularizers[v.path](w)` if that is not None. Since "
                "Keras 3.15 a function of w serves, too."
            )
            return self.leave_out(name, because, by_weight)
        given = {path: self.regularizers[path] for path in by_weight}
        if any(
            r is not None and type(r) not in SUMMABLE for r in given.values()
        ):
            because = (
                "A weight has one regularizer, and a layer's own regularizer "
                "is neither L1 nor L2. Let `v.regularizer` be a "
                "`keras.regularizers.Regularizer` of your own that adds both."
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
                path: plain_optimizer.times(
                    self._optimizer.number(path, attribute), a
                )
                for path, a in numbers.items()
            }
        if any(number is None for number in numbers.values()):
            because = (
                "The values multiply a learning rate that is no schedule of "
                "Keras's own. Multiply the learning rate there."
            )
            return self.leave_out(name, because, by_weight)
        self._optimizer.assign(name, attribute, numbers)

    def leave_out(
        self,
        name: str,
        because: str,
        by_weight: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.left_out[name] = because
        for path, array in (by_weight or {}).items():
            self.arrays[f"{name}/{path}"] = array

    def finished(self, hyperparameters: Sequence[Hyperparameter]) -> PlainKeras:
        """Returns the record, once all hyperparameters have put values in.

        Args:
            hyperparameters: the model's.
        """
        optimizer = self._finished_optimizer()
        given = self._optimizer.learning_rates()
        learning_rate = _one_or_all(
            {p: plain_optimizer.learning_rate(a) for p, a in given.items()}
        )
        values = {h.name: h.value().numpy() for h in hyperparameters}
        return PlainKeras(
            regularizers=self.regularizers,
            learning_rate=learning_rate,
            optimizer=optimizer,
            loss=self.loss,
            loss_weights=self.loss_weights,
            sample_weight=self.sample_weight,
            training_data=self.training_data,
            initial_weights=self.initial_weights,
            initial_scales=self.initial_scales,
            left_out=self.left_out,
            arrays=self.arrays,
            values=values,
            rates=_rates(given, isinstance(learning_rate, dict)),
            record=[
                _recorded(h, values[h.name], self.left_out.get(h.name))
                for h in hyperparameters
            ],
        )

    def _finished_optimizer(self) -> keras.Optimizer:
        """Returns the optimizer; leaves out what needs several."""
        numbers = self._optimizer
        because = ""
        if not numbers.differ:
            pass
        elif numbers.own.global_clipnorm:
            because = (
                "Keras clips by `global_clipnorm` only where all weights "
                "share an optimizer's numbers. Use `clipnorm`, or learn "
                "one number for all."
            )
        elif not keras_internals.has_several_optimizers():
            because = (
                "Keras has optimizers whose numbers are other ones for other "
                f"weights since 3.15; this is {keras.__version__}. Install a "
                "newer Keras, or learn one number for all."
            )
        if not because:
            return numbers.optimizer()
        for name in numbers.keep_common():
            self.leave_out(name, because)
        excluded = numbers.forget_excluded()
        optimizer = numbers.optimizer()
        if excluded:
            others = [
                path for path in self.regularizers if path not in excluded
            ]
            is_kept = plain_optimizer.exclude(optimizer, excluded, others)
            self.leave_out(
                "exclude_from_weight_decay", _told(excluded, is_kept)
            )
        return optimizer


def _told(excluded: list[str], is_kept: bool) -> str:
    """Returns what to do for weights that are excluded from weight decay.

    Args:
        excluded: their paths.
        is_kept: bool, whether the optimizer leaves them out.
    """
    where = "one that is loaded" if is_kept else "`plain.optimizer`"
    kept = "`plain.optimizer` does it. " if is_kept else ""
    return (
        f"{kept}No config tells of it: before you compile with {where}, call "
        "`exclude_from_weight_decay(var_list=[v for v in "
        "other.trainable_variables if v.path in paths])` of it, with "
        f"paths = {excluded}."
    )


def _warnings(plain: PlainKeras) -> list[str]:
    """Returns the sentences of which a user is warned."""
    words = [
        f"The hyperparameter '{name}' has no place in plain Keras, or not with "
        f"all it does. {because}"
        for name, because in plain.left_out.items()
    ]
    rates = plain.rates if isinstance(plain.rates, dict) else {"": plain.rates}
    if any(a is not None and len(a) > MANY_RATES for a in rates.values()):
        words.append(
            "The learning rate has another value in each of more than "
            f"{MANY_RATES} steps. Keras will take long to compile the "
            "schedule. `PlainKeras.save` shows a schedule that looks the rates "
            "up in `plain.rates`."
        )
    return words


def _rates(given: dict[str, Number], differ: bool) -> Any:
    """Returns the learning rates of each step, as `PlainKeras.rates`."""
    rates = {path: a for path, a in given.items() if np.ndim(a)}
    if not rates:
        return None
    return rates if differ else next(iter(rates.values()))


def _recorded(
    h: Hyperparameter, values: np.ndarray, because: str | None
) -> dict[str, Any]:
    """Returns the entry of one hyperparameter in `PlainKeras.record`."""
    by_layer = h.by_layer(values[None])  # of rows of values, here one
    if list(by_layer) == [h.name]:
        by_layer = {}  # the values of this kind belong to no layers
    return {
        "name": h.name,
        "kind": type(h).__name__,
        "config": keras.saving.serialize_keras_object(h.get_config()),
        "values": values.tolist(),
        "by_layer": {k: a[0].tolist() for k, a in by_layer.items()},
        "left_out": because,
    }


def _by_path(variables: list[keras.Variable]) -> dict[str, keras.Variable]:
    """Returns variables by their paths.

    Raises:
        ValueError: if two variables have the same path.
    """
    paths = [v.path for v in variables]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            "Plain Keras knows weights by their paths. Expected different "
            f"paths. Received: several weights of {twice}. Give the layers "
            "different names."
        )
    return dict(zip(paths, variables, strict=True))


def _one_or_all(by_weight: dict[str, Any]) -> Any:
    """Returns the entry that all weights share; the dict if entries differ."""
    different = {plain_optimizer.words(one) for one in by_weight.values()}
    if len(different) == 1:
        return next(iter(by_weight.values()))
    return by_weight
