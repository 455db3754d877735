"""What a training is made of: its states, its minibatches, its functions."""

import abc
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

Gradient = Any  # with respect to one parameter: a tensor, or `rows.Rows`


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


class Adjoint(NamedTuple):
    """Where a walk backward has come to.

    Attributes:
        adjoint: list of tensors a = ∂F/∂s_t, one for each floating leaf of the
            state.
        d_hparams: list of tensors dλ, as gathered so far.
        growth: scalar, the largest norm of the parameters' adjoint so far over
            the norm that the walk began with.
        steps: int32 scalar, the steps taken.
        goes_on: bool scalar, False once the growth passed its limit.
    """

    adjoint: list[tf.Tensor]
    d_hparams: list[tf.Tensor]
    growth: tf.Tensor
    steps: tf.Tensor
    goes_on: tf.Tensor


class Setting(NamedTuple):
    """What a step is given and leaves as it is.

    Attributes:
        hparams: list of tensors, the raw values λ of the hyperparameters.
        constants: list of tensors, the values of the other variables that a
            step reads and does not change: the learning rate, frozen weights.
    """

    hparams: list[tf.Tensor]
    constants: list[tf.Tensor]


class Steps(Protocol):
    """A training that can be walked forward, in states of whatever kind.

    Attributes:
        takes_any_size: bool, whether a step can be traced for minibatches
            whose size is not known before it runs.
    """

    takes_any_size: bool

    def at(self, constants: list[tf.Tensor]) -> "Steps":
        """Returns the training whose steps read these constants."""

    def constants(self) -> list[tf.Tensor]:
        """Returns what steps would read now, see `Setting`."""

    def holding(
        self, constants: list[tf.Tensor]
    ) -> contextlib.AbstractContextManager:
        """Returns a context in which steps read these constants.

        For those that steps read from variables nobody can pass: with it, a
        loop called later reads what an earlier loop read.
        """

    def metrics_state(self) -> list[tf.Tensor]:
        """Returns the state of metrics that have seen nothing."""

    def logs(self, metrics: list[tf.Tensor]) -> dict[str, Any]:
        """Returns the results of metrics in a state, by name."""

    def step(
        self, state: Any, hparams: list[tf.Tensor], batch: Any, metrics: Any
    ) -> tuple[Any, Any, tf.Tensor]:
        """Returns the next state, the metrics' new state and the loss."""


class Problem(Steps, Protocol):
    """A training whose steps can be differentiated, and whose end validated.

    Attributes:
        assigns_params: bool, whether the model's call assigns parameters, too.
        update_is_smooth: bool, whether `update` has a finite derivative at
            every point.
        unread_slots: tuple of int, the places of the slots whose values the
            derivative of a step does not depend on: with any numbers in these
            places the derivative is the same.
    """

    assigns_params: bool

    update_is_smooth: bool

    unread_slots: tuple[int, ...]

    def at(self, constants: list[tf.Tensor]) -> "Problem":
        """Returns the training whose steps read these constants."""

    def rules(self) -> contextlib.AbstractContextManager:
        """Returns a context whose operations have the problem's derivatives.

        Where these are other than TensorFlow's, for `vjp`. The problem's own
        functions need no such context; what differentiates their derivatives
        does.
        """

    def gradient(
        self, state: State, hparams: list[tf.Tensor], batch: Any
    ) -> tuple[list[Gradient], State]:
        """Returns the training gradient (as `state.params`), the state there.

        The state that the model's call left: with new buffers, and with the
        parameters that the call assigned, if there are any.
        """

    def outputs(
        self,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
        before_activation: bool,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], Callable]:
        """Returns the model's outputs z, new buffers, and L as function of z.

        The function takes tensors as z and returns the training loss; called
        with z itself it gives the loss of which `gradient` is the gradient.
        With `before_activation` z are the places before a last softmax or
        sigmoid.
        """

    def update(
        self,
        state: State,
        gradients: list[Gradient],
        hparams: list[tf.Tensor],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the parameters and slots after the optimizer's update."""

    def validation_loss(
        self,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
        metrics: Any,
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Returns the batch's mean loss, its size, the metrics' new state."""

    def carrying_validation_loss(
        self,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
        metrics: Any,
    ) -> tuple[tf.Tensor, tf.Tensor, Any, list[tf.Tensor]]:
        """Returns what `validation_loss` does, and the buffers after it."""


class Curvature(abc.ABC):
    """How the training gradient is differentiated once more."""

    @abc.abstractmethod
    def linearized(
        self,
        problem: Problem,
        state: State,
        hparams: list[tf.Tensor],
        batch: Any,
    ) -> tuple[list[Gradient], State, Callable]:
        """Returns what `Problem.gradient` does, and its transposed derivative.

        The last is a function of (d_g, d_params, d_buffers), of the floating
        leaves of the gradient and of the state after it. It returns the product
        of the curvature with d_g, and what the others add, a list as the
        state's floating leaves; and the mixed product, a list as `hparams`.
        """


class Wrapper(Protocol):
    """A frozen value that makes another training of a problem."""

    def problem(self, problem: Problem) -> Steps:
        """Returns the training that is walked in the problem's place."""
