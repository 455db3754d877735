"""Steps of a fixed size against the gradient's sign."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.meta_optimizers.base import MetaOptimizer, signs


@keras.saving.register_keras_serializable("keras_drmad")
class SignDescent(MetaOptimizer):
    """Moves raw hyperparameters by a fixed step against the gradient's sign.

    The meta-optimizer of the paper's MNIST experiment: the sign of DrMAD's
    hypergradient is more reliable than the size. A step has the size
    `learning_rate` in the natural unit of a kind (`Hyperparameter.unit`), which
    is 1 for logarithms and logits.

    Example:

    ```python
    model.compile(..., meta_optimizer=kd.SignDescent(0.07))
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.07,
        *,
        name: str = "sign_descent",
        **kwargs: Any,
    ):
        """Initializes the optimizer.

        Args:
            learning_rate: positive float or a `LearningRateSchedule`, the size
                of a step in units of the raw value (for a penalty, of the
                natural logarithm of its coefficient).
            name: str.
            **kwargs: arguments of `keras.optimizers.Optimizer`.

        Raises:
            TypeError: if the learning rate is not a number or a schedule.
            ValueError: if the learning rate is not positive.
        """
        super().__init__(learning_rate, name=name, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        unit = self.units[keras_internals.place_in(self, variable)]
        sign = signs(tf.convert_to_tensor(gradient))
        step = keras.ops.cast(learning_rate, variable.dtype) * unit
        self.assign_sub(variable, step * keras.ops.cast(sign, variable.dtype))

    def within_reach(
        self, raw: keras.Variable, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        unit = self.units[self.place(raw)]
        distance = self.rates(steps) * keras.ops.convert_to_numpy(unit)
        now = keras.ops.convert_to_numpy(raw)
        return now - distance, now + distance
