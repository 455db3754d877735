"""keras_drmad: hyperparameters of Keras models, learned by gradient."""

from keras_drmad import callbacks, hyperparameters, plots
from keras_drmad.meta_optimizers import SignDescent
from keras_drmad.methods import DrMAD, ReverseMode
from keras_drmad.model import DrMADModel

__all__ = [
    "DrMAD",
    "DrMADModel",
    "ReverseMode",
    "SignDescent",
    "callbacks",
    "hyperparameters",
    "plots",
]
__version__ = "0.1.0"
