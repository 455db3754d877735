"""The trainings of a tuning: each from a draw, by its number."""

from typing import Any

import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.core.walked import OtherBatches, Watcher
from keras_drmad.training import edge
from keras_drmad.training.elementary_training import (
    DIAGNOSTICS,
    ElementaryTraining,
    Trained,
    check_finite,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.plan import Plan, Source
from keras_drmad.training.tuning import Tuning


class Draws:
    """Trains from draws of weights, order and split.

    Attributes:
        training: the elementary training.
        plan: its data and length.
        starts: where each training starts.
        tuning: what is drawn anew, and what is kept.
        rates: `edge.Rates`, which a training past the edge lowers.
    """

    def __init__(
        self,
        training: ElementaryTraining,
        plan: Plan,
        starts: InitialState,
        tuning: Tuning,
        rates: edge.Rates,
    ):
        """Initializes the draws; for the arguments see the attributes."""
        self.training = training
        self.plan = plan
        self.starts = starts
        self.tuning = tuning
        self.rates = rates

    def draw(
        self, number: int, watcher: Watcher
    ) -> tuple[Trained, dict[str, Any], list[tf.Tensor]]:
        """Trains once, and differentiates.

        Args:
            number: int, of the draw.
            watcher: is told of the chunks.

        Returns:
            The training, its logs and its hypergradient.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        outcome = watcher.begun("outcome")
        if outcome:  # this training was completed before a `fit` was killed
            self.plan.skip(outcome["passes"])
            return outcome["trained"], outcome["logs"], outcome["gradient"]
        training, plan = self.training, self.plan_of(number)
        s_0 = self.starts.of(number)
        trained = self._forward(s_0, plan, watcher)
        reported, slopes = training.differentiate(trained, plan.hyper, watcher)
        check_finite(reported["loss"], plan)
        logs = dict(trained.walked.logs)
        if plan.validation is not None:
            logs["hyper_loss"] = reported["loss"]
            reported = training.validate(
                trained.s_T, trained.hparams, plan.validation, watcher
            )
        logs |= {f"val_{name}": value for name, value in reported.items()}
        check_finite(logs["val_loss"], plan)
        gradient, diagnostics = training.backward(
            trained, slopes, plan, watcher
        )
        known = (name for name in DIAGNOSTICS if name in diagnostics)
        logs |= {name: diagnostics[name] for name in known}
        if self.rates.each:
            is_past = edge.is_unstable(logs) or edge.has_failed(
                training, trained, plan, logs
            )
            logs["past_edge"] = float(is_past)
            if is_past and self.rates.can_fall():
                gradient = self.rates.lowering(
                    training.problem.hyperparameters, gradient
                )
        trained = trained.forgotten()
        outcome = {"trained": trained, "logs": logs, "gradient": gradient}
        outcome["passes"] = self.plan.passes()
        watcher.on_chunk("outcome", 0, outcome)
        return trained, logs, gradient

    def _forward(self, s_0: State, plan: Plan, watcher: Watcher) -> Trained:
        """Walks to the end of a training, again if it can't go on."""
        hparams = self.training.hparams()
        try:
            return self.training.forward(s_0, hparams, plan, watcher)
        except OtherBatches:
            return self.training.forward(s_0, hparams, plan, watcher)

    def plan_of(self, number: int) -> Plan:
        """Returns the plan of a training, with the order and split drawn."""
        seed = self.starts.seed_of(number)
        return self.plan.drawn(seed, with_split=self.tuning.are_drawn)

    def train_again(self, watcher: Watcher) -> tuple[Trained, dict[str, Any]]:
        """Trains once more, from a new draw, with the values as they are.

        Args:
            watcher: is told of the chunks.

        Returns:
            The training, and its logs.

        Raises:
            Diverged: if training or validation leaves the finite numbers.
        """
        outcome = watcher.begun("outcome")
        if outcome:
            return outcome["trained"], outcome["logs"]
        training, tuning = self.training, self.tuning
        number = tuning.meta_iterations * tuning.draws
        plan = self.plan_of(number)
        if tuning.refit:
            plan = plan.of_all_examples()
        source = plan.validation or plan.hyper
        # What only reports may be trained on now; `hyper` is not it.
        is_val = plan.validation is not None or self.plan.validation is None
        s_0 = self.starts.of(number)
        trained = self._forward(s_0, plan, watcher)
        logs = dict(trained.walked.logs)
        if source is not None:
            reported = training.validate(
                trained.s_T, trained.hparams, source, watcher
            )
            check_finite(reported["loss"], plan)
            if is_val:
                reported = {f"val_{k}": x for k, x in reported.items()}
            else:
                reported = {"hyper_loss": reported["loss"]}
            logs |= reported
        logs |= training.problem.hyperparameters.means(trained.hparams)
        trained = trained.forgotten()
        watcher.on_chunk("outcome", 0, {"trained": trained, "logs": logs})
        return trained, logs

    def work(self) -> dict[str, float]:
        """Returns the minibatches of each stage of a meta-iteration."""
        plan, one = self.plan, _work(self.plan, self.plan.validation)
        backward = self.training.differentiation.visits(plan.span)
        one |= {"slopes": plan.hyper.steps, "backward": backward}
        draws = self.tuning.draws
        return {stage: draws * count for stage, count in one.items()}

    def work_at_last(self) -> dict[str, float]:
        """Returns the minibatches of each stage of a last training."""
        plan, tuning = self.plan, self.tuning
        if not tuning.trains_again:
            return {}
        if tuning.refit:
            plan = plan.of_all_examples()
        return _work(plan, plan.validation or plan.hyper)


def _work(plan: Plan, reports: Source | None) -> dict[str, float]:
    validation = 0 if reports is None else reports.steps
    return {"forward": plan.T, "validation": validation}
