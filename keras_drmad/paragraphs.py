"""Lines of text, as summaries have them."""

import textwrap
from typing import Any

WIDTH = 104


def wrapped(text: str) -> list[str]:
    """Returns the lines of an indented paragraph."""
    return textwrap.wrap(
        text, WIDTH, initial_indent="   ", subsequent_indent="     "
    )


def short(x: float, digits: int) -> str:
    """Returns a number to a few digits: 100 and 120, not 1e+02 and 1.2e+02."""
    text = f"{x:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(x) < 1e6 else text


def span_of(values: Any, digits: int = 4) -> str:
    """Returns the lowest and the highest value, or the only one."""
    low, high = (short(x, digits) for x in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
