"""Dropout with a rate that is learned."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import values
from keras_drmad.layers import base


@keras.saving.register_keras_serializable("keras_drmad")
class Dropout(keras.layers.Layer):
    """Dropout with a rate p that is learned, by the concrete relaxation.

    A mask of zeros and ones has no derivative with respect to p. In training
    each entry of the inputs is dropped in part instead, u ~ U(0, 1):

        z = sigmoid((log p − log(1 − p) + log u − log(1 − u)) / temperature)
        y = x (1 − z) / (1 − p)

    z > 1/2 has probability p, and as the temperature τ falls z tends to zeros
    and ones: to `keras.layers.Dropout`. The mean of y tends to x: it is
    x (1 − (π² τ² / 6) p (1 − 2p) + O(τ⁴)), at τ = 0.1 off by 0.2 % at most for
    p <= 1/2. In inference y = x.

    The hyperparameter is named `"<layer name>.rate"`. The outputs have the
    shape of the inputs.

    Example:

    ```python
    x = keras.layers.Dense(50, activation="relu")(x)
    x = kd.layers.Dropout(0.3)(x)
    ```

    Attributes:
        rate: `LearnedValue`, p, between 0 and 1.

    References: Gal, Hron, Kendall, *Concrete Dropout*, NeurIPS 2017,
    https://arxiv.org/abs/1705.07832, equation 5. Maddison, Mnih, Teh, *The
    Concrete Distribution*, ICLR 2017, https://arxiv.org/abs/1611.00712.
    """

    def __init__(
        self,
        rate: Any = 0.5,
        *,
        temperature: float = 0.1,
        bounds: tuple[float | None, float | None] | None = None,
        noise_shape: tuple[int | None, ...] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Initializes the layer.

        Args:
            rate: float in (0, 1), p at first; or an array that broadcasts to
                the inputs' last axes, for a rate of each unit.
            temperature: positive float, τ. With a lower temperature z is nearer
                to zeros and ones, and the derivatives are noisier.
            bounds: `(lowest, highest)` rate, either may be `None`.
            noise_shape: shape of u, with `None` and 1 as in
                `keras.layers.Dropout`; the inputs' shape by default.
            seed: int, the seed of the draws; `None` for a random seed.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
        """
        super().__init__(**kwargs)
        self.rate = base.learned(self, "rate", rate, "sigmoid", bounds)
        self.temperature = arguments.positive(
            "temperature",
            temperature,
            advice="The default, 0.1, is near to a mask of zeros and ones.",
        )
        self.noise_shape = _checked_noise_shape(noise_shape)
        self.seed = arguments.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def build(self, input_shape):
        """Checks the inputs' shape.

        Raises:
            ValueError: if the rate or `noise_shape` do not fit the shape.
        """
        base.check_broadcasts("rate", self.rate, input_shape)
        _check_fits(self.noise_shape, tuple(input_shape))

    def call(self, inputs, training=False):
        """Returns the inputs, in training with entries dropped in part."""
        if not training:
            return inputs
        dtype = base.precision(self)
        rate = base.value_of(self.rate, dtype)
        sizes = tf.unstack(tf.shape(inputs), len(inputs.shape))
        shape = [
            own if n is None else n
            for n, own in zip(
                self.noise_shape or [None] * len(sizes), sizes, strict=True
            )
        ]
        u = keras.random.uniform(shape, dtype=dtype, seed=self.seed_generator)
        kept = kept_parts(rate, u, self.temperature) / (1 - rate)
        return inputs * tf.cast(kept, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "rate": self.rate.initial.tolist(),
            "temperature": self.temperature,
            "bounds": values.given_bounds(
                self.rate.bounds, self.rate.transform
            ),
            "noise_shape": self.noise_shape,
            "seed": self.seed,
        }


def kept_parts(rate: tf.Tensor, u: tf.Tensor, temperature: float) -> tf.Tensor:
    """Returns 1 − z for uniform draws, the part of each entry that is kept.

    Args:
        rate: p, broadcasts to u.
        u: floats in [0, 1).
        temperature: positive float.
    """
    log_odds = tf.math.log(rate) - tf.math.log1p(-rate)
    # u may be 0, of which log is −inf: nothing is dropped, and the derivative
    # of sigmoid there is 0, as it should be.
    log_odds += tf.math.log(u) - tf.math.log1p(-u)
    return tf.sigmoid(-log_odds / temperature)


def _checked_noise_shape(noise_shape: Any) -> tuple[int | None, ...] | None:
    if noise_shape is None:
        return None
    is_valid = isinstance(noise_shape, (tuple, list)) and all(
        n is None or (arguments.is_whole(n) and n > 0) for n in noise_shape
    )
    if not is_valid:
        expected = "None, or a tuple of positive whole numbers and None"
        raise arguments.value_error("noise_shape", noise_shape, expected)
    return tuple(noise_shape)


def _check_fits(noise_shape: Any, input_shape: tuple[int | None, ...]) -> None:
    """Checks that noise of a shape broadcasts to the inputs.

    Raises:
        ValueError: if the noise does not.
    """
    if noise_shape is None:
        return
    fits = len(noise_shape) == len(input_shape) and all(
        n in (None, 1, m) or m is None
        for n, m in zip(noise_shape, input_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            "Invalid value for argument `noise_shape`. Expected a size for "
            "each axis of the inputs: its own, 1, or None for its own. "
            f"Received: noise_shape={noise_shape}, for inputs of shape "
            f"{input_shape}."
        )
