"""An elementary training whose minibatches are computed in parts."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.core import nested
from keras_drmad.core.rows import Rows
from keras_drmad.core.state import Batch, State
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.seam.replicas import Part, Replicas

# Replicas draw other masks: their seeds are this much apart (the golden ratio
# of 2³², which spreads multiples evenly).
_SEEDS_APART = 0x9E3779B9


class ReplicatedProblem:
    """A problem, with a part of each minibatch on each replica.

    Loss, gradient and moving averages are means over the parts, each counted
    by its examples, so a model whose examples do not see each other trains as
    on one device. Statistics of a batch (BatchNormalization) are those of a
    part, as with Keras. The first replica draws the masks that one device
    would draw.

    Attributes:
        problem: `ElementaryProblem`, for whole minibatches.
        replicas: `Replicas`.
    """

    takes_any_size = False  # parts are cut where the step is traced

    def __init__(self, problem: ElementaryProblem, replicas: Replicas):
        """Initializes the problem."""
        self.problem = problem
        self.replicas = replicas
        self.size, self.rows = problem.look.size, problem.look.rows

    @property
    def assigns_params(self) -> bool:
        """Whether the model's call assigns parameters, too."""
        return self.problem.assigns_params

    @property
    def carries(self) -> bool:
        """Whether validation, too, changes buffers."""
        return self.problem.carries

    @property
    def update_is_smooth(self) -> bool:
        """Whether the update has a finite derivative at every point."""
        return self.problem.update_is_smooth

    @property
    def unread_slots(self) -> tuple[int, ...]:
        """The places of slots whose values no derivative depends on."""
        return self.problem.unread_slots

    def at(self, constants: list[tf.Tensor]) -> "ReplicatedProblem":
        """Returns the problem whose steps read these constants."""
        return ReplicatedProblem(self.problem.at(constants), self.replicas)

    def constants(self) -> list[tf.Tensor]:
        """Returns what steps would read now."""
        return self.problem.constants()

    def holding(
        self, constants: list[tf.Tensor]
    ) -> contextlib.AbstractContextManager:
        """Returns a context in which steps read these constants."""
        return self.problem.holding(constants)

    def metrics_state(self) -> list[tf.Tensor]:
        """Returns the state of metrics that have seen nothing."""
        return self.problem.metrics_state()

    def logs(self, metrics: list[tf.Tensor]) -> dict[str, Any]:
        """Returns the results of metrics in a state, by name."""
        return self.problem.logs(metrics)

    # ---- the functions of `core.state.Problem`

    def rules(self) -> contextlib.AbstractContextManager:
        """Returns a context whose operations `vjp` differentiates as ours."""
        return self.problem.rules()

    def gradient(self, state, hparams, batch):
        """Returns the training gradient, and the state after the call."""
        here, hparams = self._spread(state, hparams)

        def of_part(problem, own, batch):
            g, called = problem.gradient(own, hparams, batch)
            return g, _assigned(own, called), called.buffers

        each = self._each(here, batch, of_part)
        g, assigned, buffers = zip(*each.results, strict=True)
        means = list(zip(assigned, buffers, strict=True))
        g, (assigned, buffers), _ = self._added(each, g, means)
        return g, self._called(state, assigned, self._settled(each, buffers))

    def outputs(self, state, hparams, batch, before_activation):
        """Returns outputs z, the buffers after the step, and L as function.

        The outputs are those of this worker's parts, one after the other, and
        L is what these add to the loss.
        """
        state, hparams = self._spread(state, hparams)

        def of_part(problem, own, batch):
            return problem.outputs(own, hparams, batch, before_activation)

        each = self._each(state, batch, of_part)
        z, buffers, loss_of = zip(*each.results, strict=True)
        _, mean, _ = self._added(each, (), buffers)

        def loss_of_all(places):
            loss, first = [], 0
            for k, part in enumerate(each.parts):
                own = places[first : first + len(z[k])]
                first += len(own)
                with tf.device(part.device):
                    loss.append(part.share * loss_of[k](own))
            return tf.add_n(loss)

        return sum(z, []), self._settled(each, mean), loss_of_all

    def update(self, state, gradients, hparams):
        """Returns the parameters and slots after the optimizer's update."""
        return self.problem.update(state, gradients, hparams)

    def step(self, state, hparams, batch, metrics):
        """Returns the next state, the metrics' state and the training loss."""
        here, hparams_here = self._spread(state, hparams)

        def of_part(problem, own, batch):
            taken = problem.take_gradient(own, hparams_here, batch, metrics)
            called = own._replace(params=taken.params)
            left = taken.scope.left
            return (
                taken.gradients,
                _assigned(own, called),
                left(problem.buffers),
                taken.loss,
                left(problem.metrics),
            )

        each = self._each(here, batch, of_part)
        g, assigned, buffers, loss, after = zip(*each.results, strict=True)
        means = list(zip(assigned, buffers, loss, strict=True))
        changes = self._changes(each, metrics, after)
        g, (assigned, buffers, loss), changes = self._added(
            each, g, means, changes
        )
        called = self._called(state, assigned, self._settled(each, buffers))
        params, slots = self.problem.update(called, g, hparams)
        return (
            State(params, slots, called.buffers),
            nested.add(metrics, changes),
            loss,
        )

    def validation_loss(self, state, hparams, batch, metrics):
        """Returns the batch's loss as `evaluate` has it, its size, metrics."""
        state, hparams = self._spread(state, hparams)

        def of_part(problem, own, batch):
            return problem.validation_loss(own, hparams, batch, metrics)

        each = self._each(state, batch, of_part)
        loss, _, after = zip(*each.results, strict=True)
        changes = self._changes(each, metrics, after)
        _, loss, changes = self._added(each, (), loss, changes)
        size = tf.constant(each.size, loss.dtype)
        return loss, size, nested.add(metrics, changes)

    def carrying_validation_loss(self, state, hparams, batch, metrics):
        """Returns what `validation_loss` does, and the buffers after it.

        What validation leaves for its next batch is of the whole batch, so
        every worker computes all of it.
        """
        return self.problem.carrying_validation_loss(
            state, hparams, batch, metrics
        )

    # ---- inside

    def _spread(self, state: State, hparams: list) -> tuple[State, list]:
        """Returns what parts depend on, for use in them."""
        leaves = [*state.params, *state.buffers, *hparams]
        spread = self.replicas.spread(leaves)
        p, b = len(state.params), len(state.buffers)
        state = state._replace(params=spread[:p], buffers=spread[p : p + b])
        return state, spread[p + b :]

    def _each(self, state: State, batch: Batch, function: Callable) -> "_Each":
        """Calls `function(problem, state, batch)` for this worker's parts."""
        size = nested.leaves(batch.x)[0].shape[0]
        parts = self.replicas.parts(size)
        each = _Each(size, parts, self.problem, [])
        for part in parts:
            problem = copy.copy(self.problem)
            problem.parts = 1 / part.share if part.share else 1.0
            own = nested.map_arrays(
                lambda a, part=part: a[part.first : part.last], batch
            )
            buffers = each.with_offset(state.buffers, part)
            with tf.device(part.device):
                each.results.append(
                    function(problem, state._replace(buffers=buffers), own)
                )
        return each

    def _changes(self, each, before: list, after: list) -> list:
        """Returns what parts add to the metrics, whose variables are sums."""
        return [
            [
                y - x if part.share else tf.zeros_like(x)
                for x, y in zip(before, one, strict=True)
            ]
            for part, one in zip(each.parts, after, strict=True)
        ]

    def _added(
        self, each: "_Each", gradients: tuple, means: list, sums: Any = ()
    ) -> tuple[list, Any, list]:
        """Adds what parts computed, those of all workers.

        Args:
            each: `_Each`.
            gradients: for each part, a list of gradients; or empty.
            means: list, for each part, of a structure of which means are
                wanted; integers are those of any part.
            sums: list, for each part, of tensors that add up; or empty.

        Returns:
            The gradient, the means and the sums.
        """
        flat = [tf.nest.flatten(one) for one in means]
        mean = [each.mean(leaf) for leaf in zip(*flat, strict=True)]
        places = [k for k, x in enumerate(mean) if x.dtype.is_floating]
        local = [
            [
                each.gradient(parts, (rows, self.size))
                for parts, rows in zip(
                    zip(*gradients, strict=True),
                    self.rows if gradients else [],
                    strict=True,
                )
            ],
            [mean[k] for k in places],
            [_plus(parts) for parts in zip(*sums, strict=True)],
        ]
        total = self.replicas.total(tf.nest.flatten(local))
        g, floats, added = tf.nest.pack_sequence_as(local, total)
        for k, x in zip(places, floats, strict=True):
            mean[k] = x
        return g, tf.nest.pack_sequence_as(means[0], mean), added

    def _settled(self, each: "_Each", buffers: list) -> list:
        """Returns buffers as all workers have them.

        Seeds are those of all replicas again, and integers the chief's.
        """
        buffers = each.without_offset(buffers)
        if self.replicas.workers == 1:
            return buffers
        places = [
            k
            for k, x in enumerate(buffers)
            if not x.dtype.is_floating and not each.is_seed[k]
        ]
        chiefs = [
            buffers[k] if self.replicas.is_chief else tf.zeros_like(buffers[k])
            for k in places
        ]
        found = dict(zip(places, self.replicas.total(chiefs), strict=True))
        return [found.get(k, x) for k, x in enumerate(buffers)]

    def _called(self, state, assigned: dict, buffers: list) -> State:
        """Returns the state after the call, given what it assigned."""
        params = [assigned.get(k, w) for k, w in enumerate(state.params)]
        return state._replace(params=params, buffers=buffers)


class _Each:
    """What a function returned for each of a worker's parts."""

    def __init__(self, size: int, parts: list[Part], problem, results: list):
        self.size = size
        self.parts = parts
        self.results = results
        self.is_seed = [
            keras_internals.is_seed_state(v) for v in problem.buffers
        ]

    def with_offset(self, buffers: list, part: Part) -> list:
        """Returns buffers whose seeds are a replica's own."""
        return self._moved(tf.add, buffers, part.number)

    def without_offset(self, buffers: list) -> list:
        """Returns buffers whose seeds are those of all replicas."""
        return self._moved(tf.subtract, buffers, self.parts[0].number)

    def _moved(self, function: Callable, buffers: list, number: int) -> list:
        return [
            function(x, _offset(number, x)) if is_seed else x
            for x, is_seed in zip(buffers, self.is_seed, strict=True)
        ]

    def mean(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns this worker's share of a mean; of integers, the first."""
        if not parts[0].dtype.is_floating:
            return parts[0]
        pairs = zip(self.parts, parts, strict=True)
        return _plus([nested.scale(part.share, x) for part, x in pairs])

    def gradient(self, parts: Sequence[Any], whole: Any) -> Any:
        """Returns this worker's share of a gradient.

        Optimizers take rows of a table one by one, so rows that examples look
        up are not added up: those of this worker come in their places among
        the rows of the whole minibatch, and zeros in the places of the others.
        Rows that every part looks up, as those of positions, are added.

        Args:
            parts: the gradients of this worker's parts.
            whole: `(rows, examples)` of a whole minibatch.

        Raises:
            ValueError: if examples differ in how many rows they look up.
        """
        if not isinstance(parts[0], Rows):
            return self.mean(parts)
        rows, examples = whole
        pairs = list(zip(self.parts, parts, strict=True))
        counts = [g.values.shape[0] for g in parts]
        if rows % examples == 0 and all(
            count * examples == rows * (part.last - part.first)
            for count, part in zip(counts, self.parts, strict=True)
        ):
            return self._of_examples(pairs, rows // examples)
        if all(count == rows for count in counts):
            values = self.mean([g.values for g in parts])
            indices = parts[0].indices
            if self.parts[0].number > 0:  # indices are summed: the chief's
                indices = tf.zeros_like(indices)
            return Rows(values, indices)
        raise ValueError(
            f"A whole minibatch of {examples} examples looks up {rows} rows of "
            f"a table, and its parts {counts}: neither as many for each "
            "example nor the same for all, so replicas cannot join the "
            "gradients of theirs. Train this model on one device."
        )

    def _of_examples(self, pairs: list, count: int) -> Rows:
        """Returns rows in their places, `count` for each example."""
        own = [(part, g) for part, g in pairs if part.share]
        rows = [
            Rows(nested.scale(part.share, g.values), g.indices)
            for part, g in own
        ]
        if not rows:
            (_, g), *_ = pairs
            rows = [Rows(g.values[:0], g.indices[:0])]
        first = own[0][0].first if own else 0
        last = own[-1][0].last if own else 0
        around = [count * first, count * (self.size - last)]
        values, indices = zip(*rows, strict=True)
        return Rows(_within(values, around), _within(indices, around))


def _within(parts: Sequence[tf.Tensor], around: list[int]) -> tf.Tensor:
    """Returns tensors, one after the other, with zeros around them."""
    whole = tf.concat(parts, axis=0)
    if not any(around):
        return whole
    return tf.pad(whole, [around, *[[0, 0]] * (whole.shape.rank - 1)])


def _offset(number: int, like: tf.Tensor) -> tf.Tensor:
    """Returns what is added to a seed's state `(seed, counter)`."""
    moved = (number * _SEEDS_APART) % 2**32
    if like.dtype == tf.int32 and moved >= 2**31:
        moved -= 2**32
    return tf.constant([moved, 0], like.dtype)


def _assigned(own: State, called: State) -> dict[int, tf.Tensor]:
    """Returns the parameters that a call assigned, by their places."""
    pairs = enumerate(zip(own.params, called.params, strict=True))
    return {k: y for k, (x, y) in pairs if y is not x}


def _plus(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.add_n(list(parts))
