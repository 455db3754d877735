"""Bytes: how many a user allows, how many the machine has."""

import numbers
import pathlib
import re
from typing import Any

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def checked_bytes(memory: int | str) -> int:
    """Returns an amount of memory in bytes.

    Args:
        memory: bytes (int), or text such as "64MB" or "1.5 GB" (decimal).

    Raises:
        ValueError: if it is not a positive amount.
    """
    text = str(memory).strip().upper() if _is_amount(memory) else ""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)B?", text)
    amount = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if amount <= 0:
        raise ValueError(
            "Invalid value for argument `memory`. Expected bytes, or text "
            f"such as '64MB' or '1.5GB'. Received: memory={memory!r}."
        )
    return amount


def _is_amount(memory: Any) -> bool:
    is_count = isinstance(memory, numbers.Integral)
    return isinstance(memory, str) or is_count and memory is not True


def available_bytes() -> int:
    """Returns the memory that the machine can give, in bytes.

    Raises:
        ValueError: if the system does not tell.
    """
    found = []
    try:
        text = pathlib.Path("/proc/meminfo").read_text()
        (kilobytes,) = re.findall(r"MemAvailable:\s+(\d+) kB", text)
        found.append(int(kilobytes) * 1024)
        # A container's limit, where there is one.
        group = pathlib.Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text()
        used = (group / "memory.current").read_text()
        found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # "max" for no limit, or another system
    if not found:
        raise ValueError(
            "Argument `memory` is needed on this system, which does not say "
            "how much is free. Pass an amount, such as memory='2GB'."
        )
    return max(min(found), 0)


def in_words(count: float) -> str:
    """Returns bytes as people write them, such as "550 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
