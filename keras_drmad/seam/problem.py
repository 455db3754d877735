"""A model, an optimizer and hyperparameters, made pure.

`ElementaryProblem` turns them into the functions that the loops need (the
protocol `core.state.Problem`), and moves states between tensors and variables.
"""

import copy
import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core.rows import Rows
from keras_drmad.core.state import Batch, State
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam import gradient_rules
from keras_drmad.seam.copied_step import CopiedStep, FirstHalf
from keras_drmad.seam.look import Look
from keras_drmad.seam.model_loss import compute_loss
from keras_drmad.seam.places import places_of
from keras_drmad.seam.pure_optimizer import (
    check_optimizer,
    pure_update,
)
from keras_drmad.seam.scope import Scope
from keras_drmad.seam.states import States, values_of
from keras_drmad.seam.traits import (
    SINGULAR,
    fixes_batch_size,
    needs_order,
    pays,
    suits_xla,
)


class ElementaryProblem(States):
    """An elementary training as pure functions of (state, λ, batch).

    Only what a step changes is part of the state, so frozen weights and the
    learning rate cost the adjoint nothing. They are `constants`: read from
    their variables between the loops, and handed to the loops by `at`.

    Attributes, beside those of `States`:
        assigns_params: bool, whether the model's call assigns parameters, too.
        carries: bool, whether validation, too, changes buffers, from one
            batch to the next.
        update_is_smooth: bool, whether the optimizer's update has a finite
            derivative everywhere.
        unread_slots: tuple of int, the places of the slots whose values the
            derivative of a step does not depend on.
        takes_any_size: bool, whether the model's inputs leave the size of
            minibatches open.
        parts: float, how many parts like its batches make a minibatch, so
            that the mean of their losses is the minibatch's loss.
    """

    parts: float = 1.0

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        hyperparameters: Together,
        batch: Batch,
    ):
        """Initializes the problem and traces one step to learn what it changes.

        Args:
            model: a built and compiled model.
            optimizer: a stock Keras optimizer; it is built if it is not.
            hyperparameters: all together, bound to the model.
            batch: `Batch`, one minibatch.

        Raises:
            TypeError: if the optimizer cannot be made pure.
            ValueError: if no trainable weight has a gradient, or a step does
                what no pure function does.
        """
        check_optimizer(optimizer)
        self.model = model
        self.optimizer = optimizer
        self.hyperparameters = hyperparameters
        self.params = list(model.trainable_variables)
        self.buffers = list(model.non_trainable_variables)
        if not optimizer.built:
            with keras_internals.scope_of(optimizer):
                optimizer.build(self.params)
        self.slots = list(optimizer.variables)
        self.metrics = list(model.metrics_variables)
        self.fixed: list[keras.Variable] = []
        self.loose: list[tf.Variable] = []
        self.carries = False
        self.takes_any_size = not fixes_batch_size(model)
        self._constants: list[tf.Tensor] | None = None
        self._apply = pure_update(optimizer)
        self._find_what_changes(batch)

    # ---- the pure functions of `core.state.Problem`

    def at(self, constants: list[tf.Tensor]) -> "ElementaryProblem":
        """Returns the problem whose steps read these constants.

        Args:
            constants: list of tensors, as `constants` returns them.
        """
        problem = copy.copy(self)
        problem._constants = constants
        return problem

    def rules(self):
        """Returns a context whose operations `vjp` differentiates as ours."""
        return gradient_rules.within()

    def gradient(self, state, hparams, batch):
        """Returns the training gradient, and the state after the call."""
        unseen = [tf.zeros(v.shape, v.dtype) for v in self.metrics]
        half = self._first_half(
            state, hparams, batch, unseen, is_differentiated=True
        )
        return half.gradients, _called(state, half)

    def outputs(self, state, hparams, batch, before_activation):
        """Returns outputs z, the buffers after the step, and L as function."""
        with gradient_rules.within(), self._scope(state, hparams) as scope:
            seen = self.hyperparameters.batch(hparams, batch)
            y_pred = self._call(seen, training=True)
        buffers = scope.left(self.buffers)
        z, y_pred_of = places_of(y_pred, before_activation)

        def loss_of(z):
            with scope, gradient_rules.within():
                y_pred = y_pred_of(z)
                loss, _ = self._training_loss(state, hparams, seen, y_pred)
                return self.optimizer.scale_loss(loss)

        return z, buffers, loss_of

    def update(self, state, gradients, hparams):
        """Returns the parameters and slots after the optimizer's update."""
        return self._second_half(
            state, gradients, hparams, is_differentiated=True
        )

    def step(self, state, hparams, batch, metrics):
        """Returns the next state, the metrics' state and the training loss."""
        half = self._first_half(
            state, hparams, batch, metrics, is_differentiated=False
        )
        called = _called(state, half)
        params, slots = self._second_half(
            called, half.gradients, hparams, is_differentiated=False
        )
        state = called._replace(params=params, slots=slots)
        return state, half.metrics, half.loss

    def validation_loss(self, state, hparams, batch, metrics):
        """Returns the batch's loss as `evaluate` has it, its size, metrics."""
        return self.carrying_validation_loss(state, hparams, batch, metrics)[:3]

    def carrying_validation_loss(self, state, hparams, batch, metrics):
        """Returns what `validation_loss` does, and the buffers after it."""
        state = state._replace(params=self.final_params(state))
        with (
            gradient_rules.within(),
            self._scope(state, hparams, metrics) as scope,
        ):
            y_pred = self._call(batch, training=False)
            loss, count = self._reduced(
                self._loss(batch, y_pred, training=False)
            )
            loss = loss if count is None else loss / count
            size = self._measure(batch, y_pred, loss)
        left = scope.left
        return loss, size, left(self.metrics), left(self.buffers)

    def take_gradient(self, state, hparams, batch, metrics) -> "Taken":
        """Returns the training gradient, the loss and the scope after it."""
        with gradient_rules.within(), tf.GradientTape() as tape:
            tape.watch(state.params)
            seen = self.hyperparameters.batch(hparams, batch)
            scope = self._scope(state, hparams, metrics, tape.watch)
            with scope:
                y_pred = self._call(seen, training=True)
                loss, mean = self._training_loss(state, hparams, seen, y_pred)
                self._measure(batch, y_pred, mean)
                objective = self.optimizer.scale_loss(loss)
            # A variable's gradient is the sum of those of all its reads.
            reads = [
                [w, *scope.read_back.get(id(v), [])]
                for v, w in zip(self.params, state.params, strict=True)
            ]
            gradients = [_sum(g) for g in tape.gradient(objective, reads)]
            params = [
                scope.left([v])[0] if id(v) in scope.written else w
                for v, w in zip(self.params, state.params, strict=True)
            ]
        return Taken(gradients, params, mean, scope)

    @functools.cached_property
    def suits_xla(self) -> bool:
        """Whether XLA can run the steps, and likely faster, on the device."""
        return suits_xla({*self.look.operations})

    @property
    def needs_order(self) -> bool:
        """Whether the time of a step depends on its operations' order."""
        return needs_order(self.look.operations)

    def gains_by_xla(self, steps: int) -> bool:
        """Returns whether so many steps gain more than compiling costs."""
        weights = sum(v.shape.num_elements() for v in self.params)
        loops = any("While" in kind for kind in self.look.operations)
        return pays(steps, weights, has_loops=loops) and self.suits_xla

    # ---- inside

    def _first_half(
        self, state, hparams, batch, metrics, *, is_differentiated: bool
    ) -> FirstHalf:
        """Returns what a step computes before the optimizer's update."""
        if self._constants is not None and self.parts == 1:
            copied = self._copies.first_half(
                self._pairs(state),
                hparams,
                batch,
                metrics,
                is_differentiated=is_differentiated,
            )
            if copied is not None:
                return copied
        taken = self.take_gradient(state, hparams, batch, metrics)
        left = taken.scope.left
        return FirstHalf(
            taken.gradients,
            left(self.buffers),
            left(self.metrics),
            taken.loss,
            taken.params,
        )

    def _second_half(
        self, state, gradients, hparams, *, is_differentiated: bool
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the parameters and slots after the optimizer's update."""
        if self._constants is not None:
            copied = self._copies.update(
                self._pairs(state),
                gradients,
                hparams,
                is_differentiated=is_differentiated,
            )
            if copied is not None:
                return copied
        number_of = functools.partial(self.hyperparameters.number, hparams)
        scope = keras.StatelessScope(self._pairs(state))
        with gradient_rules.within():
            self._apply(scope, gradients, self.params, number_of)
        return _current(scope, self.params), _current(scope, self.slots)

    def _call(self, batch, training):
        """Returns the model's outputs for a batch."""
        if keras_internals.takes_training(self.model):
            return self.model(batch.x, training=training)
        return self.model(batch.x)

    def _loss(self, batch, y_pred, training):
        """Returns the model's own loss of outputs."""
        x, y, sample_weight, _ = batch
        return compute_loss(
            self.model,
            x,
            y,
            y_pred,
            sample_weight,
            training,
            scale_of_sums=self.parts,
        )

    def _reduced(self, loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the sum of losses, and how many there are; see `parts`.

        Keras differentiates the sum of losses with `reduction=None`, and
        reports the mean; a scalar loss is returned with `None`.
        """
        if not loss.shape.rank:
            return loss, None
        parts = tf.constant(self.parts, loss.dtype)
        count = tf.cast(tf.size(loss), loss.dtype)
        return parts * tf.reduce_sum(loss), parts * count

    def _training_loss(self, state, hparams, batch, y_pred):
        """Returns the loss of outputs with what hyperparameters make of it.

        And the loss that is reported, which is another one where the model's
        loss has `reduction=None`.
        """
        together = self.hyperparameters
        y_pred = together.outputs(hparams, y_pred)
        loss, count = self._reduced(self._loss(batch, y_pred, training=True))
        # Weights that training does not adjust are there, too.
        params = {id(v): v.value for v in self.model.trainable_variables}
        keys = [id(v) for v in self.params]
        params |= dict(zip(keys, state.params, strict=True))
        loss = together.loss(hparams, loss, batch, y_pred, params)
        return loss, loss if count is None else loss / count

    def _measure(self, batch, y_pred, loss):
        """Updates loss and metrics; returns the number of examples.

        The order of the calls is that of `keras.Model.train_step`.
        """
        x, y, sample_weight, _ = batch
        size = tf.shape(next(a for a in tf.nest.flatten(x) if a is not None))[0]
        tracker = keras_internals.loss_tracker(self.model)
        tracker.update_state(loss, sample_weight=size)
        self.model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return tf.cast(size, loss.dtype)

    def look_args(self, batch: Batch) -> tuple:
        """Returns the arguments of `look.gradient`, as things are now."""
        problem = copy.copy(self)
        problem.params, problem.slots, problem.buffers = self.look.asked
        return (
            problem.state(),
            self.hparams(),
            self.metrics_state(),
            batch,
        )

    def _find_what_changes(self, batch) -> None:
        """Traces one step; keeps of the state what the step changes.

        Raises:
            ValueError: if no trainable weight has a gradient, or the step does
                what no pure function does.
        """
        look = Look(self, batch)
        if look.strays:
            # Variables of nobody's that a call assigns are part of the state.
            self.buffers += look.strays
            look = Look(self, batch)
        self.params, self.slots = look.params, look.slots
        self.buffers = look.buffers
        self.fixed, self.loose = look.fixed, look.loose
        self.assigns_params = look.assigns_params
        self.update_is_smooth = not look.update_operations & SINGULAR
        self.unread_slots = look.unread_slots
        self.look = look
        self._copies = CopiedStep(look)

    def _scope(self, state, hparams, metrics=(), watch=None) -> Scope:
        """Returns the scope in which variables have the values of a state.

        The model's weights are those that it computes with, and its layers see
        the hyperparameters.
        """
        state = state._replace(params=self.weights_of(state.params, hparams))
        pairs = [
            *zip(self.hyperparameters.raws, hparams, strict=True),
            *self._pairs(state),
        ]
        if metrics:
            pairs += zip(self.metrics, metrics, strict=True)
        return Scope(pairs, watch)

    def _pairs(self, state) -> list:
        """Returns pairs of a variable and its value in a state."""
        held = self._constants
        held = (
            values_of(self.fixed) if held is None else held[: len(self.fixed)]
        )
        pairs = list(zip(self.fixed, held, strict=True))
        for variables, values in zip(self._variables(), state, strict=True):
            pairs += zip(variables, values, strict=True)
        return pairs


class Taken(NamedTuple):
    """What a step computes before the optimizer's update.

    Attributes:
        gradients: list of tensors or `Rows`, as the parameters; `None` where
            the loss does not depend on one.
        params: list of tensors, the parameters after the model's call.
        loss: scalar, the training loss, as it is reported.
        scope: `Scope`, with what the step left in variables.
    """

    gradients: list
    params: list[tf.Tensor]
    loss: tf.Tensor
    scope: Scope


def _called(state: State, half: FirstHalf) -> State:
    """Returns the state after the model's call."""
    params = state.params if half.params is None else half.params
    return state._replace(params=params, buffers=half.buffers)


def _sum(gradients: list) -> Any:
    """Returns a sum of gradients, of which some may be `None`."""
    found = [g for g in gradients if g is not None]
    if len(found) < 2:
        (g,) = found or [None]
        is_rows = isinstance(g, tf.IndexedSlices)
        return Rows(g.values, g.indices) if is_rows else g
    return tf.add_n([tf.convert_to_tensor(g) for g in found])


def _current(scope: keras.StatelessScope, variables: list) -> list:
    return [scope.get_current_value(v) for v in variables]
