"""Which devices compute which part of a minibatch, and how parts are added.

Every worker has states, λ and adjoints, all alike. What a step computes of a
minibatch is a sum over its parts, one for each replica, so only two things
pass between workers: the sum of the parts, and on the way backward the sum of
what the parts say of the state. The two are each other's derivative:

    total:   x_1, ..., x_K -> Σ x_k    backward: d -> d
    spread:  x -> x                    backward: d_1, ..., d_K -> Σ d_k

(Shoeybi et al., *Megatron-LM*, arXiv:1909.08053, section 3.) Whatever is
computed of parts in between can be differentiated as if there were one device,
any number of times.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals

SUPPORTED = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)


class Part(NamedTuple):
    """A part of a minibatch.

    Attributes:
        number: int, of the replica, among those of all workers.
        device: str, where the part is computed.
        first: int, the part's first example in the minibatch.
        last: int, the place after its last one.
        share: float, the share of the minibatch's examples; 0 where there are
            more replicas than examples, and the part stands in with one.
    """

    number: int
    device: str
    first: int
    last: int
    share: float


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The replicas of a strategy, as seen from this worker.

    Attributes:
        strategy: `tf.distribute.Strategy`; `None` for one replica without.
        count: int, the replicas of all workers.
        devices: tuple of str, those of this worker.
        first: int, the number of this worker's first replica.
    """

    strategy: tf.distribute.Strategy | None = None
    count: int = 1
    devices: tuple[str, ...] = ("",)
    first: int = 0

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(cls, strategy: tf.distribute.Strategy) -> "Replicas":
        """Returns the replicas of a strategy, each time the same object."""
        count = strategy.num_replicas_in_sync
        if count == 1:
            return cls(strategy)
        devices = tuple(strategy.extended.worker_devices)
        return cls(strategy, count, devices, _worker(strategy) * len(devices))

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.count // len(self.devices)

    @property
    def worker(self) -> int:
        """The number of this worker; 0 is the chief."""
        return self.first // len(self.devices)

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the one that writes and prints."""
        return self.worker == 0

    def of_worker(self) -> "Replicas":
        """Returns the replicas of this worker, as if it were the only one."""
        return Replicas(self.strategy, len(self.devices), self.devices)

    def parts(self, size: int) -> list[Part]:
        """Returns this worker's parts of a minibatch of `size` examples.

        Sizes differ by one example at most.
        """
        bounds = [size * k // self.count for k in range(self.count + 1)]
        parts = []
        for k, device in enumerate(self.devices, self.first):
            first, last = bounds[k], bounds[k + 1]
            if last > first:
                share = (last - first) / size
                parts.append(Part(k, device, first, last, share))
            else:
                parts.append(Part(k, device, 0, 1, 0.0))
        return parts

    # ---- in a graph

    def spread(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns tensors, alike on all workers, for use in parts."""
        return self._floats(self._spread, tensors)

    def total(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns sums of the tensors of all workers."""
        if self.workers == 1:
            return tensors
        whole = {k: x for k, x in enumerate(tensors) if not x.dtype.is_floating}
        sums = dict(zip(whole, self._sum(list(whole.values())), strict=True))
        added = self._floats(self._total, tensors)
        return [sums.get(k, x) for k, x in enumerate(added)]

    def _floats(self, function: Callable, tensors: list) -> list:
        """Applies a function to the floating ones among tensors."""
        if self.workers == 1:
            return tensors
        places = [k for k, x in enumerate(tensors) if x.dtype.is_floating]
        if not places:
            return tensors
        results = function(*(tensors[k] for k in places))
        results = tf.nest.flatten(results)
        found = dict(zip(places, results, strict=True))
        return [found.get(k, x) for k, x in enumerate(tensors)]

    def _spread(self, *tensors: tf.Tensor) -> Any:
        @tf.custom_gradient
        def spread(*tensors):
            def total(*d):
                return self._total(*map(tf.convert_to_tensor, d))

            return [tf.identity(x) for x in tensors], total

        return spread(*tensors)

    def _total(self, *tensors: tf.Tensor) -> Any:
        @tf.custom_gradient
        def total(*tensors):
            return self._sum(list(tensors)), self._spread

        return total(*tensors)

    def _sum(
        self, tensors: list[tf.Tensor], all_reduce: Callable | None = None
    ) -> list[tf.Tensor]:
        """Returns sums over workers, by one all-reduce for each dtype."""
        all_reduce = all_reduce or self._all_reduce
        sums = list(tensors)
        for dtype in dict.fromkeys(x.dtype for x in tensors):
            places = [k for k, x in enumerate(tensors) if x.dtype == dtype]
            shapes = [tensors[k].shape for k in places]
            flat = tf.concat(
                [tf.reshape(tensors[k], [-1]) for k in places], axis=0
            )
            sizes = [shape.num_elements() for shape in shapes]
            parts = tf.split(all_reduce(flat), sizes)
            for k, part, shape in zip(places, parts, shapes, strict=True):
                sums[k] = tf.reshape(part, shape)
        return sums

    def _all_reduce(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the sum of a tensor over workers."""
        zeros, strategy = tf.zeros_like(x), cast(Any, self.strategy)

        @tf.autograph.experimental.do_not_convert
        def add():
            context = tf.distribute.get_replica_context()
            number = tf.get_static_value(context.replica_id_in_sync_group)
            is_first = number % len(self.devices) == 0
            # Each worker counts once.
            own = tf.identity(x if is_first else zeros)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        sums = strategy.run(add)
        return strategy.experimental_local_results(sums)[0]

    # ---- between loops

    def sum(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Returns sums over workers of arrays, alike on all of them."""
        if self.workers == 1:
            return [np.asarray(value) for value in values]
        tensors = [tf.convert_to_tensor(value) for value in values]
        return [x.numpy() for x in self._added(tensors)]

    def from_chief(self, structure: Any) -> Any:
        """Returns the chief's values of a structure of tensors or arrays."""
        return self.from_worker(0, structure)

    def from_worker(self, worker: int, structure: Any) -> Any:
        """Returns one worker's values of a structure of tensors."""
        if self.workers == 1:
            return structure
        flat = [tf.convert_to_tensor(x) for x in tf.nest.flatten(structure)]
        if self.worker != worker:
            flat = [tf.zeros_like(x) for x in flat]
        added = self._added([_summable(x) for x in flat])
        whole = [
            tf.bitcast(x, y.dtype) if y.dtype == tf.uint32 else x
            for x, y in zip(added, flat, strict=True)
        ]
        whole = [tf.cast(x, y.dtype) for x, y in zip(whole, flat, strict=True)]
        return tf.nest.pack_sequence_as(structure, whole)

    def _added(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns sums over workers, outside of graphs."""

        def all_reduce(flat):
            if flat.dtype not in self._compiled:
                spec = tf.TensorSpec([None], flat.dtype)
                self._compiled[flat.dtype] = tf.function(
                    lambda x: self._all_reduce(x),
                    input_signature=[spec],
                    autograph=False,
                )
            return self._compiled[flat.dtype](flat)

        return self._sum(tensors, all_reduce)

    @functools.cached_property
    def _compiled(self) -> dict[tf.DType, Callable]:
        """The function `_all_reduce`, compiled for each dtype."""
        return {}


def _summable(x: tf.Tensor) -> tf.Tensor:
    """Returns a tensor, or its bits, in a dtype that collectives add."""
    if x.dtype == tf.uint32:  # seeds
        return tf.bitcast(x, tf.int32)
    return tf.cast(x, tf.int32) if x.dtype == tf.bool else x


def _worker(strategy: tf.distribute.Strategy) -> int:
    """Returns this worker's number; the chief, where there is one, is 0."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return 0
    has_chief = "chief" in resolver.cluster_spec().jobs
    is_chief = resolver.task_type == "chief"
    return int(resolver.task_id or 0) + int(has_chief and not is_chief)


def check_strategy(strategy: tf.distribute.Strategy) -> None:
    """Checks that a strategy is one that training can be spread by.

    Raises:
        ValueError: if it is not.
    """
    if keras.distribution.distribution() is not None:
        raise ValueError(
            "`keras.distribution` is set, which does nothing with TensorFlow. "
            "Call `keras.distribution.set_distribution(None)`, and build and "
            "compile the model within `tf.distribute.MirroredStrategy()"
            ".scope()`."
        )
    is_none = keras_internals.is_no_strategy(strategy)
    if is_none or isinstance(strategy, SUPPORTED):
        return
    raise ValueError(
        "Invalid strategy. Expected `tf.distribute.MirroredStrategy` (devices "
        "of one machine) or `MultiWorkerMirroredStrategy` (several machines), "
        "which give every replica the same weights at every step. Received: "
        f"{type(strategy).__name__}."
    )
