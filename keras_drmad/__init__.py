"""keras_drmad: hyperparameters of Keras models, learned by gradient."""

from keras_drmad import callbacks, hyperparameters, layers, plots
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.meta_optimizers import SignDescent
from keras_drmad.methods import (
    Auto,
    DrMAD,
    Implicit,
    OneStep,
    ReverseMode,
    Truncated,
)
from keras_drmad.model import DrMADModel

__all__ = [
    "Auto",
    "DrMAD",
    "DrMADModel",
    "Hyperparameter",
    "Implicit",
    "OneStep",
    "ReverseMode",
    "SignDescent",
    "Truncated",
    "callbacks",
    "hyperparameters",
    "layers",
    "plots",
]
__version__ = "0.1.0"
