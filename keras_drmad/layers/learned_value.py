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

    Make a `LearnedValue` an attribute of a layer, and use `value()` in the
    layer's `call`; or of a regularizer or a loss of your own. Then
    `DrMADModel.compile` finds the value. Meta-training moves
    the value by the hypergradient of everything that the layer computes with
    the value, in training and in validation; elementary training leaves the
    value alone. The layer saves and exports the value as a weight that is not
    trainable. In a plain `keras.Model` the value is a constant.

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
        raw: `keras.Variable`, the unconstrained numbers that the meta-optimizer
            moves.
        bounds: `(lowest, highest)` value.
        transform: `Transform`, from raw numbers to values.
    """

    def __init__(
        self,
        initial: Any,
        transform: Any = "log",
        *,
        bounds: tuple[float | None, float | None] | None = None,
        **kwargs: Any,
    ):
        """Initializes the value.

        Args:
            initial: float or array, the value at first.
            transform: `"log"` (positive values), `"sigmoid"` (values in
                (0, 1)), `"identity"`, or a `Transform`.
            bounds: `(lowest, highest)` value, either may be `None`.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if `initial` is out of the range or the bounds.
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
            name=values.RAW,
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
