"""Tables of what Keras has: a row for each public class and function.

A row says one of three things. `Right`: a step is that of Keras's own
`train_step`, and its derivatives are those of differences. `Refused`: in words,
before any training. `NotApplicable`: why there is nothing to compare.
`conformance_test.py` runs the rows, those of layers
`conformance_of_layers_test.py`, and sees to it that none is missing;
`conformance.page` writes them down in `docs/supported.md`.
"""

import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import versions
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam import differences, self_check
from keras_drmad.seam.problem import ElementaryProblem


class Right(NamedTuple):
    """What trains as in Keras, with the derivatives of differences.

    Attributes:
        make: what the witness of its family takes.
        note: str, what a reader should know, or "".
    """

    make: Any
    note: str = ""


class Refused(NamedTuple):
    """What is refused before any training.

    Attributes:
        make: what the witness of its family takes.
        words: str, which the error has.
        why: str, for the page.
    """

    make: Any
    words: str
    why: str


class NotApplicable(NamedTuple):
    """What there is nothing to compare of.

    Attributes:
        why: str, for the page.
    """

    why: str


Row = Right | Refused | NotApplicable
OWN = "The base class of one's own."
HELPERS: dict[str, NotApplicable] = {
    name: NotApplicable("Makes objects from names and configurations, or back.")
    for name in ("deserialize", "get", "serialize")
}


def public(module: ModuleType) -> set[str]:
    """Returns the names of a module's public classes and functions.

    Each once: of several names the one that it was defined with.
    """
    names: dict[int, list[str]] = {}
    for name in dir(module):
        one = getattr(module, name)
        if not name.startswith("_") and not inspect.ismodule(one):
            names.setdefault(id(one), []).append(name)
    first = (getattr(module, known[0]).__name__ for known in names.values())
    return {
        defined if defined in known else known[0]
        for defined, known in zip(first, names.values(), strict=True)
    }


def named(kind: type, table: dict[str, Row]) -> list[str]:
    """Returns the names of the rows that say one thing."""
    return [name for name, row in table.items() if isinstance(row, kind)]


def here(module: ModuleType, rows: dict[str, Any]) -> dict[str, Any]:
    """Returns the rows of names that the installed version of Keras has."""
    return {name: row for name, row in rows.items() if hasattr(module, name)}


def assert_no_name_is_missing(
    module: ModuleType, table: dict[str, Row]
) -> None:
    """Asserts that a module has the names of its table, and no others.

    An older Keras may lack some. A Keras that is newer than the newest one
    with which the package was tested may have more: the test is then skipped,
    with their names.
    """
    names, this = public(module), versions.installed("keras")
    new = sorted(names - table.keys())
    newest = versions.NEWEST["keras"]
    if new and this > newest:
        pytest.skip(f"Keras {keras.__version__} has no row for {new}")
    assert not new
    assert this != newest or names == table.keys()


# ---- witnesses


def assert_right(
    model: keras.Model, batch: tuple, held_out: tuple, rtol: float = 1e-5
) -> None:
    """Asserts that a compiled model trains as in Keras, and by its slopes.

    Args:
        model: a compiled model.
        batch: the data (x, y) of a step.
        held_out: those of validation.
        rtol: float, of derivatives, where the model computes in float64.
    """
    train, held_out = Batch(*batch), Batch(*held_out)
    train, held_out = tf.nest.map_structure(
        lambda a: None if a is None else tf.convert_to_tensor(a),
        (train, held_out),
    )
    # Metrics are built by their first batch.
    model.test_step((train.x, train.y))
    problem = ElementaryProblem(model, model.optimizer, Together.none(), train)
    self_check.check_step(problem, train)
    # A user's model may be large, and all but smooth; these are not.
    with mock.patch.dict(differences.TOLERANCES, float64=rtol):
        self_check.check_slopes(problem, train, held_out)


def assert_all_right(
    names: Sequence[str], check: Callable[[Sequence[str]], Any]
) -> None:
    """Asserts that many are right at once; if not, says which are wrong.

    Args:
        names: of rows.
        check: a function of names, which raises if one of them is wrong.
    """
    try:
        check(names)
    except Exception as error:
        wrong = {}
        for name in names:
            try:
                check([name])
            except Exception as alone:
                wrong[name] = f"{type(alone).__name__}: {alone}"
        raise AssertionError(
            wrong or f"only together: {type(error).__name__}: {error}"
        ) from error


def momentum() -> keras.Optimizer:
    return keras.optimizers.SGD(0.1, momentum=0.5)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)
