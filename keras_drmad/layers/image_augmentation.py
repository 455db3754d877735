"""Image augmentation with strengths that are learned."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import values
from keras_drmad.layers import base
from keras_drmad.layers.sampling import moved

STRENGTHS = ("brightness", "contrast", "rotation", "translation")
FILL_MODES = ("nearest", "constant")


@keras.saving.register_keras_serializable("keras_drmad")
class ImageAugmentation(keras.layers.Layer):
    """Changes images at random, by strengths that are learned.

    For each image x in training, with strengths b, c, r, t, five draws
    u_b, u_c, u_r, u_t, u_t' ~ U(−1, 1), and m the mean of all numbers of x:

        y = m + exp(c u_c) (S x − m) + b u_b

    S turns x counterclockwise about its centre by r u_r turns, then shifts x
    down by t u_t of the height and right by t u_t' of the width. One bilinear
    interpolation does both; it has derivatives of first order in r and t, and
    of any order in x. In inference y = x.

    The hyperparameters are named `"<layer name>.<strength>"`. A strength of
    `None` is off: there is no hyperparameter, and no time is spent; the other
    strengths draw the same numbers. y is not clipped to the range of x.

    Example:

    ```python
    inputs = keras.Input((32, 32, 3))
    x = kd.layers.ImageAugmentation(brightness=None, rotation=0.01)(inputs)
    ```

    Attributes:
        brightness: `LearnedValue`, b, or `None`; positive, as all strengths.
        contrast: `LearnedValue`, c, or `None`.
        rotation: `LearnedValue`, r, or `None`.
        translation: `LearnedValue`, t, or `None`.

    References: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, *Spatial
    Transformer Networks*, NeurIPS 2015, https://arxiv.org/abs/1506.02025,
    equations 1 and 5. Lorraine, Vicol, Duvenaud, *Optimizing Millions of
    Hyperparameters by Implicit Differentiation*, AISTATS 2020,
    https://arxiv.org/abs/1911.02590, section 5, for augmentation learned by
    hypergradient.
    """

    def __init__(
        self,
        *,
        brightness: float | None = 0.1,
        contrast: float | None = 0.1,
        rotation: float | None = 0.02,
        translation: float | None = 0.05,
        bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
        fill_mode: str = "nearest",
        fill_value: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Initializes the layer.

        Args:
            brightness: positive float, b at first, in the units of the images;
                or `None`. The default suits images with a range of about 1.
            contrast: positive float, c at first, in units of the natural
                logarithm: 0.1 scales by 0.90 to 1.11; or `None`.
            rotation: positive float, r at first, in turns: 0.02 is 7.2 degrees;
                or `None`.
            translation: positive float, t at first, a fraction of height and
                width; or `None`.
            bounds: dict from the name of a strength to its `(lowest, highest)`
                value, either may be `None`.
            fill_mode: the numbers of S x outside of x: `"nearest"`, those of
                the nearest edge, or `"constant"`, `fill_value`.
            fill_value: float, which contrast and brightness change as well.
            seed: int, the seed of the draws; `None` for a random seed.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
        """
        super().__init__(**kwargs)
        given = dict(
            zip(
                STRENGTHS,
                (brightness, contrast, rotation, translation),
                strict=True,
            )
        )
        bounds = _checked_bounds(bounds, given)
        for name, initial in given.items():
            strength = None
            if initial is not None:
                strength = base.learned(
                    self,
                    name,
                    initial,
                    "log",
                    bounds.get(name),
                    is_scalar=True,
                )
            setattr(self, name, strength)
        self.fill_mode = arguments.choice("fill_mode", fill_mode, FILL_MODES)
        self.fill_value = arguments.real("fill_value", fill_value)
        self.seed = arguments.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape):
        """Checks the inputs' shape.

        Raises:
            ValueError: if the shape is not `(batch, height, width, channels)`.
        """
        if len(input_shape) != 4:
            raise ValueError(
                f"Invalid inputs for the layer '{self.name}'. Expected images "
                "of shape (batch, height, width, channels). Received: inputs "
                f"of shape {tuple(input_shape)}. Use `keras.layers.Reshape` "
                "before this layer."
            )

    def call(self, inputs, training=False):
        """Returns the images, in training changed at random."""
        inputs = tf.cast(inputs, self.compute_dtype)
        if not training:
            return inputs
        dtype = base.precision(self)
        u = keras.random.uniform(
            (tf.shape(inputs)[0], 5),
            minval=-1,
            maxval=1,
            dtype=dtype,
            seed=self.seed_generator,
        )
        images = augmented(
            tf.cast(inputs, dtype),
            tf.unstack(u, axis=1),
            *(self._strength(name, dtype) for name in STRENGTHS),
            fill_value=None if self.fill_mode == "nearest" else self.fill_value,
        )
        return tf.cast(images, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        learned = {
            name: getattr(self, name)
            for name in STRENGTHS
            if getattr(self, name) is not None
        }
        initial = {name: h.initial.item() for name, h in learned.items()}
        bounds = {
            name: values.given_bounds(h.bounds, h.transform)
            for name, h in learned.items()
        }
        return (
            super().get_config()
            | dict.fromkeys(STRENGTHS)
            | initial
            | {
                "bounds": bounds,
                "fill_mode": self.fill_mode,
                "fill_value": self.fill_value,
                "seed": self.seed,
            }
        )

    def _strength(self, name: str, dtype: str) -> tf.Tensor | None:
        strength = getattr(self, name)
        return None if strength is None else base.value_of(strength, dtype)


def augmented(
    x: tf.Tensor,
    u: list[tf.Tensor],
    brightness: tf.Tensor | None,
    contrast: tf.Tensor | None,
    rotation: tf.Tensor | None,
    translation: tf.Tensor | None,
    *,
    fill_value: float | None,
) -> tf.Tensor:
    """Returns changed images, for given draws; see `ImageAugmentation`.

    Args:
        x: `(batch, height, width, channels)`.
        u: five tensors `(batch,)`: for brightness, contrast, rotation, and
            translation down and right.
        brightness: scalar b, or `None` for no change.
        contrast: scalar c, or `None` for no change.
        rotation: scalar r, or `None` for no change.
        translation: scalar t, or `None` for no change.
        fill_value: float, the number of each pixel outside of the image; `None`
            for that of the nearest pixel of the edge.
    """
    turns = shifts = None
    if rotation is not None:
        turns = rotation * u[2]
    if translation is not None:
        shifts = translation * tf.stack(u[3:], axis=1)
    y = moved(x, turns, shifts, fill_value)
    if contrast is not None:
        mean = tf.reduce_mean(x, [1, 2, 3], keepdims=True)
        y = mean + _for_images(tf.exp(contrast * u[1])) * (y - mean)
    if brightness is not None:
        y += _for_images(brightness * u[0])
    return y


def _for_images(numbers: tf.Tensor) -> tf.Tensor:
    return numbers[:, None, None, None]


def _checked_bounds(bounds: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the argument `bounds` as a dict.

    Args:
        bounds: what was received.
        given: dict from the name of each strength to its argument.

    Raises:
        TypeError: if `bounds` is not a dict.
        ValueError: if a name is not that of a strength, or that of a strength
            that is off.
    """
    bounds = {} if bounds is None else bounds
    if not isinstance(bounds, Mapping):
        expected = "a dict from the name of a strength to (lowest, highest)"
        raise arguments.type_error("bounds", bounds, expected)
    learned = [name for name, initial in given.items() if initial is not None]
    if not set(bounds) <= set(learned):
        expected = f"names of strengths that are not None: {learned}"
        raise arguments.value_error("bounds", bounds, expected)
    return dict(bounds)
