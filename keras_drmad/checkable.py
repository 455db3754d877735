"""Checks of a hypergradient, and of the hyperparameters that were found."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import (
    arguments,
    hypergradient_check,
    hyperparameter_check,
    keras_internals,
)
from keras_drmad.core.walked import Diverged
from keras_drmad.hypergradient_check import HypergradientCheck
from keras_drmad.hyperparameter_check import HyperparameterCheck
from keras_drmad.remembering import looks
from keras_drmad.training import first_look, sources
from keras_drmad.training.initial_weights import CHECKED, InitialState
from keras_drmad.training.kept_arrays import KeptArrays
from keras_drmad.training.randomness import drawn_seed
from keras_drmad.training.tables import takes_strings


class Checkable:
    """A `Differentiable` that says how far its numbers can be trusted.

    A part of `DrMADModel`, whose methods these call.
    """

    @keras_internals.outside
    @looks
    def check_hypergradient(
        self: Any,
        x: Any = None,
        y: Any = None,
        *,
        directions: int = 2,
        length: float = 0.03,
        seed: int = 0,
        verbose: str | int = "auto",
        **training: Any,
    ) -> HypergradientCheck:
        """Compares the hypergradient with what trainings show.

        Moves the raw hyperparameters along the hypergradient, and along random
        directions, and trains on both sides: (1 + directions) * 2 trainings.
        Run it once before a long `fit` with an approximate method, and again
        when its warnings say that a walk backward was cut short. A data set
        must yield the same batches in each pass: else this is refused, after
        two trainings. Weights, optimizer and hyperparameters are left as they
        were.

        Args:
            x: as for `hypergradient`, and so are those in `training`.
            y: as for `hypergradient`.
            directions: int, how many random directions, at least 1. With two
                the estimated cosine is right within a factor of about 2.
            length: float, how far raw values move, root mean square: 0.03 is
                3 % of a penalty or a rate. No value moves ten times as far.
                Too small, and rounding shows; too large, and the loss is no
                straight line.
            seed: int, for the training and for the random directions.
            verbose: 0 for no progress bar.
            **training: the other arguments of `hypergradient`;
                `validation_data` is needed.

        Returns:
            `HypergradientCheck`: predicted and actual changes, a verdict and
            advice; `print` shows them.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`, or if `length` is not positive, or if a data
                set yields other batches in each pass.
            FloatingPointError: if a training diverges.
        """
        arguments.whole("directions", directions, 1)
        arguments.positive("length", length)
        seed = drawn_seed(seed)
        count = 1 + 2 * (1 + directions)
        elementary, plan = self.prepared(
            x, y, trainings=count, seed=seed, **training
        )
        bar = keras.utils.Progbar(
            count, verbose=int(verbose != 0), unit_name="training"
        )
        bar.update(0)
        s_0 = InitialState(elementary.problem, "same", plan.seed).of(0)
        record = elementary.hypergradient(s_0, plan)
        bar.add(1)
        seen = plan.training.batches.seen

        def loss() -> float:
            found = elementary.validation_loss(s_0, plan)
            _check_same_batches(plan.training.batches.seen, seen)
            bar.add(1)
            return found

        return hypergradient_check.check(
            [np.array(g) for g in record.gradients.values()],
            [h.raw for h in self.hyperparameters],
            loss,
            directions,
            length,
            seed,
            record.validation_loss,
            is_exact=self.resolved.method.is_exact,
        )

    @keras_internals.outside
    @looks
    def check_hyperparameters(
        self: Any,
        x: Any = None,
        y: Any = None,
        *,
        validation_data: Any = None,
        validation_split: float = 0.0,
        test_data: Any = None,
        draws: int = 5,
        others: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
        verbose: str | int = "auto",
        **training: Any,
    ) -> HyperparameterCheck:
        """Compares found hyperparameters with the starting ones, on new draws.

        Trains with the values from before the first `fit` and with those that
        the model has now, from the same draws of weights, batches, masks and
        splits, which no `fit` has seen: 2 x `draws` trainings. Weights,
        optimizer and hyperparameters are left as they were. Where all weights
        were loaded, so that none is drawn, a warning says so.

        Args:
            x: as for `fit`, and so are those in `training`.
            y: as for `fit`.
            validation_data: as for `fit`.
            validation_split: as for `fit`; a new split of each draw.
            test_data: what else to evaluate on, as `validation_data`. The
                verdict is by it where it is given; beside a `validation_split`
                nothing else can tell, for each example was in a validation set
                of the tuning.
            draws: int, at least 2.
            others: dict from a name to other values to compare with, each a
                dict from a hyperparameter's name to its values, a number or
                an array; hyperparameters that it does not name have the
                values found. `draws` more trainings each.
            seed: int; the draws follow from it.
            verbose: 0 for no progress bar.
            **training: of the arguments of `fit`: `batch_size`, `epochs`,
                `steps_per_epoch`, `shuffle`, `sample_weight`, `class_weight`,
                `validation_steps` and `validation_batch_size`.

        Returns:
            `HyperparameterCheck`: all results, the mean difference and its
            standard error, and a verdict; `print` shows them,
            `keras_drmad.plots.hyperparameter_check` draws them.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`, or if no `fit` has tuned the model.
        """
        arguments.whole("draws", draws, 2)
        self.check_compiled()
        if not self.untuned:
            raise ValueError(
                "`check_hyperparameters` compares the values that `fit` found "
                "with those before it. Received: a model that was not tuned "
                "since `compile`. Call `fit` first."
            )
        values = self._values_to_compare(others or {})
        elementary, plan = self.prepared(
            x,
            y,
            trainings=len(values) * draws,
            draws=draws,
            validation_data=validation_data,
            may_split=True,
            validation_split=validation_split,
            seed=drawn_seed(seed),
            **training,
        )
        test = self._test_source(test_data, y is None, training)
        starts = self.new_draws(elementary, plan)

        def outcome(hparams: list[tf.Tensor], draw: int) -> dict[str, Any]:
            number = CHECKED + draw
            drawn = plan.drawn(starts.seed_of(number), with_split=True)
            held_out = {"val_": drawn.validation or drawn.hyper}
            held_out |= {"test_": test} if test else {}
            parts: dict[str, list[float]] = {}
            try:
                found = elementary.outcome(
                    starts.of(number), hparams, drawn, held_out, parts
                )
                return found | {
                    f"{k}parts": np.array(v) for k, v in parts.items()
                }
            except Diverged:
                problem = elementary.problem
                names = {**problem.logs(problem.metrics_state()), "loss": 0.0}
                return {
                    prefix + name: np.nan
                    for prefix in held_out
                    for name in names
                } | {
                    f"{prefix}parts": np.full(
                        elementary.parts_of(source), np.nan
                    )
                    for prefix, source in held_out.items()
                }

        bar = keras.utils.Progbar(
            len(values) * draws, verbose=int(verbose != 0), unit_name="training"
        )
        with elementary.workers.watched():
            found = hyperparameter_check.check(
                values,
                outcome,
                draws,
                bar.update,
                each=elementary.workers.each,
                has_seen_all=plan.split is not None and test is None,
                redrawn=() if plan.split is None else ("val_loss",),
            )
        self.tuning_record.check = found
        return found

    # ---- inside

    def _values_to_compare(
        self: Any, others: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, list[tf.Tensor]]:
        """Returns raw values by the names of the sets; checks `others`."""
        kinds = {h.name: h for h in self.hyperparameters}
        found = [tf.convert_to_tensor(h.raw.value) for h in kinds.values()]
        start = [
            tf.constant(raw, now.dtype)
            for raw, now in zip(self.untuned, found, strict=True)
        ]
        values = {
            hyperparameter_check.START: start,
            hyperparameter_check.FOUND: found,
        }
        for name, given in others.items():
            if name in values or not set(given) <= set(kinds):
                raise arguments.value_error(
                    "others",
                    others,
                    "a dict from names other than 'start' and 'found' to dicts "
                    f"from names of hyperparameters, {list(kinds)}, to values",
                )
            values[name] = [
                tf.constant(kind.checked_raw(given[key], "others"), now.dtype)
                if key in given
                else now
                for (key, kind), now in zip(kinds.items(), found, strict=True)
            ]
        return values

    def _test_source(
        self: Any, test_data: Any, without_y: bool, training: dict[str, Any]
    ) -> Any:
        """Returns the batches of test data; `None` for none."""
        if test_data is None:
            return None
        model = self.elementary_model
        size = training.get("validation_batch_size")
        source = sources.validation_source(
            test_data,
            training.get("batch_size") if size is None else size,
            None,
            "test_data",
            KeptArrays(),
            takes_strings(model),
            without_y,
        )
        first = source.batches.first()
        first_look.check_source(model, source.batches, first, "test_data")
        return source


def _check_same_batches(seen: int, before: int) -> None:
    """Checks that two trainings were given the same batches of a stream.

    Args:
        seen: int, the checksum of those of the second training.
        before: int, that of the first one.

    Raises:
        ValueError: if they differ.
    """
    if seen != before:
        raise ValueError(
            "Invalid value for argument `x`. Expected a data set that yields "
            "the same batches in each pass, so that trainings differ by their "
            "hyperparameters alone. Received: one that yields others. Use "
            "`shuffle(..., seed=0, reshuffle_each_iteration=False)` and no "
            "random numbers in `map`, put `cache()` at its end, or pass arrays."
        )
