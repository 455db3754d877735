"""Pictures that explain what a meta-training did.

matplotlib is an optional requirement: `pip install keras_drmad[plots]`.
"""

from keras_drmad.plots.basics import (
    curves,
    hyperparameter_check,
    input_map,
    loss_along_line,
    mean_and_band,
    values_by_layer,
)

__all__ = [
    "curves",
    "hyperparameter_check",
    "input_map",
    "loss_along_line",
    "mean_and_band",
    "values_by_layer",
]
