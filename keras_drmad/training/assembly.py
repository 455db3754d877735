"""From a compiled model and a plan to the training that can be walked."""

import dataclasses
import functools
import warnings
from typing import Any

import keras
import numpy as np

from keras_drmad.core import left_out
from keras_drmad.core.curvature import GaussNewton
from keras_drmad.core.loops import Loops
from keras_drmad.core.nested import leaves
from keras_drmad.core.state import Batch
from keras_drmad.core.tracing import undisturbed
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.hyperparameters.base import Training
from keras_drmad.hyperparameters.together import Together
from keras_drmad.methods.base import Chosen, Method
from keras_drmad.seam import same_steps, self_check
from keras_drmad.seam.as_compiled import AsCompiled
from keras_drmad.seam.compiler import Compiler, check_compiles
from keras_drmad.seam.convexity import convex_places
from keras_drmad.seam.parts_check import warn_of_parts
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.seam.pure_optimizer import check_known
from keras_drmad.seam.replicas import Replicas
from keras_drmad.seam.replicated_problem import ReplicatedProblem
from keras_drmad.seam.traits import (
    check_gradients,
    check_sign,
    has_synchronized,
)
from keras_drmad.training import first_look
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.display import SILENT, Display
from keras_drmad.training.elementary_training import ElementaryTraining
from keras_drmad.training.kept_arrays import KeptArrays
from keras_drmad.training.plan import Plan
from keras_drmad.training.workers import Workers

CHECKING_A_STEP = "Checking a step on this model"
CHECKING_DERIVATIVES = "Checking derivatives on this model"
TRACES = 5  # of a step, as long as it takes to check derivatives
SYNCHRONIZED = (
    "The model has `BatchNormalization(synchronized=True)`, whose derivative "
    "needs whole minibatches: each worker computes all of each minibatch, on "
    "its first device. The numbers are right, and no replica saves time. Leave "
    "`synchronized` out to divide minibatches among replicas."
)


class Assembly:
    """What `compile` was given, and the loops that were compiled from it.

    Loops are kept as long as minibatches look the same, and serve every
    length, seed and rate. With `jit_compile="auto"` they are made anew, for
    XLA, once so many steps have been asked for that compiling them pays.

    Attributes:
        hyperparameters: all together.
        method: the method that `compile` was given.
        chosen: `Chosen`, the method of the last training and why.
        problem: the elementary problem; `None` before the first training.
        loops: its compiled loops; `None` before the first training.
        kept: `KeptArrays`, of the data of the last training.
        as_compiled: `AsCompiled`, says what has changed since `compile`.
        self_check: bool, see `__init__`.
        replicas: see `__init__`.
    """

    def __init__(
        self,
        model: keras.Model,
        hyperparameters: Together,
        method: Method,
        jit_compile: bool | str,
        *,
        self_check: bool,
        replicas: Replicas,
        before: "Assembly | None" = None,
    ):
        """Initializes the assembly.

        Args:
            model: the elementary model, compiled.
            hyperparameters: all together, bound to the model.
            method: how hypergradients are computed.
            jit_compile: bool, or "auto".
            self_check: bool, whether `seam.self_check` looks at the first
                training.
            replicas: who computes which part of each minibatch.
            before: the assembly of the last `compile`, whose loops go on
                where they would be the same.
        """
        self.replicas = replicas
        self.hyperparameters = hyperparameters
        self.method = method
        self.chosen = Chosen(method, "")
        self.problem: Any = None
        self.loops: Any = None
        self.kept = KeptArrays()
        self._first_look = first_look.FirstLook(model, hyperparameters)
        self._model = model
        self.self_check = self_check
        checks = {"step", "slopes", "parts"}
        self._unchecked = checks if self_check else set()
        self._seconds = 0.0  # of a step, when it was checked
        self._jit_compile = jit_compile
        self._steps = 0  # asked for so far
        self._held_out = 0  # batches, asked for so far
        self._signature = ""
        self._convex: GaussNewton | None = None
        self.as_compiled = AsCompiled(model)
        if before is not None:
            self.kept = before.kept
            if before.loops is None:
                before = before._before
        self._before: Assembly | None = before

    def training(
        self,
        plan: Plan,
        *,
        is_tuned: bool,
        trainings: int = 1,
        initial_weights: str = "same",
        window: int = 0,
        may_wait: bool = False,
        workers: Workers | None = None,
        display: Display = SILENT,
    ) -> ElementaryTraining:
        """Returns the training of a plan.

        Args:
            plan: data and length.
            is_tuned: bool, whether hyperparameters are learned, or only used.
            trainings: int, how many are to come.
            initial_weights: str, as for `fit`.
            window: int, the steps that are walked backward where
                hyperparameters are tuned within a training; 0 for all.
            may_wait: bool, whether derivatives may be checked after the first
                walk forward, where that takes less time than their check.
            workers: who train together, or apart; all together by default.
            display: says that the model is checked.

        Raises:
            ValueError: if workers were asked for different trainings, or the
                model was compiled or frozen since, or the
                model, the hyperparameters or the method cannot
                take the data or the length, or functions run eagerly.
        """
        check_compiles()
        self.as_compiled.check_compiled()
        self.hyperparameters.check_bound(self._model)
        self.as_compiled.check_trainable()
        check_known(self._model.optimizer, self._model.trainable_variables)
        if is_tuned:
            check_gradients(self._model)
        batch = plan.training.batches.first()
        workers = Workers(self.replicas) if workers is None else workers
        workers.agree(
            lambda: self._facts(plan, batch, are_apart=workers.are_apart)
        )
        examples = self.hyperparameters.examples()
        assigned = self._first_look.check_data(plan, batch, examples, workers)
        size = plan.training.batches.size
        self.hyperparameters.prepare(
            Training(plan.T, size, batch, is_tuned, initial_weights)
        )
        self._steps += plan.T * trainings
        often = trainings if is_tuned else plan.epochs
        self._held_out += plan.held_out * (plan.T if window else often)
        self._compile_for(batch, workers.steps_divided_by)
        self.problem.carries = self._carries(assigned)
        self._check_step(batch, display)
        goes_on = initial_weights == "continue"
        if not is_tuned:
            return ElementaryTraining(
                self.problem, self.loops, None, goes_on=goes_on, workers=workers
            )
        check = functools.partial(self._check_derivatives, plan, batch, display)
        waits = may_wait and not window and self._comes_sooner(plan.T)
        if not waits:
            check()
        differentiation = self._bound(window or plan.T, batch)
        if not differentiation.visits(plan.span):
            check()  # now: these derivatives are those of the walk forward
        return ElementaryTraining(
            self.problem,
            self.loops,
            differentiation,
            check=check,
            goes_on=goes_on,
            workers=workers,
        )

    def _facts(
        self, plan: Plan, batch: Batch, *, are_apart: bool
    ) -> dict[str, Any]:
        """Returns what workers of one training have in common, by name."""
        is_array = isinstance(plan.training.batches, ArrayBatches)
        numbers = [np.asarray(a).tobytes() for a in leaves(batch)]
        return {
            "shapes of a minibatch": first_look.signature(batch),
            "the first minibatch": numbers if is_array else None,
            "steps_per_epoch": plan.training.steps,
            "epochs": plan.epochs,
            "validation_steps": plan.hyper and plan.hyper.steps,
            "seed": plan.seed,
            "draws": are_apart,
            "hypergradient": self.method,
            "hyperparameters": [h.get_config() for h in self.hyperparameters],
            "values of hyperparameters": [
                value.numpy().tobytes()
                for value in self.hyperparameters.hparams()
            ],
        }

    @undisturbed()
    def _compile_for(self, batch: Batch, replicas: Replicas) -> None:
        """Makes problem and loops anew where minibatches look otherwise."""
        signature = first_look.signature(batch) + f" {replicas.count}"
        if signature != self._signature:
            self._signature = ""  # until all is there
            problem = ElementaryProblem(
                self._model, self._model.optimizer, self.hyperparameters, batch
            )
            first_look.check_found([*problem.fixed, *problem.loose])
            jit_compile = self._takes_xla(problem, batch, replicas)
            self.problem, self._convex = problem, None
            if self._goes_on(signature, replicas, jit_compile=jit_compile):
                self._signature = signature
                return
        elif self.loops.compiler.jit_compile or not self._pays_now(replicas):
            return
        else:
            jit_compile = True
        compiler = Compiler(
            jit_compile,
            is_sure=self._jit_compile != "auto",
            jit_validation=self.problem.gains_by_xla(self._held_out),
            apart=self.problem.needs_order and replicas.count == 1,
        )
        self.loops = Loops(self._stepped(replicas), compiler)
        self._signature = signature

    def _stepped(self, replicas: Replicas) -> Any:
        """Returns the problem whose steps the loops take."""
        if replicas.count == 1:
            return self.problem
        if has_synchronized(self._model):
            warnings.warn(SYNCHRONIZED, RuntimeWarning, stacklevel=5)
            return self.problem
        return ReplicatedProblem(self.problem, replicas)

    def _goes_on(
        self, signature: str, replicas: Replicas, *, jit_compile: bool
    ) -> bool:
        """Goes on with the loops of the last `compile`, if they are the same.

        Returns:
            Whether it does.
        """
        before, self._before = self._before, None
        if before is None or before._signature != signature:
            return False
        if before.replicas != self.replicas:
            return False
        compiler = before.loops.compiler
        is_sure = self._jit_compile != "auto"
        if not is_sure and not self._draws():
            jit_compile |= compiler.jit_compile  # which has been paid for
            jit_compile &= not compiler.has_fallen_back
        if (compiler.jit_compile, compiler.is_sure) != (jit_compile, is_sure):
            return False
        if not same_steps.are_same(before.problem, self.problem):
            return False
        self.loops = before.loops
        stepped = self._stepped(replicas)
        self.loops.go_on(stepped, same_steps.is_of_steps)
        return True

    def _takes_xla(
        self, problem: ElementaryProblem, batch: Batch, replicas: Replicas
    ) -> bool:
        """Returns whether XLA is to compile the loops of a problem."""
        if replicas.count > 1:
            if self._jit_compile is True:
                raise ValueError(
                    "Invalid value for argument `jit_compile`. XLA cannot "
                    "compile loops whose steps several replicas take. "
                    f"Received: jit_compile=True, and {replicas.count} "
                    "replicas. Use 'auto' or False."
                )
            return False
        if self._jit_compile == "auto":
            return problem.gains_by_xla(self._steps)
        has_strings = any(
            np.asarray(a).dtype.kind in "SO" for a in leaves(batch)
        )
        if self._jit_compile and has_strings:
            raise ValueError(
                "Invalid value for argument `jit_compile`. XLA has no strings, "
                "which the batches hold. Received: jit_compile=True. Use "
                "'auto' or False, or encode the strings before."
            )
        return bool(self._jit_compile)

    def _pays_now(self, replicas: Replicas) -> bool:
        """Returns whether loops that are there are to be compiled after all.

        Not where a step draws numbers, which XLA draws in another way: masks
        of one seed are to stay the same from call to call.
        """
        fell = self.loops.compiler.has_fallen_back
        is_open = self._jit_compile == "auto" and not fell
        if not is_open or self._draws() or replicas.count > 1:
            return False
        return self.problem.gains_by_xla(self._steps)

    def _draws(self) -> bool:
        """Returns whether a step draws numbers."""
        return any("Random" in kind for kind in self.problem.look.operations)

    def _carries(self, assigned: dict[int, keras.Variable]) -> bool:
        """Returns whether validation changes what its next batch reads.

        Raises:
            ValueError: if it changes what training leaves as it is.
        """
        changed = {id(v) for v in self.problem.buffers}
        metrics = {id(v) for v in self.problem.metrics}
        alone = [
            v.path for k, v in assigned.items() if k not in changed | metrics
        ]
        if alone:
            raise ValueError(
                "A call without training assigns variables that training "
                f"leaves as they are: {alone}. Assign them in both, or in "
                "training alone."
            )
        return bool(changed & assigned.keys())

    @undisturbed()
    def _check_step(self, batch: Batch, display: Display) -> None:
        """Checks, once, what a step computes."""
        if "step" in self._unchecked:
            with display.taking_time(CHECKING_A_STEP):
                self._seconds = self_check.check_step(self.problem, batch)
            self._unchecked.discard("step")

    @undisturbed()
    def _check_derivatives(
        self, plan: Plan, batch: Batch, display: Display
    ) -> None:
        """Checks, once, what the derivatives are of steps and validation."""
        if "slopes" in self._unchecked:
            held_out = plan.hyper.batches.first()
            with display.taking_time(CHECKING_DERIVATIVES):
                self_check.check_slopes(self.problem, batch, held_out)
            self._unchecked.discard("slopes")
        stepped = self.loops.problem
        if "parts" in self._unchecked and stepped is not self.problem:
            held_out = plan.hyper.batches.first()
            warn_of_parts(self.problem, stepped, batch, held_out)
            self._unchecked.discard("parts")

    def _comes_sooner(self, T: int) -> bool:
        """Returns whether T steps take less time than to check derivatives."""
        if self.replicas.count > 1:  # who would not all come to one answer
            return False
        return T * self._seconds < TRACES * self.problem.look.seconds

    def _bound(self, T: int, batch: Batch) -> Differentiation:
        """Returns the differentiation of a training of T steps."""
        state, optimizer = self.problem.state(), self._model.optimizer
        check_sign(
            self.problem.look.update_operations, optimizer, self.hyperparameters
        )
        hyperparameters = list(self.hyperparameters)
        self.chosen = self.method.choose(T, state, hyperparameters)
        method = self.chosen.method
        method.check(optimizer, hyperparameters)
        bound = method.bind(T, state, hyperparameters, optimizer)
        bound.check(self.problem, state)
        if isinstance(bound.curvature, GaussNewton):
            if self._convex is None:
                self._convex = convex_places(self.problem, batch)
            changed: Any = bound
            bound = dataclasses.replace(changed, curvature=self._convex)
        slots = left_out.of_state(state, self.problem.unread_slots)
        return bound.leaving_out(slots)
