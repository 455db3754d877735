"""Bytes: how many a user allows, how many the machine has."""

import os
import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def checked_bytes(memory: int | str) -> int:
    """Returns an amount of memory in bytes.

    Args:
        memory: bytes (int), or text such as "64MB" or "1.5 GB" (decimal).

    Raises:
        ValueError: if it is not a positive amount.
    """
    text = str(memory).strip().upper()
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)B?", text)
    amount = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if amount <= 0 or isinstance(memory, bool):
        raise ValueError(
            "Invalid value for argument `memory`. Expected bytes, or text "
            f"such as '64MB' or '1.5GB'. Received: memory={memory!r}."
        )
    return amount


def available_bytes() -> int:
    """Returns the memory that the machine has free, in bytes."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def in_words(count: float) -> str:
    """Returns bytes as people write them, such as "550 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
