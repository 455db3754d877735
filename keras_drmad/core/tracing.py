"""Tracing, with less work for Python."""

import contextlib
import gc
import threading
from collections.abc import Iterator

# Python looks for garbage whenever there are so many new objects more; 700 by
# default. A traced step is made of tens of thousands, which live long.
OBJECTS = 50_000


class _Undisturbed:
    """Counts those who trace, in whichever thread."""

    def __init__(self):
        """Initializes the count."""
        self._lock = threading.Lock()
        self._count = 0
        self._before = gc.get_threshold()

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._before = first, *others = gc.get_threshold()
                if first:  # else a program's own wish: no garbage is looked for
                    gc.set_threshold(max(first, OBJECTS), *others)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                gc.set_threshold(*self._before)


_UNDISTURBED = _Undisturbed()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Lets Python seldom look for garbage, which takes a tenth of tracing.

    Of the whole process; where threads trace at the same time, until the last
    one has traced.
    """
    _UNDISTURBED.enter()
    try:
        yield
    finally:
        _UNDISTURBED.leave()
