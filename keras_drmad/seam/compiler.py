"""What makes a compiled loop of a function."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_drmad.core.tracing import undisturbed
from keras_drmad.keras_internals import quiet, without_rewriting


def check_compiles() -> None:
    """Checks that TensorFlow compiles functions.

    Raises:
        ValueError: if it was told to run them as they are.
    """
    if tf.config.functions_run_eagerly():
        raise ValueError(
            "Expected TensorFlow to compile functions, for training runs in "
            "compiled loops. Received: `tf.config.run_functions_eagerly(True)`."
            " Call it with False before training. To look into a layer, call "
            "the model on a batch: `model(x[:1])`."
        )


class Compiler:
    """Compiles functions with `tf.function`.

    Attributes:
        jit_compile: bool, whether XLA compiles them.
        jit_validation: bool, whether XLA also compiles those that validate.
        apart: bool, whether loops without XLA call a step, see `core.apart`.
        has_fallen_back: bool, whether XLA was to, and could not compile one:
            then none of them is compiled by XLA any more.
        says: function of a name and `jit_compile` to a context, in which the
            first call of the function of this name runs.
    """

    def __init__(
        self,
        jit_compile: bool,
        is_sure: bool = True,
        *,
        jit_validation: bool = True,
        apart: bool = False,
    ):
        """Initializes the compiler.

        Args:
            jit_compile: bool, whether XLA compiles the functions.
            is_sure: bool, whether a function that XLA cannot compile is an
                error, and not to run without XLA.
            jit_validation: bool, whether that holds for functions that
                validate, too: few batches take less time than their compiling.
            apart: bool, whether loops without XLA call a step in place of
                having a copy of it, see `core.apart`.
        """
        self.jit_compile = jit_compile
        self.jit_validation = jit_compile and jit_validation
        self.apart = apart
        self.has_fallen_back = False
        self.is_sure = is_sure
        self.says: Callable = _nothing

    def __call__(
        self, function: Callable, name: str = "", *, validates: bool = False
    ) -> "Compiled":
        """Returns a function compiled; its first call traces it.

        Args:
            function: of tensors.
            name: str, what it is called where compiling is spoken of.
            validates: bool, whether it goes through held-out batches alone.
        """
        return Compiled(function, self, name, validates=validates)

    @contextlib.contextmanager
    def saying(self, says: Callable) -> Iterator[None]:
        """Within it, `says` is told what is compiled."""
        before, self.says = self.says, says
        try:
            yield
        finally:
            self.says = before

    def fall_back(self, error: Exception) -> None:
        """Goes on without XLA, and says so."""
        self.jit_compile = self.jit_validation = False
        self.has_fallen_back = True
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            "XLA could not compile the loops, which run without XLA: "
            f"{reason} `compile(jit_compile=False)` spares the try.",
            RuntimeWarning,
            stacklevel=3,
        )


def _nothing(name: str, *, jit_compile: bool) -> Any:
    """Says nothing."""
    del name, jit_compile
    return contextlib.nullcontext()


class Compiled:
    """A function compiled by `tf.function`, with XLA or without.

    Without XLA, TensorFlow's graph rewriting (Grappler) is switched off for
    the calls: it turns long sums inside a `tf.while_loop` into temporary
    variables that collide between iterations ("Already exists: Resource ...
    TmpVar", TensorFlow issue 23780). The loops are as fast without it.
    """

    def __init__(
        self,
        function: Callable,
        compiler: Compiler,
        name: str,
        *,
        validates: bool,
    ):
        """Initializes the function; the first call traces it."""
        self._of = function
        self._name = name
        self._validates = validates
        self._compiler = compiler
        self._make()

    def _make(self) -> None:
        compiler = self._compiler
        self.jit_compile = (
            compiler.jit_validation if self._validates else compiler.jit_compile
        )
        self.function = self._untraced(self.jit_compile)

    def _untraced(self, jit_compile: bool) -> Any:
        return quiet(
            tf.function(self._of, jit_compile=jit_compile, autograph=False)
        )

    def __call__(self, *args: Any) -> Any:
        """Runs the function."""
        if self.traces():
            return self._run(*args)
        says = self._compiler.says(self._name, jit_compile=self.jit_compile)
        with says, undisturbed():
            return self._run(*args)

    def _run(self, *args: Any) -> Any:
        if self.jit_compile and not self._compiler.jit_compile:
            self._make()  # XLA could not compile another one
        if not self.jit_compile:
            with without_rewriting():
                return self.function(*args)
        if self._compiler.is_sure:
            return self.function(*args)
        traces = self.traces()
        try:
            return self.function(*args)
        except tf.errors.OpError as error:
            if self.traces() == traces:
                raise  # compiled before: an error of the function's own
            with without_rewriting():
                plain = self._untraced(jit_compile=False)
                found = plain(*args)
            self._compiler.fall_back(error)
            self.function, self.jit_compile = plain, False
            return found

    def traces(self) -> int:
        """Returns how often the function was traced."""
        return self.function.experimental_get_tracing_count()
