"""What was learned, as plain Keras takes it."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlainKeras:
    """What plain Keras needs to train as a `DrMADModel` does.

    `DrMADModel.to_keras` returns this record. Weights are known by their paths,
    such as "dense/kernel": name the layers, and models within models, so that
    the same model has the same paths anywhere. Only classes of Keras itself are
    used.

    Example:

    ```python
    plain = model.to_keras()
    for v in other.trainable_variables:  # a plain model of the same layers
        v.regularizer = plain.regularizers[v.path]
    other.compile(plain.optimizer, plain.loss, plain.loss_weights)
    other.fit(x, y, sample_weight=plain.sample_weight)
    ```

    Keras's `val_loss` then contains the regularizers, the loss weights and the
    label smoothing, which the `val_loss` of a `DrMADModel` does not contain.
    Metrics are the same.

    Attributes:
        regularizers: dict from the path of each weight to its regularizer, or
            `None`: a `keras.regularizers.L1L2` where a penalty was learned, to
            which the layer's own regularizer is added.
        learning_rate: float or `LearningRateSchedule`; where weights have
            different rates, a dict of these by the weights' paths.
        optimizer: a new optimizer: the model's, with the learned numbers in the
            place of its own; a `keras.optimizers.MultiOptimizer` where weights
            have different numbers.
        loss: as `keras.Model.compile` takes it.
        loss_weights: as `keras.Model.compile` takes them.
        sample_weight: array `(n,)`, or `(n, 1)` for losses of sequences and so
            on, which multiplies the user's own; or `None`.
        training_data: array `(n, ...)`, the inputs to train with, or `None`.
        initial_weights: dict from a weight's path to where the weight starts.
        initial_scales: dict from a weight's path to the factor on where the
            weight would start, an array that broadcasts with the weight.
        left_out: dict from the name of each hyperparameter that has no place in
            plain Keras, or a place for a part of what the hyperparameter does
            only, to the reason, and what to do.
        arrays: dict from "<name>/<path>" to the values that the hyperparameter
            <name>, which was left out, has for the weight <path>: an array
            that broadcasts with the weight.
        values: dict from a hyperparameter's name to its values, an array.
        rates: array `(T,)`, the learning rate in each step, where steps have
            rates of their own; where weights have different rates, a dict of
            such arrays by the weights' paths; or `None`.
        record: list with a dict for each hyperparameter, ready for JSON: name,
            kind, config, values, values by layer, and the reason why the
            hyperparameter is left out, or `None`.
    """

    regularizers: dict[str, keras.Regularizer | None]
    learning_rate: Any
    optimizer: keras.Optimizer
    loss: Any
    loss_weights: Any
    sample_weight: np.ndarray | None
    training_data: np.ndarray | None
    initial_weights: dict[str, np.ndarray]
    initial_scales: dict[str, np.ndarray]
    left_out: dict[str, str]
    arrays: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    rates: np.ndarray | dict[str, np.ndarray] | None
    record: list[dict[str, Any]]

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
        where steps have rates of their own, "learning_rate", an array `(T,)`,
        or "learning_rate/<path>".

        The schedule in the optimizer takes Keras long to compile if T is in the
        thousands. A schedule that looks its rates up takes no time:

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
            folder: path of a folder, which is created if there is none.
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
        np.savez(path / "arrays.npz", **self._all_arrays())

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
