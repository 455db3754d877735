"""The method that chooses a method."""

import numbers
from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad.core.state import State
from keras_drmad.differentiation import Trajectory
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.methods import base
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.drmad import DrMAD
from keras_drmad.methods.reverse_mode import ReverseMode

# Ways to exact hypergradients, and the time of training and way back, over the
# training alone (`benchmarks.fidelity`).
TIMES = (("stored", 2.5), ("checkpointed", 3.5), ("bfloat16", 2.5))
BEST_PART = 0.5  # of a training, to walk back along anchors


@keras.saving.register_keras_serializable("keras_drmad")
class Auto(base.Method):
    """The most faithful way back that memory and time allow.

    From the number of steps T and the bytes of one state it chooses, in this
    order, the first that fits: `ReverseMode()`, all states kept, exact;
    `ReverseMode("checkpointed")`, exact; `ReverseMode("bfloat16")`, nearly so;
    `DrMAD` with as many anchors as fit and as many reverse steps as the time
    allows. It is `compile(hypergradient="auto")`. After a training the model's
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

    def resolve(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Hyperparameter] = (),
    ) -> tuple[base.Method, str]:
        if self.memory is None:
            allowed = memory_lib.available_bytes() // 2
        else:
            allowed = memory_lib.checked_bytes(self.memory)
        where = f"of {memory_lib.in_words(allowed)}"
        for storage, factor in TIMES:
            method = ReverseMode(storage)
            needed = method.nbytes(T, state)
            if needed <= allowed and factor <= self.time_factor:
                words = memory_lib.in_words(needed)
                return method, (
                    f"all of the training, with {words} {where} of memory and "
                    f"about {factor} times the time of the training alone"
                )
        part = min(BEST_PART, (self.time_factor - 1) / 1.5)
        lines = DrMAD(part, spacing="end").over_all_that_acts(
            T, hyperparameters
        )
        lines = lines.with_anchors(T, state, allowed, self.memory)
        words = memory_lib.in_words(lines.nbytes(T, state))
        return lines, (
            f"{lines.anchors + 1} anchors take {words} {where} of memory, and "
            f"the way back fits into {self.time_factor:g} times the time of "
            "the training alone"
        )

    def get_config(self) -> dict[str, Any]:
        return {"memory": self.memory, "time_factor": self.time_factor}
