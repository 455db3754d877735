"""How far a step moved the hyperparameters, in words."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.together import Together
from keras_drmad.hyperparameters.transforms import Log


def words(
    together: Together,
    before: Sequence[tf.Tensor],
    after: Sequence[tf.Tensor],
) -> str:
    """Returns a line for each hyperparameter.

    Of several values the mean is told, before and after, and the median of the
    distances: as a factor where training uses the exponentials of the raw
    numbers, otherwise as a difference.

    Args:
        together: the hyperparameters.
        before: list of tensors λ, before the step.
        after: list of tensors λ, after the step.
    """
    width = max(len(h.name) for h in together)
    pairs = zip(
        together, together.values(before), together.values(after), strict=True
    )
    return "\n".join(
        f"  {h.name:<{width}}  {_one(h, a, b)}" for h, a, b in pairs
    )


def _one(h: Hyperparameter, before: np.ndarray, after: np.ndarray) -> str:
    if np.array_equal(before, after):
        return f"{before.mean():.4g}, not moved"
    told = f"{before.mean():.4g} → {after.mean():.4g}"
    if before.size == 1:
        return told
    if isinstance(h.transform, Log):
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = np.abs(np.log(after / before))
        distance = f"× or ÷ {np.exp(np.nanmedian(distances)):.3g}"
    else:
        distance = f"± {np.median(np.abs(after - before)):.3g}"
    return f"mean {told}, median of {before.size:,} moves {distance}"
