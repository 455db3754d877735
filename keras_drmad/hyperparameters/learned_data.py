"""Training inputs as hyperparameters."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.parts import axes_of
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import checked_transform


@keras.saving.register_keras_serializable("keras_drmad")
class LearnedData(base.Hyperparameter):
    """The training inputs themselves: data distillation.

    Training sees the learned input in the place of each training input, with
    the label that `fit` was given for this place. `fit` needs as many inputs of
    the same shape: the initial inputs, or any others. They are learned as
    floats, whatever their dtype: images of bytes too, by a model whose input
    is not of integers.

    Example: one image for each of ten classes, learned.

    ```python
    images = np.random.normal(size=(10, 784))
    model.compile(hyperparameters=[kd.hyperparameters.LearnedData(images)], ...)
    model.fit(images, np.arange(10), batch_size=10, ...)
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, section 3.3; Wang, Zhu, Torralba, Efros,
    *Dataset Distillation*, 2018, https://arxiv.org/abs/1811.10959.
    """

    def __init__(
        self,
        initial: Any,
        transform: Any = "identity",
        *,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "learned_data",
    ):
        """Initializes the inputs.

        Args:
            initial: array `(size, ...)`, the inputs at first.
            transform: `"identity"`, or another transform for inputs in a range.
            bounds: `(lowest, highest)` number of an input, either may be
                `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not an array of numbers.
            ValueError: if `initial` is out of the range or the bounds.
        """
        self.transform = checked_transform(transform)
        super().__init__(name, bounds)
        initial = self.checked_initial(initial)
        self.initial = np.asarray(initial)
        if not self.initial.ndim or not self.initial.size:
            raise ValueError(
                "Invalid value for argument `initial`. Expected an array with "
                "an example on each place of the first axis. Received: an "
                f"array of shape {self.initial.shape}."
            )
        self.axes = ("example", *axes_of(self.initial.shape[1:]))

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        super().check(model, optimizer)
        inputs = tf.nest.flatten(getattr(model, "inputs", None) or [])
        for dtype in (one.dtype for one in inputs):
            if not keras.backend.is_float_dtype(dtype):
                raise arguments.Refused(
                    f"The hyperparameter '{self.name}' learns inputs by their "
                    "derivative: the model has to take floats.",
                    received=f"an input of dtype {dtype}, to which Keras "
                    "rounds what comes",
                    advice="Leave `dtype` out in `keras.Input(shape)`; the "
                    "data may stay of any dtype.",
                )

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.check(model, optimizer)
        self.create(self.initial.shape, self.initial)

    @property
    def unit(self) -> float:
        """The spread of all inputs at first, where inputs are plain numbers.

        One unit for all features: standardize features of different scales.
        """
        return self.transform.unit_of(self.initial, self.bounds)

    @property
    def examples(self) -> int | None:
        """How many inputs are learned."""
        return len(self.initial)

    def prepare(self, training: base.Training) -> None:
        x, index = training.batch.x, training.batch.index
        shape = tuple(x.shape[1:]) if hasattr(x, "shape") else None
        size = len(self.initial)
        expected = self.initial.shape[1:]
        if (
            index is None
            or shape != expected
            or (training.examples not in (None, size))
        ):
            raise ValueError(
                f"The hyperparameter '{self.name}' takes the place of {size} "
                f"training inputs of shape {expected}. Received: "
                f"{training.examples or 'a stream'} of shape {shape}. Pass as "
                "`x` an array of as many inputs; a stream has to yield (x, y, "
                "sample_weight, index)."
            )

    def batch(self, raw: tf.Tensor, batch: Batch) -> Batch:
        x = self.transform.value(tf.gather(raw, batch.index))
        return batch._replace(x=tf.cast(x, keras.config.floatx()))

    def to_keras(self, plain: PlainTraining) -> None:
        plain.training_data = self.value().numpy()

    def get_config(self) -> dict[str, Any]:
        return {
            "initial": self.initial.tolist(),
            "transform": keras.saving.serialize_keras_object(self.transform),
            **super().get_config(),
        }
