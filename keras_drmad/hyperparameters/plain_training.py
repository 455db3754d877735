"""A training in plain Keras, into which hyperparameters put their values."""

from typing import Any, Protocol

import numpy as np


class PlainTraining(Protocol):
    """A training in plain Keras, with the values of the hyperparameters so far.

    `Hyperparameter.to_keras` takes an object with these attributes and methods.
    The hyperparameter changes attributes, or calls one of the methods. Weights
    are known by their paths, such as "dense/kernel".

    Attributes:
        loss: as `keras.Model.compile` takes it.
        loss_weights: as `keras.Model.compile` takes them.
        sample_weight: array `(n,)`, which multiplies the user's own, or
            `None`; `(n, 1)` for losses `(N, T)`, and so on.
        training_data: array `(n, ...)`, the inputs to train with, or `None`.
        initial_weights: dict from a weight's path to where the weight starts.
        initial_scales: dict from a weight's path to the factor on where the
            weight would start, an array that broadcasts with the weight.
    """

    loss: Any
    loss_weights: Any
    sample_weight: np.ndarray | None
    training_data: np.ndarray | None
    initial_weights: dict[str, np.ndarray]
    initial_scales: dict[str, np.ndarray]

    def add_regularizers(
        self, name: str, argument: str, by_weight: dict[str, np.ndarray]
    ) -> None:
        """Adds penalties to the regularizers of weights.

        Args:
            name: str, the hyperparameter's.
            argument: str, the coefficient's in `keras.regularizers.L1L2`.
            by_weight: dict from a weight's path to its coefficients.
        """

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
            is_factor: bool, whether the values multiply the numbers so far.
        """

    def leave_out(
        self,
        name: str,
        because: str,
        by_weight: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Notes that plain Keras has no place for all that a kind does.

        Args:
            name: str, the hyperparameter's.
            because: str, the reason, and what to do.
            by_weight: dict from a weight's path to its values.
        """
