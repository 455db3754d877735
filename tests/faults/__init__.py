"""Kinds of silent faults and obscure crashes, each with several members.

A member is a small program that ends in one of three ways: what it does is
right (it returns), it is refused in words before any training (`refused`), or
it is wrong (it raises). `python tests/walk_faults.py` walks all of them and
prints which; `faults_in_*_test.py` assert that none is wrong, in several files,
as the files of tests are what processes share.
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import assert_exact_hypergradient, relative_error
from small_models import VALIDATION, X, Y

# Of a `fit` whose trainings all take one path, to be compared with another one.
ONE_PATH = dict(
    x=X,
    y=Y,
    batch_size=8,
    validation_data=VALIDATION,
    initial_weights="same",
    verbose=0,
    seed=0,
)
RIGHT, REFUSED = "right", "refused"
PARTS = {
    "derivatives": ("derivatives",),
    "variables": ("sparse_gradients", "variables"),
    "weights": ("example_weights", "label_axis", "masks", "unreduced_losses"),
    "kinds": (
        "layer_choice",
        "learned_values",
        "mixed_dtypes",
        "nothing_differentiated",
        "out_of_range",
    ),
    "data": ("changed_models", "data"),
    "door": ("files", "meta_iterations", "metrics", "verdicts"),
    "rates": ("rates", "words"),
}
MEMBERS: list["Member"] = []


class Member(NamedTuple):
    """One program of a kind.

    Attributes:
        kind: str, what could go wrong, in a few words.
        name: str, which layer, loss, optimizer, shape.
        run: runs the program; returns `RIGHT` or `REFUSED`, or raises.
        module: str, the module of this package with the program.
    """

    kind: str
    name: str
    run: Callable[[], str]
    module: str


def members_of(part: str) -> list[Member]:
    """Returns the members of a part of the kinds, see `PARTS`."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    assert found == {name for names in PARTS.values() for name in names}
    for name in PARTS[part]:
        importlib.import_module(f"{__name__}.{name}")
    return [member for member in MEMBERS if member.module in PARTS[part]]


def name_of(member: Member) -> str:
    """Returns the name of a member for pytest."""
    return f"{member.kind}: {member.name}"


def members(
    kind: str, cases: dict[str, Any], *, lacking: Collection[str] = ()
) -> Callable:
    """Returns a decorator for a function of one argument.

    Args:
        kind: str, as for `Member`.
        cases: dict from the name of a member to the function's argument.
        lacking: names of members that the installed version of Keras has
            nothing for.
    """

    def decorate(function: Callable) -> Callable:
        for name, case in cases.items():
            if name in lacking:
                continue
            MEMBERS.append(
                Member(
                    kind,
                    name,
                    lambda case=case: function(case) or RIGHT,
                    function.__module__.rpartition(".")[2],
                )
            )
        return function

    return decorate


# ---- witnesses


def wrapped(model: keras.Model, optimizer: Any, loss: Any, kinds: list, **more):
    """Returns a compiled `DrMADModel` around a model, exact by default."""
    wrapper = kd.DrMADModel.from_model(model)
    options = {"hypergradient": kd.ReverseMode(), "jit_compile": False} | more
    wrapper.compile(optimizer, loss, hyperparameters=kinds, **options)
    return wrapper


def assert_trains_like_keras(
    make_model: Callable[[], keras.Model],
    make_optimizer: Callable[[], keras.Optimizer],
    loss: Any,
    kinds: list,
    x: Any,
    y: Any,
    *,
    rtol: float = 1e-9,
    plain: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    ours: Any = None,
    **fit: Any,
) -> tuple[Any, Any]:
    """Asserts that `fit(meta_iterations=0)` gives the weights of Keras's `fit`.

    Returns our model and Keras's, both at the end of it.

    Args:
        make_model: returns the same model each time.
        make_optimizer: returns a new optimizer.
        loss: of both.
        kinds: hyperparameters whose values should change nothing.
        x: the data.
        y: the targets.
        rtol: float, of all weights together.
        plain: other arguments of `compile` and `fit` of Keras alone, by
            "compile" and "fit".
        more: other arguments of our `compile`.
        ours: such a model of ours, already compiled; one is made by default.
        **fit: other arguments of both.
    """
    fit = {"shuffle": False, "verbose": 0} | fit
    plain = plain or {}
    theirs = make_model()
    # Keras's few steps take less time than to trace and rewrite them.
    theirs.compile(
        make_optimizer(),
        plain.get("loss", loss),
        **{"run_eagerly": True} | plain.get("compile", {}),
    )
    first = [np.array(w) for w in theirs.get_weights()]
    theirs.fit(x, y, **(fit | plain.get("fit", {})))
    if ours is None:
        options = more or {}
        ours = wrapped(make_model(), make_optimizer(), loss, kinds, **options)
    ours.fit(x, y, meta_iterations=0, **fit)
    expected, actual = theirs.get_weights(), ours.get_weights()
    assert any((a != b).any() for a, b in zip(first, expected, strict=True))
    for a, b in zip(actual, expected, strict=True):
        assert np.allclose(a, b, rtol=0, atol=rtol * (1 + np.abs(b).max())), (
            f"off Keras by {relative_error(actual, expected):.1e}"
        )
    return ours, theirs


def assert_right_by_differences(model: Any, x: Any, y: Any, **training) -> None:
    """Asserts that an exact hypergradient is that of differences."""
    assert_exact_hypergradient(model, x, y, **training)


def refused(call: Callable[[], Any], *words: str) -> str:
    """Asserts that a call is refused in words, and returns `REFUSED`.

    Args:
        call: what is refused, before any training.
        *words: what the words must name.
    """
    with pytest.raises((ValueError, TypeError)) as refusal:
        call()
    message = str(refusal.value)
    for word in words:
        assert word in message, message
    return REFUSED
