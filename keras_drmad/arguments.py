"""Checks of arguments: one vocabulary for the whole package.

Each function takes an argument's name and value, and returns the value as a
plain Python object, or raises an error that says which argument is wrong, what
was expected, what was received and, as `advice`, what to do. True and False are
no numbers here, although Python takes them for 1 and 0.
"""

import difflib
import inspect
import math
import numbers
import re
from collections.abc import Sequence
from typing import Any

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


# ---- errors


def type_error(
    name: str, value: Any, expected: str, *, advice: str = ""
) -> TypeError:
    """Returns the error for an argument of a wrong type.

    Args:
        name: str, the argument.
        value: what was received.
        expected: str, for instance "a whole number".
        advice: str, a last sentence, what to do.
    """
    return TypeError(
        f"Invalid type for argument `{name}`. Expected {expected}. "
        f"Received: {name}={value!r}.{_after(advice)}"
    )


def value_error(
    name: str, value: Any, expected: str, *, advice: str = ""
) -> ValueError:
    """Returns the error for an argument of the right type and a wrong value.

    Args:
        name: str, the argument.
        value: what was received.
        expected: str, for instance "at least 1".
        advice: str, a last sentence, what to do.
    """
    return ValueError(
        f"Invalid value for argument `{name}`. Expected {expected}. "
        f"Received: {name}={value!r}.{_after(advice)}"
    )


class Refused(ValueError):
    """An error whose reason can be told without what was received.

    For what does not go together, such as a hyperparameter and an optimizer
    that has no number for the hyperparameter.

    Attributes:
        reason: str, a sentence.
    """

    def __init__(
        self, reason: str, *, received: str, advice: str, argument: str = ""
    ):
        """Initializes the error.

        Args:
            reason: str, a sentence.
            received: str, what was received.
            advice: str, a last sentence, what to do.
            argument: str, the argument that is to blame, if there is one.
        """
        head = f"Invalid value for argument `{argument}`. " if argument else ""
        super().__init__(f"{head}{reason} Received: {received}. {advice}")
        self.reason = reason


# ---- numbers


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number; a bool is no whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Returns whether a value is a number, inf and nan included."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole(
    name: str, value: Any, minimum: int | None = None, *, advice: str = ""
) -> int:
    """Returns an argument that is a whole number.

    Args:
        name: str, the argument.
        value: what was received.
        minimum: int, the least number allowed; `None` for any number.
        advice: str, a last sentence for the errors, what to do.

    Raises:
        TypeError: if the value is not a whole number.
        ValueError: if the value is below the minimum.
    """
    if not is_whole(value):
        raise type_error(name, value, "a whole number", advice=advice)
    if minimum is not None and value < minimum:
        raise value_error(
            name, int(value), f"at least {minimum}", advice=advice
        )
    return int(value)


def real(
    name: str, value: Any, above: float | None = None, *, advice: str = ""
) -> float:
    """Returns an argument that is a finite number.

    Args:
        name: str, the argument.
        value: what was received.
        above: float, which the number has to exceed; `None` for any number.
        advice: str, a last sentence for the errors, what to do.

    Raises:
        TypeError: if the value is not a number.
        ValueError: if the value is not finite, or not above `above`.
    """
    if not is_real(value):
        raise type_error(name, value, "a number", advice=advice)
    if not math.isfinite(value) or (above is not None and value <= above):
        expected = "a finite number"
        if above is not None:
            expected += f" above {above:g}"
        raise value_error(name, value, expected, advice=advice)
    return float(value)


def positive(
    name: str,
    value: Any,
    *,
    expected: str = "a positive number",
    advice: str = "",
) -> float:
    """Returns an argument that is a positive, finite number.

    Args:
        name: str, the argument.
        value: what was received.
        expected: str, what else the argument may be is said here.
        advice: str, a last sentence for the errors, what to do.

    Raises:
        TypeError: if the value is not a number.
        ValueError: if the value is not positive, or not finite.
    """
    if not is_real(value):
        raise type_error(name, value, expected, advice=advice)
    if not 0 < value < math.inf:
        raise value_error(name, value, expected, advice=advice)
    return float(value)


def part(name: str, value: Any, *, advice: str = "") -> int | float:
    """Returns an argument that is a count of steps, or a fraction of them.

    Args:
        name: str, the argument.
        value: what was received: a count (int), or a fraction of a training's
            steps (float) in (0, 1].
        advice: str, a last sentence for the errors, what to do.

    Returns:
        An int for a count, a float for a fraction.

    Raises:
        TypeError: if the value is not a number.
        ValueError: if the value is not positive, or is a fraction above 1.
    """
    if not is_real(value):
        expected = "a count (int) or a fraction of the training's steps (float)"
        raise type_error(name, value, expected, advice=advice)
    if not (value > 0 and (is_whole(value) or value <= 1)):
        expected = "a count of at least 1, or a fraction in (0, 1]"
        raise value_error(name, value, expected, advice=advice)
    return int(value) if is_whole(value) else float(value)


def count_of(name: str, value: int | float, T: int) -> int:
    """Returns how many of T steps an argument that `part` has checked means.

    Args:
        name: str, the argument.
        value: int, a count; or float, a fraction of T, of which at least one
            step is taken.
        T: int, the number of steps of a training.

    Raises:
        ValueError: if the count is more than T.
    """
    count = int(value) if is_whole(value) else max(1, round(value * T))
    if count > T:
        raise value_error(
            name,
            value,
            f"at most the number of training steps, {T}",
            advice="Train for more steps, or give less.",
        )
    return count


# ---- words and the rest


def no_others(
    function: str, others: dict[str, Any], known: Sequence[str]
) -> None:
    """Refuses arguments that a function does not have.

    Args:
        function: str, the name of the function.
        others: dict, what was received beyond those that it has.
        known: the names of those that it has.

    Raises:
        TypeError: if there are others.
    """
    for name, value in others.items():
        near = difflib.get_close_matches(name, known, 1)
        advice = f"Did you mean `{near[0]}`? " if near else ""
        raise TypeError(
            f"Invalid argument `{name}` of `{function}`. Expected "
            f"{', '.join(known)}. Received: {name}={value!r}. {advice}Leave "
            "it out where it is not needed."
        )


def choice(
    name: str, value: Any, choices: Sequence[Any], *, advice: str = ""
) -> Any:
    """Returns an argument that is one of several words.

    Args:
        name: str, the argument.
        value: what was received.
        choices: the words, or other values such as `None`.
        advice: str, a last sentence for the error, what to do.

    Raises:
        ValueError: if the value is another one.
    """
    if is_whole(value):
        value = int(value)  # of NumPy's integers, too
    # By type too: 1 is no True, and an array has no single answer to ==.
    if not any(isinstance(value, type(c)) and value == c for c in choices):
        words = ", ".join(map(repr, choices))
        expected = words if len(choices) == 1 else f"one of {words}"
        raise value_error(name, value, expected, advice=advice)
    return value


def boolean(name: str, value: Any, *, advice: str = "") -> bool:
    """Returns an argument that is True or False.

    Args:
        name: str, the argument.
        value: what was received.
        advice: str, a last sentence for the error, what to do.

    Raises:
        TypeError: if the value is neither.
    """
    if not isinstance(value, bool):
        raise type_error(name, value, "True or False", advice=advice)
    return value


def seed(name: str, value: Any, *, advice: str = "") -> int | None:
    """Returns an argument that is a seed, or `None` for a seed drawn at random.

    Args:
        name: str, the argument.
        value: what was received: a whole number of at least 0, or `None`.
        advice: str, a last sentence for the errors, what to do.

    Raises:
        TypeError: if the value is neither a whole number nor `None`.
        ValueError: if the value is negative.
    """
    if value is None:
        return None
    if not is_whole(value):
        raise type_error(name, value, "a whole number or None", advice=advice)
    return whole(name, value, 0, advice=advice)


def nbytes(name: str, value: Any, *, advice: str = "") -> int:
    """Returns an argument that is an amount of memory, in bytes.

    Args:
        name: str, the argument.
        value: what was received: bytes (int), or text such as "64MB" or
            "1.5 GB" (decimal).
        advice: str, a last sentence for the error, what to do.

    Raises:
        ValueError: if the value is not a positive amount.
    """
    is_amount = isinstance(value, str) or is_whole(value)
    text = str(value).strip().upper() if is_amount else ""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)B?", text)
    amount = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if amount <= 0:
        expected = "bytes, or text such as '64MB' or '1.5GB'"
        raise value_error(name, value, expected, advice=advice)
    return amount


def instance(
    name: str,
    value: Any,
    kinds: type | tuple[type, ...],
    expected: str,
    *,
    advice: str = "",
) -> Any:
    """Returns an argument that is an object of one of several classes.

    Args:
        name: str, the argument.
        value: what was received.
        kinds: a class, or a tuple of classes.
        expected: str, the classes in words, such as "a `keras.Model`".
        advice: str, a last sentence for the error, what to do.

    Raises:
        TypeError: if the value is of another class.
    """
    if not isinstance(value, kinds):
        raise type_error(name, value, expected, advice=advice)
    return value


def keras_file(name: str, path: Any) -> None:
    """Checks that a whole model would be saved in Keras's own format.

    Args:
        name: str, the argument.
        path: what was received.

    Raises:
        ValueError: if it is a path of an HDF5 file.
    """
    if str(path).endswith((".h5", ".hdf5")):
        raise value_error(
            name,
            str(path),
            "a path that ends with '.keras': HDF5 has no place for "
            "hyperparameters",
            advice="Use 'model.keras' to save all, 'model.weights.h5' with "
            "`save_weights`, or save the elementary model alone: "
            "`model.elementary_model.save(...)`.",
        )


def _after(advice: str) -> str:
    return f" {advice}" if advice else ""


# ---- whom warnings blame


def users_level() -> int:
    """Returns the `stacklevel` of the line outside of package and Keras."""
    inside = ("keras_drmad", "keras")
    names = [frame.frame.f_globals["__name__"] for frame in inspect.stack(0)]
    # The first frame is this one, which `warnings.warn` does not count.
    outside = [name.split(".")[0] not in inside for name in names[1:]]
    return outside.index(True) + 1 if any(outside) else 1
