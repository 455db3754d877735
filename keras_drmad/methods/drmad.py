"""DrMAD: backward along straight lines."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.core.span import Span, up_to_moves
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.line import Line
from keras_drmad.differentiation.lines import EXPONENTS, Lines
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.base import (
    CURVATURES,
    Chosen,
    Method,
    Tuned,
    accumulated,
    too_little,
)
from keras_drmad.methods.reverse_mode import ReverseMode

# What a budget is spent on; more hardly help: use `ReverseMode`.
ANCHORS = (3, 7, 15, 23, 39, 63, 127)


@keras.saving.register_keras_serializable("keras_drmad")
class DrMAD(Method):
    """The hypergradient along a straight line instead of the training's path.

    Walks backward through R steps of the training, at states on the line from
    its first parameters to the mean of its last ones. Memory does not grow
    with T. With `anchors=K` the line has K pieces, between parameters that are
    kept during the training.

    Approximates; see `differentiation.line` and `differentiation.lines` for
    what is approximated, and when it is exact. The walk covers the last part
    of the training, where most of a penalty's effect arises; what came before
    is left out, so its norm is smaller than the exact one's.
    Memory: 2 copies of the
    parameters, or (K + 1) / 2. Time: R reverse steps, each about one forward
    step. Differentiates every kind of hyperparameter. Prefer `ReverseMode` or
    `Auto` where these fit in memory, and see `model.check_hypergradient`.

    Examples:

    ```python
    kd.DrMAD()  # walks backward through a tenth of the training
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
        *,
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
            anchors: K, the number of straight lines; at most L of them.
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
        reverse_steps = arguments.part("reverse_steps", reverse_steps)
        if last is not None:
            last = arguments.part("last", last)
        arguments.boolean("average", average)
        arguments.whole("anchors", anchors, 1)
        arguments.choice("spacing", spacing, list(EXPONENTS))
        arguments.choice("curvature", curvature, list(CURVATURES))
        if memory is not None:
            arguments.nbytes("memory", memory)
        self.reverse_steps = reverse_steps
        self.anchors = anchors
        self.spacing = spacing
        self.curvature = curvature
        self.last = last
        self.average = average
        self.memory = memory

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        chosen, _ = self.choose(T, state, hyperparameters)
        if chosen is not self:
            return chosen.bind(T, state, hyperparameters, optimizer)
        return self._lines(T, accumulated(optimizer))

    def _lines(self, T: int, every: int = 1) -> Line | Lines:
        """Returns the differentiation along lines, all options as they are."""
        R = arguments.count_of("reverse_steps", self.reverse_steps, T)
        L = R if self.last is None else arguments.count_of("last", self.last, T)
        if R > L:
            raise ValueError(
                "Invalid value for argument `reverse_steps`. Expected at most "
                f"as many as `last`, {L} of {T} training steps. Received: "
                f"reverse_steps={self.reverse_steps}, last={self.last}. Give "
                "a greater `last`, or none."
            )
        K, curvature = min(self.anchors, L), CURVATURES[self.curvature]
        mean_of = min(L, max(1, T // 10)) if self.average else 0
        L = up_to_moves(L, T, every)
        if K > 1:
            return Lines(R, L, K, self.spacing, curvature, every)
        return Line(R, L, mean_of, curvature, every)

    def choose(
        self, T: int, state: State, hyperparameters: Sequence[Tuned] = ()
    ) -> Chosen:
        method = self.over_all_that_acts(T, hyperparameters)
        why = ""
        if method is not self:
            why = "hyperparameters act all along the training"
        if self.memory is None:
            return Chosen(method, why)
        allowed = arguments.nbytes("memory", self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        method._lines(T)  # refuses what does not fit T
        exact = ReverseMode()
        needed = exact.nbytes(T, state)
        if needed <= allowed and self.curvature == "hessian":
            words = memory_lib.in_words(needed)
            return Chosen(exact, f"all {T} states take {words} {where}")
        method = method.with_anchors(T, state, allowed, self.memory)
        words = memory_lib.in_words(method._lines(T).nbytes(T, state))
        reasons = [why, f"{method.anchors + 1} anchors take {words} {where}"]
        return Chosen(method, "; ".join(filter(None, reasons)))

    def check(self, optimizer: Any, hyperparameters: Sequence[Tuned]) -> None:
        self.refuse_early(hyperparameters, self.last)

    def over_all_that_acts(
        self, T: int, hyperparameters: Sequence[Tuned]
    ) -> "DrMAD":
        """Returns the method that walks where hyperparameters act.

        A penalty's effect arises mostly at the end of a training. That of a
        learning rate adds up all along it, and the gradients at the mean of the
        last weights are not those that moved them: from there alone it may even
        have the wrong sign (`docs/ways_back.md`). That of the first
        weights needs all of the walk, and a schedule as many reverse steps as
        it takes to visit each of its values.

        Raises:
            ValueError: if `last` ends the walk before it can see one of them.
        """
        config = self.get_config()
        if self.last is not None:
            self.refuse_early(hyperparameters, self.last, T)
            if arguments.count_of("last", self.last, T) < T:
                return self
        elif all(h.acts_on == "loss" for h in hyperparameters):
            return self
        else:
            config |= {"last": 1.0, "average": False}
        R = arguments.count_of("reverse_steps", self.reverse_steps, T)
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
        line = DrMAD(**config)._lines(T)
        if line.nbytes(T, state) > allowed:
            raise too_little(memory, line.nbytes(T, state), allowed)
        one = Lines(1, 1, 1).nbytes(T, state) / 2
        L = T - int(line.iterations(Span(0, T))[0])
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
