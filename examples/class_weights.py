"""A kind of hyperparameter of a user's own: a weight for each class."""

import keras
import tensorflow as tf

import keras_drmad as kd


@keras.saving.register_keras_serializable("examples")
class ClassWeights(kd.hyperparameters.Hyperparameter):
    """A weight on the training loss of each class.

    The example (x, y) of a batch counts exp(raw_y) times in the training loss.
    """

    transform = kd.hyperparameters.Log()
    axes = ("class",)  # what raw has a number for, in tables and pictures

    def __init__(self, classes, bounds=None, name="class_weights"):
        super().__init__(name, bounds)
        self.classes = classes

    def bind(self, model, optimizer):
        self.create((self.classes,), initial=1.0)

    def batch(self, raw, batch):
        weights = tf.gather(self.transform.value(raw), batch.y)
        if batch.sample_weight is not None:
            weights *= batch.sample_weight
        return batch._replace(sample_weight=weights)

    def get_config(self):
        return super().get_config() | {"classes": self.classes}
