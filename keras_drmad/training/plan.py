"""The elementary training that each meta-iteration repeats, as a record."""

from typing import Any, NamedTuple

from keras_drmad.core.span import Span


class Source(NamedTuple):
    """Batches, and how many of them make one epoch.

    Attributes:
        batches: `ArrayBatches` or `StreamBatches`.
        steps: int, batches in an epoch (of validation data: in all).
    """

    batches: Any
    steps: int


class Plan(NamedTuple):
    """The elementary training that each meta-iteration repeats.

    Attributes:
        training: the training batches.
        epochs: int; T = epochs x training.steps.
        hyper: the batches of the loss that hyperparameters are fitted to;
            `None` where none are fitted.
        validation: the batches that only report, `None` for `hyper`.
        seed: int, from which all draws follow.
    """

    training: Source
    epochs: int
    hyper: Any
    validation: Source | None
    seed: int

    @property
    def T(self) -> int:
        """The number of elementary steps."""
        return self.epochs * self.training.steps

    @property
    def span(self) -> Span:
        """The iterations of the whole training."""
        return Span(0, self.T)

    @property
    def pauses(self) -> range:
        """Where a walk pauses to report: eight times, but not too often."""
        return range(0, self.T, max(50, -(-self.T // 8)))

    @property
    def last_epoch(self) -> tuple[int]:
        """The first step of the last epoch, where the metrics start anew."""
        return (self.T - self.training.steps,)

    def with_order(self, seed: int) -> "Plan":
        """Returns the plan with the training batches in another order."""
        batches = self.training.batches.with_seed(seed)
        return self._replace(training=self.training._replace(batches=batches))
