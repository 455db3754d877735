"""`DrMADModel`: hyperparameters tuned by gradient, in `keras.Model.fit`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import checks
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walks
from keras_drmad.differentiation import FinalPoint, Trajectory
from keras_drmad.export.plain_builder import exported
from keras_drmad.export.plain_keras import PlainKeras
from keras_drmad.hypergradient_check import HypergradientCheck, check
from keras_drmad.hyperparameter_summary import summary
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.hyperparameters.base import Training
from keras_drmad.hyperparameters.suggested import suggested
from keras_drmad.layers import in_layers
from keras_drmad.meta_optimizers import united
from keras_drmad.methods import Method
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.seam.pure_optimizer import check_optimizer
from keras_drmad.seam.second_derivatives import check_convex
from keras_drmad.training import fit_loops, inputs
from keras_drmad.training.elementary_training import (
    ElementaryTraining,
    Hypergradient,
)
from keras_drmad.training.initial_weights import InitialState
from keras_drmad.training.meta_training import MetaTraining, Resumed
from keras_drmad.wrapper import Wrapper

NEW = Resumed([], [], [])  # a `fit` that resumes nothing
NO_WAY_BACK: Trajectory = FinalPoint(1, "hessian")  # keeps nothing
NO_WALKS: Any = ((None, None), None, None)


@keras.saving.register_keras_serializable("keras_drmad")
class DrMADModel(Wrapper):
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
        method_used: the method of the last training, all its options fixed:
            where the method given to `compile` chooses, what it chose.
        method_used_because: str, why.

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917.
    """

    _compiled_walks: Any
    _initial_epoch: Any
    _in_progress: Any

    def __init__(self, inputs: Any, outputs: Any = None, name=None):
        super().__init__(inputs, outputs, name)
        self._reset_compiled()

    # ---- compile

    def compile(
        self,
        optimizer: str | keras.Optimizer = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        hyperparameters: Sequence[Hyperparameter] | str = (),
        hypergradient: Method | str | None = None,
        meta_optimizer: str
        | keras.Optimizer
        | dict[str, str | keras.Optimizer]
        | None = None,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Configures training and meta-training.

        Compiling again with the same hyperparameter objects keeps what they
        have learned.

        Args:
            optimizer: the elementary optimizer, any stock Keras optimizer.
            loss: as for `keras.Model.compile`.
            loss_weights: as for `keras.Model.compile`.
            metrics: as for `keras.Model.compile`.
            weighted_metrics: as for `keras.Model.compile`.
            hyperparameters: list of hyperparameter kinds with unique names, to
                which those in the model's layers (`layers.LearnedValue`) are
                added;
                `"auto"` for a penalty and a learning rate for each layer with
                a kernel, and a weight decay where the optimizer has one.
            hypergradient: the method, `DrMAD()` by default; `"auto"` for
                `Auto()`, the most faithful one that memory and time allow,
                which is the default with `hyperparameters="auto"`.
            meta_optimizer: moves the raw hyperparameters; any Keras optimizer
                or `SignDescent`. `keras.optimizers.Adam(0.05)` by default. Or
                a dict from names of hyperparameters to optimizers; those that
                it does not name stay as they are.
            jit_compile: bool, whether XLA compiles the loops of training; or
                `"auto"`, yes where the model is likely to gain by it. Dropout
                masks of one seed differ between the two.

        Raises:
            TypeError: if an argument is of a type that can't serve.
            ValueError: if there are no hyperparameters, two have one name, or
                one finds nothing in the model to act on.
        """
        if isinstance(hyperparameters, str):
            checks.check_auto(hyperparameters)
            hypergradient = hypergradient or hyperparameters
        else:
            checks.check_kinds(hyperparameters)
        method = checks.checked_method(hypergradient)
        checks.check_jit_compile(jit_compile)
        model = self.elementary_model
        model.compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            jit_compile=False,
        )
        checks.check_trainable(model)
        check_optimizer(model.optimizer)
        given = hyperparameters
        self._are_suggested = isinstance(given, str)
        if isinstance(given, str):
            given = suggested(model, model.optimizer)
        kinds = [*given, *in_layers.find(model)]
        checks.check_names(kinds)
        method.check(model.optimizer, kinds)
        super().compile(optimizer=model.optimizer, jit_compile=False)
        for kind in kinds:
            kind.bind(model, model.optimizer)
            kind.model = model
        checks.check_none_is_replaced(kinds)
        self._reset_compiled()
        self.hyperparameters = kinds
        self.method = method
        self.method_used, self.method_used_because = method, ""
        self._given_meta_optimizer = checks.checked_meta_optimizer(
            keras.optimizers.Adam(0.05)
            if meta_optimizer is None
            else meta_optimizer,
            kinds,
        )
        self.meta_optimizer = united(self._given_meta_optimizer, kinds)
        raws = [kind.raw for kind in kinds]
        self.meta_optimizer.build(raws)
        checks.check_moves(self.meta_optimizer, raws)
        self._jit_choice = jit_compile

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the elementary model's summary, and the method.

        Where the method chooses (`Auto`, or one with `memory=`), what it chose
        for the last training, and why.
        """
        super().summary(*args, **kwargs)
        if self.compiled:
            (kwargs.get("print_fn") or print)(self._words_on_method())

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
        checks.check_compiled(self)
        (print_fn or print)(
            summary(
                self.elementary_model,
                self.optimizer,
                self.hyperparameters,
                self.method,
            )
        )

    def _words_on_method(self) -> str:
        why = self.method_used_because
        if why:
            return f" Hypergradient: {self.method_used!r}: {why}."
        return f" Hypergradient: {self.method!r}"

    # ---- fit

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
        *,
        hyper_data: Any = None,
        meta_iterations: int = 10,
        initial_weights: str = "same",
        restore_best: bool = True,
        seed: int | None = None,
    ) -> keras.callbacks.History:
        """Tunes the hyperparameters, and trains the model with them.

        Each meta-iteration trains T = epochs x steps_per_epoch steps with a
        new optimizer, and computes the hypergradient of the validation loss,
        which the next meta-iteration follows. To callbacks a meta-iteration is
        an epoch, and a chunk of steps a batch. Logs: `loss` and the metrics
        (means over the last of the `epochs`, penalties included), `val_loss`
        and the metrics as `evaluate` has them, `hypergradient_norm`,
        `adjoint_growth`, `reverse_steps_used`, `copies` (of the weights, kept
        for the way back), and mean and standard deviation of each
        hyperparameter's values, those that this training used.

        An interrupt leaves the model at the best completed meta-iteration.

        Args:
            x: arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`. Data
                sets are streamed. Training goes through the data again where T
                steps need more than there are.
            y: targets, with arrays.
            batch_size: int, 32 by default, with arrays.
            epochs: int.
            verbose: as for `keras.Model.fit`; a bar for each meta-iteration.
            callbacks: list of Keras callbacks.
            validation_split: float, the last fraction of the arrays, to
                validate on.
            validation_data: the data whose loss is differentiated.
            shuffle: bool, whether arrays are shuffled in each epoch.
            class_weight: dict from class to weight.
            sample_weight: weights of the examples, with arrays.
            initial_epoch: int, the meta-iteration to start at.
            steps_per_epoch: int, all batches by default.
            validation_steps: int, all batches by default.
            validation_batch_size: int, `batch_size` by default.
            hyper_data: if given, the data whose loss is differentiated;
                `validation_data` then only reports.
            meta_iterations: int; 0 trains with the hyperparameters as they
                are, from weights and optimizer (its velocity, its count of
                steps) as they are, and epochs are epochs. Compile again, or
                use `validation_loss_after`, to begin with a new optimizer.
            initial_weights: where each training starts: `"same"`, from the
                weights at the call; `"resample"`, from a new draw of the
                layers' initializers; `"continue"`, from where the last ended.
                The last two also draw a new order of the data.
            restore_best: bool, whether the model ends with the weights and
                hyperparameters of the lowest `val_loss`. Otherwise with the
                last weights, and with hyperparameters one step further.
            seed: int; the order of the data, new initial weights and dropout
                masks follow from it.

        Returns:
            `keras.callbacks.History`, an entry for each meta-iteration.

        Raises:
            TypeError: if data or an argument are of a type that can't serve.
            ValueError: if they are not valid, before work starts.
            FloatingPointError: if the first meta-iteration diverges. A later
                one ends `fit` with a warning and the best state so far.
        """
        checks.check_compiled(self)
        checks.check_counts(epochs=epochs)
        checks.check_counts(0, initial_epoch=initial_epoch)
        checks.check_meta_arguments(meta_iterations, initial_weights)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = inputs.split(
                x, y, sample_weight, validation_split
            )
        checks.check_validation(
            validation_data, hyper_data, is_needed=meta_iterations > 0
        )
        seed = checks.checked_seed(seed)
        plan = inputs.plan(
            inputs.training_source(
                x,
                y,
                sample_weight,
                class_weight,
                batch_size,
                steps_per_epoch,
                shuffle,
                seed,
            ),
            epochs,
            validation_data,
            hyper_data,
            (validation_batch_size, batch_size),
            validation_steps,
        )
        training = self._elementary_training(
            plan, meta_iterations > 0, initial_weights
        )
        if verbose and meta_iterations and self._are_suggested:
            self.hyperparameter_summary()
        if verbose and meta_iterations and self.method_used_because:
            print(self._words_on_method().strip())
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_history=True,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=meta_iterations or epochs,
                steps=plan.T if meta_iterations else plan.training.steps,
                model=self,
            )
        self.stop_training = False
        callbacks.on_train_begin()
        first = self._initial_epoch or initial_epoch
        self._initial_epoch = None  # what `BackupAndRestore` set, only now
        if meta_iterations == 0:
            starts = InitialState(training.problem, "same", seed)
            problem = training.problem
            s_0 = starts.seeded(problem.recovered(problem.state()), 0)
            logs = fit_loops.fit_weights(
                self, training, plan, s_0, callbacks, first
            )
        else:
            resumed = self._resumed if first > 0 else NEW
            starts = InitialState(
                training.problem, initial_weights, seed, resumed.start
            )
            meta = MetaTraining(training, plan, self.meta_optimizer, resumed)
            logs = self._meta_train(
                meta,
                starts,
                callbacks,
                range(first, meta_iterations),
                restore_best,
            )
        callbacks.on_train_end(logs)
        return self.history

    def _meta_train(self, meta, starts, callbacks, numbers, restore_best):
        """Runs the meta-iterations and leaves the model as `fit` promises."""
        self._in_progress = meta, starts
        try:
            logs = fit_loops.fit_hyperparameters(
                self, meta, starts, callbacks, numbers
            )
        except KeyboardInterrupt:
            meta.restore_best()
            raise
        finally:
            self._in_progress, self._resumed = None, NEW
        if restore_best:
            meta.restore_best()
        else:
            meta.step_hyperparameters()
        return logs

    # ---- one hypergradient

    def hypergradient(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        seed: int | None = 0,
    ) -> Hypergradient:
        """Trains once and differentiates the validation loss.

        Weights, optimizer and hyperparameters are left as they were.

        Args:
            x: as for `fit`, and so are the others; `validation_data` is the
                data whose loss is differentiated.

        Returns:
            `Hypergradient`: `validation_loss`, `gradients` (a tensor of the
            raw variable's shape for each hyperparameter's name) and
            `diagnostics`.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
            FloatingPointError: if the training diverges.
        """
        arguments = dict(locals())
        return self._training_once(ElementaryTraining.hypergradient, arguments)

    def validation_loss_after(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        seed: int | None = 0,
    ) -> float:
        """Trains once and returns the validation loss.

        It is the function of which `hypergradient` is the derivative: with the
        same arguments, the same initial weights, batches and dropout masks.
        Weights, optimizer and hyperparameters are left as they were.

        Args:
            x: as for `hypergradient`, and so are the others.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
            FloatingPointError: if the training diverges.
        """
        arguments = dict(locals())
        return self._training_once(
            ElementaryTraining.validation_loss, arguments
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
        when its warnings say that a walk back was cut short. A data set must
        yield the same batches each time: no `shuffle` without a fixed order.
        Weights, optimizer and hyperparameters are left as they were.

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
        checks.check_counts(1, directions=directions)
        checks.check_positive(length=length)
        seed = checks.checked_seed(seed)
        arguments = {"seed": seed} | training
        record = self.hypergradient(x, y, **arguments)
        return check(
            [np.array(record.gradients[h.name]) for h in self.hyperparameters],
            [h.raw for h in self.hyperparameters],
            lambda: self.validation_loss_after(x, y, **arguments),
            directions,
            length,
            seed,
            record.validation_loss,
        )

    def _training_once(self, function: Callable, arguments: dict) -> Any:
        """Trains from the weights as they are, and applies a function."""
        checks.check_compiled(self)
        checks.check_counts(epochs=arguments["epochs"])
        checks.check_validation(
            arguments["validation_data"], None, is_needed=True
        )
        given = {k: arguments[k] for k in inputs.TRAINING_ARGUMENTS}
        given["seed"] = checks.checked_seed(arguments["seed"])
        plan = inputs.plan(
            inputs.training_source(**given),
            arguments["epochs"],
            arguments["validation_data"],
            None,
            (arguments["validation_batch_size"], arguments["batch_size"]),
            arguments["validation_steps"],
        )
        training = self._elementary_training(plan, True)
        starts = InitialState(training.problem, "same", given["seed"])
        return function(training, starts.of(0), plan)

    # ---- from data to walks

    def _elementary_training(
        self,
        plan: inputs.Plan,
        goes_back: bool,
        initial_weights: str = "same",
    ) -> ElementaryTraining:
        """Returns the training, with loops compiled before if they fit."""
        checks.check_bound(self.hyperparameters, self.elementary_model)
        batch = plan.training.batches.first()
        checks.check_data(self.elementary_model, plan, batch)
        for kind in self.hyperparameters:
            kind.prepare(
                Training(
                    plan.T,
                    plan.training.batches.size,
                    batch,
                    goes_back,
                    initial_weights,
                )
            )
        signature = checks.signature(batch)
        (known_by, traced_by), problem, walks = self._compiled_walks or NO_WALKS
        if known_by != signature:
            problem = ElementaryProblem(
                self.elementary_model,
                self.optimizer,
                self.hyperparameters,
                batch,
            )
            traced_by = None
        trajectory = NO_WAY_BACK
        if goes_back:
            trajectory = self._trajectory(problem, plan.T)
        if traced_by != trajectory.traced_by:
            if trajectory.curvature == "gauss_newton":
                check_convex(problem, batch)
            jit_compile = self._jit_choice
            if jit_compile == "auto":
                jit_compile = problem.suits_xla
            walks = Walks(problem, trajectory, bool(jit_compile))
        key = signature, trajectory.traced_by
        self._compiled_walks = key, problem, walks
        return ElementaryTraining(problem, walks, trajectory)

    def _trajectory(self, problem: ElementaryProblem, T: int) -> Trajectory:
        """Returns the way back of a training of T steps."""
        state = problem.state()
        method, why = self.method.resolve(T, state, self.hyperparameters)
        self.method_used, self.method_used_because = method, why
        method.check(self.optimizer, self.hyperparameters)
        trajectory = method.trajectory(T)
        trajectory.check(problem, state)
        return trajectory

    @property
    def uses_xla(self) -> bool | None:
        """Whether XLA compiles the loops; `None` before the first training."""
        if self._compiled_walks is None:
            return None
        return self._compiled_walks[2].jit_compile

    def _reset_compiled(self) -> None:
        """Forgets the compiled loops and what belongs to a `fit`."""
        self._compiled_walks = None
        self._in_progress = None
        self._resumed = NEW
        # As many as there are trainable weights, of which layers may be frozen.
        self.start_weights: list[tf.Variable] = []
        self.end_weights: list[tf.Variable] = []

    def _keep_ends(self, first: State, last: State) -> None:
        """Keeps the trainable weights at both ends of the last training."""
        variables = self.trainable_variables
        if not self.start_weights:
            self.start_weights = [tf.Variable(v.value) for v in variables]
            self.end_weights = [tf.Variable(v.value) for v in variables]
        problem = self._compiled_walks[1]
        places = {id(v): k for k, v in enumerate(variables)}
        ends = [problem.weights_of(state.params) for state in (first, last)]
        for k, variable in enumerate(problem.params):
            place = places[id(variable)]
            self.start_weights[place].assign(ends[0][k])
            self.end_weights[place].assign(ends[1][k])

    # ---- leaving

    def to_keras(self) -> PlainKeras:
        """Returns what plain Keras needs to train with what was learned.

        Regularizers, the optimizer with its learning rate or a schedule of it,
        the loss, weights of losses and examples, training data and initial
        weights: in classes of Keras alone, and exact: the same training in
        plain Keras gives the same weights, but for rounding. (With
        `ScheduleFreeAdamW` it does not: Keras steps otherwise on TensorFlow.)
        What Keras has no place for is left out, with a warning that names it
        and says what to do.

        Example:

        ```python
        plain = model.to_keras()
        for v in other.trainable_variables:  # a plain model of the same layers
            v.regularizer = plain.regularizers[v.path]
        other.compile(plain.optimizer, plain.loss, plain.loss_weights)
        other.fit(x, y, sample_weight=plain.sample_weight)
        plain.save("tuned")  # a folder for Keras, json and NumPy
        ```

        Returns:
            `PlainKeras`.

        Raises:
            ValueError: if the model is not compiled, or two of its weights have
                the same path.
        """
        checks.check_compiled(self)
        checks.check_bound(self.hyperparameters, self.elementary_model)
        return exported(
            self.elementary_model, self.optimizer, self.hyperparameters
        )

    # ---- saving

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns the arguments of `compile`, serialized."""
        if not self.compiled:
            return None
        config = dict(self.elementary_model.get_compile_config())
        for name in ("run_eagerly", "steps_per_execution"):
            config.pop(name, None)
        serialize = keras.saving.serialize_keras_object
        return config | {
            "hyperparameters": [
                serialize(h)
                for h in self.hyperparameters
                if not isinstance(h, in_layers.InLayer)  # its layer has it
            ],
            "hypergradient": serialize(self.method),
            "meta_optimizer": serialize(self._given_meta_optimizer),
            "jit_compile": self._jit_choice,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with the arguments that `get_compile_config` returned."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store) -> None:
        """Saves hyperparameters and, within `fit`, what resuming it needs."""
        for h in getattr(self, "hyperparameters", []):
            store[f"hyperparameter_{h.name}"] = h.raw.numpy()
        if self._in_progress is None:
            return
        meta, starts = self._in_progress
        for name, values in {"start": starts.values(), **meta.values()}.items():
            for k, value in enumerate(values):
                store[f"{name}_{k}"] = np.asarray(value)

    def load_own_variables(self, store) -> None:
        """Loads what `save_own_variables` saved."""
        saved = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118
        for h in getattr(self, "hyperparameters", []):
            h.raw.assign(saved[f"hyperparameter_{h.name}"])

        def listed(name: str) -> list[np.ndarray]:
            count = sum(key.startswith(f"{name}_") for key in saved)
            return [saved[f"{name}_{k}"] for k in range(count)]

        self._resumed = Resumed(*map(listed, Resumed._fields))
