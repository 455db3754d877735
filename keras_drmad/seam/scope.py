"""The scope in which Keras's variables are tensors, and act as variables."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_drmad.keras_internals import values_in


class Scope(keras.StatelessScope):
    """A stateless scope that reads as variables do, and notes who was asked.

    What a call assigns to a variable and then reads back is a constant to
    Keras's training: no tape looks into a variable. In a stateless scope it
    would be the assigned tensor, with all that it was computed from.

    Attributes:
        read: dict from id to `keras.Variable`, those that were read.
        written: dict from id to `keras.Variable`, those that were assigned.
        read_back: dict from id to list of tensors, as which variables were
            read that had been assigned before.
    """

    def __init__(
        self, pairs: list, watch: Callable[[tf.Tensor], None] | None = None
    ):
        """Initializes the scope.

        Args:
            pairs: list of (variable, tensor), the values at first.
            watch: is told of tensors that are read back: a tape, which watches
                a variable at each read.
        """
        # Losses that layers add in their call are collected by the scope.
        super().__init__(collect_losses=True)
        # Other dtypes than the variables' are let in, for the self-check.
        values_in(self).update({id(v): value for v, value in pairs})
        self.read: dict[int, keras.Variable] = {}
        self.written: dict[int, keras.Variable] = {}
        self.read_back: dict[int, list[tf.Tensor]] = {}
        self._watch = watch

    def get_current_value(self, variable: keras.Variable) -> tf.Tensor | None:
        """Returns the tensor that a variable reads as."""
        self.read[id(variable)] = variable
        value = super().get_current_value(variable)
        if id(variable) not in self.written:
            return value
        value = tf.stop_gradient(value)
        if self._watch is not None and value.dtype.is_floating:
            self._watch(value)
        self.read_back.setdefault(id(variable), []).append(value)
        return value

    def add_update(self, update: tuple[keras.Variable, tf.Tensor]) -> None:
        """Takes what is assigned to a variable."""
        variable, value = update
        self.written[id(variable)] = variable
        super().add_update((variable, tf.convert_to_tensor(value)))

    def left(self, variables: list[keras.Variable]) -> list[tf.Tensor]:
        """Returns what a call left in variables."""
        return [super(Scope, self).get_current_value(v) for v in variables]
