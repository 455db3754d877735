"""The contract of a method, and what methods share."""

import abc
import inspect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from keras_drmad import arguments
from keras_drmad.core.curvature import HESSIAN, GaussNewton
from keras_drmad.core.state import Curvature, State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.methods import memory as memory_lib

CURVATURES: dict[str, Curvature] = {
    "hessian": HESSIAN,
    "gauss_newton": GaussNewton(),
}


class Tuned(Protocol):
    """What methods ask of a hyperparameter; see `Hyperparameter`."""

    name: str

    @property
    def acts_on(self) -> str:
        """Where training feels the hyperparameter."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The optimizer's numbers in whose place the hyperparameter is."""

    @property
    def count(self) -> int:
        """The number of values."""

    def reverse_steps(self, T: int) -> int:
        """Returns how many reverse steps it takes to see every value."""

    def acts_from(self, T: int) -> np.ndarray:
        """Returns the iteration from which on each value acts, `(count,)`."""


class Chosen(NamedTuple):
    """The method that serves a training.

    Attributes:
        method: `Method`, all its options fixed.
        why: str, why it was chosen; empty where there was no choice.
    """

    method: "Method"
    why: str


class Method(abc.ABC):
    """A method to compute hypergradients."""

    @property
    def is_exact(self) -> bool:
        """Whether it is exact but for rounding, where there are derivatives.

        Not of a method that makes a choice: ask the one that `choose` returns.
        """
        return False

    @abc.abstractmethod
    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        """Returns the differentiation of a training.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.
            hyperparameters: those that are to be tuned.
            optimizer: the elementary optimizer; some methods need it.

        Raises:
            ValueError: if an option does not fit T, or nothing fits into the
                memory allowed.
        """

    def choose(
        self, T: int, state: State, hyperparameters: Sequence[Tuned] = ()
    ) -> Chosen:
        """Returns the method that serves a training, and why.

        The arguments are those of `bind`. A method that makes no choice
        returns itself.

        Raises:
            ValueError: as `bind`.
        """
        del T, state, hyperparameters
        return Chosen(self, "")

    def nbytes(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> float:
        """Returns the bytes that are kept, given the arguments of `bind`."""
        bound = self.bind(T, state, hyperparameters, optimizer)
        return bound.nbytes(T, state)

    def check(self, optimizer: Any, hyperparameters: Sequence[Tuned]) -> None:
        """Checks that the method can differentiate a training.

        Args:
            optimizer: the elementary optimizer.
            hyperparameters: those that are to be tuned.

        Raises:
            ValueError: if the method cannot see one of the hyperparameters, or
                cannot walk backward through the optimizer.
        """

    def refuse_early(
        self,
        hyperparameters: Iterable[Tuned],
        last: float | int | None,
        T: int | None = None,
    ) -> None:
        """Refuses what acts before the part of a training that is seen.

        Args:
            hyperparameters: those to be tuned.
            last: the part: a count, a fraction of T, or `None` for all.
            T: int, the number of iterations; `None` where T is not known yet,
                and a fraction alone decides.

        Raises:
            ValueError: if there are any.
        """
        if last is None or (T is None and isinstance(last, int)):
            return
        steps = T or 10**9  # any long training
        if steps > arguments.count_of("last", last, steps):
            early = [h for h in hyperparameters if h.reverse_steps(steps) > 1]
            self.refuse(early, f"the last steps of a training (last={last})")

    def refuse(self, blind_to: Sequence[Tuned], sees: str) -> None:
        """Refuses hyperparameters that the method cannot see.

        Args:
            blind_to: those hyperparameters.
            sees: str, what the method sees, in words.

        Raises:
            ValueError: if there are any.
        """
        if blind_to:
            names = [h.name for h in blind_to]
            raise arguments.Refused(
                f"The method {self!r} sees only {sees}.",
                argument="hypergradient",
                received=f"the hyperparameters {names}, of which it would see "
                "nothing, or not all",
                advice="Use `keras_drmad.ReverseMode()`, or `DrMAD()`, which "
                "walks backward to the start for them.",
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        """Returns the method with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        given = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_config().items()
            if value != defaults[name].default
        )
        return f"{type(self).__name__}({given})"


def accumulated(optimizer: Any) -> int:
    """Returns how many steps' gradients an optimizer sums up to move once."""
    return getattr(optimizer, "gradient_accumulation_steps", None) or 1


def too_little(memory: Any, needed: float, allowed: float) -> ValueError:
    """Returns the error for a budget that holds nothing.

    Args:
        memory: what the user gave; `None` for half of what is free.
        needed: float, the bytes that a training takes.
        allowed: float, the bytes that it may take.
    """
    received = f"memory={memory!r}"
    if memory is None:
        words = memory_lib.in_words(allowed)
        received = f"memory=None, which is half of what is free, {words}"
    return ValueError(
        "Invalid value for argument `memory`. Expected at least "
        f"{memory_lib.in_words(needed)} for this model and length of training. "
        f"Received: {received}. Allow more, or train for fewer steps; "
        "`keras_drmad.DrMAD()` keeps two copies of the weights, "
        "`keras_drmad.OneStep()` none."
    )
