"""The absolute penalty."""

import keras
import tensorflow as tf

from keras_drmad.hyperparameters.penalty import Penalty


@keras.saving.register_keras_serializable("keras_drmad")
class L1(Penalty):
    """Adds Σ coefficient · |w| to the loss, as `keras.regularizers.L1`.

    The derivative of |w| at w = 0 counts as 0. Plain gradient steps do not land
    on 0, so the weights become small rather than sparse.

    Example:

    ```python
    kd.hyperparameters.L1(per="layer", initial=1e-5)
    ```
    """

    default_name = "l1"
    keras_argument = "l1"

    @staticmethod
    def measure(w: tf.Tensor) -> tf.Tensor:
        return tf.abs(w)
