"""Layers with learned values inside, and the value for a layer of your own."""

from keras_drmad.layers.dropout import Dropout
from keras_drmad.layers.gaussian_noise import GaussianNoise
from keras_drmad.layers.image_augmentation import ImageAugmentation
from keras_drmad.layers.learned_value import LearnedValue

__all__ = ["Dropout", "GaussianNoise", "ImageAugmentation", "LearnedValue"]
