"""The optimizer's learning rate."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import base, groups
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class LearningRate(base.Hyperparameter):
    """The learning rate of all weights, or of each layer.

    Where the optimizer has a number for a learning rate, the value takes its
    place. Where it has a `LearningRateSchedule`, the value multiplies it. The
    raw values are logarithms. Weight decay that Keras multiplies by the
    learning rate follows it.

    Example:

    ```python
    kd.hyperparameters.LearningRate(per="layer", bounds=(1e-5, 1.0))
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015, section 3.1.
    """

    transform = Log()
    acts_through_gradient = False

    def __init__(
        self,
        per: str = "all",
        initial: float | None = None,
        layers: groups.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "learning_rate",
    ):
        """Initializes the learning rates.

        Args:
            per: `"all"` or `"layer"`; a layer's bias shares its kernel's.
            initial: positive float, where they start. By default the
                optimizer's learning rate (1.0 where it has a schedule).
            layers: the layers whose rate is learned: a layer, its name, a
                regular expression for names, or a list of these. All by
                default; the others keep the optimizer's.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `per` is unknown, or `initial` is not positive or
                not within `bounds`.
        """
        super().__init__(name, bounds)
        self.per = groups.check_per(per, ("all", "layer"))
        if initial is not None:
            initial = base.check_initial(initial, self.bounds, self.transform)
        self.initial = initial
        self.layers = layers
        self._groups = groups.Groups([], ())
        self._multiplies = False

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        given = optimizer._learning_rate
        self._multiplies = not isinstance(given, keras.Variable)
        initial = self.initial
        if initial is None:
            initial = 1.0 if self._multiplies else float(given.numpy())
            base.check_initial(initial, self.bounds, self.transform)
        self._groups = groups.group(
            model, self.per, self.layers, only_kernels=False
        )
        self._create(self._groups.shape, initial)

    def learning_rate(
        self, raw: tf.Tensor, variable: keras.Variable, rate: tf.Tensor
    ) -> tf.Tensor:
        for member in self._groups.members:
            if member.variable is variable:
                value = self.transform.value(
                    tf.reshape(member.entries(raw), [])
                )
                rate = tf.cast(rate, value.dtype) if self._multiplies else 1
                return rate * value
        return rate

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return self._groups.by_layer(values)

    def get_config(self) -> dict[str, Any]:
        return {
            "per": self.per,
            "initial": self.initial,
            "layers": groups.layer_names(self.layers),
            **super().get_config(),
        }
