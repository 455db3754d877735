"""What a training is made of: its states, its minibatches, its functions."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class Batch(NamedTuple):
    """A minibatch.

    Attributes:
        x: inputs, nested tensors with the examples on the first axis.
        y: targets, nested, or `None`.
        sample_weight: weights of the examples, nested, or `None`.
        index: `(batch_size,)` integers, the places of the examples in the
            training arrays; `None` where they are not known.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    index: Any = None


class State(NamedTuple):
    """The state s_t of an elementary training.

    Attributes:
        params: list of tensors, the elementary parameters w_t.
        slots: list of tensors, the optimizer's own variables (velocities,
            moments, the count of iterations).
        buffers: list of tensors, what else training changes (moving averages
            of BatchNormalization, states of random generators).
    """

    params: list[tf.Tensor]
    slots: list[tf.Tensor]
    buffers: list[tf.Tensor]


class Problem(Protocol):
    """What the walks need to know of an elementary training.

    Attributes:
        update_is_smooth: bool, whether `update` has a finite derivative at
            every point.
    """

    update_is_smooth: bool

    def gradient(
        self, state: State, hparams: list[tf.Tensor], batch: Any
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the training gradient (as `state.params`), new buffers."""

    def outputs(
        self, state: State, hparams: list[tf.Tensor], batch: Any
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], Callable]:
        """Returns the model's outputs z, new buffers, and L as function of z.

        The function takes tensors as z and returns the training loss; called
        with z itself it gives the loss of which `gradient` is the gradient.
        """

    def update(
        self,
        state: State,
        gradients: list[tf.Tensor],
        hparams: list[tf.Tensor],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the parameters and slots after the optimizer's update."""

    def step(
        self, state: State, hparams: list[tf.Tensor], batch: Any, metrics: Any
    ) -> tuple[State, Any, tf.Tensor]:
        """Returns the next state, the metrics' new state and the loss."""

    def validation_loss(
        self,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
        metrics: Any,
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Returns the batch's mean loss, its size, the metrics' new state."""
