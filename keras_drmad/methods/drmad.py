"""DrMAD: back along straight lines."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad.core.state import State
from keras_drmad.differentiation import Anchored, Shortcut, Trajectory
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.methods import base
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.reverse_mode import ReverseMode

SPACINGS = ("even", "end")
# What a budget is spent on; more hardly help: use `ReverseMode`.
ANCHORS = (3, 7, 15, 23, 39, 63, 127)


@keras.saving.register_keras_serializable("keras_drmad")
class DrMAD(base.Method):
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
            anchors: K, the number of straight lines; L are as many as can be.
            spacing: `"even"`, or `"end"` for lines that grow shorter towards
                the end of the training.
            curvature: `"hessian"`, or `"gauss_newton"`, which takes the
                Gauss-Newton matrix for the Hessian of the training loss; it
                has no negative directions, and needs a loss that is convex in
                the model's outputs.
            last: L, a count or a fraction of T: the R steps are spread evenly
                over the last L of the training. R by default; but all of it,
                without `average`, if a learning rate is to be tuned.
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
        reverse_steps = base.checked_part("reverse_steps", reverse_steps)
        if last is not None:
            last = base.checked_part("last", last)
        base.check_bool("average", average)
        base.check_whole("anchors", anchors)
        base.check_choice("spacing", spacing, SPACINGS)
        base.check_choice("curvature", curvature, base.CURVATURES)
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
        R = base.count_of("reverse_steps", self.reverse_steps, T)
        L = R if self.last is None else base.count_of("last", self.last, T)
        if R > L:
            raise ValueError(
                "Invalid value for argument `reverse_steps`. Expected at most "
                f"as many as `last`, {L} of {T} training steps. Received: "
                f"reverse_steps={self.reverse_steps}, last={self.last}. Give "
                "a greater `last`, or none."
            )
        K = min(self.anchors, L)
        if K > 1:
            return Anchored(R, L, K, self.spacing, self.curvature)
        mean_of = min(L, max(1, T // 10)) if self.average else 0
        return Shortcut(R, L, mean_of, self.curvature)

    def resolve(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Hyperparameter] = (),
    ) -> tuple[base.Method, str]:
        method = self.over_all_that_acts(T, hyperparameters)
        why = ""
        if method is not self:
            why = "hyperparameters act all along the training"
        if self.memory is None:
            return method, why
        allowed = memory_lib.checked_bytes(self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        method.trajectory(T)  # refuses what does not fit T
        exact = ReverseMode()
        needed = exact.nbytes(T, state)
        if needed <= allowed and self.curvature == "hessian":
            words = memory_lib.in_words(needed)
            return exact, f"all {T} states take {words} {where}"
        method = method.with_anchors(T, state, allowed, self.memory)
        words = memory_lib.in_words(method.nbytes(T, state))
        reasons = [why, f"{method.anchors + 1} anchors take {words} {where}"]
        return method, "; ".join(filter(None, reasons))

    def check(
        self,
        optimizer: keras.Optimizer,
        hyperparameters: Sequence[Hyperparameter],
    ) -> None:
        self.refuse_early(hyperparameters, self.last, base.FOR_ANY)

    def over_all_that_acts(
        self, T: int, hyperparameters: Sequence[Hyperparameter]
    ) -> "DrMAD":
        """Returns the method that walks where hyperparameters act.

        A penalty's effect arises mostly at the end of a training. That of a
        learning rate adds up all along it, and the gradients at the mean of the
        last weights are not those that moved them: walked back from there alone
        it may even have the wrong sign (`docs/ways_back.md`). That of the first
        weights needs all of the walk, and a schedule as many reverse steps as
        it takes to visit each of its values.

        Raises:
            ValueError: if `last` ends the walk before it can see one of them.
        """
        config = self.get_config()
        if self.last is not None:
            self.refuse_early(hyperparameters, self.last, T)
            if base.count_of("last", self.last, T) < T:
                return self
        elif all(h.acts_on == "loss" for h in hyperparameters):
            return self
        else:
            config |= {"last": 1.0, "average": False}
        R = base.count_of("reverse_steps", self.reverse_steps, T)
        needed = max([1, *(h.reverse_steps(T) for h in hyperparameters)])
        if needed > R:
            config |= {"reverse_steps": needed}
        return self if config == self.get_config() else DrMAD(**config)

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
            raise base.too_little(memory, trajectory.nbytes(T, state))
        one = Anchored(1, 1, 1).nbytes(T, state) / 2
        L = T - int(trajectory.iterations(T)[0])
        most = min(int(allowed // one) - 1, L)
        # Few numbers of anchors, as each compiles its own loops.
        anchors = max([1, *(k for k in ANCHORS if k <= most)])
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
