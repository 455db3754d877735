"""Checks of arguments: what passes, as what it comes back, what is refused."""

import ast
import math
import pathlib
import sys

import numpy as np
import pytest

from keras_drmad import arguments

INFINITE = [math.inf, -math.inf, math.nan, np.float32("nan")]
NO_NUMBERS = [None, "1", [1], 1j, True, False, np.True_, np.array([1])]


def same(found, expected):
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "function, given, expected",
    [
        (arguments.whole, 3, 3),
        (arguments.whole, -3, -3),
        (arguments.whole, np.int64(3), 3),
        (arguments.whole, np.uint8(3), 3),
        (arguments.real, 3, 3.0),
        (arguments.real, -0.5, -0.5),
        (arguments.real, np.float32(0.5), 0.5),
        (arguments.positive, 1, 1.0),
        (arguments.positive, 5e-324, 5e-324),
        (arguments.positive, np.int32(2), 2.0),
        (arguments.part, 1, 1),
        (arguments.part, np.int64(7), 7),
        (arguments.part, 1.0, 1.0),
        (arguments.part, np.float32(0.5), 0.5),
        (arguments.boolean, True, True),
        (arguments.boolean, False, False),
        (arguments.seed, None, None),
        (arguments.seed, 0, 0),
        (arguments.seed, np.int32(4), 4),
        (arguments.nbytes, 800, 800),
        (arguments.nbytes, np.int64(800), 800),
        (arguments.nbytes, "800", 800),
        (arguments.nbytes, " 1.5 gb ", 1_500_000_000),
        (arguments.nbytes, "3k", 3000),
    ],
)
def test_what_passes(function, given, expected):
    same(function("x", given), expected)


REFUSED = [
    *((TypeError, arguments.whole, x) for x in (*NO_NUMBERS, 1.0, 2.5)),
    *((TypeError, arguments.real, x) for x in NO_NUMBERS),
    *((TypeError, arguments.positive, x) for x in NO_NUMBERS),
    *((TypeError, arguments.part, x) for x in NO_NUMBERS),
    *((ValueError, arguments.real, x) for x in INFINITE),
    *((ValueError, arguments.positive, x) for x in (*INFINITE, 0, -1.0)),
    *((ValueError, arguments.part, x) for x in (*INFINITE, 0, -1, 0.0, 1.5)),
    *((TypeError, arguments.boolean, x) for x in (None, 0, 1, "yes", np.True_)),
    *((TypeError, arguments.seed, x) for x in (0.5, "0", True)),
    (ValueError, arguments.seed, -1),
    *(
        (ValueError, arguments.nbytes, x)
        for x in (0, -1, True, None, "", "0MB", "-3MB", "MB", "64MiB", "1 PB")
    ),
]


@pytest.mark.parametrize("kind, function, given", REFUSED)
def test_what_is_refused(kind, function, given):
    with pytest.raises(kind) as error:
        function("x", given, advice="Use 1 instead.")
    text = str(error.value)
    what = "type" if kind is TypeError else "value"
    assert text.startswith(f"Invalid {what} for argument `x`. Expected ")
    assert text.endswith(f"Received: x={given!r}. Use 1 instead.")


def test_without_advice_the_message_ends_with_what_was_received():
    with pytest.raises(TypeError, match=r"a whole number\. Received: x=0.5\.$"):
        arguments.whole("x", 0.5)


@pytest.mark.parametrize("minimum", [0, 1, 2])
def test_the_least_whole_number(minimum):
    same(arguments.whole("x", minimum, minimum), minimum)
    with pytest.raises(ValueError, match=f"at least {minimum}") as error:
        arguments.whole("x", np.int64(minimum - 1), minimum)
    assert f"x={minimum - 1}." in str(error.value)


def test_a_number_above_another():
    same(arguments.real("x", 1.001, above=1), 1.001)
    for value in (1, 0.5, -math.inf, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"a finite number above 1\."):
            arguments.real("x", value, above=1)


def test_what_else_a_positive_number_may_be():
    expected = "a positive number or a schedule"
    for kind, value in ((TypeError, "big"), (ValueError, 0)):
        with pytest.raises(kind, match=f"Expected {expected}"):
            arguments.positive("x", value, expected=expected)


@pytest.mark.parametrize(
    "part, T, count",
    [
        (1, 1, 1),
        (3, 7, 3),
        (7, 7, 7),
        (1.0, 7, 7),
        (0.5, 8, 4),
        (0.001, 8, 1),  # at least one step
        (np.int64(3), 7, 3),
    ],
)
def test_the_count_of_a_part(part, T, count):
    same(arguments.count_of("x", part, T), count)


def test_a_part_of_more_than_there_are_steps():
    with pytest.raises(ValueError, match=r"`x`.* steps, 7\..*=8\. Train for"):
        arguments.count_of("x", 8, 7)


def test_choices():
    for value in ("a", "b", None):
        assert arguments.choice("x", value, ("a", "b", None)) is value
    for value in ("c", 1, ["a"], np.array(["a", "b"])):
        with pytest.raises(ValueError, match="one of 'a', 'b', None"):
            arguments.choice("x", value, ("a", "b", None))
    # Numbers are no bools, although Python says that 1 == True.
    for value in (1, 0, 1.0):
        with pytest.raises(ValueError, match="one of True, False, 'auto'"):
            arguments.choice("x", value, (True, False, "auto"))


def test_a_single_choice_is_not_one_of_several():
    with pytest.raises(ValueError, match="Expected 1. Received: x=2. Why."):
        arguments.choice("x", 2, (1,), advice="Why.")


def test_choices_that_are_numbers_of_numpy():
    same(arguments.choice("x", np.int64(0), ("auto", 0, 1)), 0)
    with pytest.raises(ValueError, match=r"one of 'auto', 0, 1\. .*x=2\."):
        arguments.choice("x", np.int64(2), ("auto", 0, 1))


def test_instances():
    assert arguments.instance("x", "a", (str, bytes), "text") == "a"
    with pytest.raises(TypeError, match=r"Expected text\. Received: x=3\. Try"):
        arguments.instance("x", 3, (str, bytes), "text", advice="Try 'a'.")


def test_a_reason_without_what_was_received():
    error = arguments.Refused(
        "A needs B.", received="C", advice="Use D.", argument="e"
    )
    assert isinstance(error, ValueError)
    assert str(error) == (
        "Invalid value for argument `e`. A needs B. Received: C. Use D."
    )
    assert error.reason == "A needs B."
    error = arguments.Refused("A needs B.", received="C", advice="Use D.")
    assert str(error) == "A needs B. Received: C. Use D."


def test_imports_nothing_but_the_standard_library():
    tree = ast.parse(pathlib.Path(arguments.__file__).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    tops = {name.partition(".")[0] for name in imported}
    assert tops <= sys.stdlib_module_names
