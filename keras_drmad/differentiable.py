"""One training of a model, and the derivative of its validation loss."""

import warnings
from collections.abc import Callable
from typing import Any

from keras_drmad import arguments, hyperparameter_summary, keras_internals
from keras_drmad.methods.base import Chosen, Method
from keras_drmad.remembering import looks
from keras_drmad.saving import Saved
from keras_drmad.training import hypergradients, inputs, ranges
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.hypergradients import Hypergradient
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.plan import Plan
from keras_drmad.training.tables import takes_strings
from keras_drmad.training.tuning import META_ITERATIONS
from keras_drmad.training.workers import Workers

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


ALIKE = (
    "All draws start from the same weights, so what they say of new weights is "
    "too certain: they differ by the order of the data and by random masks "
    "alone."
)


class Differentiable(Saved):
    """A wrapped model whose validation loss can be differentiated."""

    # ---- the method

    @property
    def method(self) -> Method:
        """The method that `compile` was given."""
        return self._assembly.method

    @property
    def given_meta_optimizer(self) -> Any:
        """The meta-optimizer of `compile`, or the dict of some."""
        return self._given_meta_optimizer

    @property
    def resolved(self) -> Chosen:
        """The method of the last training, and why; see the class."""
        return self._assembly.chosen

    @property
    def uses_xla(self) -> bool | None:
        """Whether XLA compiles the loops; `None` before the first training."""
        loops = self._assembly.loops
        return None if loops is None else loops.compiler.jit_compile

    @property
    def is_chief(self) -> bool:
        """Whether this process is to write files and print.

        `True` but on the workers of a `MultiWorkerMirroredStrategy` that are
        not the chief.
        """
        self.check_compiled()
        return self._assembly.replicas.is_chief

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the elementary model's summary, and what training does.

        The method; where it chooses (`Auto`, or one with `memory=`), what it
        chose for the last training, and why. And which weights the trainings
        of a `fit` draw anew.
        """
        super().summary(*args, **kwargs)
        if self.compiled:
            say = kwargs.get("print_fn") or print
            say(self.words_on_method())
            say(
                f" Initial weights: {self.origin_of_trainings().redraw.words()}"
            )
            if not self._assembly.self_check:
                say(" Self-check: off, numbers are not compared with Keras's.")

    def hyperparameter_summary(
        self,
        print_fn: Callable[[str], Any] | None = None,
        *,
        meta_iterations: int = META_ITERATIONS,
    ) -> None:
        """Prints every hyperparameter with its shape, count and values.

        Below the table stands how far `fit` can move the values, where the
        meta-optimizer tells; how certain the gradients' signs were, after a
        `fit` with `SignConsensus`; and which kinds could not be tuned in this
        model, by this optimizer and method, and why.

        Args:
            print_fn: takes the text; `print` by default.
            meta_iterations: int, the length of the `fit`, 20 by default, as
                there.

        Raises:
            TypeError: if `meta_iterations` is not a whole number.
            ValueError: if the model was not compiled.
        """
        self.check_compiled()
        arguments.whole("meta_iterations", meta_iterations, 0)
        self.follow_weights()
        (print_fn or print)(
            hyperparameter_summary.summary(
                self.elementary_model,
                self.optimizer,
                self.hyperparameters,
                self.method,
                meta_optimizer=self.meta_optimizer,
                meta_iterations=meta_iterations,
            )
        )

    def words_on_method(self) -> str:
        """Returns the method in words, and why it was chosen."""
        method, why = self.resolved
        if why:
            return f" Hypergradient: {method!r}: {why}."
        return f" Hypergradient: {self.method!r}"

    # ---- one training

    @keras_internals.outside
    @looks
    def hypergradient(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any,
        seed: int | None = 0,
        draws: int = 1,
        **data: Any,
    ) -> Hypergradient:
        """Trains and differentiates the validation loss.

        Once, from the weights as they are; or several times from new draws of
        the weights that `fit` would draw anew, and of the order of the data.
        Weights, optimizer and hyperparameters are left as they were.

        Args:
            x: as for `fit`, and so are the others.
            y: as for `fit`.
            batch_size: int, 32 by default, with arrays.
            epochs: int.
            validation_data: the data whose loss is differentiated.
            seed: int; the order of the data, dropout masks and draws follow
                from it.
            draws: int, the number of draws; 1 for the weights as they are.
            **data: of the arguments of `fit`: `sample_weight`, `class_weight`,
                `steps_per_epoch`, `shuffle`, `validation_steps` and
                `validation_batch_size`.

        Returns:
            `Hypergradient`: `validation_loss`, `gradients` (a tensor of the
            raw variable's shape for each hyperparameter's name) and
            `diagnostics`; of several draws means, the `standard_errors` of the
            gradients, and the `certain_share` of the hyperparameters.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
            FloatingPointError: if the training diverges.
        """
        arguments.whole("draws", draws, 1)
        training, plan = self.prepared(
            x,
            y,
            trainings=draws,
            draws=draws,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            seed=seed,
            **data,
        )
        workers = training.workers
        if draws == 1:
            starts = InitialState(training.problem, "same", plan.seed)
            with workers.watched():
                return training.hypergradient(starts.of(0), plan)
        starts = self.new_draws(training, plan)

        def of_draw(k: int) -> Hypergradient:
            drawn = plan.drawn(starts.seed_of(k), with_split=True)
            return training.hypergradient(starts.of(k), drawn)

        with workers.watched():
            return hypergradients.mean(workers.each(draws, of_draw))

    @keras_internals.outside
    @looks
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
        training, plan = self.prepared(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            seed=seed,
            **data,
        )
        starts = InitialState(training.problem, "same", plan.seed)
        with training.workers.watched():
            return training.validation_loss(starts.of(0), plan)

    # ---- what these, and checks, begin with

    def new_draws(
        self, training: ElementaryTraining, plan: Plan
    ) -> InitialState:
        """Returns the starts of trainings with new weights.

        Warns if no weight is new.
        """
        origin = self.origin_of_trainings()
        origin.agree(training.workers)
        if origin.redraw.draws_none:
            warnings.warn(
                f"{ALIKE} {origin.redraw.words()}",
                UserWarning,
                stacklevel=arguments.users_level(),
            )
        return InitialState(training.problem, "resample", plan.seed, origin)

    def prepared(
        self,
        x: Any,
        y: Any,
        /,
        *,
        trainings: int = 1,
        draws: int = 1,
        may_split: bool = False,
        **given: Any,
    ) -> tuple[ElementaryTraining, Plan]:
        """Returns the training that arguments ask for, and its plan.

        Args:
            x: as for `hypergradient`.
            y: as for `hypergradient`.
            trainings: int, how many are to come.
            draws: int, how many of them need nothing of each other.
            may_split: bool, whether `validation_split` is an argument, too.
            **given: others of `TRAINING_ARGUMENTS`.

        Raises:
            TypeError: if another argument is given.
        """
        known = [*TRAINING_ARGUMENTS, *["validation_split"] * may_split]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise TypeError(
                f"Invalid argument `{unknown[0]}`. Expected x, y and, by name, "
                f"{', '.join(known)}. Received: {unknown}. What "
                "`fit` alone takes, pass to `fit`; in place of a "
                "`validation_split` pass `validation_data`."
            )
        self.check_compiled()
        model = self.elementary_model
        workers = Workers(self._assembly.replicas, draws)
        if "seed" in given:
            given["seed"] = workers.seed(given["seed"])
        plan = inputs.plan(
            x,
            y,
            **given,
            class_axis=ranges.class_axis(model),
            strings=takes_strings(model),
            kept=self._assembly.kept,
        )
        self.follow_weights()
        training = self._assembly.training(
            plan, is_tuned=True, trainings=trainings, workers=workers
        )
        return training, plan
