"""The optimizer's learning rate."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import groups
from keras_drmad.hyperparameters.optimizer_number import OptimizerNumber
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class LearningRate(OptimizerNumber):
    """The learning rate: of all weights, some of them, and in some steps.

    Where the optimizer has a number for a learning rate, the value takes its
    place. Where it has a `LearningRateSchedule`, the value multiplies it. The
    raw values are logarithms. Weight decay that Keras multiplies by the
    learning rate follows it. `schedule` is explained in `OptimizerNumber`.

    Example:

    ```python
    kd.hyperparameters.LearningRate(per="layer", bounds=(1e-5, 1.0))
    kd.hyperparameters.LearningRate("layer", schedule="step", steps=100)
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, section 3.1.
    """

    transform = Log()
    numbers = ("learning_rate",)

    def __init__(
        self,
        per: str = "all",
        initial: float | None = None,
        schedule: str | None = None,
        steps: int | None = None,
        knots: int = 5,
        layers: groups.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "learning_rate",
    ):
        """Initializes the learning rates.

        Args:
            per: `"all"`; `"layer"`, where a bias shares its kernel's;
                `"tensor"`, one for each kernel and each bias; `"input"`, one
                for each row of a kernel's input side and one for each bias;
                `"weight"`.
            initial: positive float, where they start. By default the
                optimizer's learning rate (1.0 where it has a schedule).
            schedule: `None`, `"step"` for a value at each step, or
                `"piecewise"` for `knots` of them.
            steps: int, T, with `schedule="step"`; otherwise `fit` sets it.
            knots: int, how many, with `schedule="piecewise"`.
            layers: the layers whose rate is learned: a layer, its name, a
                regular expression for names, or a list of these. All by
                default; the others keep the optimizer's.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `initial` is not positive or not within `bounds`, or
                another argument is not valid.
        """
        super().__init__(
            per, initial, schedule, steps, knots, layers, bounds, name
        )
        self._multiplies = False

    def _given(self, optimizer: keras.Optimizer) -> float:
        given = keras_internals.given_learning_rate(optimizer)
        self._multiplies = not isinstance(given, keras.Variable)
        return 1.0 if self._multiplies else float(given.numpy())

    def _instead_of(self, number: Any, value: tf.Tensor) -> tf.Tensor:
        if self._multiplies:
            return tf.cast(number, value.dtype) * value
        return value
