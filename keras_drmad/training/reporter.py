"""Tells Keras's callbacks, and the course of a `fit`, of the chunks."""

import warnings
from typing import Any, NamedTuple

import keras

from keras_drmad.core.reversible_problem import in_floats
from keras_drmad.core.state import State
from keras_drmad.core.walked import OtherBatches, Watcher
from keras_drmad.training.course import Course, Stopped
from keras_drmad.training.display import SILENT, Display
from keras_drmad.training.time_budget import TimeBudget

# Those that are always there, or known, and assign nothing.
HARMLESS = (
    keras.callbacks.History,
    keras.callbacks.ProgbarLogger,
    TimeBudget,
)


class Reached(NamedTuple):
    """Where a callback ended a training.

    Attributes:
        t: int, the iterations that were taken.
        state: the state after them.
        logs: dict, the metrics of the epoch so far.
    """

    t: int
    state: State
    logs: dict[str, float]


class Reporter(Watcher):
    """Tells of the chunks of one training: to callbacks, batches of an epoch.

    Attributes:
        name: str, the training's, under which the course keeps it.
        course: `Course` of the `fit`.
        walked_back: int, the steps backward of the epoch so far.
        reached: `Reached`, where a callback ended a training of epochs; `None`
            before.
    """

    def __init__(
        self,
        model: Any,
        callbacks: keras.callbacks.CallbackList,
        course: Course,
        name: str,
        steps: int,
        before: int = 0,
        *,
        display: Display = SILENT,
        walked_back: int = 0,
        goes_back: bool = True,
        resumes: bool = True,
        has_epochs: bool = False,
    ):
        """Initializes the reporter.

        Args:
            model: whose `stop_training` ends the walk.
            callbacks: Keras's list.
            course: of the `fit`.
            name: str, the training's.
            steps: int, the steps of an epoch.
            before: int, the steps of the epoch before the walk.
            display: shows how far the epoch has come.
            walked_back: int, the steps backward of the epoch before the walk.
            goes_back: bool, whether a walk backward needs the very batches.
            resumes: bool, whether the training may go on within a walk, from
                what `on_chunk` was told.
            has_epochs: bool, whether a callback that ends the training leaves
                it where it is, as in `keras.Model.fit`; others have no use for
                a part of a training.
        """
        self._goes_back = goes_back
        self.course = course
        self.name = name
        self._model = model
        self._callbacks = callbacks
        self.may_assign = not all(
            isinstance(one, HARMLESS) for one in callbacks.callbacks
        )
        self.keeps = course.keeps and resumes
        self._steps = steps
        self._before = before
        self._display = display
        self.walked_back = walked_back
        self._resumes = resumes
        self._has_epochs = has_epochs
        self._ends_after: tuple[int, dict[str, float]] | None = None
        self.reached: Reached | None = None
        self._last: Any = None

    @property
    def state(self) -> State | None:
        """The state at the end of the last chunk forward; `None` before.

        Of a training of epochs alone: a part of others is of no use.
        """
        return None if self._last is None else in_floats(self._last)

    def longest(self, most: int) -> int:
        return self.course.longest(most)

    def begun(self, stage: str) -> dict[str, Any]:
        if not self._resumes:
            return {}
        return self.course.begun(self.name, stage)

    def on_begin(self, first: int) -> None:
        step = (self._before + first) % self._steps
        self._callbacks.on_train_batch_begin(step)
        self._model.check_trainable()

    def on_end(self, last: int, logs: dict[str, float]) -> None:
        step = (self._before + last) % self._steps
        self._display.to(self.walked_back + step + 1, logs)
        self._callbacks.on_train_batch_end(step, logs)
        self._model.check_trainable()
        if self.course.workers.any(self._model.stop_training):
            if not self._has_epochs:
                raise Stopped
            self._ends_after = last, logs

    def on_other_batches(self) -> None:
        then = "goes on with these"
        if self._goes_back:
            then = "which was not complete, begins anew"
        warnings.warn(
            "The data set gives other batches than before `fit` was broken "
            f"off. The training {then}. To go on with the same numbers, let it "
            "give the same batches in each process: `shuffle(..., seed=...)`, "
            "or a `PyDataset` whose batches depend on their index alone.",
            RuntimeWarning,
            stacklevel=2,
        )
        if self._goes_back:
            self.course.forget(self.name)
            raise OtherBatches

    def on_chunk(self, stage: str, steps: int, tree: dict[str, Any]) -> None:
        if stage == "forward" and self._has_epochs:
            self._last = tree["state"]
        if stage == "backward":
            self._display.further(steps)
        self.course.on_chunk(
            self.name, stage, steps, tree, is_kept=self._resumes
        )
        if self._ends_after is not None:
            last, logs = self._ends_after
            state = in_floats(tree["state"])
            self.reached = Reached(last + 1, state, logs)
            raise self.course.workers.stopped()
