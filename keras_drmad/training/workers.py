"""What the workers of one training agree on, and what each does alone.

Every worker runs the same program. They compute the same numbers as long as
they begin with the same ones and take the same decisions; whatever could
differ (a seed that nobody gave, initializers, a callback that looks at the
clock) is the chief's, or any worker's. Trainings of several draws need nobody
else: then each worker has draws of its own.
"""

import contextlib
import hashlib
import io
import pathlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.walked import Diverged, Ended
from keras_drmad.seam.replicas import Replicas
from keras_drmad.training.backup_files import BackupFiles
from keras_drmad.training.time_budget import TimeBudget

# Callbacks that write where they are told: the chief's alone.
WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)
# What TensorFlow says where another worker does not answer.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
    tf.errors.UnavailableError,
)
OUT_OF_STEP = (tf.errors.InternalError, tf.errors.InvalidArgumentError)


class Stopped(Exception):
    """Training is to end here: a callback says so, or time is up.

    Attributes:
        is_late: bool, whether time is up.
    """

    def __init__(self, *, is_late: bool = False):
        super().__init__()
        self.is_late = is_late


class StoppedReading(Stopped, Ended):
    """Training is to end here, and to read no further."""


class Workers:
    """The workers of a training, as seen from one of them.

    Every worker has to call `agree`, `seed`, `loaded`, `any_of_all`, `each`,
    `of_draw`, `common`, `sum_of_draws` and `ending_together` equally often, and
    in one order: what they return comes from all. `any` and `the_chiefs` are of
    this kind unless workers are apart; then they concern one worker.

    Attributes:
        replicas: `Replicas`, of all workers.
        are_apart: bool, whether each worker has draws of its own, and steps
            are divided among its own devices alone.
    """

    def __init__(self, replicas: Replicas, draws: int = 1):
        """Initializes the workers.

        Args:
            replicas: of all workers.
            draws: int, the trainings in a meta-iteration.
        """
        self.replicas = replicas
        self.are_apart = 1 < replicas.workers <= draws

    @property
    def steps_divided_by(self) -> Replicas:
        """The replicas that have parts of each minibatch."""
        return self.replicas.of_worker() if self.are_apart else self.replicas

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes and prints."""
        return self.replicas.is_chief

    # ---- before a training

    def seed(self, seed: int | None) -> int | None:
        """Returns a seed; where none was given, the chief's."""
        if seed is not None or self.replicas.workers == 1:
            return seed
        return int(self.replicas.from_chief(np.random.randint(2**31)))

    def the_chiefs(self, value: int) -> int:
        """Returns the chief's value, where all walk together."""
        if self.replicas.workers == 1 or self.are_apart:
            return value
        return int(self.replicas.from_chief(value))

    def loaded(self, files: BackupFiles) -> dict | None:
        """Returns the last whole backup; the chief's, on all workers.

        Args:
            files: where the chief's are. Other workers need not see them.
        """
        if self.replicas.workers == 1:
            return files.load()
        packed = _packed(files.folder) if self.is_chief else b""
        size = int(self.replicas.from_chief(np.int64(len(packed))))
        data = np.zeros(-(-size // 4), np.int32)
        data.view(np.uint8)[: len(packed)] = np.frombuffer(packed, np.uint8)
        packed = np.asarray(self.replicas.from_chief(data)).tobytes()[:size]
        if self.is_chief:
            return files.load()
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                tar.extractall(folder, filter="data")
            return BackupFiles(folder).load()

    def agree(self, of: Callable[[], Mapping[str, Any]]) -> None:
        """Checks that all workers were asked for the same.

        Args:
            of: function that returns a dict from a name to what has a `repr`
                that says all; called where there are several workers.

        Raises:
            ValueError: if they were not, on all workers.
        """
        if self.replicas.workers > 1:
            facts = of()
            # Numbers of facts that differ could not be compared one by one.
            self._agree({"which arguments there are": list(facts)})
            self._agree(facts)

    def _agree(self, facts: Mapping[str, Any]) -> None:
        own = np.stack([_digest(repr(fact)) for fact in facts.values()])
        chief = np.asarray(self.replicas.from_chief(own))
        (differs,) = self.replicas.sum([np.any(own != chief, 1).astype(int)])
        names = [name for name, n in zip(facts, differs, strict=True) if n]
        if names:
            mine = ", ".join(f"{n}: {_short(facts[n])}" for n in names)
            raise ValueError(
                "The workers were not asked for the same training: they differ "
                f"in {', '.join(names)}. Run the same program, with the same "
                f"data, on each. Received by worker {self.replicas.worker}: "
                f"{mine}."
            )

    def callbacks(self, callbacks: Any) -> Any:
        """Returns the callbacks of this worker: only the chief's write."""
        if self.is_chief or not callbacks:
            return callbacks
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks = self.callbacks(callbacks.callbacks)
            return callbacks
        listed = tf.nest.flatten(callbacks)
        return [one for one in listed if not isinstance(one, WRITERS)]

    # ---- during trainings

    def any(self, flag: bool) -> bool:
        """Returns whether any worker says so, while all walk together."""
        return flag if self.are_apart else self.any_of_all(flag)

    def any_of_all(self, flag: bool) -> bool:
        """Returns whether any worker says so, between meta-iterations."""
        if self.replicas.workers == 1:
            return flag
        return bool(self.replicas.sum([np.int32(flag)])[0])

    def stopped(self, *, is_late: bool = False) -> Stopped:
        """Returns what ends a training that no other one has to follow.

        Workers that train together read a stream as far as they had begun to:
        all of them begin it equally often, for the next `fit`.

        Args:
            is_late: bool, whether time is up.
        """
        if self.replicas.workers > 1:
            return Stopped(is_late=is_late)
        return StoppedReading(is_late=is_late)

    def each(self, draws: int, function: Callable[[int], Any]) -> list[Any]:
        """Returns what a function returns for each draw, on all workers.

        Args:
            draws: int.
            function: of the number of the draw; returns a structure of arrays,
                alike for all draws.

        Raises:
            Diverged: if the function does, on any worker.
        """
        if not self.are_apart:
            return [function(draw) for draw in range(draws)]
        W = self.replicas.workers
        own = range(self.replicas.worker, draws, W)
        with self.ending_together():
            found = {draw: function(draw) for draw in own}
        like = next(iter(found.values()))
        flat = [
            [np.asarray(x) for x in tf.nest.flatten(found[draw])]
            if draw in found
            else [np.zeros_like(np.asarray(x)) for x in tf.nest.flatten(like)]
            for draw in range(draws)
        ]
        shared = self.replicas.sum([x for one in flat for x in one])
        size = len(flat[0])
        return [
            tf.nest.pack_sequence_as(like, shared[k * size : (k + 1) * size])
            for k in range(draws)
        ]

    def of_draw(self, draw: int, each: Mapping[int, Any]) -> Any:
        """Returns a draw's `Trained`, that of the worker who had the draw.

        Args:
            draw: int.
            each: dict from this worker's draws to what came of them; only one
                is held, `draw` itself where the worker had it.
        """
        if not self.are_apart:
            return each[draw]
        trained = each[max(each)]
        states = trained.s_0, trained.walked.state
        owner = draw % self.replicas.workers
        s_0, state = self.replicas.from_worker(owner, states)
        walked = trained.walked._replace(state=state)
        return trained._replace(s_0=s_0, walked=walked)

    def common(self, state: Any) -> Any:
        """Returns a state of the chief's, where each worker has one."""
        if not self.are_apart:
            return state
        if self.any_of_all(state is None):
            return None
        return self.replicas.from_chief(state)

    def sum_of_draws(self, sums: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns sums over all draws, given those over this worker's."""
        if not self.are_apart:
            return sums
        return [tf.constant(x) for x in self.replicas.sum(sums)]

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Raises on all workers what ends trainings that one has apart."""
        if not self.are_apart:
            yield
            return
        ended: Diverged | Stopped | None = None
        try:
            yield
        except (Diverged, Stopped) as error:
            ended = error
        found = np.zeros((self.replicas.workers, 3), np.int32)
        if isinstance(ended, Diverged):
            found[self.replicas.worker] = (
                1,
                ended.step,
                int(ended.what == "validation"),
            )
        elif ended is not None:
            found[self.replicas.worker, 0] = 3 if ended.is_late else 2
        (all_found,) = self.replicas.sum([found])
        for kind, step, in_validation in all_found:
            if kind == 1:
                what = "validation" if in_validation else "training"
                raise Diverged(int(step), what)
        kinds = all_found[:, 0]
        if kinds.any():
            raise Stopped(is_late=3 in kinds)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Says in words where another worker was lost.

        Raises:
            RuntimeError: if it was.
        """
        try:
            yield
        except LOST as error:
            reason = " ".join(str(error).split())
            if self.replicas.workers == 1 or "ollective" not in reason:
                raise
            what = (
                "could not reach the others: one of them ended, or the network "
                "between them did"
            )
            if isinstance(error, OUT_OF_STEP):
                what = (
                    "is out of step with the others, which do not run the same "
                    "program"
                )
            raise RuntimeError(
                f"Worker {self.replicas.worker} of {self.replicas.workers} "
                f"{what} ({reason[:300]}). Start all workers again."
            ) from error


ALONE = Workers(Replicas())


def facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is to be alike on all workers of the arguments of `fit`.

    Plain values, the types of others, and the callbacks that time and backups
    are by.
    """
    plain = (bool, int, float, str, type(None))
    found: dict[str, Any] = {
        k: v if isinstance(v, plain) else type(v).__name__
        for k, v in given.items()
        if k != "verbose"
    }
    callbacks = given.get("callbacks")
    listed = getattr(callbacks, "callbacks", callbacks)
    found["callbacks"] = [
        (type(one).__name__, getattr(one, "seconds", None))
        for one in tf.nest.flatten(listed)
        if isinstance(one, (keras.callbacks.BackupAndRestore, TimeBudget))
    ]
    return found


def _short(fact: Any) -> str:
    """Returns a few letters that say what a fact is, or tell it from others."""
    words = repr(fact)
    if len(words) < 100 and not isinstance(fact, (list, bytes)):
        return words
    return f"digest {int(_digest(words)[0]) % 2**32:08x}"


def _packed(folder: pathlib.Path) -> bytes:
    """Returns the files of a folder as one."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        if folder.is_dir():
            tar.add(folder, arcname=".")
    return data.getvalue()


def _digest(text: str) -> np.ndarray:
    """Returns a few integers that are different for different texts."""
    return np.frombuffer(
        hashlib.blake2b(text.encode(), digest_size=16).digest(), np.int32
    )
