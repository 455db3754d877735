"""What a tuning found, in numbers: where each entry went, and how surely."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import values
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.parts import Part
from keras_drmad.meta_optimizers.base import mover_of
from keras_drmad.meta_optimizers.sign_consensus import SignConsensus

DEVIATIONS = 2.0  # of a coin's sum, beyond which a sign is no coin's
EXACT = 200  # signs, up to which chances are counted exactly


class Result(NamedTuple):
    """What a tuning did to the entries of one hyperparameter.

    Arrays have the shape of `kind.raw`.

    Attributes:
        kind: the hyperparameter.
        start_raw: array, the raw values before the first `fit`.
        raw: array, the raw values now.
        certainty: array in [0, 1], `SignConsensus.certainty`; `None` with
            another meta-optimizer.
        votes: array, how many gradients were not 0, `SignConsensus.votes`;
            `None` with another meta-optimizer.
        is_held: bool, whether no meta-optimizer moves the hyperparameter.
    """

    kind: Hyperparameter
    start_raw: np.ndarray
    raw: np.ndarray
    certainty: np.ndarray | None = None
    votes: np.ndarray | None = None
    is_held: bool = False

    @property
    def name(self) -> str:
        """The name of the hyperparameter."""
        return self.kind.name

    @property
    def start(self) -> np.ndarray:
        """The values before the first `fit`."""
        return self.kind.transform.value(tf.constant(self.start_raw)).numpy()

    @property
    def value(self) -> np.ndarray:
        """The values now."""
        return self.kind.transform.value(tf.constant(self.raw)).numpy()

    @property
    def moved(self) -> np.ndarray:
        """How far each raw value moved, in its natural units."""
        return (self.raw - self.start_raw) / self.kind.unit

    @property
    def is_still(self) -> np.ndarray:
        """Whether an entry moved by less than 0.05 of its unit."""
        return np.abs(self.moved) < values.STILL

    @property
    def has_room(self) -> bool:
        """Whether bounds let an entry move by 0.05 of its unit."""
        kind = self.kind
        far = values.room(self.start_raw, kind.raw_bounds, kind.unit)
        return far >= values.STILL

    @property
    def is_certain(self) -> np.ndarray | None:
        """Whether an entry's signs agreed more than a coin's would have.

        Their sum is more than two standard deviations of a coin's, √n, away
        from 0, for which n has to be at least 5. `None` where there are no
        certainties.
        """
        if self.certainty is None or self.votes is None:
            return None
        return self.certainty * np.sqrt(self.votes) > DEVIATIONS

    @property
    def is_at_low(self) -> np.ndarray:
        """Whether an entry is at the lower bound."""
        return self._are_at_bounds[0]

    @property
    def is_at_high(self) -> np.ndarray:
        """Whether an entry is at the upper bound."""
        return self._are_at_bounds[1]

    @property
    def _are_at_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        kind = self.kind
        return values.are_at_bounds(self.raw, kind.raw_bounds, kind.unit)


def of_model(model: Any) -> list[Result]:
    """Returns a `Result` for each hyperparameter.

    Args:
        model: a `DrMADModel`.

    Raises:
        ValueError: if the model was not compiled, or no meta-iteration was
            completed since.
    """
    model.check_compiled()
    if not model.tuning_record.rows:
        raise ValueError(
            f"The model '{model.name}' has no results yet. Expected a model "
            "that was tuned. Received: no completed meta-iteration since "
            "`compile`. Call `fit(..., meta_iterations=20)` first."
        )
    found = []
    starts = model.untuned
    for kind, start in zip(model.hyperparameters, starts, strict=True):
        mover, raw = mover_of(kind, model.meta_optimizer), kind.raw.numpy()
        certainty = votes = None
        if isinstance(mover, SignConsensus):
            certainty, votes = mover.certainty(kind.raw), mover.votes(kind.raw)
        start = np.asarray(start, raw.dtype).reshape(raw.shape)
        held = keras_internals.is_held(model.meta_optimizer, kind.raw)
        found.append(Result(kind, start, raw, certainty, votes, held))
    return found


def chance(votes: int) -> float:
    """Returns how often a coin's signs would pass for certain, in [0, 1].

    Args:
        votes: int, the number of signs.
    """
    if votes > EXACT:
        return math.erfc(DEVIATIONS / math.sqrt(2))  # the normal limit
    beyond = DEVIATIONS * math.sqrt(votes)
    ways = sum(
        math.comb(votes, k)
        for k in range(votes + 1)
        if abs(2 * k - votes) > beyond
    )
    return ways / 2**votes


def label_of(one: Result, label: str, shown: Sequence[Result]) -> str:
    """Returns the label of a part, with the name of its kind beside others.

    Args:
        one: the hyperparameter's `Result`.
        label: str, of a layer, a weight or the like, or "".
        shown: list of all hyperparameters that a picture shows.
    """
    has_name = label.replace("/", ".") == one.name
    if len(shown) == 1 or has_name:
        return label
    return f"{one.name}: {label}" if label else one.name


def words_of(parts: Sequence[Part], places: Any) -> list[str]:
    """Returns the names of entries, such as "dense/kernel, input 17".

    Args:
        parts: what `Hyperparameter.parts` returned.
        places: `(n,)` integers, places among the flat raw values.
    """
    named = {}
    for part in parts:
        entries = np.asarray(part.entries)
        for index in np.argwhere(np.isin(entries, places)):
            place = tuple(index)
            named[int(entries[place])] = part.words(place)
    return [named[int(place)] for place in places]
