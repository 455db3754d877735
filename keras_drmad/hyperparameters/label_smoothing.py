"""Label smoothing."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.transforms import Sigmoid

LOSSES = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.BinaryCrossentropy,
)


@keras.saving.register_keras_serializable("keras_drmad")
class LabelSmoothing(base.Hyperparameter):
    """The part ε of a label that is spread over all classes, in training.

    With q the label's distribution over K classes, training sees the labels
    (1 − ε) q + ε / K, where K = 2 for a binary label. That is what the argument
    `label_smoothing` of Keras's cross-entropies does, but for sparse labels as
    well; a loss that has `label_smoothing` already is smoothed once more.
    Validation sees the labels as they are. The raw value is log(ε / (1 − ε)).

    Example:

    ```python
    kd.hyperparameters.LabelSmoothing(initial=0.1, bounds=(None, 0.5))
    ```

    References: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, *Rethinking the
    Inception Architecture for Computer Vision*, CVPR 2016,
    https://arxiv.org/abs/1512.00567, section 7.
    """

    transform = Sigmoid()

    def __init__(
        self,
        initial: float = 0.1,
        *,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "label_smoothing",
    ):
        """Initializes the smoothing.

        Args:
            initial: float in (0, 1), ε at first.
            bounds: `(lowest, highest)` ε, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if `initial` is not in (0, 1) and within `bounds`.
        """
        super().__init__(name, bounds)
        self.initial = self.checked_initial(initial)
        self._loss: Any = None

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        _cross_entropy(model.loss, self.name)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._loss = _cross_entropy(model.loss, self.name)
        self.create((), self.initial)

    def loss(
        self, raw: tf.Tensor, loss: tf.Tensor, batch: Batch, y_pred: Any
    ) -> tf.Tensor:
        # Cross-entropy is linear in the label: the cross-entropy of a mixture
        # is the mixture of the cross-entropies of the label and of the uniform
        # distribution.
        change = _uniform(self._loss, y_pred) - self._loss.call(batch.y, y_pred)
        if batch.sample_weight is not None:
            weight = tf.cast(batch.sample_weight, change.dtype)
            change *= tf.reshape(weight, tf.shape(change))
        smoothing = tf.cast(self.transform.value(raw), loss.dtype)
        return loss + smoothing * tf.cast(tf.reduce_mean(change), loss.dtype)

    def to_keras(self, plain: PlainTraining) -> None:
        config = self._loss.get_config()
        if "label_smoothing" not in config:
            return plain.leave_out(
                self.name,
                "Losses of sparse labels have no `label_smoothing`. Use "
                "`CategoricalCrossentropy(label_smoothing="
                f"{float(self.value()):.6g})` and labels that are one-hot.",
            )
        # The part of a label that neither kind of smoothing takes away.
        left = (1 - float(self.value())) * (1 - config["label_smoothing"])
        config |= {"label_smoothing": 1 - left, "dtype": self._loss.dtype}
        plain.loss = type(self._loss).from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {"initial": self.initial, **super().get_config()}


def _uniform(loss: Any, y_pred: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of uniform labels, for each example."""
    if isinstance(loss, keras.losses.BinaryCrossentropy):
        return loss.call(tf.fill(tf.shape(y_pred), 0.5), y_pred)
    uniform = tf.ones_like(y_pred) / y_pred.shape[-1]
    return keras.losses.categorical_crossentropy(
        uniform, y_pred, from_logits=loss.get_config()["from_logits"]
    )


def _cross_entropy(loss: Any, name: str) -> Any:
    """Returns a model's loss as an object, if the loss is a cross-entropy.

    Raises:
        arguments.Refused: if the loss is another loss.
    """
    found = loss
    if isinstance(loss, str):
        found = keras.losses.get(loss)
        named = {keras.losses.get(_snake(one)): one for one in LOSSES}
        found = named[found]() if found in named else found
    reduction = getattr(found, "reduction", None)
    plain = ("sum_over_batch_size", "mean")
    ignores = getattr(found, "ignore_class", None) is not None
    if not isinstance(found, LOSSES) or reduction not in plain or ignores:
        raise arguments.Refused(
            f"The hyperparameter '{name}' needs a model with one loss, a "
            "cross-entropy with a mean over the batch and without "
            "`ignore_class`.",
            received=f"loss={loss!r}",
            advice="Use "
            "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.",
        )
    return found


def _snake(loss: type) -> str:
    return "".join(
        "_" + c.lower() if c.isupper() else c for c in loss.__name__
    )[1:]
