"""What makes a compiled loop of a function."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.keras_internals import quiet, without_rewriting


@dataclasses.dataclass(frozen=True)
class Compiler:
    """Compiles functions with `tf.function`.

    Attributes:
        jit_compile: bool, whether XLA compiles them.
        is_sure: bool, whether a function that XLA cannot compile is an error,
            and not to run without XLA.
    """

    jit_compile: bool
    is_sure: bool = True

    def __call__(self, function: Callable) -> "Compiled":
        """Returns a function compiled; its first call traces it."""
        return Compiled(function, self.jit_compile, is_sure=self.is_sure)


class Compiled:
    """A function compiled by `tf.function`, with XLA or without.

    Without XLA, TensorFlow's graph rewriting (Grappler) is switched off for
    the calls: it turns long sums inside a `tf.while_loop` into temporary
    variables that collide between iterations ("Already exists: Resource ...
    TmpVar", TensorFlow issue 23780). The loops are as fast without it.
    """

    def __init__(
        self, function: Callable, jit_compile: bool, *, is_sure: bool = True
    ):
        """Initializes the function; the first call traces it.

        Args:
            function: of tensors.
            jit_compile: bool, whether XLA compiles the function.
            is_sure: bool, as for `Compiler`.
        """
        self._of = function
        self._may_fail = jit_compile and not is_sure
        self._set(jit_compile)

    def _set(self, jit_compile: bool) -> None:
        self.jit_compile = jit_compile
        self.function = quiet(
            tf.function(self._of, jit_compile=jit_compile, autograph=False)
        )

    def __call__(self, *args: Any) -> Any:
        """Runs the function."""
        if not self.jit_compile:
            with without_rewriting():
                return self.function(*args)
        try:
            found = self.function(*args)
        except tf.errors.OpError as error:
            if not self._may_fail:
                raise
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(
                "XLA could not compile a loop, which runs without XLA: "
                f"{reason} `compile(jit_compile=False)` spares the try.",
                RuntimeWarning,
                stacklevel=2,
            )
            self._set(False)
            return self(*args)
        self._may_fail = False  # a later error is one of the function's own
        return found

    def traces(self) -> int:
        """Returns how often the function was traced."""
        return self.function.experimental_get_tracing_count()
