"""The method that chooses a method."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.base import Chosen, Method, Tuned
from keras_drmad.methods.drmad import DrMAD
from keras_drmad.methods.forward_mode import MOST, ForwardMode
from keras_drmad.methods.reverse_mode import ReverseMode

# The time of training and walk backward over that of the training alone
# (`studies.fidelity`), and what each tangent of forward mode adds, roughly: 0.6
# to 4 were measured.
TIMES = {"stored": 2.5, "checkpointed": 3.5, "bfloat16": 2.5}
TANGENT = 3.0
BEST_PART = 0.5  # of a training, to walk backward along anchors


@keras.saving.register_keras_serializable("keras_drmad")
class Auto(Method):
    """The most faithful method that memory and time allow: the default.

    From the number of steps T and the bytes of one state it chooses, in this
    order, the first that fits: `ReverseMode()`, all states kept, exact;
    `ReverseMode("checkpointed")`, exact; `ForwardMode()`, exact, by default for
    one hyperparameter alone, as each takes the time of up to 3 trainings;
    `ReverseMode("bfloat16")`, nearly so;
    `DrMAD` with as many anchors as fit and as many reverse steps as the time
    allows. After a training the model's `resolved`, its `summary()` and its
    `diagnostics` (`copies`) say what was chosen.

    For one hyperparameter alone `DrMAD()` is as good a guide to trainings from
    other draws (`docs/ways_back.md`), at less than half the cost. But in
    trainings that have not converged it has the wrong sign along the direction
    in which all hyperparameters move together, and what it finds can be worse
    than untuned (`docs/carrying_over.md`).

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
                half of what the machine has free by default. States are
                counted with all slots, also those that `ReverseMode` leaves
                out.
            time_factor: float above 1, how many times the time of a training
                the training and the walk backward may take together. A reverse
                step counts as 1.5 elementary steps, a replayed step as 1.

        Raises:
            ValueError: if an argument is out of its range.
        """
        if memory is not None:
            arguments.nbytes("memory", memory)
        self.memory = memory
        self.time_factor = arguments.real(
            "time_factor",
            time_factor,
            above=1,
            advice="Use 4.0 to allow every exact method.",
        )

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        method, _ = self.choose(T, state, hyperparameters)
        return method.bind(T, state, hyperparameters, optimizer)

    def choose(
        self, T: int, state: State, hyperparameters: Sequence[Tuned] = ()
    ) -> Chosen:
        if self.memory is None:
            allowed = memory_lib.available_bytes() // 2
        else:
            allowed = arguments.nbytes("memory", self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        for method, factor in _exact(hyperparameters):
            if factor > self.time_factor:
                continue
            needed = method.nbytes(T, state, hyperparameters)
            if needed <= allowed:
                words = memory_lib.in_words(needed)
                return Chosen(
                    method,
                    f"all of the training, with {words} {where} of memory and "
                    f"about {factor:g} times the time of the training alone",
                )
        part = min(BEST_PART, (self.time_factor - 1) / 1.5)
        lines = DrMAD(part, spacing="end").over_all_that_acts(
            T, hyperparameters
        )
        lines = lines.with_anchors(T, state, allowed, self.memory)
        words = memory_lib.in_words(lines.nbytes(T, state))
        return Chosen(
            lines,
            f"{lines.anchors + 1} anchors take {words} {where} of memory, and "
            f"the walk backward fits into {self.time_factor:g} times the time "
            "of the training alone",
        )

    def get_config(self) -> dict[str, Any]:
        return {"memory": self.memory, "time_factor": self.time_factor}


def _exact(hyperparameters: Sequence[Tuned]) -> Iterator[tuple[Method, float]]:
    """Yields exact methods and their times, in the order of preference."""
    yield ReverseMode(), TIMES["stored"]
    others: list[tuple[Method, float]] = [
        (ReverseMode("checkpointed"), TIMES["checkpointed"])
    ]
    count = sum(h.count for h in hyperparameters)
    if 0 < count <= MOST:
        others.append((ForwardMode(), 1 + TANGENT * count))
    yield from sorted(others, key=lambda pair: pair[1])
    yield ReverseMode("bfloat16"), TIMES["bfloat16"]


def given(method: Any) -> Method:
    """Returns the argument `hypergradient` of `compile` as a method.

    Args:
        method: a method, or "auto" for `Auto()`.

    Raises:
        TypeError: if `method` is something else.
    """
    if isinstance(method, str) and method == "auto":
        return Auto()
    return arguments.instance(
        "hypergradient",
        method,
        Method,
        "a method, such as `keras_drmad.DrMAD()` or "
        "`keras_drmad.ReverseMode()`, or 'auto'",
    )
