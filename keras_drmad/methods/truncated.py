"""Reverse mode through the last steps only."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.core.span import up_to_moves
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.stored import Stored
from keras_drmad.methods.base import Method, Tuned, accumulated


@keras.saving.register_keras_serializable("keras_drmad")
class Truncated(Method):
    """Reverse mode through the last K steps of the training.

    Exact for what hyperparameters do in these steps; leaves out what they did
    before, so its norm is smaller. Where the optimizer accumulates gradients,
    K grows until it holds whole sums. Memory: K copies of the training's state,
    without slots that no derivative reads, as for `ReverseMode`.
    Time: K reverse steps. Differentiates every kind of hyperparameter, but
    for those that act early in a training: first weights and schedules are
    refused. Prefer `ReverseMode` where T copies fit in memory.

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
        self.last = arguments.part("last", last)

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        self.refuse_early(hyperparameters, self.last, T)
        last = arguments.count_of("last", self.last, T)
        return Stored(last=up_to_moves(last, T, accumulated(optimizer)))

    def check(self, optimizer: Any, hyperparameters: Sequence[Tuned]) -> None:
        self.refuse_early(hyperparameters, self.last)

    def get_config(self) -> dict[str, Any]:
        return {"last": self.last}
