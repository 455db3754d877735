"""Methods by the names a user knows: each is a way back and its options."""

import abc
import numbers
from typing import Any

import keras

from keras_drmad.trajectories import Shortcut, Stored, Trajectory


class Method(abc.ABC):
    """A method to compute hypergradients.

    Two methods of one class whose `trajectory(T).state` is the same function
    share compiled loops; options enter those as tensors.
    """

    @abc.abstractmethod
    def trajectory(self, T: int) -> Trajectory:
        """Returns the way back of a training of T iterations.

        Raises:
            ValueError: if an option does not fit T.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        """Returns the method with these constructor arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_drmad")
class DrMAD(Method):
    """The hypergradient along the straight line from first to last weights.

    Keeps the two ends of a training and walks back along the line between
    them, R steps for T forward ones. Memory does not grow with T.

    Approximates; see `trajectories.Shortcut` for what and when it is exact. The
    sign of the result is usually good enough to tune by (the paper uses only
    that, `SignDescent`); its norm is smaller than the exact one's where R < T,
    since each reverse step stands for one forward step, not for T / R.
    Memory: 2 copies of the training's state. Time: R reverse steps, each about
    one forward step. Differentiates every kind of hyperparameter.
    Prefer `ReverseMode` where T copies of the state fit in memory.

    Example:

    ```python
    model.compile(..., hypergradient=kd.DrMAD(reverse_steps=0.1))
    ```

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917.
    """

    def __init__(self, reverse_steps: float | int = 0.1):
        """Initializes the method.

        Args:
            reverse_steps: R, a count (int, in [1, T]) or a fraction of T
                (float, in (0, 1]; at least one step is taken).

        Raises:
            TypeError: if it is not a number.
            ValueError: if it is not positive, or a fraction above 1.
        """
        is_number = isinstance(reverse_steps, numbers.Real)
        if not is_number or isinstance(reverse_steps, bool):
            raise TypeError(
                "Invalid type for argument `reverse_steps`. Expected a count "
                "(int) or a fraction of the training's steps (float). "
                f"Received: reverse_steps={reverse_steps!r}."
            )
        is_count = isinstance(reverse_steps, numbers.Integral)
        if not (reverse_steps > 0 and (is_count or reverse_steps <= 1)):
            raise ValueError(
                "Invalid value for argument `reverse_steps`. Expected a count "
                "of at least 1, or a fraction in (0, 1]. "
                f"Received: reverse_steps={reverse_steps!r}. "
                "Use 0.1 for one reverse step for ten forward ones."
            )
        self.reverse_steps = reverse_steps

    def trajectory(self, T: int) -> Trajectory:
        if isinstance(self.reverse_steps, numbers.Integral):
            R = int(self.reverse_steps)
        else:
            R = max(1, round(self.reverse_steps * T))
        if R > T:
            raise ValueError(
                "Invalid value for argument `reverse_steps`. Expected at most "
                f"the number of training steps, {T}. "
                f"Received: reverse_steps={self.reverse_steps}. Train for more "
                "steps, or give a fraction such as 0.1."
            )
        return Shortcut(R)

    def get_config(self) -> dict[str, Any]:
        return {"reverse_steps": self.reverse_steps}


@keras.saving.register_keras_serializable("keras_drmad")
class ReverseMode(Method):
    """The exact hypergradient, from all states of the training.

    Exact. Memory: T copies of the training's state (parameters, optimizer
    slots, buffers). Time: T reverse steps, each about one forward step.
    Differentiates every kind of hyperparameter.
    Prefer it for small models and short trainings, and to check others.

    Example:

    ```python
    model.compile(..., hypergradient=kd.ReverseMode())
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, Algorithm 2 (states stored, not
    reversed).
    """

    def trajectory(self, T: int) -> Trajectory:
        del T
        return Stored()
