"""Methods by the names a user knows: each is a way back and its options."""

import abc
import fractions
import inspect
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import memory as memory_lib
from keras_drmad.adjoint import State
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.trajectories import (
    Anchored,
    Checkpointed,
    FinalPoint,
    Reversible,
    Shortcut,
    Stored,
    Trajectory,
)

CURVATURES = ("hessian", "gauss_newton")
SPACINGS = ("even", "end")
STORAGES = ("stored", "bfloat16", "checkpointed", "reversible")
SOLVERS = ("neumann", "cg")
BEST_PART = 0.7  # of a training, to walk back along anchors
MOST_ANCHORS = 127  # more of them hardly help: use `ReverseMode`
CG_BATCHES = 50  # the minibatches whose mean Hessian conjugate gradients take


class Method(abc.ABC):
    """A method to compute hypergradients."""

    @abc.abstractmethod
    def trajectory(self, T: int) -> Trajectory:
        """Returns the way back of a training of T iterations.

        Raises:
            ValueError: if an option does not fit T.
        """

    def resolve(self, T: int, state: State) -> tuple["Method", str]:
        """Returns the method that serves a training, and why it was chosen.

        Args:
            T: int, the number of iterations.
            state: a state of the training, for the sizes of its leaves.

        Returns:
            A method with all options fixed, and a reason in words; itself and
            nothing where there is no choice to make.

        Raises:
            ValueError: if nothing fits into the memory allowed.
        """
        del T, state
        return self, ""

    def check(
        self,
        optimizer: keras.Optimizer,
        hyperparameters: Sequence[Hyperparameter],
    ) -> None:
        """Checks that the method can differentiate a training.

        Raises:
            ValueError: if it cannot see one of the hyperparameters, or cannot
                walk back through the optimizer.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        """Returns the method with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        arguments = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_config().items()
            if value != defaults[name].default
        )
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable("keras_drmad")
class DrMAD(Method):
    """The hypergradient along a straight line instead of the training's path.

    Walks back R steps of the training, at states on the line from its first
    parameters to the mean of its last ones. Memory does not grow with T. With
    `anchors=K` the line has K pieces, between parameters that are kept on the
    way there.

    Approximates; see `trajectories.Shortcut` and `trajectories.Anchored` for
    what, and when it is exact. The walk covers the last part of the training,
    where most of a penalty's effect arises; what came before is left out, so
    its norm is smaller than the exact one's. Memory: 2 copies of the
    parameters, or (K + 1) / 2. Time: R reverse steps, each about one forward
    step. Differentiates every kind of hyperparameter. Prefer `ReverseMode` or
    `Auto` where these fit in memory, and see `model.check_hypergradient`.

    Examples:

    ```python
    kd.DrMAD()  # a tenth of the training walked back
    kd.DrMAD(0.7, anchors=39, spacing="end")  # 20 copies of the parameters
    kd.DrMAD(0.1, last=1.0, average=False)  # as in the paper's code
    ```

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917.
    """

    def __init__(
        self,
        reverse_steps: float | int = 0.1,
        anchors: int = 1,
        spacing: str = "even",
        curvature: str = "hessian",
        last: float | int | None = None,
        average: bool = True,
        memory: int | str | None = None,
    ):
        """Initializes the method.

        Args:
            reverse_steps: R, a count (int, in [1, T]) or a fraction of T
                (float, in (0, 1]; at least one step is taken).
            anchors: K, the number of straight lines, in [1, L].
            spacing: `"even"`, or `"end"` for lines that grow shorter towards
                the end of the training.
            curvature: `"hessian"`, or `"gauss_newton"`, which takes the
                Gauss-Newton matrix for the Hessian of the training loss; it
                has no negative directions, and needs a loss that is convex in
                the model's outputs.
            last: L, a count or a fraction of T: the R steps are spread evenly
                over the last L of the training. R by default.
            average: bool, whether the one line ends at the mean of the last
                L parameters (of the last T / 10 if L is more); otherwise at
                the very last.
            memory: bytes (int) or text such as "64MB": how much may be kept.
                Takes the place of `anchors`: as many as fit, up to 127, and
                all states (`ReverseMode`) where these fit.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if one is out of its range.
        """
        check_part("reverse_steps", reverse_steps)
        if last is not None:
            check_part("last", last)
        _check_whole("anchors", anchors)
        _check_choice("spacing", spacing, SPACINGS)
        _check_choice("curvature", curvature, CURVATURES)
        if memory is not None:
            memory_lib.checked_bytes(memory)
        self.reverse_steps = reverse_steps
        self.anchors = anchors
        self.spacing = spacing
        self.curvature = curvature
        self.last = last
        self.average = average
        self.memory = memory

    def trajectory(self, T: int) -> Trajectory:
        R = count_of("reverse_steps", self.reverse_steps, T)
        L = R if self.last is None else count_of("last", self.last, T)
        if R > L:
            raise ValueError(
                "Invalid value for argument `reverse_steps`. Expected at most "
                f"as many as `last`, {L} of {T} training steps. Received: "
                f"reverse_steps={self.reverse_steps}, last={self.last}. Give "
                "a greater `last`, or none."
            )
        K = count_of("anchors", self.anchors, L)
        if K > 1:
            return Anchored(R, L, K, self.spacing, self.curvature)
        mean_of = min(L, max(1, T // 10)) if self.average else 0
        return Shortcut(R, L, mean_of, self.curvature)

    def resolve(self, T: int, state: State) -> tuple[Method, str]:
        if self.memory is None:
            return self, ""
        allowed = memory_lib.checked_bytes(self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        exact = ReverseMode()
        needed = exact.trajectory(T).nbytes(T, state)
        if needed <= allowed:
            words = memory_lib.in_words(needed)
            return exact, f"all {T} states take {words} {where}"
        method = self.with_anchors(T, state, allowed, self.memory)
        words = memory_lib.in_words(method.trajectory(T).nbytes(T, state))
        return method, f"{method.anchors + 1} anchors take {words} {where}"

    def with_anchors(
        self, T: int, state: State, allowed: int, memory: Any
    ) -> "DrMAD":
        """Returns the same method with as many anchors as bytes allow.

        Args:
            T: int, the number of iterations.
            state: a state of the training.
            allowed: int, bytes.
            memory: what the user gave, for the error.

        Raises:
            ValueError: if not even one line fits.
        """
        config = self.get_config() | {"anchors": 1, "memory": None}
        trajectory = DrMAD(**config).trajectory(T)
        if trajectory.nbytes(T, state) > allowed:
            raise _too_little(memory, trajectory.nbytes(T, state))
        one = Anchored(1, 1, 1).nbytes(T, state) / 2
        L = T - int(trajectory.iterations(T)[0])
        anchors = max(1, min(int(allowed // one) - 1, L, MOST_ANCHORS))
        return DrMAD(**config | {"anchors": anchors})

    def get_config(self) -> dict[str, Any]:
        return {
            "reverse_steps": self.reverse_steps,
            "anchors": self.anchors,
            "spacing": self.spacing,
            "curvature": self.curvature,
            "last": self.last,
            "average": self.average,
            "memory": self.memory,
        }


@keras.saving.register_keras_serializable("keras_drmad")
class ReverseMode(Method):
    """The exact hypergradient, from all states of the training.

    Exact; up to rounding with `"checkpointed"`, nearly so with `"bfloat16"`,
    and for a training in fixed-point arithmetic with `"reversible"`.
    Differentiates every kind of hyperparameter. Prefer it wherever it is
    affordable, and to check others.

    | `storage` | memory in copies of the state | time beside the training |
    | --- | --- | --- |
    | `"stored"` | T | T reverse steps |
    | `"bfloat16"` | T / 2 | the same |
    | `"checkpointed"` | less than 3 √T | the same, and the training again |
    | `"reversible"` | see `trajectories.Reversible` | the same |

    Example:

    ```python
    model.compile(..., hypergradient=kd.ReverseMode())
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2.
    """

    def __init__(
        self, storage: str = "stored", memory: int | str | None = None
    ):
        """Initializes the method.

        Args:
            storage: `"stored"`, `"bfloat16"`, `"checkpointed"` or
                `"reversible"` (SGD with momentum only).
            memory: bytes (int) or text such as "64MB": how much may be kept.
                Takes the place of `storage`: all states where these fit,
                checkpoints otherwise.

        Raises:
            ValueError: if an argument is out of its range.
        """
        _check_choice("storage", storage, STORAGES)
        if memory is not None:
            memory_lib.checked_bytes(memory)
        self.storage = storage
        self.memory = memory
        self._momentum = fractions.Fraction(0)

    def trajectory(self, T: int) -> Trajectory:
        if self.storage == "checkpointed":
            return Checkpointed(T)
        if self.storage == "reversible":
            return Reversible(self._momentum)
        return Stored(in_bfloat16=self.storage == "bfloat16")

    def resolve(self, T: int, state: State) -> tuple[Method, str]:
        if self.memory is None:
            return self, ""
        allowed = memory_lib.checked_bytes(self.memory)
        where = f"fit into {memory_lib.in_words(allowed)}"
        for storage in ("stored", "checkpointed"):
            method = ReverseMode(storage)
            needed = method.trajectory(T).nbytes(T, state)
            if needed <= allowed:
                words = memory_lib.in_words(needed)
                return method, f"{words} of states {where}"
        raise _too_little(self.memory, needed)

    def check(
        self,
        optimizer: keras.Optimizer,
        hyperparameters: Sequence[Hyperparameter],
    ) -> None:
        if self.storage == "reversible":
            self._momentum = _reversible_momentum(optimizer)

    def get_config(self) -> dict[str, Any]:
        return {"storage": self.storage, "memory": self.memory}


@keras.saving.register_keras_serializable("keras_drmad")
class Truncated(Method):
    """Reverse mode through the last K steps of the training.

    Exact for what hyperparameters do in these steps; leaves out what they did
    before, so its norm is smaller. Memory: K copies of the training's state.
    Time: K reverse steps. Differentiates every kind of hyperparameter, but
    sees nothing of those that act only at the start. Prefer `ReverseMode`
    where T copies fit in memory.

    Example:

    ```python
    model.compile(..., hypergradient=kd.Truncated(last=0.25))
    ```

    References: Shaban, Cheng, Hatch, Boots, *Truncated Back-propagation for
    Bilevel Optimization*, AISTATS 2019, https://arxiv.org/abs/1810.10667.
    """

    def __init__(self, last: float | int = 0.1):
        """Initializes the method.

        Args:
            last: K, a count (int, in [1, T]) or a fraction of T (float, in
                (0, 1]; at least one step is taken).

        Raises:
            TypeError: if it is not a number.
            ValueError: if it is not positive, or a fraction above 1.
        """
        check_part("last", last)
        self.last = last

    def trajectory(self, T: int) -> Trajectory:
        return Stored(last=count_of("last", self.last, T))

    def get_config(self) -> dict[str, Any]:
        return {"last": self.last}


class _AtTheEnd(Method):
    """What the methods have in common that look at the end of a training."""

    def check(
        self,
        optimizer: keras.Optimizer,
        hyperparameters: Sequence[Hyperparameter],
    ) -> None:
        blind = [h.name for h in hyperparameters if not h.acts_through_gradient]
        if blind:
            raise ValueError(
                "Invalid value for argument `hypergradient`. The method "
                f"{self!r} sees only what moves the minimum of the training "
                "loss. Received: the hyperparameters "
                f"{blind}, which say how training gets there. Use "
                "`keras_drmad.ReverseMode()`, `DrMAD()` or `Truncated()`."
            )


@keras.saving.register_keras_serializable("keras_drmad")
class Implicit(_AtTheEnd):
    """The hypergradient of a minimum of the training loss, by its Hessian.

    At a minimum w* of the training loss L the implicit function theorem gives

        dF/dλ = − ∂F/∂w (∂²L/∂w²)^-1 ∂²L/∂w∂λ,

    here at the last weights. `"neumann"` sums K terms of the Neumann series of
    the inverse, as a walk back of K steps that stays at the end
    (`trajectories.FinalPoint`); `"cg"` solves by K conjugate gradients with
    the mean Hessian of the last minibatches (`conjugate_gradients`).

    Approximates: training stops short of a minimum, and K is finite. Memory:
    one copy of the training's state (`"cg"`: five vectors more). Time: K
    reverse steps (`"cg"`: K + 1 Hessian products with up to 50 minibatches).
    Sees only what the training loss depends on: no learning rate, no
    schedule, no initial weights. Prefer it where trainings are long and
    converge.

    Example:

    ```python
    model.compile(..., hypergradient=kd.Implicit("cg", terms=20))
    ```

    References: Pedregosa, *Hyperparameter Optimization with Approximate
    Gradient*, ICML 2016, https://arxiv.org/abs/1602.02355. Lorraine, Vicol,
    Duvenaud, *Optimizing Millions of Hyperparameters by Implicit
    Differentiation*, AISTATS 2020, https://arxiv.org/abs/1911.02590.
    """

    def __init__(
        self,
        solver: str = "neumann",
        terms: int = 20,
        curvature: str = "hessian",
    ):
        """Initializes the method.

        Args:
            solver: `"neumann"` or `"cg"`.
            terms: K, at least 1, and at most T for `"neumann"`.
            curvature: `"hessian"` or `"gauss_newton"`, see `DrMAD`.

        Raises:
            TypeError: if `terms` is not a whole number.
            ValueError: if an argument is out of its range.
        """
        _check_choice("solver", solver, SOLVERS)
        _check_whole("terms", terms)
        _check_choice("curvature", curvature, CURVATURES)
        self.solver = solver
        self.terms = terms
        self.curvature = curvature

    def trajectory(self, T: int) -> Trajectory:
        if self.solver == "cg":
            batches = min(T, CG_BATCHES)
            return FinalPoint(batches, self.curvature, self.terms)
        terms = count_of("terms", self.terms, T)
        return FinalPoint(terms, self.curvature)

    def get_config(self) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "terms": self.terms,
            "curvature": self.curvature,
        }


@keras.saving.register_keras_serializable("keras_drmad")
class OneStep(_AtTheEnd):
    """The hypergradient of the last training step (T1-T2).

    Takes the inverse Hessian for the identity: its direction says how the last
    step would have changed, not the whole training. Memory: one copy of the
    training's state. Time: one reverse step. Sees only what the training loss
    depends on. Prefer it where nothing else is affordable.

    Example:

    ```python
    model.compile(..., hypergradient=kd.OneStep())
    ```

    References: Luketina, Berglund, Greff, Raiko, *Scalable Gradient-Based
    Tuning of Continuous Regularization Hyperparameters*, ICML 2016,
    https://arxiv.org/abs/1511.06727.
    """

    def trajectory(self, T: int) -> Trajectory:
        return FinalPoint(1, "hessian")


@keras.saving.register_keras_serializable("keras_drmad")
class Auto(Method):
    """The most faithful way back that memory and time allow.

    From the number of steps T and the bytes of one state it chooses, in this
    order, the first that fits: `ReverseMode()`, all states kept, exact;
    `ReverseMode("checkpointed")`, exact; `DrMAD` with as many anchors as fit
    and as many reverse steps as the time allows. It is
    `compile(hypergradient="auto")`. After a training the model's
    `method_used`, its `summary()` and the logs (`copies`) say what was chosen.

    Example:

    ```python
    model.compile(..., hypergradient=kd.Auto(memory="1GB", time_factor=3.0))
    ```
    """

    memory: int | str | None
    time_factor: float

    def __init__(
        self, memory: int | str | None = None, time_factor: float = 4.0
    ):
        """Initializes the method.

        Args:
            memory: bytes (int) or text such as "1GB", how much may be kept;
                half of what the machine has free by default.
            time_factor: float above 1, how many times the time of a training
                the training and the way back may take together. A reverse step
                counts as 1.5 elementary steps, a replayed one as 1.

        Raises:
            ValueError: if an argument is out of its range.
        """
        if memory is not None:
            memory_lib.checked_bytes(memory)
        if not isinstance(time_factor, numbers.Real) or not time_factor > 1:
            raise ValueError(
                "Invalid value for argument `time_factor`. Expected a number "
                f"above 1. Received: time_factor={time_factor!r}. Use 4.0 to "
                "allow every exact way back."
            )
        self.memory = memory
        self.time_factor = float(time_factor)

    def trajectory(self, T: int) -> Trajectory:
        raise NotImplementedError("`resolve` chooses the method that has one.")

    def resolve(self, T: int, state: State) -> tuple[Method, str]:
        if self.memory is None:
            allowed = memory_lib.available_bytes() // 2
        else:
            allowed = memory_lib.checked_bytes(self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        for storage, factor in (("stored", 2.5), ("checkpointed", 3.5)):
            method = ReverseMode(storage)
            needed = method.trajectory(T).nbytes(T, state)
            if needed <= allowed and factor <= self.time_factor:
                words = memory_lib.in_words(needed)
                return method, (
                    f"exact, with {words} {where} of memory and about {factor} "
                    "times the time of the training alone"
                )
        part = min(BEST_PART, (self.time_factor - 1) / 1.5)
        lines = DrMAD(part, spacing="end").with_anchors(
            T, state, allowed, self.memory
        )
        words = memory_lib.in_words(lines.trajectory(T).nbytes(T, state))
        return lines, (
            f"{lines.anchors + 1} anchors take {words} {where} of memory, and "
            f"the way back fits into {self.time_factor:g} times the time of "
            "the training alone"
        )

    def get_config(self) -> dict[str, Any]:
        return {"memory": self.memory, "time_factor": self.time_factor}


# ---- checks at the door


def check_part(name: str, part: Any) -> None:
    """Checks an argument that is a count or a fraction of T.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not positive, or a fraction above 1.
    """
    is_number = isinstance(part, numbers.Real)
    if not is_number or isinstance(part, bool):
        raise TypeError(
            f"Invalid type for argument `{name}`. Expected a count (int) or a "
            "fraction of the training's steps (float). "
            f"Received: {name}={part!r}."
        )
    is_count = isinstance(part, numbers.Integral)
    if not (part > 0 and (is_count or part <= 1)):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a count of at "
            f"least 1, or a fraction in (0, 1]. Received: {name}={part!r}. "
            "Use 0.1 for one reverse step for ten forward ones."
        )


def count_of(name: str, part: float | int, T: int) -> int:
    """Returns a count, given as one or as a fraction of T.

    Raises:
        ValueError: if it is more than T.
    """
    if isinstance(part, numbers.Integral):
        count = int(part)
    else:
        count = max(1, round(part * T))
    if count > T:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected at most the number "
            f"of training steps, {T}. Received: {name}={part}. Train for more "
            "steps, or give less."
        )
    return count


def _check_whole(name: str, count: Any) -> None:
    if not isinstance(count, numbers.Integral) or isinstance(count, bool):
        raise TypeError(
            f"Invalid type for argument `{name}`. Expected a whole number. "
            f"Received: {name}={count!r}."
        )
    if count < 1:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected at least 1. "
            f"Received: {name}={count}."
        )


def _check_choice(name: str, choice: Any, choices: Sequence[str]) -> None:
    if choice not in choices:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected one of "
            f"{', '.join(map(repr, choices))}. Received: {name}={choice!r}."
        )


def _too_little(memory: Any, needed: float) -> ValueError:
    return ValueError(
        "Invalid value for argument `memory`. Expected at least "
        f"{memory_lib.in_words(needed)} for this model and length of training. "
        f"Received: memory={memory!r}. Allow more, train for fewer steps, or "
        "use `keras_drmad.DrMAD()`, which keeps two states."
    )


def _reversible_momentum(optimizer: keras.Optimizer) -> fractions.Fraction:
    """Returns the momentum of an optimizer whose steps can be reversed.

    Raises:
        ValueError: if they cannot.
    """
    momentum: Any = getattr(optimizer, "momentum", None)
    plain = (
        type(optimizer) is keras.optimizers.SGD
        and 0 < momentum < 1
        and not optimizer.nesterov
        and not optimizer.use_ema
        and optimizer.weight_decay is None
        and optimizer.gradient_accumulation_steps is None
    )
    if not plain:
        raise ValueError(
            "Invalid value for argument `hypergradient`. Reversible learning "
            "needs the optimizer SGD with a momentum in (0, 1), without "
            "Nesterov's form, weight decay, averages and accumulation. "
            f"Received: {type(optimizer).__name__} with {momentum=}. Use "
            "`keras_drmad.ReverseMode('checkpointed')` instead."
        )
    return fractions.Fraction(momentum).limit_denominator(1000)
