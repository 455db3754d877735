"""The states of a training, between tensors and Keras's variables."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.state import State
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.pure_optimizer import FirstValues


class States:
    """The variables that a training changes, and their values as states.

    Attributes:
        model: a built and compiled model.
        optimizer: its optimizer, built.
        hyperparameters: all together, bound to the model.
        params: list of `keras.Variable`, those that training adjusts.
        slots: list of `keras.Variable`, the optimizer's that a step changes.
        buffers: list of `keras.Variable`, the others that a step changes: of
            the model, or nobody's.
        fixed: list of `keras.Variable`, those that a step reads and leaves as
            they are.
        loose: list of `tf.Variable`, what else a step reads: of a function
            that is the learning rate, or of a loss, for instance. No scope
            reaches these; see `holding`.
        metrics: list of `keras.Variable`, the metrics'.
    """

    model: keras.Model
    optimizer: keras.Optimizer
    hyperparameters: Together
    params: list[keras.Variable]
    slots: list[keras.Variable]
    buffers: list[keras.Variable]
    fixed: list[keras.Variable]
    loose: list[tf.Variable]
    metrics: list[keras.Variable]

    def state(self) -> State:
        """Returns the values that the variables hold now."""
        return State(*(values_of(v) for v in self._variables()))

    def recovered(self, state: State) -> State:
        """Returns the state of a training, given the state of the model.

        The inverse of `weights_of`: a training adjusts parameters, and the
        model computes with the weights that hyperparameters make of these.

        Args:
            state: the model's, with its weights in the place of parameters.
        """
        params = self._mapped(
            self.hyperparameters.params, self.hparams(), state.params
        )
        return state._replace(params=params)

    def initial_state(self) -> State:
        """Returns the weights as they are, with an optimizer that is new."""
        places = {id(v): k for k, v in enumerate(self.optimizer.variables)}
        values = self._first_values()
        slots = [values[places[id(v)]] for v in self.slots]
        return self.state()._replace(slots=slots)

    def started(self, state: State, hparams: list[tf.Tensor]) -> State:
        """Returns the state from which a training starts, given the model's.

        Args:
            state: that of the model, or of a new draw.
            hparams: list of tensors λ.
        """
        start = self.hyperparameters.start
        return state._replace(params=self._mapped(start, hparams, state.params))

    def start_backward(
        self,
        s_0: State,
        hparams: list[tf.Tensor],
        d_params: list[tf.Tensor],
        *,
        goes_on: bool,
    ) -> list[tf.Tensor]:
        """Returns d_paramsᵀ ∂started/∂λ, as `hparams`.

        Args:
            s_0: what `started` was given.
            hparams: list of tensors λ.
            d_params: list of tensors, as the parameters.
            goes_on: bool, whether s_0 was recovered from the weights that an
                earlier training left: these are held, not the parameters.
        """
        start = self._start_of(s_0, hparams, goes_on)
        with tf.GradientTape() as tape:
            tape.watch(hparams)
            params = start(hparams)
        return tape.gradient(
            params, hparams, d_params, tf.UnconnectedGradients.ZERO
        )

    def start_forward(
        self, s_0: State, hparams: list[tf.Tensor], *, goes_on: bool
    ) -> list[tf.Tensor]:
        """Returns ∂started/∂λ, the tangents of the first parameters.

        The arguments are those of `start_backward`, whose product is linear in
        `d_params`; the tangents are the derivatives of that product.

        Returns:
            List of tensors `(P, ...)`, as the parameters, with a row for each
            of P hyperparameters.
        """
        start = self._start_of(s_0, hparams, goes_on)
        d_params = [tf.zeros_like(w) for w in s_0.params]
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(d_params)
            with tf.GradientTape() as tape:
                tape.watch(hparams)
                params = start(hparams)
            products = tape.gradient(params, hparams, d_params)
            entries = [
                # Of hyperparameters that do not act on the start, nothing.
                [None] * h.shape.num_elements()
                if d is None
                else tf.unstack(tf.reshape(d, [-1]))
                for d, h in zip(products, hparams, strict=True)
            ]
        rows = [
            d_params
            if entry is None
            else outer.gradient(
                entry,
                d_params,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for entry in sum(entries, [])
        ]
        return [tf.stack(tangents) for tangents in zip(*rows, strict=True)]

    def _start_of(
        self, s_0: State, hparams: list[tf.Tensor], goes_on: bool
    ) -> Callable[[list[tf.Tensor]], list[tf.Tensor]]:
        """Returns the first parameters as a function of λ."""
        weights = self.weights_of(s_0.params, hparams) if goes_on else []

        def start(hparams):
            first = s_0
            if goes_on:
                recover = self.hyperparameters.params
                params = self._mapped(recover, hparams, weights)
                first = s_0._replace(params=params)
            return self.started(first, hparams).params

        return start

    def assign(
        self,
        state: State,
        hparams: list[tf.Tensor],
        *,
        is_final: bool = True,
    ) -> None:
        """Gives the variables the values of a state.

        Args:
            state: the values.
            hparams: list of tensors λ, with which the model gets the weights
                that it computes with.
            is_final: bool, whether training ends here: an optimizer with
                `use_ema` then replaces the weights with their averages.
        """
        if is_final:
            state = state._replace(params=self.final_params(state))
        state = state._replace(params=self.weights_of(state.params, hparams))
        for variables, values in zip(self._variables(), state, strict=True):
            _assign(variables, values)

    def weights_of(
        self, params: list[tf.Tensor], hparams: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns the weights that the model computes with.

        Args:
            params: list of tensors, what training adjusts.
            hparams: list of tensors λ.
        """
        return self._mapped(self.hyperparameters.weights, hparams, params)

    def _mapped(self, hook, hparams, params: list[tf.Tensor]) -> list:
        """Applies a hook that maps weights, which takes them by their ids."""
        keys = [id(v) for v in self.params]
        mapped = hook(hparams, dict(zip(keys, params, strict=True)))
        return [mapped[key] for key in keys]

    def final_params(self, state: State) -> list[tf.Tensor]:
        """Returns the parameters with which a training ends."""
        if not self.optimizer.use_ema:
            return state.params
        slot_of = dict(zip(map(id, self.slots), state.slots, strict=True))
        return [slot_of[key] for key in self._keys_of_averages()]

    def without_averages(self, state: State) -> State:
        """Returns a state that ends with the parameters that it has."""
        if not self.optimizer.use_ema:
            return state
        averages = self._keys_of_averages()
        params = dict(zip(averages, state.params, strict=True))
        keys = map(id, self.slots)
        return state._replace(
            slots=[
                params.get(key, slot)
                for key, slot in zip(keys, state.slots, strict=True)
            ]
        )

    def _keys_of_averages(self) -> list[int]:
        """Returns the ids of the averages of the parameters, with `use_ema`."""
        averages = keras_internals.averages(self.optimizer)
        keys = [id(v) for v in keras_internals.trained_by(self.optimizer)]
        average_of = dict(zip(keys, averages, strict=True))
        return [id(average_of[id(v)]) for v in self.params]

    def hparams(self) -> list[tf.Tensor]:
        """Returns the raw values λ of all hyperparameters."""
        return self.hyperparameters.hparams()

    def constants(self) -> list[tf.Tensor]:
        """Returns the values of `fixed` and `loose` as they are now."""
        loose = [v.read_value() for v in self.loose]
        return [*values_of(self.fixed), *loose]

    def strays(self) -> list[tf.Tensor]:
        """Returns the values of `buffers` and `loose` as they are now.

        Some of them are no variables of the model's.
        """
        return [
            *values_of(self.buffers),
            *(v.read_value() for v in self.loose),
        ]

    def assign_strays(self, values: list[tf.Tensor]) -> None:
        """Gives `buffers` and `loose` values that `strays` returned."""
        _assign([*self.buffers, *self.loose], values)

    def assign_constants(self, constants: list[tf.Tensor]) -> None:
        """Gives `fixed` and `loose` values that `constants` returned."""
        _assign([*self.fixed, *self.loose], constants)

    @contextlib.contextmanager
    def holding(self, constants: list[tf.Tensor]) -> Iterator[None]:
        """Gives `loose` the values that they had, and restores them after.

        Args:
            constants: list of tensors, as `constants` returns them.
        """
        held = constants[len(self.fixed) :]
        before = [v.read_value() for v in self.loose]
        _assign(self.loose, held)
        try:
            yield
        finally:
            _assign(self.loose, before)

    def metrics_state(self) -> list[tf.Tensor]:
        """Returns the state of metrics that have seen nothing."""
        # To assign a metric's variable would read those of all workers.
        values = zip(self.metrics, values_of(self.metrics), strict=True)
        with keras.StatelessScope(values) as scope:
            self.model.reset_metrics()
        reset = [scope.get_current_value(v) for v in self.metrics]
        return [tf.convert_to_tensor(value) for value in reset]

    def logs(self, metrics: list[tf.Tensor]) -> dict[str, Any]:
        """Returns the results of metrics in a state, as Keras names them."""
        with keras.StatelessScope(zip(self.metrics, metrics, strict=True)):
            return _numbers(self.model.get_metrics_result())

    def _variables(self) -> tuple[list, list, list]:
        return self.params, self.slots, self.buffers

    @functools.cached_property
    def _first_values(self) -> FirstValues:
        return FirstValues(self.optimizer)


def _numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Returns results of metrics; dicts within are laid flat, as in Keras."""
    logs: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, dict):
            logs |= _numbers(value)
        else:
            logs[name] = _number(value)
    return logs


def _number(value: Any) -> Any:
    """Returns a metric's result as a float, or an array if it has several."""
    array = np.asarray(value)
    return array if array.ndim else float(array)


def values_of(variables: list) -> list[tf.Tensor]:
    """Returns the values of variables as tensors."""
    return [keras_internals.value_of(v) for v in variables]


def _assign(variables: list, values: list) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
