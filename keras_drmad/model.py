"""`DrMADModel`: hyperparameters tuned by gradient, in `keras.Model.fit`."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import (
    arguments,
    keras_internals,
    meta_optimizers,
    tunable_model,
    versions,
)
from keras_drmad.checkable import Checkable
from keras_drmad.differentiable import TRAINING_ARGUMENTS, Differentiable
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.suggested import suggested
from keras_drmad.hyperparameters.together import Together, check_given
from keras_drmad.layers import in_layers
from keras_drmad.methods.auto import given as given_method
from keras_drmad.methods.base import Method
from keras_drmad.readable import Readable
from keras_drmad.seam.pure_optimizer import check_known, check_optimizer
from keras_drmad.seam.replicas import Replicas, check_strategy
from keras_drmad.seam.traits import check_trainable
from keras_drmad.training import fit_loops, inputs, ranges, sources
from keras_drmad.training import tuning as tunings
from keras_drmad.training.assembly import Assembly
from keras_drmad.training.course import Course
from keras_drmad.training.display import VERBOSE, Display
from keras_drmad.training.tables import takes_strings
from keras_drmad.training.workers import Workers, facts

FIT_ARGUMENTS = (
    *TRAINING_ARGUMENTS,
    "verbose",
    "callbacks",
    "validation_split",
    "initial_epoch",
    "hyper_data",
    "meta_iterations",
    "tune_every",
    "look_back",
    "initial_weights",
    "keep",
    "draws",
    "refit",
)
EACH = (
    "Each meta-iteration needs the validation loss. For a cheaper one, pass "
    "`validation_steps`."
)


@keras.saving.register_keras_serializable("keras_drmad")
class DrMADModel(Readable, Checkable, Differentiable):
    """A Keras model whose hyperparameters are learned by gradient.

    Wraps an elementary model. `fit` repeats an elementary training; after each
    one it differentiates the validation loss with respect to the
    hyperparameters, through the whole training, and takes a step on them.
    To callbacks such a meta-iteration is an epoch.

    Example:

    ```python
    inputs = keras.Input((784,))
    x = keras.layers.Dense(50, activation="tanh")(inputs)
    model = kd.DrMADModel(inputs, keras.layers.Dense(10)(x))
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[kd.hyperparameters.L2(per="input")],
    )
    model.fit(x, y, batch_size=50, steps_per_epoch=2000,
              validation_data=(x_val, y_val), meta_iterations=20)
    ```

    Attributes:
        elementary_model: the `keras.Model` inside; its weights are trained.
        hyperparameters: list of the kinds given to `compile`.
        start_weights: list of `tf.Variable`, the trainable weights at the
            start of the last elementary training; empty before the first.
        end_weights: list of `tf.Variable`, those at its end.
        tuning_record: `TuningRecord`, what the `fit`s that tuned did, in a
            few numbers for each meta-iteration.
        resolved: `(method, why)`, the method of the last training, all its
            options fixed, and why the method given to `compile` chose it.

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917.
    """

    # ---- compile

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        name: str | None = None,
        *,
        tunable: bool = False,
    ):
        """Wraps any built model: Sequential, Functional or subclassed.

        The wrapped model and the result share the weights, and the model's own
        `compute_loss`. With `tunable=True` the weights are copies.

        Args:
            model: a built `keras.Model`.
            name: str, the model's own name by default.
            tunable: bool, whether to wrap `keras_drmad.tunable(model)`, a copy
                whose dropout, noise and augmentation have strengths that are
                tuned, in place of the model itself.

        Raises:
            TypeError: if `model` is not a `keras.Model`.
            ValueError: if `model` is not built; with `tunable=True`, as
                `keras_drmad.tunable` does.
        """
        arguments.boolean("tunable", tunable)
        if tunable:
            model = tunable_model.tunable(model)
        return cls(model, name=name)

    def compile(
        self,
        optimizer: str | keras.Optimizer = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        hyperparameters: Sequence[Hyperparameter] | str = (),
        hypergradient: Method | str = "auto",
        meta_optimizer: str
        | keras.Optimizer
        | dict[str, str | keras.Optimizer]
        | None = None,
        jit_compile: bool | str = "auto",
        self_check: bool = True,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        auto_scale_loss: bool = True,
        **own: Any,
    ) -> None:
        """Configures training and meta-training.

        Compiling again with the same hyperparameter objects keeps what they
        have learned. Where a step is the same function as before, whatever the
        rates and values in it, its compiled loops are used again.

        Args:
            optimizer: the elementary optimizer, any stock Keras optimizer.
            loss: as for `keras.Model.compile`.
            loss_weights: as for `keras.Model.compile`.
            metrics: as for `keras.Model.compile`.
            weighted_metrics: as for `keras.Model.compile`.
            hyperparameters: list of hyperparameters with unique names, to
                which the values in the model's layers (`layers.LearnedValue`)
                are added; `"auto"` for a penalty and a learning rate for each
                layer with a kernel, and a weight decay where the optimizer has
                one.
            hypergradient: the method, such as `DrMAD()` or `ReverseMode()`;
                `"auto"` for `Auto()`, which chooses by what is tuned, memory
                and time.
            meta_optimizer: moves the raw hyperparameters; `SignConsensus()` by
                default, or `SignDescent`, or any Keras optimizer. Or a dict
                from names of hyperparameters to optimizers; those that it does
                not name stay as they are.
            jit_compile: bool, whether XLA compiles the loops of training; or
                `"auto"`, yes where XLA runs such layers well and so many steps
                are asked for that compiling pays: some 8,000 of a small net,
                800 with recurrent layers, 400 of a net with 650,000 weights.
                Steps add up over calls, but for models whose layers draw
                numbers: of one seed XLA draws others, so these stay with what
                the first call took. With both, held-out batches are left to
                TensorFlow where compiling for so few does not pay.
            self_check: bool, whether the first training is preceded by a
                comparison of one step with Keras's own, and of its derivatives
                with differences.
            run_eagerly: False: training runs in compiled loops.
            steps_per_execution: as for `keras.Model.compile`, in `evaluate`
                and `predict`.
            auto_scale_loss: as for `keras.Model.compile`.
            **own: what the elementary model's own `compile` takes besides.

        Raises:
            TypeError: if an argument is of a type that can't serve.
            ValueError: if there are no hyperparameters, two have one name, or
                one finds nothing in the model to act on. The model is then
                left as it was.
        """
        check_given(hyperparameters)
        given = () if isinstance(hyperparameters, str) else hyperparameters
        check_strategy(keras_internals.strategy_of(self.elementary_model))
        with (
            keras_internals.unchanged_on_error(
                self, self.elementary_model, *given
            ),
            keras_internals.scope_of(self.elementary_model),
        ):
            arguments.choice("jit_compile", jit_compile, (True, False, "auto"))
            arguments.choice("self_check", self_check, (True, False))
            self.compile_elementary_model(
                optimizer,
                loss,
                loss_weights,
                metrics,
                weighted_metrics,
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                auto_scale_loss=auto_scale_loss,
                **own,
            )
            self._compile_hyperparameters(
                hyperparameters,
                hypergradient,
                meta_optimizer,
                jit_compile,
                self_check,
            )

    def _compile_hyperparameters(
        self,
        hyperparameters,
        hypergradient,
        meta_optimizer,
        jit_compile,
        self_check,
    ) -> None:
        is_auto = isinstance(hyperparameters, str)
        method = given_method(hypergradient)
        model, optimizer = self.elementary_model, self.optimizer
        if untested := versions.untested():
            warnings.warn(untested, UserWarning, stacklevel=1)
        check_trainable(model)
        check_optimizer(optimizer)
        check_known(optimizer, model.trainable_variables)
        if is_auto:
            hyperparameters = suggested(model, optimizer)
        together = Together([*hyperparameters, *in_layers.find(model)])
        method.check(optimizer, list(together))
        together.bind(model, optimizer)
        self.forget()
        self.hyperparameters = list(together)
        self._has_suggested = is_auto
        self._jit_choice = jit_compile
        self._given_meta_optimizer = meta_optimizers.checked_meta_optimizer(
            meta_optimizers.SignConsensus()
            if meta_optimizer is None
            else meta_optimizer,
            self.hyperparameters,
        )
        self.meta_optimizer = meta_optimizers.united(
            self._given_meta_optimizer, self.hyperparameters
        )
        self.meta_optimizer.build(together.raws)
        meta_optimizers.check_moves(
            self.meta_optimizer, together.raws, optimizer
        )
        self._assembly = Assembly(
            model,
            together,
            method,
            jit_compile,
            self_check=self_check,
            replicas=Replicas.of(keras_internals.strategy_of(model)),
            before=getattr(self, "_assembly", None),
        )

    # ---- fit

    @keras_internals.outside
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        *,
        hyper_data: Any = None,
        meta_iterations: int | None = None,
        tune_every: int | None = None,
        look_back: int | None = None,
        initial_weights: str = "resample",
        keep: str | None = None,
        draws: int = 1,
        refit: bool = False,
        seed: int | None = None,
        **others: Any,
    ) -> keras.callbacks.History:
        """Tunes the hyperparameters, and trains the model with them.

        Each meta-iteration trains T = epochs x steps_per_epoch steps with a
        new optimizer, computes the hypergradient of the validation loss, and
        ends with a step of the hyperparameters. To callbacks a meta-iteration
        is an epoch, and a chunk of up to 200 steps a
        batch; so `ReduceLROnPlateau` and `LearningRateScheduler` act between
        trainings, and not within one. Callbacks are told before the step.
        Logs: `loss` and the metrics
        (means over the last of the `epochs`, penalties included), `val_loss`
        and the metrics as `evaluate` has them, and the mean of each
        hyperparameter's values, `"NAME/mean"`, those that this training used.
        The logs of a last training are in `model.final_logs`. What tells how
        the hypergradients were computed is in `model.diagnostics`, lists with
        an entry for each meta-iteration: `hypergradient_norm`,
        `adjoint_growth`, `reverse_steps`, `reverse_steps_used`, `copies` (of
        the weights, kept for the walk backward), `residual` (of
        `Implicit`), `past_edge` (trainings past the edge of stability, those
        that diverged and began again included, where learning rates are
        tuned), and the standard deviation of each
        hyperparameter's values, `"NAME/std"`;
        `keras_drmad.callbacks.Diagnostics` puts the last entries into the logs.

        Where learning rates are tuned, a training is past the edge of stability
        if it diverges, if it moves the weights by more than their norm and
        makes neither the training loss nor the validation loss better, or if
        the adjoint of the weights grows a thousandfold (which an exact walk
        backward tells). Then learning rates are lowered, whatever their
        hypergradient says, and all else stands still. A training that diverged
        begins again, with half the learning rates. With `tune_every` nothing of
        this is done.

        A second `fit` starts where the trainings of the first one started, or
        from weights that were put into the model since. What a `fit` with
        `meta_iterations=0` or `tune_every` has trained was not put in: only
        another such `fit`, or `initial_weights="continue"`, goes on from it.
        To tune from weights that you train first, train
        `model.elementary_model`. An interrupt, a
        callback that stops, and a training that diverges leave what `keep`
        says of the meta-iterations before (an interrupt without a last
        training: then with the weights of the best one); before the first one
        is complete, the model as it was. Where epochs are epochs, it has the
        weights at the end of the last chunk that was complete, whatever ended
        the training there.

        With `keras.callbacks.BackupAndRestore` a `fit` that was killed goes on
        where it was, to the same bits; with an integer as `save_freq` also
        within a training. `keras_drmad.callbacks.TimeBudget` ends `fit` in
        time. See `docs/long_runs.md`.

        Args:
            x: arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`. Data
                sets are streamed. Training goes through the data again where T
                steps need more than there are.
            y: targets, with arrays.
            batch_size: int, 32 by default, with arrays.
            epochs: int.
            verbose: 1 or "auto": a bar for each training, whose steps are those
                forward and those backward; a line for each hyperparameter, how
                far its values moved; a line for what takes its time before
                the first steps. 2: a line in place of the bar. 0: nothing.
            callbacks: list of Keras callbacks.
            validation_split: float, the fraction of the arrays to validate on:
                with `initial_weights="resample"` a new one of each training,
                otherwise the last one.
            validation_data: the data whose loss is differentiated.
            shuffle: bool, whether arrays are shuffled in each epoch.
            class_weight: dict from class to weight.
            sample_weight: weights of the examples, with arrays.
            initial_epoch: int, the meta-iteration to start at, or the epoch,
                where epochs are epochs.
            steps_per_epoch: int, all batches by default.
            validation_steps: int, all batches by default.
            validation_batch_size: int, `batch_size` by default.
            validation_freq: 1: each meta-iteration is validated.
            hyper_data: if given, the data whose loss is differentiated;
                `validation_data` then only reports.
            meta_iterations: int, 20 by default; 0 trains with the
                hyperparameters as they are, from weights and optimizer (its
                velocity, its count of steps) as they are, whatever
                `initial_weights`, and epochs are epochs; `keep`, `draws` and
                `refit` are then refused. Compile again, or
                use `validation_loss_after`, to begin with a new optimizer.
            tune_every: int, K: if given, hyperparameters are tuned within one
                training, which goes on from weights and optimizer as they
                are: after each K steps of an epoch a hypergradient through the
                last `look_back` of them, of the loss on the next minibatch of
                the data that hyperparameters are fitted to, is followed by the
                meta-optimizer. Epochs are epochs. For weights of examples and
                losses, and to mend bad starts: what pays late (penalties,
                augmentation, rates) is led astray by so short a view, see
                `docs/howto/tuning_while_training.md`.
            look_back: int, R, at most K, the default; no fewer steps than an
                optimizer accumulates the gradients of.
            initial_weights: where each training starts: `"resample"`, from a
                new draw of each weight that still holds a draw of its
                initializer, while loaded weights start as they are;
                `"same"`, from the same weights, in the same order of the data;
                `"continue"`, from where the last training ended. Values that
                were tuned with `"same"` belong to these weights and this order.
            keep: what the model ends with: `"mean"`, the means of the raw
                hyperparameters over the last half of the steps, and a last
                training with these, the default with `"resample"`; `"best"`,
                weights and hyperparameters of the lowest `val_loss`, the
                default otherwise, and where `EarlyStopping` is to restore the
                best weights, which leaves no place for `"mean"` and `refit`
                (the next `fit` then begins with the step that
                follows these, unless you assign other values); `"last"`, the
                last weights, and hyperparameters one step further.
            draws: int, how many trainings from new draws each meta-iteration
                has, whose mean hypergradient it follows. Logs are their means,
                and so is the `val_loss` by which `"best"` chooses; its weights
                are those of the draw with the lowest `val_loss` among them.
                Those of `"last"` are those of the last draw, whose own loss may
                be higher.
            refit: bool, whether `fit` ends with a training on all examples,
                those of `validation_split` included; with `hyper_data`, its
                loss there is `"hyper_loss"` in `model.final_logs`.
            seed: int; splits, the order of the data, new initial weights and
                dropout masks follow from it.
            **others: refused, by words.

        Returns:
            `keras.callbacks.History`, an entry for each meta-iteration.

        Raises:
            TypeError: if data or an argument are of a type that can't serve.
            ValueError: if they are not valid, or others than those of the
                backup to go on from, before work starts.
            OSError: if a backup can't be written.
            FloatingPointError: if the first meta-iteration diverges, also after
                learning rates that are tuned were halved, 20 times at most. A
                later one ends `fit` with a warning and the
                best state so far. Or if the one training with
                `meta_iterations=0` or `tune_every` diverges.
        """
        given = {k: v for k, v in locals().items() if k in FIT_ARGUMENTS}
        self.check_compiled()
        arguments.no_others("fit", others, FIT_ARGUMENTS)
        arguments.choice("verbose", verbose, VERBOSE)
        arguments.choice("validation_freq", validation_freq, (1,), advice=EACH)
        tuning = tunings.checked(
            meta_iterations=meta_iterations,
            initial_epoch=initial_epoch,
            initial_weights=initial_weights,
            keep=keep,
            draws=draws,
            refit=refit,
            tune_every=tune_every,
            look_back=look_back,
            is_split=bool(validation_split) and validation_data is None,
            callbacks=callbacks,
            rates=[
                h.name
                for h in self.hyperparameters
                if h.place.overrides and "learning_rate" in h.numbers
            ],
        )
        is_tuned = tuning.meta_iterations > 0
        workers = Workers(self._assembly.replicas, draws if is_tuned else 1)
        workers.agree(lambda: facts(given))
        display = Display(verbose if workers.is_chief else 0)
        course = Course(
            callbacks, lambda: self.in_words(x, y, given), seed, workers
        )
        plan = inputs.plan(
            x,
            y,
            sample_weight,
            class_weight,
            batch_size=batch_size,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            validation_split=validation_split,
            validation_data=validation_data,
            validation_batch_size=validation_batch_size,
            validation_steps=validation_steps,
            hyper_data=hyper_data,
            seed=course.seed,
            is_tuned=is_tuned,
            class_axis=ranges.class_axis(self.elementary_model),
            strings=takes_strings(self.elementary_model),
            kept=self._assembly.kept,
        )
        sources.warn_of_ends(x, steps_per_epoch, epochs)
        self.follow_weights()
        training = self._assembly.training(
            plan,
            is_tuned=is_tuned,
            trainings=max(1, tuning.meta_iterations) * draws,
            initial_weights=tuning.initial_weights,
            window=tuning.look_back,
            may_wait=True,
            workers=workers,
            display=display,
        )
        if is_tuned and self._has_suggested and not display.is_silent:
            self.hyperparameter_summary(
                print_fn=display.say, meta_iterations=tuning.moves(plan)
            )
            self._has_suggested = False  # said once
        if is_tuned and self.resolved.why:
            display.say(self.words_on_method().strip())
        if is_tuned and tuning.are_drawn:
            redraw = self.origin_of_trainings().redraw
            if redraw.keeps_some:  # a pretrained body, or a user's oversight
                display.say(f"Initial weights: {redraw.words()}")
        fit_loops.run(
            self,
            training,
            plan,
            tuning,
            callbacks,
            course,
            display,
        )
        return self.history
