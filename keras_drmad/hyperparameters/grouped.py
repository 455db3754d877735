"""What kinds that act on groups of weights share."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_drmad.hyperparameters import base, groups, layer_choice, parts


class Grouped(base.Hyperparameter):
    """Hyperparameters of which each belongs to a group of weights.

    Attributes:
        per: str, what a group is; see `groups.group`.
        layers: the layers whose weights are grouped.
        biases: bool, whether biases, and the scales and shifts of
            normalization layers, are among the weights.
    """

    def __init__(
        self,
        per: str,
        *,
        layers: layer_choice.Layers,
        biases: bool,
        bounds: tuple[float | None, float | None] | None,
        name: str,
    ):
        """Initializes the kind without groups; these come with a model.

        Args:
            per: str, one of `groups.PER`.
            layers: a layer, its name, a regular expression for names, or a
                list of these; `None` for all layers.
            biases: bool.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            ValueError: if `per` is unknown, or `bounds` is not valid.
        """
        super().__init__(name, bounds)
        self.per = groups.check_per(per)
        self.layers = layers
        self.biases = biases
        self._groups = groups.Groups([], ())

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._chosen(model)

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return self._groups.by_layer(values)

    def parts(self) -> list[parts.Part]:
        flat = np.arange(self.count).reshape(self._bound().shape)
        return self._groups.parts(flat, self.per)

    def get_config(self) -> dict[str, Any]:
        return {
            "per": self.per,
            "layers": layer_choice.names(self.layers),
            "biases": self.biases,
            **super().get_config(),
        }

    def _group(self, model: keras.Model) -> None:
        """Groups the weights of a model, which completes the place.

        Raises:
            ValueError: if no weight is chosen.
        """
        variables = self._chosen(model)
        self._groups = groups.group(model, variables, self.per)
        self.place = dataclasses.replace(
            self.place, weights=frozenset(map(id, variables))
        )

    def _chosen(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the weights to group.

        Raises:
            ValueError: if no weight is chosen.
        """
        return layer_choice.weights(
            model, self.layers, only_kernels=not self.biases
        )

    def _by_weight(self) -> dict[str, np.ndarray]:
        """Returns the values by the weights' paths; see `Groups.by_weight`."""
        return self._groups.by_weight(self.value().numpy())
