"""The course of one `fit`: its backups, and the end of its time."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras

from keras_drmad.core.reversible_problem import in_floats
from keras_drmad.core.state import State
from keras_drmad.training import fingerprints
from keras_drmad.training.backup_files import BackupFiles
from keras_drmad.training.randomness import drawn_seed
from keras_drmad.training.time_budget import MARGIN, Clock, TimeBudget
from keras_drmad.training.workers import ALONE, Stopped, Workers


class Backup:
    """What `keras.callbacks.BackupAndRestore` asks for, done for a `fit`.

    Attributes:
        files: `BackupFiles`.
    """

    def __init__(
        self, callback: keras.callbacks.BackupAndRestore, *, writes: bool = True
    ):
        """Initializes the backup.

        Args:
            callback: Keras's callback, which itself does nothing.
            writes: bool, whether this process writes files, and deletes them.
        """
        self._writes = writes
        self.files = BackupFiles(callback.backup_dir)
        self._frequency = callback.save_freq
        self._deletes = callback.delete_checkpoint
        self._steps = 0

    @property
    def is_within(self) -> bool:
        """Whether there are backups within trainings."""
        return not isinstance(self._frequency, str) and self._frequency > 0

    def after(self, steps: int, tree: dict, *, is_end: bool = False) -> None:
        """Saves a tree if it is time to.

        Args:
            steps: int, the minibatches since the last call.
            tree: the tree.
            is_end: bool, whether a training has come to its end.
        """
        self._steps += steps
        if is_end or (self.is_within and self._steps >= self._frequency):
            self.save(tree)

    def is_due(self, steps: int) -> bool:
        """Returns whether to save now, some steps after the last call."""
        self._steps += steps
        return self.is_within and self._steps >= self._frequency

    def save(self, tree: dict) -> None:
        """Saves a tree."""
        if self._frequency:
            if self._writes:
                self.files.save(tree)
            self._steps = 0

    def end(self) -> None:
        """Deletes the backups of a `fit` that came to its end."""
        if self._deletes and self._writes:
            self.files.delete()


class Work(NamedTuple):
    """Work that is to be done in time.

    Attributes:
        stages: dict from a stage to its minibatches.
        later: the same, of what is to come after it.
        kind: `"first"` training, which is begun in any case, for there is
            nothing yet; `"next"` meta-iteration, of which only the whole is of
            use; `"last"` training, which goes on until time is up.
    """

    stages: dict[str, float]
    later: dict[str, float] = {}
    kind: str = "first"


class Course:
    """How far a `fit` has come, what of it is kept, and how it ends in time.

    What is kept is a tree: `"base"` has what the meta-iteration under way began
    with, `"trainings"` has for each of its trainings, by name, and each stage
    what `Watcher.on_chunk` was told last, or the outcome of the training.

    Attributes:
        seed: int, of the `fit`.
        taken: list of callbacks, in whose place the course works.
        base: dict, what was found in the backup, until the first `begin`;
            empty where nothing is resumed.
    """

    def __init__(
        self,
        callbacks: Any = None,
        given: Callable[[], dict[str, str]] = dict,
        seed: int | None = None,
        workers: Workers = ALONE,
    ):
        """Initializes the course, and looks for a backup.

        Args:
            callbacks: as for `fit`.
            given: function that returns what `fit` was given, in words.
            seed: as for `fit`.
            workers: who take the same course. The chief has the backups, and
                the time of all is over when one's is.

        Raises:
            ValueError: if there is a backup of a `fit` with other arguments.
        """
        begin, self.workers = time.monotonic(), workers
        each = getattr(callbacks, "callbacks", callbacks) or []
        each = each if isinstance(each, Sequence) else [each]
        self.taken = [one for one in each if _is_taken(one)]
        budgets = [x.seconds for x in each if isinstance(x, TimeBudget)]
        self._clock = Clock(min(budgets), begin) if budgets else None
        self._backup = None
        if self.taken:
            self._backup = Backup(self.taken[0], writes=workers.is_chief)
        self._tree: dict[str, Any] = {}
        self._work, self._left_of = Work({}), dict[str, float]()
        self._reached: Any = None
        found = None
        if self._backup is not None:
            words = given()
            workers.agree(lambda: words)
            found = workers.loaded(self._backup.files)
            if found is not None:
                fingerprints.check(found["given"], words)
            seed = workers.seed(seed)
            self._tree = {"given": words, "seed": drawn_seed(seed)}
            self._tree |= found or {}
        self.base: dict[str, Any] = self._tree.get("base", {})
        self._is_resumed = bool(self.base)
        self._trainings = self._tree.setdefault("trainings", {})
        self.seed = self._tree.get("seed", workers.seed(seed))

    @property
    def folder(self) -> str:
        """Where the backup is that the course writes."""
        return str(self.taken[0].backup_dir) if self.taken else ""

    @property
    def keeps(self) -> bool:
        """Whether there are backups."""
        return self._backup is not None

    @contextlib.contextmanager
    def in_place_of(
        self, callbacks: keras.callbacks.CallbackList
    ) -> Iterator[None]:
        """Within it, the callbacks are left out whose work the course does."""
        each = callbacks.callbacks
        callbacks.callbacks = [one for one in each if one not in self.taken]
        try:
            yield
        finally:
            callbacks.callbacks = each

    # ---- what is kept

    def begin(self, base: Callable[[], dict], *keep: str) -> None:
        """Begins a meta-iteration, an epoch, or the end.

        Args:
            base: function that returns what is there now.
            *keep: the names of trainings that go on.
        """
        if self._backup is None or self.is_over:
            return
        is_new = "base" in self._tree
        self._tree["base"] = base()
        if self._is_resumed:  # in the middle of the very trainings
            self._is_resumed, self.base = False, {}
            return
        for name in set(self._trainings) - set(keep):
            del self._trainings[name]
        if is_new:
            self._backup.save(self._tree)

    def begun(self, name: str, stage: str) -> dict[str, Any]:
        """Returns what is kept of a stage of a training, by its name."""
        return self._trainings.get(name, {}).get(stage, {})

    def is_due(self, steps: int) -> bool:
        """Returns whether it is time for a backup, some steps after the last.

        Args:
            steps: int, those since the last call.
        """
        return self._backup is not None and self._backup.is_due(steps)

    def forget(self, name: str) -> None:
        """Forgets the stages of a training, which is to begin anew."""
        self._trainings.pop(name, None)

    def on_chunk(
        self,
        name: str,
        stage: str,
        steps: int,
        tree: dict,
        *,
        is_kept: bool = True,
    ) -> None:
        """Is told of the end of a chunk; see `Watcher.on_chunk`.

        Raises:
            Stopped: if time is up.
        """
        # What ends a `fit` whose time is over is no part of one that goes on.
        if self._backup is not None and is_kept and not self.is_over:
            stages = self._trainings.setdefault(name, {})
            if stage == "outcome":  # needs no other stage any more
                stages.clear()
            stages[stage] = tree
            self._backup.after(steps, self._tree, is_end=stage == "outcome")
        if self._clock is not None:
            self._clock.note(stage, steps)
            if stage == "forward":
                self._reached = tree["state"]
            self._left_of[stage] = self._left_of.get(stage, 0) - steps
            self._check_time(self._clock)

    def end(self) -> None:
        """Is told that `fit` came to its end."""
        if self._backup is not None and not self.is_over:
            self._backup.end()

    # ---- time

    @property
    def reached(self) -> State | None:
        """The state at the end of the last chunk forward.

        `None` before, and where time is not watched.
        """
        return None if self._reached is None else in_floats(self._reached)

    def hear(self, stopped: Stopped) -> None:
        """Is told why a training ended: time may be up on another worker."""
        if self._clock is not None:
            self._clock.is_over |= stopped.is_late

    @property
    def is_over(self) -> bool:
        """Whether work was ended, or not begun, for lack of time."""
        return self._clock is not None and self._clock.is_over

    def watch(self, traces: Callable[[], int]) -> None:
        """Begins to time; see `Clock.watch`."""
        if self._clock is not None:
            self._clock.watch(traces)

    def longest(self, most: int) -> int:
        """Returns how many steps forward a chunk may have; see `Clock`."""
        if self._clock is None:
            return most
        return self.workers.the_chiefs(self._clock.longest(most))

    def has_time(self, work: Work) -> bool:
        """Returns whether time will do for work, and takes the work up."""
        clock = self._clock
        if clock is None:
            return True
        clock.note("between", 1)
        self._work, self._left_of = work, dict(work.stages)
        needed = self._needed(clock)
        if work.kind == "last":
            needed = clock.seconds(work.stages)
        fits = work.kind == "first" or MARGIN * needed < clock.left
        fits = not self.workers.any_of_all(not fits)
        clock.is_over |= not fits
        return fits

    def _needed(self, clock: Clock) -> float:
        """Returns the seconds without which what was begun is of no use."""
        kind, stages = self._work.kind, self._left_of
        is_kept = self._backup is not None and self._backup.is_within
        if kind == "next":
            later = clock.seconds(self._work.later)
            if not is_kept:
                return clock.seconds(stages) + later
            # The next `fit` goes on where this one is. If the model is to be
            # complete each time, most of the time is for what goes on.
            return later if later < clock.budget / 2 else 0.0
        is_walked = stages.get("forward", 0) <= 0
        if kind == "first" and is_walked and not is_kept:
            return clock.seconds(stages, guesses=False)
        return 0.0  # weights are of use wherever a training ends

    def _check_time(self, clock: Clock) -> None:
        """Raises `Stopped` if time is up, or will be before work is of use."""
        if self.workers.any(clock.left <= self._needed(clock)):
            clock.is_over = True
            raise self.workers.stopped(is_late=True)


def _is_taken(callback: Any) -> bool:
    """Returns whether the course does a callback's work.

    Keras's own class, and a folder on this machine: what others do in its
    methods they do themselves.
    """
    return type(callback) is keras.callbacks.BackupAndRestore and (
        "://" not in str(callback.backup_dir)
    )
