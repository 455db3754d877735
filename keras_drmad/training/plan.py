"""The elementary training that each meta-iteration repeats, as a record."""

from typing import Any, NamedTuple

import numpy as np

from keras_drmad.core.span import CHUNK_SIZE, Span


class Source(NamedTuple):
    """Batches, and how many of them make one epoch.

    Attributes:
        batches: `ArrayBatches` or `StreamBatches`.
        steps: int, batches in an epoch (of validation data: in all).
    """

    batches: Any
    steps: int


class Split(NamedTuple):
    """A division of the examples into those to train on and the held-out ones.

    Attributes:
        size: int, the number of all examples.
        trained: int, how many of them are trained on.
    """

    size: int
    trained: int

    def last(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns both parts, where the last examples are held out."""
        return self._cut(np.arange(self.size))

    def drawn(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns both parts of a new draw, each in the order of the arrays."""
        generator = np.random.default_rng((seed, self.size, self.trained))
        first, rest = self._cut(generator.permutation(self.size))
        return np.sort(first), np.sort(rest)

    def _cut(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return places[: self.trained], places[self.trained :]


class Plan(NamedTuple):
    """The elementary training that each meta-iteration repeats.

    Attributes:
        training: the training batches.
        epochs: int; T = epochs x training.steps.
        hyper: the batches of the loss that hyperparameters are fitted to;
            `None` where none are fitted.
        validation: the batches that only report, `None` for `hyper`.
        seed: int, from which all draws follow.
        split: `Split`, where the data that are not trained on were split off
            the training arrays; `None` where they were given.
    """

    training: Source
    epochs: int
    hyper: Any
    validation: Source | None
    seed: int
    split: Split | None = None

    @property
    def T(self) -> int:
        """The number of elementary steps."""
        return self.epochs * self.training.steps

    @property
    def held_out(self) -> int:
        """The number of held-out batches, those that only report included."""
        sources = (self.hyper, self.validation)
        return sum(source.steps for source in sources if source is not None)

    @property
    def span(self) -> Span:
        """The iterations of the whole training."""
        return Span(0, self.T)

    @property
    def pause(self) -> int:
        """After how many steps to report: eight times, but not too often.

        A chunk ends after `CHUNK_SIZE` steps anyway, and none is to end soon
        after another.
        """
        return min(max(50, -(-self.T // 8)), CHUNK_SIZE)

    @property
    def last_epoch(self) -> tuple[int]:
        """The first step of the last epoch, where the metrics start anew."""
        return (self.T - self.training.steps,)

    def drawn(self, seed: int, *, with_split: bool) -> "Plan":
        """Returns the plan with the training batches in another order.

        Args:
            seed: int, of the order.
            with_split: bool, whether a split is drawn anew, too.
        """
        plan = self._with_batches(self.training.batches.with_seed(seed))
        if self.split is None or not with_split:
            return plan
        trained, held_out = self.split.drawn(seed)
        plan = plan._with_batches(plan.training.batches.with_examples(trained))
        if self.validation is None:
            return plan._replace(hyper=_of(self.hyper, held_out))
        return plan._replace(validation=_of(self.validation, held_out))

    def passes(self) -> dict[str, tuple[int, int]]:
        """Returns how many passes over each stream began, and ended."""
        counted = self._counted().items()
        return {name: (one.begun, one.ended) for name, one in counted}

    def skip(self, passes: dict[str, tuple[int, int]]) -> None:
        """Passes over as many passes over each stream as `passes` returned."""
        for name, one in self._counted().items():
            one.skip(*passes[name])

    def _counted(self) -> dict[str, Any]:
        sources = {
            "training": self.training,
            "hyper": self.hyper,
            "validation": self.validation,
        }
        return {
            name: source.batches.counted
            for name, source in sources.items()
            if source is not None and hasattr(source.batches, "counted")
        }

    def of_all_examples(self) -> "Plan":
        """Returns the plan of training on held-out examples as well."""
        plan = self._with_batches(self.training.batches.with_examples(None))
        if self.validation is None:
            return plan._replace(hyper=None)
        return plan._replace(validation=None)

    def _with_batches(self, batches: Any) -> "Plan":
        return self._replace(training=self.training._replace(batches=batches))


def _of(source: Source, examples: np.ndarray) -> Source:
    """Returns the batches of other examples of the same arrays."""
    return source._replace(batches=source.batches.with_examples(examples))
