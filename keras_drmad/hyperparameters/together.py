"""All hyperparameters of a model, as one."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.base import Hyperparameter, Training

NONE_GIVEN = (
    "Invalid value for argument `hyperparameters`. Expected at least one, "
    "given or in a layer. Received: none. Use "
    "`[keras_drmad.hyperparameters.L2()]`, or a plain `keras.Model` where "
    "there is nothing to tune."
)


class Together:
    """The hyperparameters of a model, in their order, as one.

    λ is the list of their raw values, `hparams`; each hook applies those of
    the hyperparameters, one after the other. Names belong to records alone.
    """

    def __init__(self, hyperparameters: Sequence[Hyperparameter]):
        """Initializes the collection.

        Args:
            hyperparameters: list of hyperparameters with unique names.

        Raises:
            TypeError: if one was not initialized as `Hyperparameter` is.
            ValueError: if the list is empty, two hyperparameters have one
                name, or a name would not serve in logs and files.
        """
        self._each = list(hyperparameters)
        self._check_initialized()
        self.names = [h.name for h in self._each]
        self._check_names()

    @classmethod
    def none(cls) -> "Together":
        """Returns a collection without hyperparameters, which does nothing."""
        together = cls.__new__(cls)
        together._each, together.names = [], []
        return together

    def __iter__(self) -> Iterator[Hyperparameter]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    # ---- bound to a model

    def bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Creates the raw values for a built model and its optimizer.

        Raises:
            ValueError: if a hyperparameter finds nothing to act on, or creates
                no values, or a later one replaces what an earlier one acts on.
        """
        for h in self:
            h.bind(model, optimizer)
            if h.raw is None:
                raise ValueError(
                    f"The hyperparameter '{h.name}' has no values. Expected "
                    f"`bind` of {type(h).__name__} to create them: "
                    "`self.create(shape, initial)`."
                )
            h.model = model
        self._check_none_is_replaced()

    def follow(self, weights: Callable[[], dict[int, Any]]) -> None:
        """Lets values that nobody has moved follow weights that were put in.

        Args:
            weights: as for `Hyperparameter.follow`.
        """
        for h in self:
            h.follow(weights)

    def prepare(self, training: Training) -> None:
        """Prepares every hyperparameter for a training.

        Raises:
            ValueError: if one does not fit the training.
        """
        for h in self:
            h.prepare(training)

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """Within, trainings are prepared that change nothing."""
        with contextlib.ExitStack() as stack:
            for h in self:
                stack.enter_context(h.looked_at())
            yield

    def examples(self) -> int | None:
        """Returns how many training examples all know by their places.

        `None` where no hyperparameter asks for the places.
        """
        known = [h.examples for h in self if h.examples is not None]
        return min(known, default=None)

    def check_bound(self, model: keras.Model) -> None:
        """Checks that the hyperparameters were last compiled into a model.

        Raises:
            ValueError: if one was compiled into another model since.
        """
        for h in self:
            if h.model is not model:
                raise ValueError(
                    f"The hyperparameter '{h.name}' was compiled into another "
                    f"model, '{h.model.name}', after '{model.name}'. Give each "
                    "model hyperparameters of its own, or compile this one "
                    "again."
                )

    # ---- raw values

    @property
    def raws(self) -> list[keras.Variable]:
        """The raw variables."""
        return [h.raw for h in self]

    def hparams(self) -> list[tf.Tensor]:
        """Returns λ, the raw values as they are now."""
        return [tf.convert_to_tensor(raw.value) for raw in self.raws]

    def assign(self, hparams: Sequence[Any]) -> None:
        """Sets the raw values."""
        for raw, value in zip(self.raws, hparams, strict=True):
            raw.assign(value)

    def clip(self) -> None:
        """Moves raw values that left their bounds back to them."""
        for h in self:
            h.clip()

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Returns a list in the order of the hyperparameters as a record."""
        return dict(zip(self.names, values, strict=True))

    def values(self, hparams: Sequence[tf.Tensor]) -> list[np.ndarray]:
        """Returns the values of λ, a list of raw tensors."""
        return [
            h.transform.value(raw).numpy() for h, raw in self._pairs(hparams)
        ]

    def means(self, hparams: Sequence[tf.Tensor]) -> dict[str, float]:
        """Returns the mean of each hyperparameter's values, for logs."""
        each = zip(self, self.values(hparams), strict=True)
        return {f"{h.name}/mean": float(x.mean()) for h, x in each}

    def deviations(self, hparams: Sequence[tf.Tensor]) -> dict[str, float]:
        """Returns the standard deviations of the hyperparameters' values."""
        each = zip(self, self.values(hparams), strict=True)
        return {f"{h.name}/std": float(x.std()) for h, x in each}

    # ---- hooks; see `Hyperparameter`

    def batch(self, hparams: list[tf.Tensor], batch: Batch) -> Batch:
        """Returns the minibatch that training sees."""
        for h, raw in self._pairs(hparams):
            batch = h.batch(raw, batch)
            if not isinstance(batch, Batch):
                raise _of_hook(h, "batch", "a `Batch`", batch)
        return batch

    def outputs(self, hparams: list[tf.Tensor], y_pred: Any) -> Any:
        """Returns the outputs that the training loss sees, with their masks."""
        for h, raw in self._pairs(hparams):
            y_pred = _with_masks(y_pred, h.outputs(raw, y_pred))
        return y_pred

    def loss(
        self,
        hparams: list[tf.Tensor],
        loss: tf.Tensor,
        batch: Batch,
        y_pred: Any,
        params: dict[int, Any],
    ) -> tf.Tensor:
        """Returns the training loss, penalties included.

        Args:
            hparams: list of tensors λ.
            loss: scalar, the model's own loss.
            batch: what training sees.
            y_pred: the outputs that the loss sees.
            params: dict from the id of a `keras.Variable` to its tensor.
        """
        for h, raw in self._pairs(hparams):
            loss = _scalar(h, "loss", h.loss(raw, loss, batch, y_pred))
        for h, raw in self._pairs(hparams):
            penalty = _scalar(h, "penalty", h.penalty(raw, params))
            loss += tf.cast(penalty, loss.dtype)
        return loss

    def number(
        self,
        hparams: list[tf.Tensor],
        name: str,
        variable: keras.Variable,
        number: Any,
        t: tf.Tensor,
    ) -> Any:
        """Returns one of the optimizer's numbers, for one variable."""
        for h, raw in self._pairs(hparams):
            number = h.number(raw, name, variable, number, t)
        return number

    def start(
        self, hparams: list[tf.Tensor], params: dict[int, Any]
    ) -> dict[int, Any]:
        """Returns the first weights of a training."""
        return self._mapped("start", hparams, params)

    def weights(
        self, hparams: list[tf.Tensor], params: dict[int, Any]
    ) -> dict[int, Any]:
        """Returns the weights that the model computes with."""
        return self._mapped("weights", hparams, params)

    def params(
        self, hparams: list[tf.Tensor], weights: dict[int, Any]
    ) -> dict[int, Any]:
        """Returns parameters for which `weights` are the model's weights."""
        for h, raw in reversed(self._pairs(hparams)):
            weights = h.params(raw, weights)
        return weights

    # ---- inside

    def _pairs(
        self, hparams: Sequence[tf.Tensor]
    ) -> list[tuple[Hyperparameter, tf.Tensor]]:
        return list(zip(self._each, hparams, strict=True))

    def _mapped(
        self,
        hook: str,
        hparams: list[tf.Tensor],
        params: dict[int, Any],
    ) -> dict[int, Any]:
        for h, raw in self._pairs(hparams):
            before, params = params, getattr(h, hook)(raw, params)
            if not isinstance(params, dict) or params.keys() != before.keys():
                expected = "a dict with the keys of `params`"
                raise _of_hook(h, hook, expected, params)
        return params

    def _check_initialized(self) -> None:
        for h in self:
            if not hasattr(h, "bounds"):
                raise TypeError(
                    f"The kind {type(h).__name__} has no name and bounds. Call "
                    "`super().__init__(name, bounds)` in its `__init__`."
                )

    def _check_names(self) -> None:
        if not self._each:
            raise ValueError(NONE_GIVEN)
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError(
                "Invalid value for argument `hyperparameters`. Expected unique "
                f"names. Received: names={names}. Pass `name=` to tell them "
                "apart."
            )
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    "Invalid value for argument `name`. Expected letters, "
                    f"digits, '_', '.' and '-'. Received: name={name!r}."
                )

    def _check_none_is_replaced(self) -> None:
        for k, later in enumerate(self._each):
            for earlier in self._each[:k]:
                if later.replaces() & earlier.acts_at():
                    raise ValueError(
                        "Invalid value for argument `hyperparameters`. "
                        "Expected kinds that leave each other's work as it is. "
                        f"Received: '{later.name}', which replaces what "
                        f"'{earlier.name}' does for some of the same weights. "
                        "Use one of them, give them other `layers`, or (first "
                        "weights) the other order."
                    )


def _scalar(h: Hyperparameter, hook: str, found: Any) -> Any:
    """Returns what a hook returned.

    Raises:
        TypeError: if that is no scalar.
    """
    is_number = isinstance(found, float | int | np.number)
    is_number |= tf.is_tensor(found)
    if not is_number or getattr(found, "shape", ()) != ():
        raise _of_hook(h, hook, "a scalar tensor", found)
    return found


def _of_hook(
    h: Hyperparameter, hook: str, expected: str, found: Any
) -> TypeError:
    """Returns the error of a hook that returned something else."""
    return TypeError(
        f"`{hook}` of the hyperparameter '{h.name}', {type(h).__name__}, "
        f"returned what it should not. Expected {expected}. "
        f"Received: {found!r}."
    )


def _with_masks(before: Any, after: Any) -> Any:
    """Returns outputs with the masks of the outputs that they were made of.

    As they are where there are more or fewer than before.
    """
    pairs = tf.nest.flatten(before), tf.nest.flatten(after)
    if len(pairs[0]) != len(pairs[1]):
        return after
    masked = [
        keras_internals.carry_mask(a, b) for a, b in zip(*pairs, strict=True)
    ]
    return tf.nest.pack_sequence_as(after, masked)


def check_given(hyperparameters: Any) -> None:
    """Checks the argument `hyperparameters` of `compile`.

    Raises:
        TypeError: if it is neither a list of hyperparameters nor a word.
        ValueError: if it is another word than "auto".
    """
    if isinstance(hyperparameters, str):
        if hyperparameters != "auto":
            raise ValueError(
                "Invalid value for argument `hyperparameters`. Expected a list "
                "of kinds, such as [keras_drmad.hyperparameters.L2()], or "
                f"'auto'. Received: hyperparameters={hyperparameters!r}."
            )
    elif not isinstance(hyperparameters, Sequence) or not all(
        isinstance(h, Hyperparameter) for h in hyperparameters
    ):
        raise TypeError(
            "Invalid type for argument `hyperparameters`. Expected a list of "
            "objects from `keras_drmad.hyperparameters`, such as "
            "[L2(per='input')], or 'auto'. "
            f"Received: hyperparameters={hyperparameters!r}."
        )
