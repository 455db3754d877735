"""Steps of the hyperparameters within one training, every few steps."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments, keras_internals
from keras_drmad.core import nested
from keras_drmad.core.span import Span
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walk
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.methods.base import accumulated
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    check_finite,
)
from keras_drmad.training.plan import Plan
from keras_drmad.training.reporter import Reporter
from keras_drmad.training.tuning import Tuning

NORM = "hypergradient_norm"
TOLD = (NORM, "adjoint_growth", "reverse_steps", "reverse_steps_used")


def check_windows(
    hyperparameters: Sequence[Hyperparameter],
    optimizer: keras.Optimizer,
    plan: Plan,
    tuning: Tuning,
) -> None:
    """Checks that hyperparameters can be tuned within a training.

    Raises:
        ValueError: if windows are longer than epochs, or may hold no move of
            the weights, or a kind acts where no window sees it.
    """
    steps = plan.training.steps
    if tuning.every > steps:
        raise arguments.value_error(
            "tune_every",
            tuning.every,
            f"at most the {steps} steps of an epoch, within which windows lie",
            advice="Pass a larger `steps_per_epoch`, and fewer `epochs`.",
        )
    summed = accumulated(optimizer)
    if tuning.look_back < summed:
        raise arguments.value_error(
            "look_back",
            tuning.look_back,
            f"at least gradient_accumulation_steps={summed} of the optimizer, "
            "within which weights move once",
            advice="A window in which they do not move has a hypergradient "
            "of 0. Pass a larger `tune_every`, or an optimizer that "
            "accumulates fewer gradients.",
        )
    for h in hyperparameters:
        if h.acts_on == "start":
            raise ValueError(
                f"The hyperparameter '{h.name}' acts on the first weights, "
                "which no window of a training sees. Leave it out, or leave "
                "`tune_every` out."
            )


def _number(rate: Any) -> Any:
    """Returns a rate, of several copies on devices the first."""
    if isinstance(rate, keras.Variable):
        return keras_internals.value_of(rate)
    return rate


class Windows:
    """Trains, and steps the hyperparameters after each window of K steps.

    A window is walked forward with the hyperparameters as they are. Then the
    loss of the next minibatch of the data that hyperparameters are fitted to is
    differentiated through the last R of the steps, and the meta-optimizer
    follows. What hyperparameters did before is left out: so the hypergradient
    is that of the next R steps' gain, not of the training's.

    Attributes:
        state: `State`, where the training is.
        t: int, the steps that were taken.
        count: int, the windows that were followed by a step of the
            hyperparameters.
        metrics: dict that has the state of the metrics, in the walk's hands.
        losses: list of float, those that the epoch's windows were fitted to.
    """

    def __init__(
        self,
        training: ElementaryTraining,
        plan: Plan,
        meta_optimizer: keras.Optimizer,
        tuning: Tuning,
        s_0: State,
    ):
        """Initializes the windows.

        Args:
            training: the elementary training, its differentiation one of R
                steps.
            plan: data and length.
            meta_optimizer: moves the raw values.
            tuning: has K and R.
            s_0: where the training starts.
        """
        self.training = training
        self.plan = plan
        self.meta_optimizer = meta_optimizer
        self.tuning = tuning
        self.state = s_0
        self.t = self.count = 0
        self.metrics: dict[str, Any] = {}
        self.has_warned = False
        self.losses: list[float] = []

    def values(self) -> dict[str, Any]:
        """Returns what `resume` takes."""
        return {
            "state": self.state,
            "t": self.t,
            "count": self.count,
            "metrics": dict(self.metrics),
            "losses": list(self.losses),
        }

    def resume(self, values: dict[str, Any]) -> None:
        """Goes on where another process was."""
        self.state, self.t = values["state"], values["t"]
        self.count, self.metrics = values["count"], dict(values["metrics"])
        self.losses = list(values["losses"])

    def through(
        self, last: int, watcher: Reporter
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Walks to an iteration, and steps if that completes a window.

        Args:
            last: int, the iteration to come to; at most K further.
            watcher: is told of the chunks.

        Returns:
            The metrics of the epoch so far, and the diagnostics of the
            hypergradient, empty where there is none.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        training, tuning = self.training, self.tuning
        hparams = training.hparams()
        walk = training.walk(self.plan, watcher, carried=self.metrics)
        is_whole = last - self.t == tuning.every and self._follows()
        begin = last - tuning.look_back if is_whole else last
        logs: dict[str, float] = {}
        if begin > self.t:
            logs = self._forward(walk, hparams, begin)
        if not is_whole:
            return logs, {}
        return self._window(walk, hparams, Span(begin, last), watcher)

    def _follows(self) -> bool:
        """Returns whether the meta-optimizer takes a step worth its name.

        Where a schedule has taken its rate to 0, there is nothing to follow,
        and no hypergradient is computed; but the schedule goes on.
        """
        movers = keras_internals.optimizers_within(self.meta_optimizer)
        rates = [one.learning_rate for one in movers]
        if any(float(_number(rate)) for rate in rates):
            return True
        for one in movers:
            one.iterations.assign_add(1)
        return False

    def _forward(self, walk: Walk, hparams: list, last: int) -> dict:
        walked = walk.through(self.state, hparams, Span(self.t, last))
        self.state, self.t = walked.state, last
        return walked.logs

    def _window(
        self, walk: Walk, hparams: list, span: Span, watcher: Reporter
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Walks the last steps, differentiates them, and follows."""
        training, source = self.training, self.plan.hyper
        place = self.count % source.steps
        held = Span(place, place + 1)
        window = training.window(
            walk, self.state, hparams, span, source, held, watcher
        )
        self.state, self.t = window.state, span.last
        check_finite(window.loss, self.plan)
        together = training.problem.hyperparameters
        self.meta_optimizer.apply(window.d_hparams, together.raws)
        together.clip()
        self.count += 1
        norm = float(nested.norm(window.d_hparams))
        self.losses.append(window.loss)
        diagnostics = window.report | {NORM: norm}
        if not self.has_warned:
            self.has_warned = training.warn_cut_short(
                f"The walk backward at step {self.t}", diagnostics
            )
        return window.logs, diagnostics
