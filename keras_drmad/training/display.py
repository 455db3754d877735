"""What `fit` prints: lines, and a progress bar for each training."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

# What users wait for; `core.loops.Loops` has the names.
_COMPILED = {
    "forward": "the forward loop",
    "forward that records": "the forward loop that remembers states",
    "backward": "the backward loop",
    "window": "steps forward, to the validation loss, and backward",
    "differentiate": "the validation loss and its gradient",
    "products": "products of second derivatives",
    "slope_of_one": "the gradient of the validation loss",
    "validate": "the validation loss",
    "validate_one": "the validation loss",
}
VERBOSE = ("auto", 0, 1, 2)


class Display:
    """Prints how a `fit` goes on, as `verbose` asks for.

    With 1 there is a bar for each training, whose steps are those forward and
    those backward; with 2 a line for each training; with 0 nothing.

    Attributes:
        verbose: int, 0, 1 or 2.
    """

    def __init__(self, verbose: str | int):
        """Initializes the display.

        Args:
            verbose: as for `fit`.
        """
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self._has_bars = True
        self._bar: keras.utils.Progbar | None = None
        self._is_drawn = False  # whether the cursor stands behind the bar
        self._done = self._steps = 0

    @property
    def is_silent(self) -> bool:
        """Whether nothing is printed."""
        return self.verbose == 0

    def say(self, text: str) -> None:
        """Prints text, if any, in lines of its own, below a bar."""
        if self.is_silent or not text:
            return
        if not keras.config.is_interactive_logging_enabled():
            logging.getLogger("absl").info(text)  # as Keras does
            return
        self._leave_bar()
        print(text, flush=True)

    def leave_bars_to(self, callbacks: Sequence[Any]) -> None:
        """Draws no bar where a user's own list of callbacks has one."""
        self._has_bars = not any(
            isinstance(one, keras.callbacks.ProgbarLogger) for one in callbacks
        )

    # ---- the bar

    def begin(self, heading: str, steps: int) -> None:
        """Begins a bar.

        Args:
            heading: str, printed above; nothing is if it is empty.
            steps: int, at the bar's end.
        """
        if heading:
            self.say(heading)
        self._done, self._steps, self._is_drawn = 0, steps, False
        if self._has_bars:
            self._bar = keras.utils.Progbar(steps, verbose=self.verbose)

    def to(self, done: int, logs: Mapping[str, Any] | None = None) -> None:
        """Draws the bar with a number of steps, and metrics behind it."""
        self._done = min(done, self._steps)
        if self._bar is not None and self.verbose == 1:
            logs = {} if logs is None else logs
            self._bar.stateful_metrics |= set(logs)  # not to be averaged
            values = list(logs.items())
            self._bar.update(self._done, values, finalize=False)
            self._is_drawn = True

    def further(self, steps: int) -> None:
        """Draws the bar with a few steps more."""
        self.to(self._done + steps)

    def end(self, logs: Mapping[str, Any]) -> None:
        """Draws the whole bar; with `verbose=2` this is the training's line."""
        if self._bar is not None:
            self._bar.update(self._steps, list(logs.items()), finalize=True)
        self._bar, self._is_drawn = None, False

    def leave(self) -> None:
        """Leaves a bar as it is, whose training was ended."""
        self._leave_bar()
        self._bar = None

    def _leave_bar(self) -> None:
        if self._is_drawn:
            print()
        self._is_drawn = False

    # ---- what takes its time

    @contextlib.contextmanager
    def __call__(self, name: str, *, jit_compile: bool) -> Iterator[None]:
        """Says what is compiled within the context, and how long it took.

        The seconds are those until the first chunk of steps is through:
        tracing, compiling and these steps.

        Args:
            name: str, of a loop.
            jit_compile: bool, whether XLA compiles it.
        """
        if name not in _COMPILED:
            yield
            return
        by_xla = " with XLA" if jit_compile else ""
        with self.taking_time(f"Compiling {_COMPILED[name]}{by_xla}"):
            yield

    @contextlib.contextmanager
    def taking_time(self, what: str) -> Iterator[None]:
        """Says what is done within the context, and how long it took."""
        if self.is_silent or not keras.config.is_interactive_logging_enabled():
            self.say(what)
            yield
            return
        self._leave_bar()
        print(what, "...", end=" ", flush=True)
        begin, took = time.perf_counter(), "stopped"
        try:
            yield
            took = f"{time.perf_counter() - begin:.1f} s"
        finally:
            print(took, flush=True)


SILENT = Display(0)
