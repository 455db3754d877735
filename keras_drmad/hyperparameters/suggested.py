"""A sensible set of hyperparameters for a model and its optimizer."""

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters import groups
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.hyperparameters.l2 import L2
from keras_drmad.hyperparameters.learning_rate import LearningRate
from keras_drmad.hyperparameters.weight_decay import WeightDecay

WITHIN = 100.0  # a learned rate or decay stays within this factor of the given


def suggested(
    model: keras.Model, optimizer: keras.Optimizer
) -> list[Hyperparameter]:
    """Returns what `compile(hyperparameters="auto")` tunes.

    A squared penalty and a learning rate for each layer that has a kernel; a
    decoupled weight decay for each where the optimizer has one. Rates and
    decays stay within a factor of 100 of the optimizer's. An optimizer that
    follows a gradient's sign gets no penalty, which it could not pass on.

    Args:
        model: a built model.
        optimizer: its optimizer.

    Raises:
        ValueError: if no layer has a kernel.
    """
    kernels = groups.chosen(model, None, only_kernels=True)
    layers = list(dict.fromkeys(map(groups.owner_path, kernels)))
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
