"""Hypergradients: the derivative of one training, or a mean over several."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Hypergradient(NamedTuple):
    """The derivative of the validation loss of a training, or of several.

    Attributes:
        validation_loss: float, the loss F(w_T) of which this is the gradient;
            the mean of several.
        gradients: dict from the name of a hyperparameter to the tensor
            dF/d raw, of the shape of `raw`; the mean of several.
        diagnostics: dict of floats, means of several: `hypergradient_norm`, the
            norm of all gradients; `adjoint_growth`, the largest norm of the
            adjoint of the weights on the walk backward over its first one;
            `reverse_steps`, those asked for; `reverse_steps_used`, fewer where
            the walk was ended because the adjoint grew past its limit;
            `copies`, what is kept for the walk backward, in copies of the
            weights; `seconds_forward`, `seconds_validation` and
            `seconds_backward`. Reversible learning adds `buffer_bits` (for
            each weight and step) and `is_reversed` (1.0 if the walk returned
            to every bit of the start), conjugate gradients `residual`.
        standard_errors: dict from the name of a hyperparameter to a tensor of
            the shape of `raw`, the standard error of the mean; empty for one
            training.
        certain_share: float, the share of hyperparameters whose sign is
            certain: the mean is more than two standard errors away from 0; nan
            for one training.
    """

    validation_loss: float
    gradients: dict[str, tf.Tensor]
    diagnostics: dict[str, float]
    standard_errors: dict[str, tf.Tensor] = {}
    certain_share: float = math.nan


def mean(each: Sequence[Hypergradient]) -> Hypergradient:
    """Returns the mean of hypergradients of several trainings.

    Args:
        each: list of at least two.
    """
    count = len(each)
    means, errors = {}, {}
    certain, size = 0, 0
    for name, first in each[0].gradients.items():
        stacked = np.stack([np.asarray(h.gradients[name]) for h in each])
        center = stacked.mean(axis=0, dtype=np.float64)
        error = stacked.std(axis=0, ddof=1, dtype=np.float64) / count**0.5
        certain += int(np.sum(np.abs(center) > 2 * error))
        size += center.size
        means[name] = tf.constant(center, first.dtype)
        errors[name] = tf.constant(error, first.dtype)
    diagnostics = {
        name: float(np.mean([h.diagnostics[name] for h in each]))
        for name in each[0].diagnostics
    }
    norm = math.sqrt(sum(float(tf.norm(g)) ** 2 for g in means.values()))
    return Hypergradient(
        float(np.mean([h.validation_loss for h in each])),
        means,
        diagnostics | {"hypergradient_norm": norm},
        errors,
        certain / size,
    )
