"""Kinds of hyperparameters: what each is, and where it acts on training."""

from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.example_weights import ExampleWeights
from keras_drmad.hyperparameters.initial_scale import InitialScale
from keras_drmad.hyperparameters.initial_weights import InitialWeights
from keras_drmad.hyperparameters.l1 import L1
from keras_drmad.hyperparameters.l2 import L2
from keras_drmad.hyperparameters.label_smoothing import LabelSmoothing
from keras_drmad.hyperparameters.learned_data import LearnedData
from keras_drmad.hyperparameters.learning_rate import LearningRate
from keras_drmad.hyperparameters.loss_weights import LossWeights
from keras_drmad.hyperparameters.momentum import Momentum
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.temperature import Temperature
from keras_drmad.hyperparameters.transforms import (
    Identity,
    Log,
    Sigmoid,
    Transform,
)
from keras_drmad.hyperparameters.weight_decay import WeightDecay
from keras_drmad.hyperparameters.weight_sharing import WeightSharing

__all__ = [
    "L1",
    "L2",
    "ExampleWeights",
    "Identity",
    "InitialScale",
    "InitialWeights",
    "Hyperparameter",
    "LabelSmoothing",
    "LearnedData",
    "LearningRate",
    "Log",
    "LossWeights",
    "Momentum",
    "Place",
    "Sigmoid",
    "Temperature",
    "Transform",
    "WeightDecay",
    "WeightSharing",
]
