"""A look at one step of a training, traced: what it reads, changes and does."""

import copy
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_drmad.core.nested import leaves
from keras_drmad.core.rows import Rows
from keras_drmad.core.state import Batch, State
from keras_drmad.keras_internals import operations_of
from keras_drmad.seam import linear_slots, traits

# A traced function: the operations in its graph, by kind, with the name of one
# of each, and the variables that it reads.
Traced = tuple[Any, dict[str, str], list]


class Look:
    """What one traced step tells of a problem.

    The values of all variables that Keras knows come in as tensors, so that a
    variable that the graph reads nevertheless is one that no scope reaches.

    Attributes:
        params: list of `keras.Variable`, those that have a gradient.
        slots: list of `keras.Variable`, the optimizer's that a step changes.
        unread_slots: tuple of int, the places of those slots whose values the
            derivative of a step does not depend on.
        buffers: list of `keras.Variable`, the others that a step changes.
        assigns_params: bool, whether the model's call assigns parameters.
        strays: list of `keras.Variable`, those that a step changes and that
            are neither the model's nor the optimizer's nor a metric's.
        fixed: list of `keras.Variable`, what a step reads and leaves as it is.
        loose: list of `tf.Variable`, what else a step reads.
        operations: dict from the kinds of operations in a step to the name of
            one.
        update_operations: set of str, those of the optimizer's update.
        asked: the parameters, slots and buffers that the look began with.
        gradient: the traced function `(state, hparams, metrics, batch)` to the
            gradients, the buffers, the metrics' state and the loss.
        size: int, the examples in the minibatch.
        rows: list of int, how many rows of a table each gradient has; 0 for a
            gradient that is whole.
        graphs: the traced functions of which steps are made: `gradient`, and
            the optimizer's update.
        seconds: float, those that it took to trace these.
    """

    def __init__(self, problem: Any, batch: Batch):
        """Traces a step.

        Args:
            problem: `ElementaryProblem`, with all of the model's variables
                among parameters and buffers, and all of the optimizer's among
                the slots.
            batch: `Batch`, one minibatch.

        Raises:
            ValueError: if no trainable weight has a gradient, or the step does
                what no pure function does.
        """
        begin = time.perf_counter()
        self._problem = problem
        self._read: dict[int, keras.Variable] = {}
        self._written: dict[int, keras.Variable] = {}
        self.asked = (problem.params, problem.slots, problem.buffers)
        state = problem.state()
        metrics = problem.metrics_state()
        self.gradient, kinds, variables = self._traced(
            self._gradient, state, problem.hparams(), metrics, batch
        )
        self.assigns_params = self._assigned(problem, state.params)
        if not self.params:
            raise ValueError(
                f"The model '{problem.model.name}' has no trainable weight "
                "that its training loss depends on. Check the loss and the "
                "weights."
            )
        specs = self.gradient.structured_outputs[0]
        self.size = int(leaves(batch.x)[0].shape[0])
        self.rows = [
            g.values.shape[0] if isinstance(g, Rows) else 0 for g in specs
        ]
        update, update_kinds, more = self._traced(
            self._update, self._narrowed(state), specs, problem.hparams()
        )
        self.graphs = self.gradient, update
        self.seconds = time.perf_counter() - begin
        self.operations = kinds | update_kinds
        self.update_operations = set(update_kinds)
        self._sort(problem)
        self.loose = self._out_of_reach(problem, [*variables, *more])
        traits.check_pure(self.operations, problem.model)

    # ---- what is traced

    def _gradient(self, state, hparams, metrics, batch):
        problem = self._problem
        taken = problem.take_gradient(state, hparams, batch, metrics)
        # A loss that the optimizer scales, by a slot of its own.
        self._slots_of_loss = {
            id(v)
            for v, x in zip(problem.slots, state.slots, strict=True)
            if x.consumers()
        }
        pairs = zip(problem.params, taken.gradients, strict=True)
        self.params = [v for v, g in pairs if g is not None]
        self._read |= taken.scope.read
        self._written |= taken.scope.written
        gradients = [g for g in taken.gradients if g is not None]
        left = taken.scope.left
        return (
            gradients,
            left(problem.buffers),
            left(problem.metrics),
            taken.loss,
        )

    def _update(self, state, gradients, hparams):
        problem = copy.copy(self._problem)
        problem.params = self.params
        params, slots = problem.update(state, gradients, hparams)
        pairs = zip(problem.slots, state.slots, slots, strict=True)
        changed = [(v, x) for v, x, y in pairs if x is not y]
        self.slots = [v for v, _ in changed]
        places = linear_slots.unread(
            [x for _, x in changed],
            tf.nest.flatten([state.params, gradients, hparams]),
            tf.compat.v1.get_default_graph().get_operations(),
        )
        self.unread_slots = tuple(
            k for k in places if id(self.slots[k]) not in self._slots_of_loss
        )
        return params, slots

    def _narrowed(self, state: State) -> State:
        """Returns a state with the parameters that have a gradient."""
        kept = {id(v) for v in self.params}
        pairs = zip(self._problem.params, state.params, strict=True)
        return state._replace(params=[x for v, x in pairs if id(v) in kept])

    def _traced(self, function: Callable, *args: Any) -> Traced:
        concrete = tf.function(function, autograph=False).get_concrete_function(
            *args
        )
        graph = concrete.graph
        return concrete, operations_of(graph), list(graph.variables)

    # ---- what variables turn out to be

    def _sort(self, problem: Any) -> None:
        """Sorts variables into those that a step changes, and the others."""
        model, optimizer = problem.model, problem.optimizer
        known = _by_id(
            [
                *model.variables,
                *problem.buffers,
                *optimizer.variables,
                *problem.metrics,
                *problem.hyperparameters.raws,
            ]
        )
        written = self._written
        self.strays = [v for k, v in written.items() if k not in known]
        self.buffers = [v for v in problem.buffers if id(v) in written]
        changed = [*self.params, *self.slots, *self.buffers]
        never_fixed = _by_id(
            [
                *changed,
                *self.strays,
                *problem.metrics,
                *problem.hyperparameters.raws,
            ]
        )
        candidates = [
            *model.trainable_variables,
            *model.non_trainable_variables,
            *optimizer.variables,
            *self._read.values(),
        ]
        self.fixed = [
            v for k, v in _by_id(candidates).items() if k not in never_fixed
        ]

    def _assigned(self, problem: Any, params: list[tf.Tensor]) -> bool:
        """Returns whether a call assigns weights that training adjusts.

        Raises:
            ValueError: if hyperparameters make these of other parameters.
        """
        weights = problem.weights_of(params, problem.hparams())
        assigned = [
            (v.path, w is x)
            for v, w, x in zip(problem.params, weights, params, strict=True)
            if id(v) in self._written
        ]
        mapped = [path for path, is_param in assigned if not is_param]
        if mapped:
            raise ValueError(
                "A layer's call assigns weights that hyperparameters make of "
                f"others (`WeightSharing`): {mapped}. Leave the layer out of "
                "the hyperparameters."
            )
        return bool(assigned)

    def _out_of_reach(self, problem: Any, read: list) -> list[tf.Variable]:
        """Returns the variables that a graph reads around every scope.

        Raises:
            ValueError: if a step changes one of them.
        """
        changing = [
            *problem.model.trainable_variables,
            *self.slots,
            *self.buffers,
            *problem.hyperparameters.raws,
        ]
        changes = {id(v.value): v.path for v in changing}
        wrong = sorted({changes[id(v)] for v in read if id(v) in changes})
        if wrong:
            raise ValueError(
                "A layer reads variables in a function that was compiled "
                "before (a `call` decorated with `tf.function`, or a "
                f"`TFSMLayer`), where no training of ours sees them: {wrong}. "
                "Take the decorator off, training is compiled as a whole "
                "anyway; or freeze the layer, `layer.trainable = False`."
            )
        mapped = _by_id(
            [
                *problem.params,
                *problem.buffers,
                *problem.slots,
                *problem.metrics,
            ]
        )
        # Read by Keras, but not known before this look.
        found = [v for k, v in self._read.items() if k not in mapped]
        reached = {id(v.value) for v in (*found, *problem.metrics)}
        return list({id(v): v for v in read if id(v) not in reached}.values())


def _by_id(variables: list) -> dict[int, Any]:
    return {id(v): v for v in variables}
