"""Weights of several tasks, mixed by a learned matrix."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.hyperparameters import base, layer_choice
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Identity


@keras.saving.register_keras_serializable("keras_drmad")
class WeightSharing(base.Hyperparameter):
    """A matrix for each depth of a multi-task net, which mixes its weights.

    Let a model have one tower of layers for each of n tasks. Training adjusts
    parameters z_1 ... z_n of each depth, and the towers compute with

        w_i = Σ_j T_ij z_j,

    biases included. T = I leaves the towers apart, T = 1/n ties the towers
    together, and a matrix between these is learned. Penalties act on z. A
    training starts from z_0, the model's weights at the call of `fit`, and
    leaves the model with w of the last step, a plain model. Where training goes
    on from these weights (`initial_weights="continue"`, `meta_iterations=0`), z
    is found by the pseudo-inverse of T.

    Example:

    ```python
    # towers "greek_bottom", "hebrew_bottom", ..., "greek_top", "hebrew_top"
    kd.hyperparameters.WeightSharing([".*_bottom", ".*_top"])
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, section 3.4; Fu et al., *DrMAD*, IJCAI
    2016, section 4.
    """

    transform = Identity()

    def __init__(
        self,
        layers: Sequence[Any],
        initial: Any = 0.5,
        *,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "weight_sharing",
    ):
        """Initializes the matrices.

        Args:
            layers: for each depth the layers that share, one layer for each
                task, in the same order of tasks: a regular expression for the
                layers' names, or a list of layers or names.
            initial: float, the part of a weight that is the tower's own,
                T = initial · I + (1 − initial) / n; or an array
                `(depths, tasks, tasks)`.
            bounds: `(lowest, highest)` entry of T, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number or an array of numbers.
            ValueError: if `layers` is empty, or `initial` is out of bounds.
        """
        super().__init__(name, bounds)
        if isinstance(layers, str) or not len(layers):
            raise ValueError(
                "Invalid value for argument `layers`. Expected a list with an "
                f"entry for each depth. Received: layers={layers!r}."
            )
        initial = self.checked_initial(initial)
        self.layers = list(layers)
        self.initial = initial
        self._depths: list[list[list[keras.Variable]]] = []

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        counts = [len(self._towers(model, entry)) for entry in self.layers]
        if len(set(counts)) > 1 or counts[0] == 1:
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' needs the same number of "
                "layers at each depth, at least two.",
                received=f"{counts} for layers={self.layers!r}",
                advice="Name for each depth one layer of each task.",
            )

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.check(model, optimizer)
        self._depths = [self._towers(model, entry) for entry in self.layers]
        n = len(self._depths[0])
        initial = self.initial
        if np.ndim(initial) == 0:
            initial = initial * np.eye(n) + (1 - initial) / n
        shape = (len(self._depths), n, n)
        self.create(shape, np.broadcast_to(initial, shape))

    def _towers(self, model: keras.Model, entry: Any) -> list[list]:
        """Returns the weights of each of the layers that share."""
        layers: dict[str, list[keras.Variable]] = {}
        for v in layer_choice.weights(model, entry, only_kernels=False):
            layers.setdefault(keras_internals.layer_path(v), []).append(v)
        towers = list(layers.values())
        if isinstance(entry, (list, tuple)):  # in the order given
            towers = [
                layer_choice.weights(model, one, only_kernels=False)
                for one in entry
            ]
        shapes = [[tuple(v.shape) for v in weights] for weights in towers]
        if any(shape != shapes[0] for shape in shapes):
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' mixes weights of the same "
                "shapes.",
                received=f"{dict(zip(layers, shapes, strict=False))} for "
                f"{entry!r}",
                advice="Choose layers of equal shapes.",
            )
        return towers

    @property
    def unit(self) -> float:
        """A tenth of the way from towers tied together to towers apart."""
        return 0.1

    def weights(self, raw: tf.Tensor, params: dict[int, Any]) -> dict[int, Any]:
        return self._mixed(self.transform.value(raw), params)

    def params(self, raw: tf.Tensor, weights: dict[int, Any]) -> dict[int, Any]:
        # The derivative of a singular value decomposition is infinite where
        # two singular values are equal: -P dT P is that of the inverse P.
        matrices = self.transform.value(raw)
        fixed = tf.stop_gradient(matrices)
        inverse = tf.linalg.pinv(fixed)
        inverse -= inverse @ (matrices - fixed) @ inverse
        return self._mixed(inverse, weights)

    def _mixed(self, matrices: tf.Tensor, params: dict) -> dict:
        mixed = dict(params)
        for k, towers in enumerate(self._depths):
            for same in zip(*towers, strict=True):
                keys = [id(v) for v in same]
                if any(key not in params for key in keys):
                    continue  # frozen
                flat = [tf.reshape(params[key], [-1]) for key in keys]
                matrix = tf.cast(matrices[k], flat[0].dtype)
                rows = tf.unstack(matrix @ tf.stack(flat))
                for key, row, v in zip(keys, rows, same, strict=True):
                    mixed[key] = tf.reshape(row, v.shape)
        return mixed

    def to_keras(self, plain: PlainTraining) -> None:
        plain.leave_out(
            self.name,
            "Layers of Keras train the weights that they compute with. The "
            "trained model is a plain model; to train it again, use "
            "DrMADModel.",
        )

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        entries = math.prod(values.shape[-2:])
        return {
            label: values[..., k, :, :].reshape(*values.shape[:-3], entries)
            for k, label in enumerate(self._labels())
        }

    def parts(self) -> list[Part]:
        numbers = np.arange(self.count).reshape(self._bound().shape)
        return [
            Part(label, "", own, ("task", "source"))
            for label, own in zip(self._labels(), numbers, strict=True)
        ]

    def _labels(self) -> list[str]:
        """Returns a name for each depth."""
        named = [str(layer_choice.names(entry)) for entry in self.layers]
        return layer_choice.apart(named)

    def correlations(self) -> np.ndarray:
        """Returns how alike tasks are, `(depths, tasks, tasks)` in [-1, 1].

        The correlations of the towers' weights w for independent z of variance
        1, whose covariance is T Tᵀ.
        """
        T = self.value().numpy()
        covariance = T @ T.transpose(0, 2, 1)
        scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        return covariance / scale[:, :, None] / scale[:, None, :]

    def get_config(self) -> dict[str, Any]:
        return {
            "layers": [layer_choice.names(entry) for entry in self.layers],
            "initial": np.asarray(self.initial).tolist(),
            **super().get_config(),
        }
