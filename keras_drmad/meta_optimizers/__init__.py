"""Meta-optimizers that Keras does not have, and the argument of `compile`."""

from keras_drmad.meta_optimizers.base import MetaOptimizer
from keras_drmad.meta_optimizers.given import (
    check_moves,
    checked_meta_optimizer,
    united,
)
from keras_drmad.meta_optimizers.sign_consensus import SignConsensus
from keras_drmad.meta_optimizers.sign_descent import SignDescent

__all__ = [
    "MetaOptimizer",
    "SignConsensus",
    "SignDescent",
    "check_moves",
    "checked_meta_optimizer",
    "united",
]
