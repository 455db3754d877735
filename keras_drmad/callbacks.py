"""Callbacks for `DrMADModel.fit`."""

import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.tensorboard import TensorBoard as TensorBoard
from keras_drmad.training.time_budget import TimeBudget as TimeBudget


class HyperparameterHistory(keras.callbacks.Callback):
    """Records every hyperparameter's values in every meta-iteration.

    Example:

    ```python
    recorder = kd.callbacks.HyperparameterHistory()
    model.fit(..., callbacks=[recorder])
    recorder.values["l2"]  # (meta_iterations, 934)
    ```

    Attributes:
        values: dict from a hyperparameter's name to an array
            `(meta_iterations, *raw.shape)` of the values that each
            meta-iteration trained with.
    """

    def __init__(self):
        """Initializes an empty record."""
        super().__init__()
        self._rows: dict[str, list[np.ndarray]] = {}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The record so far; see the class."""
        return {name: np.stack(rows) for name, rows in self._rows.items()}

    def on_train_begin(self, logs: Any = None) -> None:
        self._rows = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for h in self.model.hyperparameters:
            self._rows.setdefault(h.name, []).append(h.value().numpy())


class Diagnostics(keras.callbacks.Callback):
    """Adds `model.diagnostics` to the logs of each meta-iteration.

    With `fit(tune_every=...)` the means over the hypergradients of each epoch,
    nan where there was none.

    The norm of the hypergradient, the growth of the adjoint and others, which
    `DrMADModel.fit` describes, are then known to later callbacks in the list,
    such as `CSVLogger` and `EarlyStopping(monitor="hypergradient_norm")`, and
    to the history.

    Example:

    ```python
    history = model.fit(..., callbacks=[kd.callbacks.Diagnostics()])
    history.history["hypergradient_norm"]
    ```
    """

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        logs |= self.model.latest


class HeldOut(keras.callbacks.Callback):
    """Evaluates each meta-iteration on data to which nothing is fitted.

    The results are added to the logs, where later callbacks in the list, such
    as `CSVLogger`, see the results.

    Example:

    ```python
    model.fit(..., callbacks=[kd.callbacks.HeldOut(x_test, y_test)])
    ```
    """

    def __init__(
        self, x: Any, y: Any = None, *, prefix: str = "test_", **kwargs: Any
    ):
        """Initializes the callback.

        Args:
            x: as for `keras.Model.evaluate`; no iterator, as it is read again
                and again.
            y: as for `keras.Model.evaluate`.
            prefix: str, put before the names of the results.
            **kwargs: further arguments of `keras.Model.evaluate`.
        """
        super().__init__()
        self.data = x, y
        self.prefix = prefix
        self.kwargs = kwargs

    def on_train_begin(self, logs: Any = None) -> None:
        """Evaluates one batch, so that bad data end `fit` before it trains.

        Raises:
            ValueError: if the model cannot be evaluated on the data.
        """
        try:
            self._evaluated(steps=1)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                "Invalid value for the data of `HeldOut`. Expected x and y, as "
                "two arguments, on which the model can be evaluated. "
                f"`evaluate` answered: {error}"
            ) from error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        results = self._evaluated()
        if logs is not None:
            logs.update({self.prefix + k: v for k, v in results.items()})

    def _evaluated(self, **more: Any) -> dict[str, Any]:
        x, y = self.data
        options = {"verbose": 0, "return_dict": True, **self.kwargs, **more}
        return self.model.evaluate(x, y, **options)


class ReduceMetaRateOnPlateau(keras.callbacks.ReduceLROnPlateau):
    """Makes the steps of the hyperparameters smaller when nothing improves.

    `keras.callbacks.ReduceLROnPlateau`, for the learning rate of the
    meta-optimizer instead of the model's own optimizer. Where trainings go on
    from each other's weights (`initial_weights="continue"`), the best
    meta-iteration may come early, and large steps may leave it again; `fit`
    ends with the best one, and smaller steps look near it for a better one. Not
    for hyperparameters that have to keep up with a training that goes on:
    weights of wrongly labelled examples that stop too soon let these labels
    through (`docs/results.md`, 10).

    Example:

    ```python
    slower = kd.callbacks.ReduceMetaRateOnPlateau(factor=0.5, patience=3)
    model.fit(..., initial_weights="continue", callbacks=[slower])
    ```
    """

    def set_model(self, model: keras.Model) -> None:
        """Takes the model's meta-optimizer.

        Raises:
            TypeError: if the model has several meta-optimizers, or one whose
                rate follows a schedule.
        """
        meta_optimizer = model.meta_optimizer
        movers = keras_internals.optimizers_within(meta_optimizer)
        is_one = movers == [meta_optimizer]
        if not is_one or not isinstance(
            meta_optimizer.learning_rate, keras.Variable
        ):
            raise TypeError(
                "`ReduceMetaRateOnPlateau` needs one meta-optimizer with a "
                f"learning rate that can be set. Received: {meta_optimizer!r}. "
                "Pass one optimizer, with a number as its learning rate, as "
                "`meta_optimizer` of `compile`."
            )
        super().set_model(types.SimpleNamespace(optimizer=meta_optimizer))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        own = dict(logs)
        super().on_epoch_end(epoch, own)
        logs["meta_learning_rate"] = own["learning_rate"]
