"""Forward mode, for a handful of hyperparameters."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad import arguments
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.forward import Forward
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.base import Method, Tuned

MOST = 300  # hyperparameters, above which reverse mode takes far less time


@keras.saving.register_keras_serializable("keras_drmad")
class ForwardMode(Method):
    """The exact hypergradient, by tangents that go with the training.

    Exact, and differentiates every kind of hyperparameter. Memory: one state
    for each hyperparameter, however long the training. Prefer it for a handful
    of hyperparameters (a rate, a momentum, a few penalties) of a training
    whose states do not fit in memory; for more than some dozens
    `ReverseMode("checkpointed")` takes less time.

    Two runs, and a `fit` that was killed and goes on, agree up to rounding,
    not in every bit: TensorFlow may sum terms that training and tangents share
    in another order.

    Example:

    ```python
    model.compile(..., hypergradient=kd.ForwardMode())
    ```

    Refused with a `ValueError` before a training: more than 300
    hyperparameters, and states that do not fit in memory.

    References: Franceschi, Donini, Frasconi, Pontil, *Forward and Reverse
    Gradient-Based Hyperparameter Optimization*, ICML 2017,
    https://arxiv.org/abs/1703.01785, Algorithm 2.
    """

    @property
    def is_exact(self) -> bool:
        return True

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        bound = _forward(T, hyperparameters)
        if bound.count > MOST:
            raise _refused(self, f"{MOST} of them at most", bound.count)
        needed, allowed = bound.nbytes(T, state), _available_bytes()
        if needed > allowed:
            words = memory_lib.in_words(allowed)
            limit = f"which are to fit into {words}"
            raise _refused(self, limit, bound.count)
        return bound

    def nbytes(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> float:
        return _forward(T, hyperparameters).nbytes(T, state)


def _forward(T: int, hyperparameters: Sequence[Tuned]) -> Forward:
    count = sum(h.count for h in hyperparameters)
    begins = [h.acts_from(T) for h in hyperparameters]
    flat = np.concatenate([np.zeros(0, int), *begins]).tolist()
    return Forward(count, tuple(flat) if any(flat) else ())


def _refused(method: Method, limit: str, count: int) -> ValueError:
    return arguments.Refused(
        f"{method!r} keeps a state for each hyperparameter, {limit}.",
        argument="hypergradient",
        received=f"{count} hyperparameters",
        advice="Use `keras_drmad.ReverseMode('checkpointed')`, whose time and "
        "memory do not depend on their number, or `keras_drmad.DrMAD()`.",
    )


def _available_bytes() -> float:
    """Returns the memory that the machine can give, where it says so."""
    try:
        return memory_lib.available_bytes()
    except ValueError:
        return float("inf")
