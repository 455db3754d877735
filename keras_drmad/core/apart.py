"""Functions that a loop calls, in place of a copy of them in the loop."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad.core import nested


def apart(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns a function that computes the same in a graph of its own.

    The body of a `tf.while_loop` has no first operation, so what goes through
    its operations in turn may meet a derivative before that of which it is the
    derivative. oneDNN's kernels are chosen so: the derivative of max pooling
    gets one only where the pooling got one before, and twice the time of a
    step of a small CNN hung on it, by chance. A graph of its own has an order.

    Args:
        function: of nested tensors and `None`s, which returns such; called
            in the graph of a loop that TensorFlow runs without XLA.
    """

    def call(args: Any) -> Any:
        found: list[Any] = []

        def traced(*tensors: tf.Tensor) -> list[tf.Tensor]:
            result = function(nested.with_tensors(args, tensors))
            found.append(result)
            return [tf.convert_to_tensor(x) for x in nested.leaves(result)]

        called = tf.function(
            traced,
            autograph=False,
            # Else the call is replaced by a copy when the loop is first run.
            experimental_attributes={"_noinline": True},
        )
        tensors = called(*nested.leaves(args))
        return nested.with_tensors(found[-1], tensors)

    return call
