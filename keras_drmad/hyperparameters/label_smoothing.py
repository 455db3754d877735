"""Label smoothing."""

from typing import Any

import keras
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.sample_weights import of_examples
from keras_drmad.hyperparameters.transforms import Sigmoid

SPARSE = keras.losses.SparseCategoricalCrossentropy
BINARY = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
)
NOT_LINEAR = keras.losses.BinaryFocalCrossentropy  # in the label
LOSSES = (
    SPARSE,
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    *BINARY,
)


@keras.saving.register_keras_serializable("keras_drmad")
class LabelSmoothing(base.Hyperparameter):
    """The part ε of a label that is spread over all classes, in training.

    With q the label's distribution over K classes, training sees the labels
    (1 − ε) q + ε / K, where K = 2 for a binary label, and the classes are on
    the `axis` of the loss. That is what the argument `label_smoothing` of
    Keras's cross-entropies does, but for sparse labels as well (and Keras takes
    the last axis for K); a loss that has `label_smoothing` already is smoothed
    once more. Validation sees the labels as they are. The raw value is
    log(ε / (1 − ε)).

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
        self._weight = 1.0

    def check(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        _cross_entropy(model.loss, self.name)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self._loss = _cross_entropy(model.loss, self.name)
        given = tf.nest.flatten(keras_internals.given_loss_weights(model))
        self._weight = 1.0 if given[0] is None else float(given[0])
        self.create((), self.initial)

    def prepare(self, training: base.Training) -> None:
        labels = training.batch.y
        if tf.nest.is_nested(labels) or labels is None:
            raise ValueError(
                f"The hyperparameter '{self.name}' smooths one array of "
                f"labels. Received: targets of type {type(labels).__name__}. "
                "Give the model one output, or leave this kind out."
            )

    def loss(
        self, raw: tf.Tensor, loss: tf.Tensor, batch: Batch, y_pred: Any
    ) -> tf.Tensor:
        smoothing = tf.cast(self.transform.value(raw), self._loss.dtype)
        change = self._change(smoothing, batch.y, y_pred, batch.sample_weight)
        return loss + self._weight * tf.cast(tf.reduce_sum(change), loss.dtype)

    def _change(
        self, smoothing: tf.Tensor, y: Any, y_pred: tf.Tensor, weights: Any
    ) -> tf.Tensor:
        """Returns what smoother labels add to the model's loss."""
        loss_of = of_examples(self._loss)
        plain = loss_of(y, y_pred, weights)
        if isinstance(self._loss, SPARSE):
            uniform = of_examples(_Uniform(self._loss))(y, y_pred, weights)
            return smoothing * (uniform - plain)
        count = 2
        if not isinstance(self._loss, BINARY):
            count = y_pred.shape[self._loss.axis]
        y = tf.cast(y, smoothing.dtype)
        if isinstance(self._loss, NOT_LINEAR):
            smooth = (1 - smoothing) * y + smoothing / count
            return loss_of(smooth, y_pred, weights) - plain
        # Cross-entropy is linear in the label: that of a mixture is the mixture
        # of those of the label and of the uniform distribution. TensorFlow has
        # no second derivative by logits and labels.
        uniform = loss_of(tf.ones_like(y) / count, y_pred, weights)
        return smoothing * (uniform - plain)

    def to_keras(self, plain: PlainTraining) -> None:
        config = self._loss.get_config()
        is_binary = isinstance(self._loss, BINARY)
        if not is_binary and config.get("axis", -1) != -1:
            return plain.leave_out(
                self.name,
                "Keras takes the last axis of labels for the number of "
                "classes K. Train with the labels (1 - e) * y + e / K, e = "
                f"{float(self.value()):.6g}.",
            )
        if "label_smoothing" not in config:
            return plain.leave_out(
                self.name,
                "This Keras's losses of sparse labels have no "
                "`label_smoothing` (3.16 has it). Use "
                "`CategoricalCrossentropy(label_smoothing="
                f"{float(self.value()):.6g})` and labels that are one-hot.",
            )
        # The part of a label that neither kind of smoothing takes away.
        left = (1 - float(self.value())) * (1 - config["label_smoothing"])
        config |= {"label_smoothing": 1 - left, "dtype": self._loss.dtype}
        plain.loss = type(self._loss).from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {"initial": self.initial, **super().get_config()}


class _Uniform(keras.losses.Loss):
    """The cross-entropy of uniform labels, where a sparse loss has labels."""

    def __init__(self, loss: keras.losses.Loss):
        super().__init__("uniform_labels", loss.reduction, loss.dtype)
        self._loss = loss

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the cross-entropy of each example."""
        uniform = tf.ones_like(y_pred) / y_pred.shape[-1]
        values = keras.losses.categorical_crossentropy(
            uniform, y_pred, from_logits=self._loss.from_logits
        )
        # With the mask of `ignore_class`.
        return keras_internals.carry_mask(
            self._loss.call(y_true, y_pred), values
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
    if not isinstance(found, LOSSES):
        raise arguments.Refused(
            f"The hyperparameter '{name}' needs a model with one loss, a "
            "cross-entropy of Keras.",
            received=f"loss={loss!r}",
            advice="Use "
            "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.",
        )
    return found


def _snake(loss: type) -> str:
    return "".join(
        "_" + c.lower() if c.isupper() else c for c in loss.__name__
    )[1:]
