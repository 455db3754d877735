"""Meta-optimizers that Keras does not have."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.hyperparameters import Hyperparameter


@keras.saving.register_keras_serializable("keras_drmad")
class SignDescent(keras.optimizers.Optimizer):
    """Moves raw hyperparameters by a fixed step against the gradient's sign.

    The meta-optimizer of the paper's MNIST experiment: the sign of DrMAD's
    hypergradient is more reliable than the size.

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
        rate = _checked_rate(learning_rate)
        super().__init__(learning_rate=rate, name=name, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        rate = keras.ops.cast(learning_rate, variable.dtype)
        sign = keras.ops.sign(keras.ops.cast(gradient, variable.dtype))
        self.assign_sub(variable, rate * sign)


def united(
    meta_optimizer: keras.Optimizer | dict[str, keras.Optimizer],
    kinds: Sequence[Hyperparameter],
) -> keras.Optimizer:
    """Returns one optimizer for the raw values of all kinds.

    Args:
        meta_optimizer: an optimizer, which is returned; or a dict from names of
            hyperparameters to optimizers, where hyperparameters without an
            optimizer keep their values.
        kinds: the hyperparameters, bound to a model.
    """
    if not isinstance(meta_optimizer, dict):
        return meta_optimizer
    held = keras.optimizers.SGD(0.0)
    chosen = {id(k.raw): meta_optimizer.get(k.name, held) for k in kinds}
    # By identity: the paths of raw values inside layers may change.
    return keras.optimizers.MultiOptimizer(lambda raw: chosen[id(raw)])


def _checked_rate(learning_rate: Any) -> Any:
    """Returns the argument `learning_rate`, as a float or a schedule.

    Raises:
        TypeError: if the learning rate is neither a number nor a schedule.
        ValueError: if the learning rate is not positive.
    """
    if callable(learning_rate) or isinstance(learning_rate, dict):
        return learning_rate  # a schedule, or its config
    return arguments.positive(
        "learning_rate",
        learning_rate,
        expected="a positive number or a `LearningRateSchedule`",
    )
