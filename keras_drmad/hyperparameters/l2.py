"""The squared penalty."""

import keras
import tensorflow as tf

from keras_drmad.hyperparameters.penalty import Penalty


@keras.saving.register_keras_serializable("keras_drmad")
class L2(Penalty):
    """Adds Σ coefficient · w² to the loss, as `keras.regularizers.L2`.

    Example:

    ```python
    kd.hyperparameters.L2(per="input", initial=1e-4, layers="dense.*")
    ```

    References: Fu et al., *DrMAD*, IJCAI 2016, section 4, tune one coefficient
    for each input unit of each layer.
    """

    default_name = "l2"
    keras_argument = "l2"

    @staticmethod
    def measure(w: tf.Tensor) -> tf.Tensor:
        return tf.square(w)
