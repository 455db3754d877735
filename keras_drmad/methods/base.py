"""The contract of a method, and the checks that methods share."""

import abc
import inspect
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.core.state import State
from keras_drmad.differentiation import Trajectory
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.methods import memory as memory_lib

CURVATURES = ("hessian", "gauss_newton")
FOR_ANY = 10**9  # stands for a number of iterations that is not known yet


class Method(abc.ABC):
    """A method to compute hypergradients."""

    @abc.abstractmethod
    def trajectory(self, T: int) -> Trajectory:
        """Returns the way back of a training of T iterations.

        Raises:
            ValueError: if an option does not fit T.
        """

    def nbytes(self, T: int, state: State) -> float:
        """Returns the bytes that are kept for the way back.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.
        """
        return self.trajectory(T).nbytes(T, state)

    def resolve(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Hyperparameter] = (),
    ) -> tuple["Method", str]:
        """Returns the method that serves a training, and why it was chosen.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.
            hyperparameters: those that are to be tuned.

        Returns:
            A method with all options fixed, and a reason in words; itself and
            nothing where there is no choice to make.

        Raises:
            ValueError: if nothing fits into the memory allowed.
        """
        del T, state, hyperparameters
        return self, ""

    def check(
        self,
        optimizer: keras.Optimizer,
        hyperparameters: Sequence[Hyperparameter],
    ) -> None:
        """Checks that the method can differentiate a training.

        Raises:
            ValueError: if it cannot see one of the hyperparameters, or cannot
                walk back through the optimizer.
        """

    def refuse_early(
        self,
        hyperparameters: Sequence[Hyperparameter],
        last: float | int | None,
        T: int,
    ) -> None:
        """Refuses what acts before the part of a training that is seen.

        Args:
            hyperparameters: those to be tuned.
            last: the part: a count, a fraction of T, or `None` for all.
            T: int, the number of iterations; `FOR_ANY` where it is not known
                yet, and a fraction alone decides.

        Raises:
            ValueError: if there are any.
        """
        if last is None or (T == FOR_ANY and isinstance(last, int)):
            return
        L = count_of("last", last, T)
        if T > L:
            early = [h for h in hyperparameters if h.reverse_steps(T) > 1]
            self.refuse(early, f"the last steps of a training (last={last})")

    def refuse(self, blind_to: Sequence[Hyperparameter], sees: str) -> None:
        """Refuses hyperparameters that the method cannot see.

        Args:
            blind_to: those that it cannot.
            sees: str, what it sees, in words.

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
                "walks back to the start for them.",
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
        arguments = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_config().items()
            if value != defaults[name].default
        )
        return f"{type(self).__name__}({arguments})"


def checked_part(name: str, part: Any) -> int | float:
    """Returns an argument that is a count or a fraction of T, as a number.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not positive, or a fraction above 1.
    """
    is_number = isinstance(part, numbers.Real)
    if not is_number or isinstance(part, bool):
        raise TypeError(
            f"Invalid type for argument `{name}`. Expected a count (int) or a "
            "fraction of the training's steps (float). "
            f"Received: {name}={part!r}."
        )
    is_count = isinstance(part, numbers.Integral)
    if not (part > 0 and (is_count or part <= 1)):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a count of at "
            f"least 1, or a fraction in (0, 1]. Received: {name}={part!r}. "
            "Use 0.1 for one reverse step for ten forward ones."
        )
    return int(part) if is_count else float(part)


def count_of(name: str, part: float | int, T: int) -> int:
    """Returns a count, given as one or as a fraction of T.

    Raises:
        ValueError: if it is more than T.
    """
    if isinstance(part, numbers.Integral):
        count = int(part)
    else:
        count = max(1, round(part * T))
    if count > T:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected at most the number "
            f"of training steps, {T}. Received: {name}={part}. Train for more "
            "steps, or give less."
        )
    return count


def check_whole(name: str, count: Any) -> None:
    """Checks an argument that is a count.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is below 1.
    """
    if not isinstance(count, numbers.Integral) or isinstance(count, bool):
        raise TypeError(
            f"Invalid type for argument `{name}`. Expected a whole number. "
            f"Received: {name}={count!r}."
        )
    if count < 1:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected at least 1. "
            f"Received: {name}={count}."
        )


def check_choice(name: str, choice: Any, choices: Sequence[str]) -> None:
    """Checks an argument that is one of several words.

    Raises:
        ValueError: if it is not.
    """
    if choice not in choices:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected one of "
            f"{', '.join(map(repr, choices))}. Received: {name}={choice!r}."
        )


def check_bool(name: str, value: Any) -> None:
    """Checks an argument that is True or False.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(value, bool):
        raise TypeError(
            f"Invalid type for argument `{name}`. Expected True or False. "
            f"Received: {name}={value!r}."
        )


def too_little(memory: Any, needed: float) -> ValueError:
    """Returns the error for a budget that holds nothing."""
    return ValueError(
        "Invalid value for argument `memory`. Expected at least "
        f"{memory_lib.in_words(needed)} for this model and length of training. "
        f"Received: memory={memory!r}. Allow more, or train for fewer steps; "
        "`keras_drmad.DrMAD()` keeps two copies of the weights, "
        "`keras_drmad.OneStep()` none."
    )
