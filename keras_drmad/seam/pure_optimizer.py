"""A stock Keras optimizer as a pure function of tensors.

`keras.Optimizer.stateless_apply` raises on TensorFlow, because the backend's
own layer of the optimizer works on `tf.Variable`s (for `tf.distribute`). So a
class is made that inherits from the stock class first and from `_Pure` second:
in the order of method resolution `_Pure` stands between the two, replaces the
backend's layer, and leaves the stock class its overrides.

    SGD -> _Pure -> OpenOptimizer -> keras.Optimizer (TensorFlow's layer, base)
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core import nested
from keras_drmad.core.rows import Rows

# Takes the name of one of the optimizer's numbers, a variable, the number and
# the iteration; returns the number for this variable.
NumberOf = Callable[[str, keras.Variable, Any, tf.Tensor], Any]
# Numbers of optimizers that a hyperparameter can take the place of, beside the
# learning rate.
NUMBERS = ("momentum", "beta_1", "beta_2", "rho", "weight_decay")
KEPT_BYTES = 2**20  # of first values, at most


def check_optimizer(
    optimizer: keras.Optimizer, argument: str = "optimizer"
) -> None:
    """Checks that an optimizer can be made pure.

    Args:
        optimizer: a Keras optimizer.
        argument: str, the name of the argument, for errors.

    Raises:
        TypeError: if it is not a Keras optimizer, or wraps another one.
        ValueError: if it does not work in the installed version of Keras.
    """
    if not isinstance(optimizer, keras.Optimizer):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected a Keras "
            "optimizer or its name. "
            f"Received: {argument}={optimizer!r} of type {type(optimizer)}."
        )
    if keras_internals.wraps_others(optimizer):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected an optimizer "
            "that does not wrap others. "
            f"Received: {argument}={type(optimizer).__name__}. Pass the inner "
            "optimizer itself. For half precision use the dtype policy "
            "'mixed_bfloat16', which needs no loss scaling: with "
            "'mixed_float16' Keras wraps whatever it is given."
        )
    since = keras_internals.works_since(optimizer)
    if since:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected an optimizer "
            "that the installed Keras can train with on TensorFlow. Received: "
            f"{argument}={type(optimizer).__name__}, which needs Keras "
            f"{since}; this is {keras.__version__}. Install a newer Keras, or "
            "use another optimizer."
        )


def check_known(
    optimizer: keras.Optimizer, weights: Sequence[keras.Variable]
) -> None:
    """Checks that an optimizer was not built for other weights before.

    Args:
        optimizer: a Keras optimizer.
        weights: the weights that it is to train.

    Raises:
        ValueError: if it was.
    """
    known = {id(v) for v in keras_internals.trained_by(optimizer)}
    if optimizer.built and not {id(v) for v in weights} <= known:
        raise ValueError(
            "Invalid value for argument `optimizer`. Expected one of this "
            f"model's own. Received: the {type(optimizer).__name__} "
            f"'{optimizer.name}', which was built for other weights: those of "
            "another model, of hyperparameters, or of this one before layers "
            "were unfrozen. Pass a new one."
        )


def new_optimizer(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Returns an optimizer like another one, for the same weights, but new.

    Args:
        optimizer: a built optimizer that does not wrap others.

    Raises:
        ValueError: if its class makes variables in its constructor, and has no
            config to call the constructor with.
    """
    with keras_internals.scope_of(optimizer):
        return _new_optimizer(optimizer)


def _new_optimizer(optimizer: keras.Optimizer) -> keras.Optimizer:
    new = keras_internals.unbuilt(optimizer)
    weights = keras_internals.trained_by(optimizer)
    new.build(weights)
    if len(new.variables) == len(optimizer.variables):
        return new
    name = type(optimizer).__name__
    try:
        new = type(optimizer).from_config(optimizer.get_config())
    except Exception as error:
        raise ValueError(
            f"Invalid value for argument `optimizer`. Expected a class that "
            "makes its variables in `build`, or has a config. Received: "
            f"{name}, which makes some in its constructor, and whose config "
            f"fails: {error} Each meta-iteration begins with a new optimizer. "
            "Make the variables in `build`."
        ) from error
    new.build(weights)
    return new


class FirstValues:
    """The values of an optimizer's variables before its first step.

    To make a new optimizer takes a fifth of a short training. So small values
    are kept, of Keras's own classes, whose values follow from their attributes.
    """

    def __init__(self, optimizer: keras.Optimizer):
        """Initializes the values; see `new_optimizer`."""
        self._optimizer = optimizer
        self._kept: tuple[dict[str, Any], list[tf.Tensor]] | None = None

    def __call__(self) -> list[tf.Tensor]:
        """Returns the values, in the order of the optimizer's variables."""
        choices = {
            name: value
            for name, value in vars(self._optimizer).items()
            if isinstance(value, str | float | int | None)
        }
        if self._kept is not None and self._kept[0] == choices:
            return self._kept[1]
        new = new_optimizer(self._optimizer)
        values = [keras_internals.value_of(v) for v in new.variables]
        is_kerass = type(new) in vars(keras.optimizers).values()
        if is_kerass and nested.nbytes(values) <= KEPT_BYTES:
            self._kept = choices, values
        return values


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
    pure.__dict__["_keys"] = keras_internals.keys_of(optimizer)

    def update(scope, gradients, variables, number_of):
        pure.__dict__.update(_number_of=number_of, _scope=scope)
        slices = [
            tf.IndexedSlices(g.values, g.indices, tf.constant([*v.shape]))
            if isinstance(g, Rows)
            else g
            for g, v in zip(gradients, variables, strict=True)
        ]
        with scope:
            pure.apply(slices, variables)

    return update


class _Pure(keras_internals.OpenOptimizer):
    """What replaces TensorFlow's layer of an optimizer."""

    _keys: dict[int, Any]
    _scope: keras.StatelessScope
    _number_of: NumberOf
    _variable: keras.Variable | None = None  # the one that is updated now

    def assign(self, variable, value):
        if isinstance(value, tf.IndexedSlices):
            rows = tf.cast(value.values, variable.dtype)
            value = tf.tensor_scatter_nd_update(
                variable.value, value.indices[:, tf.newaxis], rows
            )
        variable.assign(value)

    def assign_add(self, variable, value):
        variable.assign(variable + _dense(value, variable))

    def assign_sub(self, variable, value):
        variable.assign(variable - _dense(value, variable))

    def key_of(self, variable):
        return self._keys[id(variable)]

    @property
    def learning_rate(self):
        rate = self.current_learning_rate()
        variable = self._variable
        if variable is None:
            return rate
        rate = keras.ops.cast(rate, variable.dtype)
        return self._number_of("learning_rate", variable, rate, self._t)

    @property
    def _t(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.count.value)

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

    def apply_all(self, grads, variables):
        # `tf.cond` cannot return what its branches leave in a stateless scope,
        # so both outcomes are computed and one is chosen.
        if self.gradient_accumulation_steps:
            grads = [
                _dense(g, v) for g, v in zip(grads, variables, strict=True)
            ]
            accumulators = self.accumulators_of(variables)
            steps = self.gradient_accumulation_steps

            def update_by_mean():
                means = [
                    (g + sum_) / steps
                    for g, sum_ in zip(grads, accumulators, strict=True)
                ]
                self._update(means, variables)
                self.reset_accumulators()

            def accumulate():
                for g, sum_ in zip(grads, accumulators, strict=True):
                    sum_.assign(sum_ + g)

            self._choose(
                (self.count + 1) % steps == 0, update_by_mean, accumulate
            )
        else:
            self._update(grads, variables)
        if self.use_ema:
            self.update_averages()
            if self.ema_overwrite_frequency:
                self._choose(
                    (self.iterations + 1) % self.ema_overwrite_frequency == 0,
                    self.overwrite_by_averages,
                    lambda: None,
                )

    def _update(self, grads, variables):
        """Clips, decays and steps, as the base class does for one batch."""
        grads = self.clipped(grads)
        for variable in variables:
            with self._numbers_of(variable):
                self.apply_decay([variable])
        self.step_by(grads, variables)

    def step_all(self, grads, variables):
        for grad, variable in zip(grads, variables, strict=True):
            with self._numbers_of(variable):
                self.update_step(grad, variable, self.learning_rate)

    def decay(self, variables):
        if self.weight_decay is None:
            return
        for variable in variables:
            if self.applies_decay(variable):
                rate = tf.cast(self.learning_rate, variable.dtype)
                decay = tf.cast(self.weight_decay, variable.dtype)
                variable.assign(variable - variable * decay * rate)

    def overwrite(self, variable, average):
        variable.assign(average)

    def _choose(self, condition, on_true, on_false):
        """Runs both functions on the scope and keeps what one of them left."""
        scope = self._scope
        before = dict(keras_internals.values_in(scope))
        on_true()
        if_true = keras_internals.values_in(scope)
        keras_internals.set_values_in(scope, dict(before))
        on_false()
        if_false = keras_internals.values_in(scope)
        chosen = {
            key: tf.where(condition, if_true[key], if_false[key])
            if if_true[key] is not if_false[key]
            else if_true[key]
            for key in if_true
        }
        keras_internals.set_values_in(scope, chosen)


def _dense(value: Any, variable: keras.Variable) -> Any:
    """Returns rows of a variable as a whole tensor, other values as is."""
    if not isinstance(value, tf.IndexedSlices):
        return value
    rows = tf.cast(value.values, variable.dtype)
    return tf.math.unsorted_segment_sum(rows, value.indices, variable.shape[0])


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

    def __neg__(self):
        return -self.tensor

    def __add__(self, other):
        return self.tensor + other

    __radd__ = __add__

    def __sub__(self, other):
        return self.tensor - other

    def __rsub__(self, other):
        return other - self.tensor

    def __mul__(self, other):
        return self.tensor * other

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self.tensor / other

    def __rtruediv__(self, other):
        return other / self.tensor

    def __pow__(self, other):
        return self.tensor**other

    def __rpow__(self, other):
        return other**self.tensor
