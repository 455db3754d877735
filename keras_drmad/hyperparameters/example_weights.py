"""A weight for each training example."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import base
from keras_drmad.hyperparameters.plain_training import PlainTraining
from keras_drmad.hyperparameters.sample_weights import weighted
from keras_drmad.hyperparameters.transforms import Sigmoid, checked_transform


@keras.saving.register_keras_serializable("keras_drmad")
class ExampleWeights(base.Hyperparameter):
    """A weight on the training loss of each example, or of a group of examples.

    The loss of example i is multiplied by the weight of example i, and by the
    user's own `sample_weight`, before Keras takes the mean over the minibatch.
    Examples are known by their places in the training arrays. A stream has to
    yield these places, as a fourth entry `(x, y, sample_weight, index)`, where
    index are integers `(batch_size,)`. A step costs no more for many examples
    than for few, but for the addition of the hypergradients.

    Example:

    ```python
    kd.hyperparameters.ExampleWeights(len(x))
    kd.hyperparameters.ExampleWeights(groups=source_of_each_example)
    ```

    References: Franceschi, Frasconi, Salzo, Grazzi, Pontil, *Bilevel
    Programming for Hyperparameter Optimization and Meta-Learning*, ICML 2018,
    https://arxiv.org/abs/1806.04910 (data hyper-cleaning).
    """

    def __init__(
        self,
        size: int | None = None,
        groups: Sequence[int] | None = None,
        *,
        initial: Any = 0.5,
        transform: Any = "sigmoid",
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "example_weights",
    ):
        """Initializes the weights.

        Args:
            size: int, the number of training examples; not with `groups`.
            groups: `(size,)` integers from 0, the group of each training
                example; not with `size`.
            initial: float, all weights at first; or an array `(size,)`, with
                `groups` `(groups,)`, each weight, for instance how far other
                nets believe a label. A sigmoid hardly moves near its ends.
            transform: `"sigmoid"` for weights in (0, 1), `"log"` for positive
                weights, or a `Transform`.
            bounds: `(lowest, highest)` weight, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if neither or both of `size` and `groups` are given, or
                an argument is out of its range.
        """
        self.transform = checked_transform(transform)
        super().__init__(name, bounds)
        if (size is None) == (groups is None):
            neither_or_both = "no" if groups is None else "also"
            raise ValueError(
                "Invalid value for argument `size`. Expected the number of "
                "training examples, or `groups` in its place. Received: "
                f"size={size!r}, and {neither_or_both} groups. Use "
                "`ExampleWeights(len(x))`."
            )
        self.groups = None if groups is None else _checked_groups(groups)
        if self.groups is not None:
            size = len(self.groups)
        self.size = arguments.whole("size", size, 1, advice="Use `len(x)`.")
        self.initial = self.checked_initial(initial)
        if np.shape(self.initial) not in ((), self._raw_shape):
            raise ValueError(
                "Invalid value for argument `initial`. Expected a number, or "
                f"an array of shape {self._raw_shape}, a weight for each "
                f"{'example' if self.groups is None else 'group'}. Received: "
                f"an array of shape {np.shape(self.initial)}."
            )
        self.axes = ("example",) if self.groups is None else ("group",)

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        self.create(self._raw_shape, self.initial)

    @property
    def _raw_shape(self) -> tuple[int]:
        if self.groups is None:
            return (self.size,)
        return (int(self.groups.max()) + 1,)

    @property
    def unit(self) -> float:
        """The size of the weights at first, where these are plain numbers."""
        return self.transform.unit_of(self.initial, self.bounds)

    @property
    def reach(self) -> float:
        """4 for logits of examples: a wrong label asks for a weight of 0.

        From the middle of the range 12 units lead to within 10⁻⁵ of an end.
        Measured in docs/carrying_over.md, for trainings as long as those that
        tune; ten times longer ones did better by a quarter of the reach
        (docs/results.md, 9). Weights of groups were not measured.
        """
        is_measured = (
            isinstance(self.transform, Sigmoid) and self.groups is None
        )
        return 4.0 if is_measured else 1.0

    @property
    def examples(self) -> int | None:
        """How many training examples have a weight."""
        return self.size

    def prepare(self, training: base.Training) -> None:
        if training.batch.index is None:
            raise ValueError(
                f"The hyperparameter '{self.name}' needs the place of each "
                "example in the training data. Received: a stream that does "
                "not tell the places. Pass arrays as `x` and `y`, or let the "
                "stream yield (x, y, sample_weight, index)."
            )
        if training.examples not in (None, self.size):
            raise ValueError(
                f"The hyperparameter '{self.name}' has weights for {self.size} "
                f"training examples. Received: {training.examples}. Pass "
                f"`ExampleWeights({training.examples})`."
            )

    def batch(self, raw: tf.Tensor, batch: Batch) -> Batch:
        index = batch.index
        if self.groups is not None:
            index = tf.gather(tf.constant(self.groups), index)
        weights = self.transform.value(tf.gather(raw, index))
        return batch._replace(
            sample_weight=weighted(batch.sample_weight, weights)
        )

    def to_keras(self, plain: PlainTraining) -> None:
        weights = self.value().numpy()
        if self.groups is not None:
            weights = weights[self.groups]
        # Keras has weights of examples for losses of one axis alone.
        ranks = keras_internals.output_ranks(self.model)
        if ranks is None:
            return plain.leave_out(
                self.name,
                "How many axes the model's outputs have isn't known. Pass "
                f"`fit` the weights plain.values['{self.name}'] in the shape "
                "of its losses: (n,), or (n, 1) for losses of sequences.",
            )
        missing = max([0, *(rank - 2 for rank in ranks)])
        weights = weights.reshape(-1, *[1] * missing)
        if plain.sample_weight is not None:
            weights = weights * plain.sample_weight
        plain.sample_weight = weights

    def get_config(self) -> dict[str, Any]:
        groups = self.groups
        return {
            "size": self.size if groups is None else None,
            "groups": None if groups is None else groups.tolist(),
            "initial": np.asarray(self.initial).tolist(),
            "transform": keras.saving.serialize_keras_object(self.transform),
            **super().get_config(),
        }


def _checked_groups(groups: Any) -> np.ndarray:
    """Returns the argument `groups` as an array.

    Raises:
        ValueError: if `groups` is not a whole number from 0 for each example.
    """
    array = np.asarray(groups)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise ValueError(
            "Invalid value for argument `groups`. Expected whole numbers, one "
            "for each training example. Received: an array of shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    if array.min() < 0:
        raise ValueError(
            "Invalid value for argument `groups`. Expected groups numbered "
            f"from 0. Received: {array.min()}."
        )
    return array.astype("int32")
