"""Lines of text, as summaries have them."""

import textwrap
from typing import Any

WIDTH = 104


def wrapped(text: str) -> list[str]:
    """Returns the lines of an indented paragraph."""
    return textwrap.wrap(
        text, WIDTH, initial_indent="   ", subsequent_indent="     "
    )


def span_of(values: Any, digits: int = 4) -> str:
    """Returns the lowest and the highest value, or the only one."""
    low, high = (f"{x:.{digits}g}" for x in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
