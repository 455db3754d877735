"""What a `DrMADModel` remembers of its `fit`s."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.core.state import State
from keras_drmad.training.initial_weights import Origin
from keras_drmad.training.kept import NEW, NOTHING, Left, Resumed
from keras_drmad.training.tuning_record import TuningRecord
from keras_drmad.wrapper import Wrapper


def looks(method: Callable) -> Callable:
    """Returns a method of a model that leaves hyperparameters as they were.

    Also what they know of the trainings that they were learned in.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        self.check_compiled()
        with self._assembly.hyperparameters.looked_at():
            return method(self, *args, **options)

    return run


class Remembering(Wrapper):
    """A wrapped model that knows what its `fit`s did, for the next one.

    Attributes:
        start_weights: list of `tf.Variable`, the trainable weights at the
            start of the last elementary training; empty before the first.
        end_weights: list of `tf.Variable`, those at its end.
        progress: `Progress`, the `fit` that is tuning, or `None`.
        resumed: what a `fit` goes on with that is begun after a file was
            loaded which a running `fit` had saved.
        left: what the next `fit` follows first.
        trained_with: list of tensors λ, within `fit` those that the weights
            were trained with; `None` elsewhere.
        final_logs: dict, the logs of the last training of a `fit` that ends
            with one; empty where the last meta-iteration was the last training.
        diagnostics: dict from a name to a list, an entry for each
            meta-iteration of the last `fit`; see `DrMADModel.fit`.
        latest: dict, the diagnostics of the last epoch alone, for callbacks:
            with `tune_every` means over its hypergradients, nan without one.
        untuned: list of arrays, the raw hyperparameters before the first `fit`
            since `compile`; empty before that.
        tuning_record: `TuningRecord`, what the `fit`s that tuned did, in a
            few numbers for each meta-iteration.
        tuned_from: str, the `initial_weights` of the last `fit` that tuned;
            empty before the first.
    """

    progress: Any
    resumed: Resumed
    left: Left
    trained_with: list[tf.Tensor] | None
    final_logs: dict[str, Any]
    diagnostics: dict[str, list]
    latest: dict[str, Any]
    untuned: list[np.ndarray]
    tuning_record: TuningRecord
    tuned_from: str
    hyperparameters: list
    meta_optimizer: Any
    _origin: Origin | None = None
    _saved_origin: list[np.ndarray]
    _assembly: Any

    def __init__(self, inputs: Any, outputs: Any = None, name=None):
        super().__init__(inputs, outputs, name)
        self._saved_origin = []
        self.forget()

    def check_compiled(self) -> None:
        """Checks that the model was compiled.

        Raises:
            ValueError: if it was not.
        """
        if not self.compiled:
            raise ValueError(
                "Call `compile(optimizer=..., loss=..., hyperparameters=[...])`"
                f" before training the model '{self.name}'."
            )

    def check_trainable(self) -> None:
        """Checks that no layer was frozen or replaced since `compile`.

        Raises:
            ValueError: if one was.
        """
        self._assembly.as_compiled.check_trainable()

    def forget(self) -> None:
        """Forgets what belongs to a `fit`."""
        self.progress = None
        self.resumed, self.left = NEW, NOTHING
        self.trained_with = None
        self.diagnostics, self.latest = {}, {}
        self._compiled_with: dict[str, str] = {}
        self.final_logs, self.untuned, self.tuned_from = {}, [], ""
        self.tuning_record = TuningRecord()
        self._handed_out: dict[bytes, list[tf.Tensor]] = {}
        # As many as there are trainable weights, of which layers may be frozen.
        self.start_weights: list[tf.Variable] = []
        self.end_weights: list[tf.Variable] = []

    def keep_ends(
        self,
        problem: Any,
        first: State,
        last: State,
        hparams: list[tf.Tensor],
    ) -> None:
        """Keeps the trainable weights at both ends of a training.

        Args:
            problem: the elementary problem.
            first: the state with which the training began.
            last: the state with which it ended.
            hparams: list of tensors λ, those of the training.
        """
        variables = self.trainable_variables
        if not self.start_weights:
            self.start_weights = [tf.Variable(v.value) for v in variables]
            self.end_weights = [tf.Variable(v.value) for v in variables]
        places = {id(v): k for k, v in enumerate(variables)}
        ends = [problem.weights_of(s.params, hparams) for s in (first, last)]
        for k, variable in enumerate(problem.params):
            place = places[id(variable)]
            self.start_weights[place].assign(ends[0][k])
            self.end_weights[place].assign(ends[1][k])

    def origin_of_trainings(self) -> Origin:
        """Returns where trainings start."""
        if self._origin is None:
            self._origin = Origin(self.elementary_model)
            if self._saved_origin:
                self._origin.resume(self._saved_origin)
        self._saved_origin = []
        self._origin.look()
        return self._origin

    def follow_weights(self) -> None:
        """Lets first weights that nobody has tuned be those put in since."""
        self._assembly.hyperparameters.follow(
            lambda: self.origin_of_trainings().by_variable()
        )

    def has_left(self) -> bool:
        """Returns whether a `fit` has left trained weights in the model."""
        if self._origin is None:
            return bool(self._saved_origin)
        return self._origin.has_left

    def leave(self, origin: Origin, initial_weights: str) -> None:
        """Notes how a `fit` has tuned, and which weights it leaves.

        Args:
            origin: where its trainings started; or, of one training that went
                on from the model's weights, where others would have.
            initial_weights: str, as for `fit`; empty for one training.
        """
        origin.leave()
        self._origin, self._saved_origin = origin, []
        self.tuned_from = initial_weights or self.tuned_from

    def note(self, diagnostics: dict[str, Any]) -> None:
        """Adds what is known of a hypergradient to the diagnostics."""
        for name, value in diagnostics.items():
            self.diagnostics.setdefault(name, []).append(value)

    # ---- what a backup has of the model

    def known(self) -> dict[str, Any]:
        """Returns what the model knows within `fit`, its numbers as tensors."""
        ends = [self.start_weights, self.end_weights]
        return {
            "variables": [
                tf.convert_to_tensor(v.value) for v in self._known_variables()
            ],
            "untuned": list(self.untuned),
            "diagnostics": {k: [*v] for k, v in self.diagnostics.items()},
            "ends": [[tf.identity(v) for v in end] for end in ends],
            "trained_with": self.trained_with or [],
            "record": self.tuning_record.tree(),
            "names": [h.name for h in self.hyperparameters],
        }

    def know(self, known: dict[str, Any]) -> None:
        """Takes over what `known` returned, in another process maybe."""
        for variable, value in zip(
            self._known_variables(), known["variables"], strict=True
        ):
            variable.assign(value)
        self.untuned = known["untuned"]
        self.diagnostics = {k: [*v] for k, v in known["diagnostics"].items()}
        self.start_weights, self.end_weights = (
            list(map(tf.Variable, end)) for end in known["ends"]
        )
        self.trained_with = known["trained_with"] or None
        self.tuning_record = TuningRecord(known.get("record"))
        self.tuning_record.follow(self.hyperparameters)

    def _known_variables(self) -> list[keras.Variable]:
        return [
            *self.elementary_model.variables,
            *self.optimizer.variables,
            *self.meta_optimizer.variables,
            *(h.raw for h in self.hyperparameters),
        ]

    # ---- weights that callbacks take away and bring back

    @contextlib.contextmanager
    def handing_out(self) -> Iterator[None]:
        """Within `fit`, weights come back with the values of their training.

        Callbacks such as `EarlyStopping(restore_best_weights=True)` know of
        weights alone.
        """
        try:
            yield
        finally:
            self.trained_with, self._handed_out = None, {}

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights, as `keras.Model`."""
        weights = super().get_weights()
        if self.trained_with is not None:
            self._handed_out[_digest(weights)] = self.trained_with
        return weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights, as `keras.Model`.

        At the end of a `fit`, weights that a callback was given after a
        meta-iteration bring along the hyperparameters of that one.
        """
        super().set_weights(weights)
        is_at_end = self.progress is None or self.stop_training
        if self._handed_out and is_at_end:
            hparams = self._handed_out.get(_digest(weights))
            if hparams is not None:
                self._assembly.hyperparameters.assign(hparams)


def _digest(weights: list[np.ndarray]) -> bytes:
    """Returns a few bytes that are different for different weights."""
    digest = hashlib.blake2b()
    for array in weights:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
