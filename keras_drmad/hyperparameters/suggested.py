"""A sensible set of hyperparameters for a model and its optimizer."""

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import layer_choice
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.l2 import L2
from keras_drmad.hyperparameters.learning_rate import LearningRate
from keras_drmad.hyperparameters.weight_decay import WeightDecay

WITHIN = 100.0  # factor on the optimizer's rate or decay, and divisor


def suggested(
    model: keras.Model, optimizer: keras.Optimizer
) -> list[Hyperparameter]:
    """Returns the hyperparameters of `compile(hyperparameters="auto")`.

    For each layer that has a kernel a squared penalty and a learning rate, and
    a decoupled weight decay where the optimizer has weight decay. Rates and
    decays stay within a factor of 100 of the optimizer's. Lion follows the sign
    of the gradient, by which no hypergradient of a penalty passes: with Lion
    there is no penalty.

    Args:
        model: a built model.
        optimizer: its optimizer.

    Raises:
        ValueError: if no layer has a kernel.
    """
    kernels = layer_choice.weights(model, None, only_kernels=True)
    layers = list(dict.fromkeys(map(keras_internals.layer_path, kernels)))
    kinds: list[Hyperparameter] = []
    if not isinstance(optimizer, keras.optimizers.Lion):
        kinds.append(L2("layer", initial=1e-4, bounds=(1e-8, 1.0)))
    rate = keras_internals.given_learning_rate(optimizer)
    given = float(rate.numpy()) if isinstance(rate, keras.Variable) else 1.0
    kinds.append(LearningRate("layer", layers=layers, bounds=_around(given)))
    if optimizer.weight_decay:
        bounds = _around(float(optimizer.weight_decay))
        kinds.append(WeightDecay("layer", layers=layers, bounds=bounds))
    return kinds


def _around(number: float) -> tuple[float, float]:
    return number / WITHIN, number * WITHIN
