"""Public constructors and functions: two arguments by place, others by name."""

import inspect

import pytest

import keras_drmad as kd
from keras_drmad import loss_along_line, plots
from keras_drmad.model import FIT_ARGUMENTS
from keras_drmad.wrapper import COMPILE_ARGUMENTS

BY_PLACE = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
CLASSES = [
    *(getattr(kd.hyperparameters, name) for name in kd.hyperparameters.__all__),
    *(getattr(kd.layers, name) for name in kd.layers.__all__),
    kd.callbacks.HeldOut,
    kd.callbacks.HyperparameterHistory,
    kd.callbacks.TensorBoard,
    kd.callbacks.TimeBudget,
    kd.SignConsensus,
    kd.SignDescent,
]
FUNCTIONS = [
    plots.values_by_layer,
    plots.mean_and_band,
    plots.curves,
    plots.input_map,
    plots.loss_along_line,
    plots.values,
    plots.losses,
    plots.course,
    plots.diagnostics,
    plots.report,
    loss_along_line.losses_along_line,
    loss_along_line.barrier,
]


def by_place(function):
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in BY_PLACE]


@pytest.mark.parametrize("thing", CLASSES + FUNCTIONS)
def test_two_arguments_by_place_at_most(thing):
    assert len(by_place(thing)) <= 2


@pytest.mark.parametrize(
    "method, known",
    [
        (kd.DrMADModel.compile, COMPILE_ARGUMENTS),
        (kd.DrMADModel.fit, ("x", "y", *FIT_ARGUMENTS, "validation_freq")),
    ],
    ids=["compile", "fit"],
)
def test_errors_name_every_argument(method, known):
    parameters = inspect.signature(method).parameters.values()
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    assert sorted(named) == sorted(["self", *known])


def test_the_search_too():
    pytest.importorskip("keras_tuner")
    assert by_place(kd.MetaRateSearch) == ["build_model", "rates"]
