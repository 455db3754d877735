"""Penalties on weights: coefficients that enter the training loss."""

import abc
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core import nested
from keras_drmad.hyperparameters import layer_choice
from keras_drmad.hyperparameters.grouped import Grouped
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Log


class Penalty(Grouped):
    """A penalty Σ coefficient · measure(w) on the chosen weights.

    The raw values are the logarithms of the coefficients, so that these stay
    positive.

    Attributes:
        default_name: str, the kind's name.
        keras_argument: str, the argument of `keras.regularizers.L1L2` that is
            the coefficient of the same penalty; `None` if there is no such
            argument.
    """

    transform = Log()
    default_name: str
    keras_argument: str | None = None

    def __init__(
        self,
        per: str = "all",
        initial: float = 1e-4,
        *,
        layers: layer_choice.Layers = None,
        biases: bool = False,
        bounds: tuple[float | None, float | None] | None = None,
        name: str | None = None,
    ):
        """Initializes the penalty.

        Args:
            per: `"all"`, one coefficient for all weights; `"layer"`, one for
                each layer; `"tensor"`, one for each kernel and each bias;
                `"input"`, one for each row of a kernel's input side (each input
                of a dense layer, each input channel of a convolution) and one
                for each bias; `"output"`, one for each column of a kernel's
                output side (each unit of a dense layer, each output channel of
                a convolution), which is the coefficient of the unit's bias as
                well; `"weight"`, one for each weight.
            initial: positive float, where all coefficients start.
            layers: the layers to penalize: a layer, its name, a regular
                expression for names, or a list of these. All by default.
            biases: bool, whether to penalize biases, and the scales and shifts
                of normalization layers, as well as kernels.
            bounds: `(lowest, highest)` coefficient, either may be `None`.
            name: str, unique among the hyperparameters of a model; the kind's
                name by default.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `per` is unknown, or `initial` is not positive or
                not within `bounds`.
        """
        super().__init__(
            per,
            layers=layers,
            biases=biases,
            bounds=bounds,
            name=name or self.default_name,
        )
        self.initial = self.checked_initial(initial)

    @staticmethod
    @abc.abstractmethod
    def measure(w: tf.Tensor) -> tf.Tensor:
        """Returns the measure of each weight, of the shape of w."""

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._group(model)
        self.create(self._groups.shape, self.initial)

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> tf.Tensor:
        coefficients = self.transform.value(raw)
        pairs = [
            (member, params[id(member.variable)])
            for member in self._groups.members
        ]
        # Weights may have several dtypes; half precision would round a sum.
        dtypes = [raw.dtype, *(w.dtype for _, w in pairs)]
        dtype = max(dtypes, key=lambda one: one.size)
        in_xla = keras_internals.compiles_by_xla()
        total = nested.sum_by_columns if in_xla else tf.reduce_sum
        return tf.add_n(
            [
                total(
                    tf.cast(member.entries(coefficients), dtype)
                    * self.measure(tf.cast(w, dtype))
                )
                for member, w in pairs
            ]
        )

    def to_keras(self, plain: PlainTraining) -> None:
        if self.keras_argument is None:
            return super().to_keras(plain)
        plain.add_regularizers(
            self.name, self.keras_argument, self._by_weight()
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"initial": self.initial}
