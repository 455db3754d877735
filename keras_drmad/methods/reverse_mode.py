"""Exact reverse mode, by several ways to know the states."""

import fractions
from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments, keras_internals
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.checkpointed import Checkpointed
from keras_drmad.differentiation.reversible import Reversible
from keras_drmad.differentiation.stored import Stored
from keras_drmad.methods import memory as memory_lib
from keras_drmad.methods.base import Chosen, Method, Tuned, too_little

STORAGES = ("stored", "bfloat16", "checkpointed", "reversible")


@keras.saving.register_keras_serializable("keras_drmad")
class ReverseMode(Method):
    """The exact hypergradient, from all states of the training.

    Exact; up to rounding with `"checkpointed"`, nearly so with `"bfloat16"`,
    and for a training in fixed-point arithmetic with `"reversible"`.
    Differentiates every kind of hyperparameter. Prefer it wherever it is
    affordable, and to check others.

    | `storage` | memory in copies of the state | time beside the training |
    | --- | --- | --- |
    | `"stored"` | T | T reverse steps, each 1.2 to 2.4 elementary ones |
    | `"bfloat16"` | T / 2 | the same |
    | `"checkpointed"` | less than 3 √T | the same, and the training again |
    | `"reversible"` | see `differentiation.reversible` | more than twice that |

    A stored or replayed state has the weights, the variables that layers
    change, and the optimizer's slots, but for slots whose values no derivative
    of a step depends on: with SGD the velocities, unless the momentum is tuned,
    the averages of `use_ema`, and mostly what `gradient_accumulation_steps`
    gathers. The slots of Adam are kept.

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
                checkpoints otherwise (or bfloat16, for very few steps). The
                choice counts states with all slots, so what is kept can be
                less than it allows for.

        Raises:
            ValueError: if an argument is out of its range.
        """
        arguments.choice("storage", storage, STORAGES)
        if memory is not None:
            arguments.nbytes("memory", memory)
        self.storage = storage
        self.memory = memory

    @property
    def is_exact(self) -> bool:
        return self.memory is None and self.storage != "bfloat16"

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        if self.memory is not None:
            method, _ = self.choose(T, state)
            return method.bind(T, state, hyperparameters, optimizer)
        if self.storage == "checkpointed":
            return Checkpointed()
        if self.storage == "reversible":
            if optimizer is None:
                raise ValueError(
                    f"{self!r} takes the momentum of an optimizer. Received: "
                    "optimizer=None. Compile a model with the method."
                )
            return Reversible(_reversible_momentum(optimizer))
        return Stored(in_bfloat16=self.storage == "bfloat16")

    def choose(
        self, T: int, state: State, hyperparameters: Sequence[Tuned] = ()
    ) -> Chosen:
        if self.memory is None:
            return Chosen(self, "")
        allowed = arguments.nbytes("memory", self.memory)
        where = f"fit into {memory_lib.in_words(allowed)}"
        for storage in ("stored", "checkpointed", "bfloat16"):
            method = ReverseMode(storage)
            needed = method.nbytes(T, state)
            if needed <= allowed:
                words = memory_lib.in_words(needed)
                return Chosen(method, f"{words} of states {where}")
        raise too_little(self.memory, needed, allowed)

    def check(self, optimizer: Any, hyperparameters: Sequence[Tuned]) -> None:
        if self.storage == "reversible":
            decays = [h for h in hyperparameters if "momentum" in h.numbers]
            self.refuse(decays, "trainings with a fixed momentum")
            _reversible_momentum(optimizer)

    def get_config(self) -> dict[str, Any]:
        return {"storage": self.storage, "memory": self.memory}


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
    variables = keras_internals.trained_by(optimizer)
    constrained = [v.path for v in variables if v.constraint is not None]
    if constrained:
        raise ValueError(
            "Invalid value for argument `hypergradient`. Reversible learning "
            "cannot undo a constraint. Received: weights with constraints, "
            f"{constrained}. Use `keras_drmad.ReverseMode('checkpointed')`."
        )
    ratio = fractions.Fraction(momentum).limit_denominator(1000)
    if abs(float(ratio) - momentum) > 1e-9 or not 0 < ratio < 1:
        raise ValueError(
            "Invalid value for argument `hypergradient`. Reversible learning "
            "needs a momentum that is a fraction with a denominator of at most "
            f"1000. Received: momentum={momentum}. Use {round(momentum, 3)}, "
            "or `keras_drmad.ReverseMode('checkpointed')`."
        )
    return ratio
