"""A line that says what is being compiled, beside Keras's progress bar."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import keras

# What users wait for; `core.loops.Loops` has the names.
_WORDS = {
    "forward": "the forward loop",
    "forward that records": "the forward loop that remembers states",
    "backward": "the backward loop",
    "differentiate": "the validation loss and its gradient",
    "products": "products of second derivatives",
    "slope_of_one": "the gradient of the validation loss",
    "validate": "the validation loss",
    "validate_one": "the validation loss",
}


class CompileLine(keras.callbacks.Callback):
    """Prints what is being compiled, and how long it took.

    A callback, which sees where Keras's bar is, and a function of what is
    compiled, which `seam.compiler.Compiler` calls. The seconds are those until
    the first chunk of steps is through: tracing, compiling and these steps.

    Attributes:
        is_after_bar: bool, whether a progress bar ends where the line would
            begin.
    """

    def __init__(self, verbose: str | int):
        """Initializes the line.

        Args:
            verbose: as for `fit`; with 0 nothing is printed.
        """
        super().__init__()
        self._is_silent = verbose == 0
        self._has_bar = verbose in ("auto", 1)
        self.is_after_bar = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.is_after_bar = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.is_after_bar = True

    @contextlib.contextmanager
    def __call__(self, name: str, *, jit_compile: bool) -> Iterator[None]:
        """Says what is compiled within the context.

        Args:
            name: str, of a loop.
            jit_compile: bool, whether XLA compiles it.
        """
        if self._is_silent or name not in _WORDS:
            yield
            return
        if self._has_bar and self.is_after_bar:
            print()
        self.is_after_bar = False
        by_xla = " with XLA" if jit_compile else ""
        print(f"Compiling {_WORDS[name]}{by_xla} ...", end=" ", flush=True)
        begin, took = time.perf_counter(), "stopped"
        try:
            yield
            took = f"{time.perf_counter() - begin:.1f} s"
        finally:
            print(took, flush=True)
