"""Bytes: how many the machine has, and in words."""

import pathlib
import re

CONTAINER = "/sys/fs/cgroup"  # what Linux (cgroup v2) says of a container


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
        group = pathlib.Path(CONTAINER)
        limit = (group / "memory.max").read_text()
        used = (group / "memory.current").read_text()
        found.append(int(limit) - int(used) + _reclaimable(group))
    except (OSError, ValueError):
        pass  # "max" for no limit, or another system
    if not found:
        raise ValueError(
            "Argument `memory` is needed on this system, which does not say "
            "how much is free. Pass an amount, such as memory='2GB'."
        )
    return max(min(found), 0)


def _reclaimable(group: pathlib.Path) -> int:
    """Returns the bytes of files that a container would let go of."""
    text = (group / "memory.stat").read_text()
    (count,) = re.findall(r"^inactive_file (\d+)$", text, re.MULTILINE)
    return int(count)


def in_words(count: float) -> str:
    """Returns bytes as people write them, such as "550 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
