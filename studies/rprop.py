"""Rprop, which Keras does not have, for comparisons."""

import keras
import numpy as np

from keras_drmad import keras_internals

FASTER, SLOWER = 1.2, 0.5


class Rprop(keras.optimizers.Optimizer):
    """Steps against signs, of a size of each entry's own.

    The size grows by a factor of 1.2 where the sign of the gradient repeats,
    and halves where the sign turns; there the entry stays for one step.

    References: Riedmiller, Braun, *A Direct Adaptive Method for Faster
    Backpropagation Learning: The RPROP Algorithm*, 1993; Igel, Hüsken,
    *Improving the Rprop Learning Algorithm*, 2000 (iRprop−, which this is).
    """

    def __init__(self, learning_rate: float, largest: float = np.inf, **kwargs):
        """Initializes the optimizer.

        Args:
            learning_rate: positive float, the size of the first steps.
            largest: positive float, the largest step.
            **kwargs: arguments of `keras.optimizers.Optimizer`.
        """
        super().__init__(learning_rate, **kwargs)
        self.largest = largest

    def build(self, variables):
        """Creates the slots: the sizes as parts of the rate, and the signs."""
        if self.built:
            return
        super().build(variables)
        self.sizes, self.before = (
            [
                self.add_variable_from_reference(v, name, initializer)
                for v in variables
            ]
            for name, initializer in (("size", "ones"), ("before", "zeros"))
        )

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        ops, k = keras.ops, keras_internals.place_in(self, variable)
        dtype = variable.dtype
        rate = ops.cast(learning_rate, dtype)
        sign = ops.sign(ops.cast(gradient, dtype))
        repeats = sign * self.before[k]
        factor = ops.where(repeats > 0, FASTER, 1.0)
        factor = ops.cast(ops.where(repeats < 0, SLOWER, factor), dtype)
        size = ops.minimum(self.sizes[k] * factor, self.largest / rate)
        sign = ops.where(repeats < 0, ops.zeros_like(sign), sign)
        self.assign(self.sizes[k], size)
        self.assign(self.before[k], sign)
        self.assign_sub(variable, rate * size * sign)
