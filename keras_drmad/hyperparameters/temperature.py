"""The temperature of the training loss."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class Temperature(base.Hyperparameter):
    """The temperature τ by which training divides a model's logits.

    Training minimizes L(y, z / τ); the validation loss and the trained model
    have the logits z themselves. With τ above 1 training goes on to larger
    logits, with τ below 1 logits stay small. The raw value is log τ.

    Example:

    ```python
    kd.hyperparameters.Temperature(bounds=(0.1, 10.0))
    ```

    References: Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural
    Network*, 2015, https://arxiv.org/abs/1503.02531, section 2.
    """

    transform = Log()

    def __init__(
        self,
        initial: float = 1.0,
        *,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "temperature",
    ):
        """Initializes the temperature.

        Args:
            initial: positive float, τ at first.
            bounds: `(lowest, highest)` τ, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `initial` is not positive and within `bounds`.
        """
        super().__init__(name, bounds)
        self.initial = self.checked_initial(initial)

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        losses = tf.nest.flatten(model.loss)
        if not losses or not all(_takes_logits(loss) for loss in losses):
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' needs a model whose outputs "
                "are logits.",
                received=f"loss={model.loss!r}",
                advice="Leave out the last activation, and give the loss "
                "`from_logits=True`.",
            )

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.check(model, optimizer)
        self.create((), self.initial)

    def outputs(self, raw: tf.Tensor, y_pred: Any) -> Any:
        tau = self.transform.value(raw)
        return tf.nest.map_structure(
            lambda z: z / tf.cast(tau, z.dtype), y_pred
        )

    def to_keras(self, plain: PlainTraining) -> None:
        plain.leave_out(
            self.name,
            "Train a model with `keras.layers.Rescaling("
            f"{1 / float(self.value()):.6g})` after its logits, and use the "
            "model without that layer.",
        )

    def get_config(self) -> dict[str, Any]:
        return {"initial": self.initial, **super().get_config()}


def _takes_logits(loss: Any) -> bool:
    if not isinstance(loss, keras.losses.Loss):
        return False
    return bool(loss.get_config().get("from_logits", False))
