"""One training of a model, and the derivative of its validation loss."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_drmad import (
    arguments,
    hypergradient_check,
    hyperparameter_summary,
)
from keras_drmad.hypergradient_check import HypergradientCheck
from keras_drmad.methods.base import Chosen, Method
from keras_drmad.methods.reverse_mode import ReverseMode
from keras_drmad.saving import Saved
from keras_drmad.training import inputs, ranges
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    Hypergradient,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.tables import takes_strings

# Of one training, beside x and y; as for `fit`.
TRAINING_ARGUMENTS = (
    "batch_size",
    "epochs",
    "steps_per_epoch",
    "shuffle",
    "sample_weight",
    "class_weight",
    "validation_data",
    "validation_steps",
    "validation_batch_size",
    "seed",
)


class Differentiable(Saved):
    """A wrapped model whose validation loss can be differentiated."""

    # ---- the method

    @property
    def method(self) -> Method:
        """The method that `compile` was given."""
        return self._assembly.method

    @property
    def resolved(self) -> Chosen:
        """The method of the last training, and why; see the class."""
        return self._assembly.chosen

    @property
    def uses_xla(self) -> bool | None:
        """Whether XLA compiles the loops; `None` before the first training."""
        loops = self._assembly.loops
        return None if loops is None else loops.compiler.jit_compile

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the elementary model's summary, and the method.

        Where the method chooses (`Auto`, or one with `memory=`), what it chose
        for the last training, and why.
        """
        super().summary(*args, **kwargs)
        if self.compiled:
            say = kwargs.get("print_fn") or print
            say(self.words_on_method())
            if not self._assembly.self_check:
                say(" Self-check: off, numbers are not compared with Keras's.")

    def hyperparameter_summary(
        self, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Prints every hyperparameter with its shape, count and values.

        Below the table stands which kinds could not be tuned in this model, by
        this optimizer and method, and why.

        Args:
            print_fn: takes the text; `print` by default.

        Raises:
            ValueError: if the model was not compiled.
        """
        self.check_compiled()
        (print_fn or print)(
            hyperparameter_summary.summary(
                self.elementary_model,
                self.optimizer,
                self.hyperparameters,
                self.method,
            )
        )

    def words_on_method(self) -> str:
        """Returns the method in words, and why it was chosen."""
        method, why = self.resolved
        if why:
            return f" Hypergradient: {method!r}: {why}."
        return f" Hypergradient: {self.method!r}"

    # ---- one training

    def hypergradient(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any,
        seed: int | None = 0,
        **data: Any,
    ) -> Hypergradient:
        """Trains once and differentiates the validation loss.

        Weights, optimizer and hyperparameters are left as they were.

        Args:
            x: as for `fit`, and so are the others.
            y: as for `fit`.
            batch_size: int, 32 by default, with arrays.
            epochs: int.
            validation_data: the data whose loss is differentiated.
            seed: int; the order of the data and dropout masks follow from it.
            **data: of the arguments of `fit`: `sample_weight`, `class_weight`,
                `steps_per_epoch`, `shuffle`, `validation_steps` and
                `validation_batch_size`.

        Returns:
            `Hypergradient`: `validation_loss`, `gradients` (a tensor of the
            raw variable's shape for each hyperparameter's name) and
            `diagnostics`.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
            FloatingPointError: if the training diverges.
        """
        return self._once(
            ElementaryTraining.hypergradient,
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            seed=seed,
            **data,
        )

    def validation_loss_after(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any,
        seed: int | None = 0,
        **data: Any,
    ) -> float:
        """Trains once and returns the validation loss.

        The function of which `hypergradient` is the derivative: with the same
        arguments, the same initial weights, batches and dropout masks.
        Weights, optimizer and hyperparameters are left as they were.

        Args:
            x: as for `hypergradient`, and so are the others.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
            FloatingPointError: if the training diverges.
        """
        return self._once(
            ElementaryTraining.validation_loss,
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            seed=seed,
            **data,
        )

    def check_hypergradient(
        self,
        x: Any = None,
        y: Any = None,
        *,
        directions: int = 2,
        length: float = 0.03,
        seed: int = 0,
        **training: Any,
    ) -> HypergradientCheck:
        """Compares the hypergradient with what trainings show.

        Moves the raw hyperparameters along the hypergradient, and along random
        directions, and trains on both sides: (1 + directions) * 2 trainings.
        Run it once before a long `fit` with an approximate method, and again
        when its warnings say that a walk backward was cut short. A data set
        must yield the same batches each time: no `shuffle` without a fixed
        order. Weights, optimizer and hyperparameters are left as they were.

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
            **training: the other arguments of `hypergradient`;
                `validation_data` is needed.

        Returns:
            `HypergradientCheck`: predicted and actual changes, a verdict and
            advice; `print` shows them.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`, or if `length` is not positive.
            FloatingPointError: if a training diverges.
        """
        arguments.whole("directions", directions, 1)
        arguments.positive("length", length)
        training["seed"] = inputs.drawn_seed(seed)
        record = self.hypergradient(x, y, **training)
        return hypergradient_check.check(
            [np.array(g) for g in record.gradients.values()],
            [h.raw for h in self.hyperparameters],
            lambda: self.validation_loss_after(x, y, **training),
            directions,
            length,
            training["seed"],
            record.validation_loss,
            is_exact=isinstance(self.resolved.method, ReverseMode),
        )

    def _once(self, function: Callable, x: Any, y: Any, /, **given: Any) -> Any:
        """Trains from the weights as they are, and applies a function."""
        unknown = sorted(set(given) - {*TRAINING_ARGUMENTS})
        if unknown:
            raise TypeError(
                f"Invalid argument `{unknown[0]}`. Expected x, y and, by name, "
                f"{', '.join(TRAINING_ARGUMENTS)}. Received: {unknown}. What "
                "`fit` alone takes, pass to `fit`."
            )
        self.check_compiled()
        model = self.elementary_model
        plan = inputs.plan(
            x,
            y,
            **given,
            class_axis=ranges.class_axis(model),
            strings=takes_strings(model),
        )
        training = self._assembly.training(plan, is_tuned=True)
        starts = InitialState(training.problem, "same", plan.seed)
        return function(training, starts.of(0), plan)
