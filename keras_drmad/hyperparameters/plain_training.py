"""A training in plain Keras, as hyperparameters see it when they leave."""

from typing import Any, Protocol

import numpy as np


class PlainTraining(Protocol):
    """Where hyperparameters put their values, for a training in plain Keras.

    `Hyperparameter.to_keras` is handed an object with these attributes and
    methods, into which the hyperparameters before it have put their values.
    A hyperparameter changes attributes, or calls one of the methods; weights
    are known by their paths, such as "dense/kernel".

    Attributes:
        loss: as `keras.Model.compile` takes it.
        loss_weights: as `keras.Model.compile` takes them.
        sample_weight: array `(n,)`, which multiplies the user's own, or
            `None`.
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
        """Adds penalties to those that weights have.

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
        """Notes that plain Keras has no place for a hyperparameter.

        Or a place for a part of what the hyperparameter does only.

        Args:
            name: str, the hyperparameter's.
            because: str, why, and what to do.
            by_weight: dict from a weight's path to its values.
        """
