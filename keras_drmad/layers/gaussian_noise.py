"""Gaussian noise with a standard deviation that is learned."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import values
from keras_drmad.layers import base


@keras.saving.register_keras_serializable("keras_drmad")
class GaussianNoise(keras.layers.Layer):
    """Adds noise with a standard deviation σ that is learned.

    In training y = x + σ ε, ε ~ N(0, 1) for each entry of the inputs; in
    inference y = x, as in `keras.layers.GaussianNoise`.

    The hyperparameter is named `"<layer name>.stddev"`. The outputs have the
    shape of the inputs.

    Example:

    ```python
    x = kd.layers.GaussianNoise(0.1)(inputs)
    ```

    Attributes:
        stddev: `LearnedValue`, σ, positive.

    References: Kingma, Welling, *Auto-Encoding Variational Bayes*, ICLR 2014,
    https://arxiv.org/abs/1312.6114, section 2.4, for the derivative with
    respect to σ.
    """

    def __init__(
        self,
        stddev: Any = 0.1,
        *,
        bounds: tuple[float | None, float | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Initializes the layer.

        Args:
            stddev: positive float, σ at first; or an array that broadcasts to
                the inputs' last axes, for a deviation of each unit.
            bounds: `(lowest, highest)` deviation, either may be `None`.
            seed: int, the seed of the draws; `None` for a random seed.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
        """
        super().__init__(**kwargs)
        self.stddev = base.learned(self, "stddev", stddev, "log", bounds)
        self.seed = arguments.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def build(self, input_shape):
        """Checks the inputs' shape.

        Raises:
            ValueError: if an array `stddev` does not fit the shape.
        """
        base.check_broadcasts("stddev", self.stddev, input_shape)

    def call(self, inputs, training=False):
        """Returns the inputs, in training with noise."""
        if not training:
            return inputs
        dtype = base.precision(self)
        stddev = base.value_of(self.stddev, dtype)
        epsilon = keras.random.normal(
            tf.shape(inputs), dtype=dtype, seed=self.seed_generator
        )
        return inputs + tf.cast(stddev * epsilon, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "stddev": self.stddev.initial.tolist(),
            "bounds": values.given_bounds(
                self.stddev.bounds, self.stddev.transform
            ),
            "seed": self.seed,
        }
