"""Pictures that explain what a meta-training did.

`values`, `losses`, `course` and `diagnostics` draw a model that was tuned, and
`report` puts all of them on one page; the others draw numbers that are given.
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
from keras_drmad.plots.html_report import report
from keras_drmad.plots.of_values import values
from keras_drmad.plots.over_time import course, diagnostics, losses

__all__ = [
    "course",
    "curves",
    "diagnostics",
    "hyperparameter_check",
    "input_map",
    "loss_along_line",
    "losses",
    "mean_and_band",
    "report",
    "values",
    "values_by_layer",
]
