"""Factors on the first weights."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad.hyperparameters import layer_choice
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.start import Start
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class InitialScale(Start):
    """A factor on the first weights: w_0 = scale · w.

    w are the weights with which a training would start without this kind: the
    model's weights at the call of `fit`, or a new draw. The raw values are
    logarithms.

    Example:

    ```python
    kd.hyperparameters.InitialScale(per="layer", bounds=(0.1, 10.0))
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, section 3.1.
    """

    transform = Log()

    def __init__(
        self,
        per: str = "layer",
        initial: float = 1.0,
        *,
        layers: layer_choice.Layers = None,
        biases: bool = False,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "initial_scale",
    ):
        """Initializes the scales.

        Args:
            per: `"all"`, `"layer"`, `"tensor"`, `"input"`, `"output"` or
                `"weight"`; see `L2`.
            initial: positive float, the factor at first.
            layers: a layer, its name, a regular expression for names, or a
                list of these; all layers by default.
            biases: bool, whether to scale biases, and the scales and shifts of
                normalization layers, as well as kernels.
            bounds: `(lowest, highest)` factor, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `per` is unknown, or `initial` is not positive or
                not within `bounds`.
        """
        super().__init__(
            per, layers=layers, biases=biases, bounds=bounds, name=name
        )
        self.initial = self.checked_initial(initial)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._group(model)
        self.create(self._groups.shape, self.initial)

    @staticmethod
    def first(entries: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        return entries * w

    def to_keras(self, plain: PlainTraining) -> None:
        for path, scale in self._by_weight().items():
            if path in plain.initial_weights:
                weights = plain.initial_weights[path]
                plain.initial_weights[path] = scale * weights
            else:
                scales = plain.initial_scales.get(path, 1.0)
                plain.initial_scales[path] = scale * scales

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"initial": self.initial}
