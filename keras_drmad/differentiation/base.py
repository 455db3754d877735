"""The contract of a differentiation."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.left_out import LeftOut
from keras_drmad.core.span import Span
from keras_drmad.core.state import Curvature, Problem, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked, Window


@dataclasses.dataclass(frozen=True)
class Differentiation(abc.ABC):
    """Two functions over a span of a training: walk forward, bring dλ home.

    `forward` takes the steps of the span and remembers what `backward` will
    need. `backward` takes the adjoint of the span's last state to the adjoint
    of its first state, and gathers the derivative with respect to λ. Where the
    derivative is exact, the derivatives of consecutive spans chain: the adjoint
    that comes out of a span goes into the span before.

    A differentiation is a frozen value. It holds options, no tensors; the walk
    is a tool that it is handed.

    Attributes:
        growth_limit: float. A walk backward ends early when the norm of the
            adjoint of the parameters exceeds this many times its first value.
            Infinite for exact walks, whose adjoint may rightly grow. One
            for each class, so no part of the key of compiled loops.
    """

    growth_limit: ClassVar[float] = float("inf")

    @property
    def curvature(self) -> Curvature:
        """The second derivative of the training loss that is used."""
        return HESSIAN

    @abc.abstractmethod
    def iterations(self, span: Span) -> np.ndarray:
        """Returns the iterations that `backward` visits, ascending."""

    def visits(self, span: Span) -> int:
        """Returns how many minibatches `backward` goes through, at most."""
        return len(self.iterations(span))

    @abc.abstractmethod
    def nbytes(self, T: int, state: State) -> float:
        """Returns the bytes that are kept at most, beside the training's own.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.
        """

    def leaving_out(self, slots: tuple[LeftOut, ...]) -> "Differentiation":
        """Returns the differentiation that keeps no values of some slots.

        A differentiation that keeps no slots, or needs these, returns itself.

        Args:
            slots: tuple of `LeftOut`, those whose values no derivative reads.
        """
        del slots
        return self

    def check(self, problem: Problem, s_0: State) -> None:
        """Checks that the differentiation can serve a problem.

        Raises:
            ValueError: if it cannot.
        """

    @abc.abstractmethod
    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        """Walks forward through a span.

        Args:
            walk: the tool.
            s: the state at the span's first iteration.
            hparams: list of tensors λ.
            span: the iterations.

        Raises:
            Diverged: if the training loss leaves the finite numbers.
        """

    def last_state(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> State:
        """Returns the state at a span's end, and remembers nothing.

        The state that `forward` would come to; the arguments and errors are
        those of `forward`.
        """
        return walk.through(s, hparams, span).state

    def window(
        self,
        walk: Walk,
        s: State,
        hparams: list[tf.Tensor],
        span: Span,
        held: Callable[[], tuple],
    ) -> Window | None:
        """Walks forward through a span, to a loss, and backward, at once.

        `None` where a differentiation does not do so in one call: then
        `forward` and `backward` serve. The arguments are those of
        `Walk.window`, but for `held`, a function that reads the minibatches.
        """
        del walk, s, hparams, span, held
        return None

    @abc.abstractmethod
    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        """Takes the adjoint of the span's last state back to its first one.

        May be called once: a walk backward frees what `walked` remembers.

        Args:
            walk: the tool.
            walked: what `forward` returned.
            adjoint: list of tensors, one for each floating leaf of the state.
        """
