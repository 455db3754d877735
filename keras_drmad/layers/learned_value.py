"""A value inside a layer, learned by hypergradient."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.transforms import checked_transform


@keras.saving.register_keras_serializable("keras_drmad")
class LearnedValue(keras.layers.Layer):
    """A scalar or a tensor inside a layer, learned by hypergradient.

    Make it an attribute of a layer, and use `value()` in its `call`. A
    `DrMADModel` finds it at `compile`. Training does not touch it; a
    hypergradient does, of all that the layer computes with it, in training and
    in validation. It is saved and exported with the layer, as a weight that is
    not trainable. In a plain `keras.Model` it stays what it is.

    Example:

    ```python
    class Slope(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.slope = kd.layers.LearnedValue(0.1, bounds=(1e-3, 1.0))

        def call(self, x):
            return keras.ops.maximum(x, self.slope.value() * x)
    ```

    Attributes:
        raw: `keras.Variable`, unconstrained, what the meta-optimizer moves.
        bounds: `(lowest, highest)` value.
        transform: `Transform`, from raw to value.
    """

    def __init__(
        self,
        initial: Any,
        transform: Any = "log",
        *,
        bounds: tuple[float | None, float | None] | None = None,
        **kwargs: Any,
    ):
        """Initializes the hyperparameter.

        Args:
            initial: float or array, where it starts; it has its shape.
            transform: `"log"` (positive values), `"sigmoid"` (values in
                (0, 1)), `"identity"`, or a `Transform`.
            bounds: `(lowest, highest)` value, either may be `None`.
            **kwargs: those of `keras.layers.Layer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if `initial` is not within range and bounds.
        """
        super().__init__(**kwargs)
        self.transform = checked_transform(transform)
        self.bounds = values.checked_bounds(bounds, self.transform)
        initial = values.checked_initial(initial, self.bounds, self.transform)
        self.initial = np.asarray(initial)
        raw = values.raw_of(self.initial, self.bounds, self.transform)
        self.raw = self.add_weight(
            shape=self.initial.shape,
            initializer=lambda shape, dtype: tf.constant(raw, dtype),
            trainable=False,
            autocast=False,  # half precision would round logarithms
            name="raw",
        )
        self.built = True

    def value(self) -> tf.Tensor:
        """Returns the value, of the shape of `initial`, in `compute_dtype`."""
        value = self.transform.value(tf.convert_to_tensor(self.raw.value))
        return tf.cast(value, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "initial": self.initial.tolist(),
            "transform": keras.saving.serialize_keras_object(self.transform),
            "bounds": values.given_bounds(self.bounds, self.transform),
        }
