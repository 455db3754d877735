"""The first weights of a training."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import layer_choice
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.start import Start
from keras_drmad.hyperparameters.transforms import Identity


@keras.saving.register_keras_serializable("keras_drmad")
class InitialWeights(Start):
    """The first weights themselves: every training starts from the values.

    At first the values are the model's weights when the model is compiled, or
    those that are put in later, as long as nobody has tuned or assigned the
    values; there is a value for each weight of the chosen layers, in the order
    of `trainable_variables`.

    Example:

    ```python
    kd.hyperparameters.InitialWeights(layers="embedding")
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492; Finn, Abbeel, Levine, *Model-Agnostic
    Meta-Learning*, ICML 2017, https://arxiv.org/abs/1703.03400.
    """

    transform = Identity()
    place = dataclasses.replace(Start.place, overrides=True)

    def __init__(
        self,
        layers: layer_choice.Layers = None,
        *,
        biases: bool = True,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "initial_weights",
    ):
        """Initializes the kind.

        Args:
            layers: a layer, its name, a regular expression for names, or a
                list of these; all layers by default.
            biases: bool, whether to learn biases, and the scales and shifts of
                normalization layers, as well as kernels.
            bounds: `(lowest, highest)` weight, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            ValueError: if `bounds` is not valid.
        """
        super().__init__(
            "weight", layers=layers, biases=biases, bounds=bounds, name=name
        )

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._group(model)
        weights = [m.variable for m in self._groups.members]
        before = self.raw
        self.create(self._groups.shape, self._clipped(weights))
        if self.raw is not before:
            self.followed = self.raw.numpy()
        known = self.units_at_first
        if (
            self.raw is not before
            or known is None
            or len(known) != len(weights)
        ):
            self.units_at_first = self._spreads()

    def follow(self, weights: Callable[[], dict[int, Any]]) -> None:
        if not self.follows:
            return  # tuned, or assigned
        known = weights()
        members = self._groups.members
        if all(id(m.variable) in known for m in members):
            now = [known[id(m.variable)] for m in members]
            self.raw.assign(self._clipped(now))
            self.followed = self.raw.numpy()

    def _clipped(self, weights: Sequence[Any]) -> np.ndarray:
        """Returns the numbers of tensors within the bounds, `(count,)`."""
        flat = np.concatenate([np.ravel(w) for w in weights])
        return np.clip(flat.astype(float), *self.bounds)

    @property
    def unit(self) -> np.ndarray:
        """The spread of each weight's tensor at `compile`, `(count,)`.

        For a tensor of equal values, such as biases of zeros, the median of
        those of the other tensors. It stays while the values are tuned.
        """
        self._bound()
        sizes = [math.prod(m.variable.shape) for m in self._groups.members]
        return np.repeat(np.asarray(self.units_at_first), sizes)

    def _spreads(self) -> np.ndarray:
        """Returns the spread of the present values of each weight's tensor."""
        unit_of = self.transform.unit_of
        tensors = np.split(
            self._bound().numpy(), [m.start for m in self._groups.members[1:]]
        )
        varied = [w for w in tensors if np.ptp(w) > 0] or tensors
        usual = np.median([unit_of(w, self.bounds) for w in varied])
        units = [
            unit_of(w, self.bounds) if np.ptp(w) > 0 else usual for w in tensors
        ]
        return np.array(units)

    @staticmethod
    def first(entries: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        del w
        return entries

    def to_keras(self, plain: PlainTraining) -> None:
        plain.initial_weights.update(self._by_weight())

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["per"]  # always "weight"
        return config
