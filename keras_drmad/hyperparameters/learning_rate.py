"""The optimizer's learning rate."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.hyperparameters.optimizer_number import Given, OptimizerNumber
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class LearningRate(OptimizerNumber):
    """The learning rate: of all weights, of some weights, in each step.

    Where the optimizer's learning rate is a number, the value takes the place
    of that number. Where it is a `LearningRateSchedule`, the value is a factor
    on the schedule. The raw values are logarithms. Weight decay that Keras
    multiplies by the learning rate is multiplied by the learned rate.
    `OptimizerNumber` explains `schedule`.

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
    default_name = "learning_rate"
    place = Place("update", ("learning_rate",), overrides=True)

    def given(self, optimizer: keras.Optimizer) -> Given:
        rate = keras_internals.given_learning_rate(optimizer)
        if isinstance(rate, keras.Variable):
            return Given("learning_rate", float(rate.numpy()))
        return Given("learning_rate", 1.0, is_scheduled=True)

    def _instead_of(self, number: Any, value: tf.Tensor) -> tf.Tensor:
        if self.place.overrides:
            return value
        return tf.cast(number, value.dtype) * value
