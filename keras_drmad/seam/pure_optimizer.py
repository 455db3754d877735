"""A stock Keras optimizer as a pure function of tensors.

`keras.Optimizer.stateless_apply` raises on TensorFlow, because the backend's
own layer of the optimizer works on `tf.Variable`s (for `tf.distribute`). So a
class is made that inherits from the stock class first and from `_Pure` second:
in the order of method resolution `_Pure` stands between the two, replaces the
backend's layer, and leaves the stock class its overrides.

    SGD -> _Pure -> keras.Optimizer (TensorFlow's layer, base)
"""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Takes the name of one of the optimizer's numbers, a variable, the number and
# the iteration; returns the number for this variable.
NumberOf = Callable[[str, keras.Variable, Any, tf.Tensor], Any]
# Numbers of optimizers that a hyperparameter can take the place of, beside the
# learning rate.
NUMBERS = ("momentum", "beta_1", "beta_2", "rho", "weight_decay")


def check_optimizer(
    optimizer: keras.Optimizer, argument: str = "optimizer"
) -> None:
    """Checks that an optimizer can be made pure.

    Args:
        optimizer: a Keras optimizer.
        argument: str, the name of the argument, for errors.

    Raises:
        TypeError: if it is not a Keras optimizer, or wraps another one.
    """
    if not isinstance(optimizer, keras.Optimizer):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected a Keras "
            "optimizer or its name. "
            f"Received: {argument}={optimizer!r} of type {type(optimizer)}."
        )
    wrappers = (
        keras.optimizers.LossScaleOptimizer,
        keras.optimizers.MultiOptimizer,
    )
    if isinstance(optimizer, wrappers):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected an optimizer "
            "that does not wrap others. "
            f"Received: {argument}={type(optimizer).__name__}. Pass the inner "
            "optimizer itself; for half precision use the dtype policy "
            "'mixed_bfloat16', which needs no loss scaling."
        )


def pure_update(
    optimizer: keras.Optimizer,
) -> Callable[[keras.StatelessScope, list, list, NumberOf], None]:
    """Returns the optimizer's `apply` as a function on a stateless scope.

    Args:
        optimizer: a built stock optimizer.

    Returns:
        `update(scope, gradients, variables, number_of)`, which reads the values
        of variables and slots in the scope and leaves the new ones there. All
        of it is differentiable where the optimizer's arithmetic is.
    """
    stock = type(optimizer)
    twin = type(f"Pure{stock.__name__}", (stock, _Pure), {})
    pure: Any = object.__new__(twin)
    # The twin shares the optimizer's variables, the keys of every scope.
    pure.__dict__.update(optimizer.__dict__)
    pure.__dict__["_keys"] = {
        id(v): optimizer._var_key(v) for v in optimizer._trainable_variables
    }

    def update(scope, gradients, variables, number_of):
        pure.__dict__.update(_number_of=number_of, _scope=scope)
        with scope:
            pure.apply(gradients, variables)

    return update


class _Pure(keras.Optimizer):
    """What replaces TensorFlow's layer of an optimizer."""

    _keys: dict[int, str]
    _scope: keras.StatelessScope
    _number_of: NumberOf
    _variable: keras.Variable | None = None  # the one that is updated now

    def assign(self, variable, value):
        variable.assign(value)

    def assign_add(self, variable, value):
        variable.assign(variable + value)

    def assign_sub(self, variable, value):
        variable.assign(variable - value)

    def _var_key(self, variable):
        return self._keys[id(variable)]

    @property
    def learning_rate(self):
        rate = self._get_current_learning_rate()
        variable = self._variable
        if variable is None:
            return rate
        rate = keras.ops.cast(rate, variable.dtype)
        return self._number_of("learning_rate", variable, rate, self._t)

    @property
    def _t(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._iterations.value)

    @contextlib.contextmanager
    def _numbers_of(self, variable):
        """Makes the optimizer's numbers those of one variable."""
        before = {name: vars(self).get(name) for name in NUMBERS}
        numbers = {
            name: self._number_of(name, variable, number, self._t)
            for name, number in before.items()
            if number is not None
        }
        changed = {
            name: _Number(number)
            for name, number in numbers.items()
            if number is not before[name]
        }
        self.__dict__.update(changed, _variable=variable)
        try:
            yield
        finally:
            unchanged = {name: before[name] for name in changed}
            self.__dict__.update(unchanged, _variable=None)

    def _backend_apply_gradients(self, grads, trainable_variables):
        # `tf.cond` cannot return what its branches leave in a stateless scope,
        # so both outcomes are computed and one is chosen.
        if self.gradient_accumulation_steps:
            accumulators = [
                self._accumulated_gradients[self._get_variable_index(v)]
                for v in trainable_variables
            ]
            steps = self.gradient_accumulation_steps

            def update_by_mean():
                means = [
                    (g + sum_) / steps
                    for g, sum_ in zip(grads, accumulators, strict=True)
                ]
                self._update(means, trainable_variables)
                self._backend_reset_gradient_accumulators()

            def accumulate():
                for g, sum_ in zip(grads, accumulators, strict=True):
                    sum_.assign(sum_ + g)

            self._choose(
                (self._iterations + 1) % steps == 0, update_by_mean, accumulate
            )
        else:
            self._update(grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(
                self._trainable_variables
            )
            if self.ema_overwrite_frequency:
                self._choose(
                    (self.iterations + 1) % self.ema_overwrite_frequency == 0,
                    lambda: self._overwrite_model_variables_with_average_value(
                        self._trainable_variables
                    ),
                    lambda: None,
                )

    def _update(self, grads, trainable_variables):
        """Clips, decays and steps, as the base class does for one batch."""
        grads = self._clip_gradients(grads)
        for variable in trainable_variables:
            with self._numbers_of(variable):
                self._apply_weight_decay([variable])
        self._backend_update_step(
            grads, trainable_variables, self.learning_rate
        )

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        del learning_rate  # each variable has its own
        for grad, variable in zip(grads, trainable_variables, strict=True):
            with self._numbers_of(variable):
                self.update_step(grad, variable, self.learning_rate)

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = tf.cast(self.learning_rate, variable.dtype)
                decay = tf.cast(self.weight_decay, variable.dtype)
                variable.assign(variable - variable * decay * rate)

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables
    ):
        for variable, average in zip(
            trainable_variables,
            self._model_variables_moving_average,
            strict=True,
        ):
            variable.assign(average)

    def _choose(self, condition, on_true, on_false):
        """Runs both functions on the scope and keeps what one of them left."""
        scope = self._scope
        before = dict(scope.state_mapping)
        on_true()
        if_true, scope.state_mapping = scope.state_mapping, dict(before)
        on_false()
        if_false = scope.state_mapping
        scope.state_mapping = {
            key: tf.where(condition, if_true[key], if_false[key])
            if if_true[key] is not if_false[key]
            else if_true[key]
            for key in if_true
        }


class _Number:
    """A positive tensor in the place of an optimizer's Python number.

    Optimizers ask `if self.momentum != 0`, which a tensor of a graph has no
    answer to; in arithmetic it is the tensor.
    """

    def __init__(self, tensor: tf.Tensor):
        self.tensor = tensor
        self.dtype = tensor.dtype
        self.shape = tensor.shape

    def __tf_tensor__(self, dtype=None, name=None):
        return self.tensor if dtype is None else tf.cast(self.tensor, dtype)

    def __bool__(self):
        return True

    def __gt__(self, other):
        return True

    def __ne__(self, other):
        return True

    def __eq__(self, other):
        return False

    __hash__ = None  # type: ignore[assignment]

    def __rsub__(self, other):
        return other - self.tensor

    def __mul__(self, other):
        return self.tensor * other

    __rmul__ = __mul__
