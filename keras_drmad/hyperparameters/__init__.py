"""Kinds of hyperparameters: what each is, and where it acts on training."""

from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.l1 import L1
from keras_drmad.hyperparameters.l2 import L2
from keras_drmad.hyperparameters.learning_rate import LearningRate

__all__ = ["L1", "L2", "Hyperparameter", "LearningRate"]
