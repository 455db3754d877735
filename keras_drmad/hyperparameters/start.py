"""Where training starts: hyperparameters of the first weights."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import base, groups
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Identity, Log


class _Start(base.Hyperparameter):
    """What changes the first weights of each training.

    A training with `meta_iterations=0` starts from the weights as they are.
    """

    acts_on = "start"

    def prepare(self, training: base.Training) -> None:
        if training.initial_weights == "continue":
            raise ValueError(
                "Invalid value for argument `initial_weights`. The "
                f"hyperparameter '{self.name}' says where trainings start. "
                "Received: 'continue', which starts them where the last one "
                "ended. Use 'same' or 'resample'."
            )

    def reverse_steps(self, T: int) -> int:
        return min(2, T)  # a walk that ends before the start sees nothing


@keras.saving.register_keras_serializable("keras_drmad")
class InitialScale(_Start):
    """A factor on the first weights: w_0 = scale · w.

    w are the model's weights when `fit` is called, or a new draw. The raw
    values are logarithms.

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
        layers: groups.Layers = None,
        biases: bool = False,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "initial_scale",
    ):
        """Initializes the scales.

        Args:
            per: `"all"`, `"layer"`, `"tensor"`, `"input"` or `"weight"`; see
                `L2`.
            initial: positive float, the factor at first.
            layers: a layer, its name, a regular expression for names, or a
                list of these; all by default.
            biases: bool, whether to scale also biases, and the scales and
                shifts of normalization layers.
            bounds: `(lowest, highest)` factor, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if an argument is not valid.
        """
        super().__init__(name, bounds)
        self.per = groups.check_per(per)
        self.initial = base.check_initial(initial, self.bounds, self.transform)
        self.layers = layers
        self.biases = biases
        self._groups = groups.Groups([], ())

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._groups = groups.group(
            model, self.per, self.layers, only_kernels=not self.biases
        )
        self.create(self._groups.shape, self.initial)

    def acts_at(self) -> set[tuple[str, int]]:
        return {("start", id(m.variable)) for m in self._groups.members}

    def start(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        scales = self.transform.value(raw)
        scaled = dict(params)
        for member in self._groups.members:
            key = id(member.variable)
            if key in params:  # one that training adjusts
                scale = tf.cast(member.entries(scales), params[key].dtype)
                scaled[key] = scale * params[key]
        return scaled

    def to_keras(self, plain: PlainTraining) -> None:
        by_weight = self._groups.by_weight(self.value().numpy())
        for path, scale in by_weight.items():
            if path in plain.initial_weights:
                plain.initial_weights[path] = (
                    scale * plain.initial_weights[path]
                )
            else:
                given = plain.initial_scales.get(path, 1.0)
                plain.initial_scales[path] = scale * given

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return self._groups.by_layer(values)

    def get_config(self) -> dict[str, Any]:
        return {
            "per": self.per,
            "initial": self.initial,
            "layers": groups.layer_names(self.layers),
            "biases": self.biases,
            **super().get_config(),
        }


@keras.saving.register_keras_serializable("keras_drmad")
class InitialWeights(_Start):
    """The first weights themselves: every training starts from the values.

    They begin as the model's weights when it is compiled; one entry for each
    weight of the chosen layers, in the order of `trainable_variables`.

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

    def __init__(
        self,
        layers: groups.Layers = None,
        biases: bool = True,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "initial_weights",
    ):
        """Initializes the kind.

        Args:
            layers: a layer, its name, a regular expression for names, or a
                list of these; all by default.
            biases: bool, whether those of biases and of normalization layers
                are learned too.
            bounds: `(lowest, highest)` weight, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            ValueError: if `bounds` is not valid.
        """
        super().__init__(name, bounds)
        self.layers = layers
        self.biases = biases
        self._groups = groups.Groups([], ())

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._groups = groups.group(
            model, "weight", self.layers, only_kernels=not self.biases
        )
        values = [np.ravel(m.variable) for m in self._groups.members]
        flat = np.concatenate(values).astype(float)
        self.create(self._groups.shape, np.clip(flat, *self.bounds))

    def replaces(self) -> set[tuple[str, int]]:
        return {("start", id(m.variable)) for m in self._groups.members}

    def start(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        values = self.transform.value(raw)
        started = dict(params)
        for member in self._groups.members:
            key = id(member.variable)
            if key in params:
                entries = member.entries(values)
                started[key] = tf.cast(entries, params[key].dtype)
        return started

    def to_keras(self, plain: PlainTraining) -> None:
        by_weight = self._groups.by_weight(self.value().numpy())
        for path, values in by_weight.items():
            plain.initial_weights[path] = values

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return self._groups.by_layer(values)

    def get_config(self) -> dict[str, Any]:
        return {
            "layers": groups.layer_names(self.layers),
            "biases": self.biases,
            **super().get_config(),
        }
