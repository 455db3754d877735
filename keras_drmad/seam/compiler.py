"""What makes a compiled loop of a function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.keras_internals import quiet, without_rewriting


@dataclasses.dataclass(frozen=True)
class Compiler:
    """Compiles functions with `tf.function`.

    Attributes:
        jit_compile: bool, whether XLA compiles them.
    """

    jit_compile: bool

    def __call__(self, function: Callable) -> "Compiled":
        """Returns a function compiled; its first call traces it."""
        return Compiled(function, self.jit_compile)


class Compiled:
    """A function compiled by `tf.function`, with XLA or without.

    Without XLA, TensorFlow's graph rewriting (Grappler) is switched off for
    the calls: it turns long sums inside a `tf.while_loop` into temporary
    variables that collide between iterations ("Already exists: Resource ...
    TmpVar", TensorFlow issue 23780). The loops are as fast without it.
    """

    def __init__(self, function: Callable, jit_compile: bool):
        """Initializes the function; the first call traces it."""
        self.function = quiet(
            tf.function(function, jit_compile=jit_compile, autograph=False)
        )
        self.jit_compile = jit_compile

    def __call__(self, *args: Any) -> Any:
        """Runs the function."""
        if self.jit_compile:
            return self.function(*args)
        with without_rewriting():
            return self.function(*args)

    def traces(self) -> int:
        """Returns how often the function was traced."""
        return self.function.experimental_get_tracing_count()
