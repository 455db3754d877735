"""Layers whose strengths are learned by hypergradient."""

from keras_drmad.layers.dropout import Dropout
from keras_drmad.layers.gaussian_noise import GaussianNoise
from keras_drmad.layers.image_augmentation import ImageAugmentation

__all__ = ["Dropout", "GaussianNoise", "ImageAugmentation"]
