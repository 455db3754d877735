"""A `fit` that ends in time: what is left of a budget, and what work takes."""

import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_drmad import arguments

# A minibatch of each stage takes about so many steps forward, until measured.
WEIGHTS = {"forward": 1, "slopes": 1, "validation": 0.5, "backward": 3}
CHUNK = 0.5  # seconds of steps forward, where a step is no longer
FIRST_CHUNK = 8  # steps, while no step was timed
LAST_CHUNKS = 8  # whose mean is the pace
MARGIN = 1.1  # what is begun has so much more time than forecast


class TimeBudget(keras.callbacks.Callback):
    """Ends `DrMADModel.fit` in time, with the best that is there.

    `fit` then returns after `seconds`, at the latest at the end of the chunk
    that is under way: of about half a second, or one step, if steps take
    longer; but 8 steps in the first training, and up to 200 minibatches in
    validation and in a walk backward that needs the chunks of the walk forward.
    The time is counted from the call of `fit`, with its checks and its
    compiling. A meta-iteration begins only if the time that is left will do
    for its training, its validation and its walk backward, as fast as these
    were so far, and for the last training, where `keep="mean"` or `refit` ask
    for one. The model is left as `keep` says, with the meta-iterations that
    were completed; where not even the last training finds time, with the means
    of the hyperparameters, and the weights of the best meta-iteration. If the
    first training takes longer than the budget, the model has the weights to
    which it came, and the hyperparameters that it began with.

    Together with `keras.callbacks.BackupAndRestore` the last backup stays, and
    another `fit` with the same arguments goes on, with a budget of its own: a
    long `fit` in slots. With an integer as `save_freq` it goes on within a
    training, so all of the time serves, but for that of a last training.

    Example:

    ```python
    model.fit(..., callbacks=[kd.callbacks.TimeBudget(3600)])
    ```
    """

    def __init__(self, seconds: float):
        """Initializes the callback.

        Args:
            seconds: positive float, the time that `fit` may take.

        Raises:
            TypeError: if `seconds` is not a number.
            ValueError: if `seconds` is not positive.
        """
        super().__init__()
        self.seconds = arguments.positive("seconds", seconds)


class Clock:
    """Knows what is left of a budget, and how long work takes.

    Attributes:
        budget: float, all the seconds.
        is_over: bool, whether work was ended, or not begun, for lack of time.
    """

    def __init__(self, seconds: float, begin: float):
        """Initializes the clock.

        Args:
            seconds: float, the budget.
            begin: float, the time of `time.monotonic` at which it began.
        """
        self.budget = seconds
        self.is_over = False
        self._end = begin + seconds
        self._timed: dict[str, list[tuple[float, int]]] = {}
        self._traces: Callable[[], int] = lambda: 0
        self._traced = 0
        self._last = begin

    def watch(self, traces: Callable[[], int]) -> None:
        """Begins to time; what is traced meanwhile is no part of the pace.

        Args:
            traces: function that returns how often loops were traced.
        """
        self._traces, self._traced = traces, traces()
        self._last = time.monotonic()

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._end - time.monotonic()

    def note(self, stage: str, steps: int) -> None:
        """Takes note of work that was done since the last note."""
        now, traced = time.monotonic(), self._traces()
        if steps and traced == self._traced:
            timed = self._timed.setdefault(stage, [])
            timed.append((now - self._last, steps))
            del timed[:-LAST_CHUNKS]
        self._last, self._traced = now, traced

    def seconds(
        self, work: Mapping[str, float], *, guesses: bool = True
    ) -> float:
        """Returns the seconds that work will take; 0 where nothing is known.

        Args:
            work: dict from a stage to its minibatches.
            guesses: bool, whether stages that were not timed yet count.
        """
        known = work if guesses else self._timed.keys() & work.keys()
        counts = {stage: max(0.0, work[stage]) for stage in known}
        return sum(self._rate(stage) * n for stage, n in counts.items())

    def longest(self, most: int) -> int:
        """Returns how many steps forward a chunk may have.

        Args:
            most: int, how many it would have without a budget.
        """
        rate = self._rate("forward")
        steps = int(CHUNK / rate) if rate else FIRST_CHUNK
        return int(np.clip(steps, 1, most))

    def _rate(self, stage: str) -> float:
        if stage in self._timed:
            seconds, steps = zip(*self._timed[stage], strict=True)
            return sum(seconds) / sum(steps)
        is_known = "forward" in self._timed and stage in WEIGHTS
        return WEIGHTS[stage] * self._rate("forward") if is_known else 0.0
