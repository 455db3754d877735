"""Weights of the losses of a model that has several."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import base, layer_choice
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.sample_weights import as_outputs, weighted
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class LossWeights(base.Hyperparameter):
    """A weight for the loss of each output, and for layers' own losses.

    Training minimizes Σ weight_k · loss_k over a model's outputs, in the order
    of `model.output_names`, and over the chosen layers that call `add_loss`.
    These weights multiply the `loss_weights` of `compile`. The validation loss,
    to which hyperparameters are fitted, has the `loss_weights` of `compile`
    alone; sample weights of 0 in the validation data take an output out of the
    validation loss. The raw values are logarithms.

    Example:

    ```python
    model.compile(loss={"main": "mse", "hint": "mse"},
                  hyperparameters=[kd.hyperparameters.LossWeights()], ...)
    # fit the weights to the main output alone
    alone = {"main": np.ones(len(x_val)), "hint": np.zeros(len(x_val))}
    model.fit(..., validation_data=(x_val, y_val, alone))
    ```

    Attributes:
        names: list of str, the name of the output or layer of each weight,
            "NAME (layer)" for a layer named like an output; empty until a
            model is compiled with this object.

    References: Jaderberg et al., *Reinforcement Learning with Unsupervised
    Auxiliary Tasks*, ICLR 2017, https://arxiv.org/abs/1611.05397, weigh
    auxiliary losses by hand; that their weights can be learned by
    hypergradient is in Navon et al., *Auxiliary Learning by Implicit
    Differentiation*, ICLR 2021, https://arxiv.org/abs/2007.02693.
    """

    transform = Log()

    def __init__(
        self,
        initial: float = 1.0,
        *,
        layers: layer_choice.Layers = (),
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "loss_weights",
    ):
        """Initializes the weights.

        Args:
            initial: positive float, all weights at first.
            layers: the layers whose own losses (`add_loss`, activity
                regularizers) get a weight: a layer, its name, a regular
                expression for names, or a list of these; no layer by default.
            bounds: `(lowest, highest)` weight, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `initial` is not positive and within `bounds`.
        """
        super().__init__(name, bounds)
        self.initial = self.checked_initial(initial)
        self.layers = layers
        self.names: list[str] = []
        self._outputs: list[str] = []
        self._structure: Any = None  # the outputs', with names in their places
        self._with_losses: list[keras.Layer] = []

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        layers = layer_choice.layers_of(model, self.layers)
        if not layers and not _several_outputs(model)[0]:
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' needs a Functional model "
                "with several outputs, or `layers` with losses of their own.",
                received=f"'{model.name}', layers={self.layers!r}",
                advice="Give each loss an output of its own.",
            )
        for loss in tf.nest.flatten(model.loss):
            if getattr(loss, "reduction", "") == "mean_with_sample_weight":
                raise arguments.Refused(
                    f"The hyperparameter '{self.name}' weighs outputs by "
                    "sample weights.",
                    received="a loss with reduction='mean_with_sample_weight', "
                    "which weights of outputs do not change",
                    advice="Use 'sum_over_batch_size'.",
                )

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.check(model, optimizer)
        self._outputs, self._structure = _several_outputs(model)
        self._with_losses = layer_choice.layers_of(model, self.layers)
        names = [x.name for x in self._with_losses]
        names = layer_choice.apart(names, taken=self._outputs)
        self.names = self._outputs + names
        self.create((len(self.names),), self.initial)

    def batch(self, raw: tf.Tensor, batch: Batch) -> Batch:
        if not self._outputs:
            return batch
        values = self.transform.value(raw)
        ones = tf.ones(tf.shape(tf.nest.flatten(batch.y)[0])[:1], values.dtype)
        each = [
            weighted(own, values[k] * ones)
            for k, own in enumerate(self._given(batch.sample_weight))
        ]
        return batch._replace(
            sample_weight=tf.nest.pack_sequence_as(self._structure, each)
        )

    def _given(self, sample_weight: Any) -> list[Any]:
        """Returns the sample weights of each output.

        Raises:
            ValueError: if they are nested otherwise than the outputs.
        """
        given = as_outputs(sample_weight, self._structure, self._outputs)
        if given is None:
            raise ValueError(
                "Invalid value for argument `sample_weight`. Expected weights "
                f"for all outputs, or for each of {self._outputs}. Received: a "
                f"{type(sample_weight).__name__} with "
                f"{len(tf.nest.flatten(sample_weight))} of them. Nest them as "
                "the outputs, with None for weights of 1."
            )
        return given

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> Any:
        silent = [x.name for x in self._with_losses if not x.losses]
        if silent:
            raise ValueError(
                f"The hyperparameter '{self.name}' weighs losses that layers "
                f"add. Received: layers that add no loss, {silent}. Call "
                "`self.add_loss(...)` in the `call` of these layers, or leave "
                "these layers out."
            )
        # Keras has added the layers' losses, with a weight of 1.
        values = self.transform.value(raw)[len(self._outputs) :]
        return sum(
            (values[k] - 1) * tf.cast(loss, values.dtype)
            for k, layer in enumerate(self._with_losses)
            for loss in layer.losses
        )

    def to_keras(self, plain: PlainTraining) -> None:
        values = dict(zip(self.names, self.value().numpy(), strict=True))
        if any("/" in name for name in self._outputs):
            plain.leave_out(
                self.name,
                "Give the losses of nested outputs these `loss_weights`, "
                "nested as the outputs, times their own: "
                + ", ".join(f"{k}: {values[k]:.6g}" for k in self._outputs)
                + ".",
            )
        elif self._outputs:
            # Keras takes weights of losses only where it knows each loss.
            names = self._outputs
            plain.loss = _by_output(names, plain.loss, plain.loss)
            given = _by_output(names, plain.loss_weights, 1.0)
            plain.loss_weights = {
                name: float(values[name] * given.get(name, 1.0))
                for name in plain.loss
            }
        if self._with_losses:
            weights = list(values.items())[len(self._outputs) :]
            plain.leave_out(
                self.name,
                "Losses that layers add have no weights. Multiply them, or the "
                "factor of an activity regularizer, in the layers: "
                + ", ".join(f"{name} by {w:.6g}" for name, w in weights)
                + ".",
            )

    def by_layer(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: values[..., k : k + 1] for k, name in enumerate(self.names)
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "initial": self.initial,
            "layers": layer_choice.names(self.layers),
            **super().get_config(),
        }


def _by_output(names: list[str], given: Any, one: Any) -> dict[str, Any]:
    """Returns an argument of `compile` as a dict by the outputs' names.

    Args:
        names: list of str, in the order in which Keras takes outputs.
        given: the argument: a dict, or a list in the order of `names`, or
            neither.
        one: the argument for each output if `given` is neither.
    """
    if isinstance(given, dict):
        return given
    if not isinstance(given, (list, tuple)):
        given = [one] * len(names)
    return dict(zip(names, given, strict=True))


def _several_outputs(model: keras.Model) -> tuple[list[str], Any]:
    """Returns the names of outputs in the order in which Keras takes these.

    The path of an output in a dict or deeper, such as "b/c"; and the names
    nested as the outputs. Returns no name for a model of one output, whose loss
    can be weighed against the losses of layers alone.
    """
    outputs = keras_internals.outputs_structure(model)
    count = len(tf.nest.flatten(outputs))
    if not tf.nest.is_nested(outputs) or count < 2:
        return [], None
    names = [
        "/".join(map(str, path))
        for path, _ in keras.tree.flatten_with_path(outputs)
    ]
    if all(name.isdigit() for name in names):
        names = list(model.output_names)
    return names, tf.nest.pack_sequence_as(outputs, names)
