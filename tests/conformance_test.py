"""Every public part of Keras has a row, and is what its row says; see there."""

import keras
import numpy as np
import pytest
from keras.optimizers import schedules

import conformance
import keras_drmad as kd
from checks import assert_exact_hypergradient
from conformance import (
    NotApplicable,
    Refused,
    Right,
    assert_all_right,
    layers,
    losses,
    metrics,
    momentum,
    named,
    optimizers,
    page,
    small_things,
)
from conftest import precision
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import LearningRate
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.problem import ElementaryProblem
from keras_drmad.training.initial_weights import InitialState, Origin

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.self_check,
]

TABLES = {
    keras.activations: small_things.ACTIVATIONS,
    keras.constraints: small_things.CONSTRAINTS,
    keras.initializers: small_things.INITIALIZERS,
    keras.layers: layers.LAYERS,
    keras.losses: losses.LOSSES,
    keras.metrics: metrics.METRICS,
    keras.optimizers: optimizers.TABLE,
    keras.regularizers: small_things.REGULARIZERS,
    schedules: optimizers.SCHEDULES,
}


@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__)
def test_every_public_name_has_a_row(module):
    conformance.assert_no_name_is_missing(module, TABLES[module])


@pytest.mark.parametrize("name", losses.GROUPS)
def test_losses(name):
    group = losses.GROUPS[name]
    assert_all_right(
        list(group.makes), lambda names: losses.check(group, names)
    )


# Their functions are what they call.
@pytest.mark.parametrize(
    "name", [n for n in named(Refused, losses.LOSSES) if n[0].isupper()]
)
def test_losses_that_are_refused(name):
    row = losses.LOSSES[name]
    with pytest.raises(ValueError, match=row.words):
        losses.check(row.make, [name])


@pytest.mark.parametrize("name", small_things.FAMILIES)
def test_small_things(name):
    family = small_things.FAMILIES[name]
    alone = set(small_things.IN_FLOAT32)
    names = [n for n in named(Right, family.table) if n not in alone]
    assert_all_right(names, lambda names: small_things.check(family, names))


@pytest.mark.parametrize("name", small_things.IN_FLOAT32)
def test_small_things_in_float32(name):
    with precision("float32"):
        small_things.check(small_things.FAMILIES["regularizers"], [name])


def test_constraints_are_differentiated():
    names = named(Right, small_things.CONSTRAINTS)
    model = small_things.FAMILIES["constraints"].model_of(names)
    model = kd.DrMADModel.from_model(model)
    model.compile(
        momentum(),
        "mse",
        hyperparameters=[LearningRate()],
        hypergradient=kd.ReverseMode(),
        jit_compile=False,
        self_check=False,
    )
    held_out = small_things.data(seed=1)
    assert_exact_hypergradient(
        model,
        *small_things.data(),
        batch_size=2,
        epochs=2,
        validation_data=held_out,
        step=1e-6,
        rtol=1e-5,
    )


def test_initializers_are_drawn_anew():
    names = named(Right, small_things.INITIALIZERS)
    model = small_things.FAMILIES["initializers"].model_of(names)
    batch = Batch(*small_things.data())
    problem = ElementaryProblem(model, model.optimizer, Together.none(), batch)
    starts = InitialState(problem, "resample", 0, Origin(model))
    draws = [starts.of(k).params for k in (0, 1, 0)]
    kernels = [k for k, v in enumerate(problem.params) if v.shape == (4, 3)]
    for name, k in zip(names, kernels, strict=True):
        first, second, again = (draw[k] for draw in draws)
        assert first.dtype == problem.params[k].dtype
        np.testing.assert_array_equal(first, again)
        is_new = bool(np.any(first != second))
        assert is_new == (name in small_things.RANDOM), name


def test_metrics():
    training, held_out = metrics.data(0, 8), metrics.data(8, 12)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    options["validation_data"] = held_out
    with precision("float32"):  # Keras has top-k in it alone
        twin = metrics.net()
        twin.compile(momentum(), **metrics.arguments(), run_eagerly=True)
        expected = twin.fit(*training, **options).history
        model = kd.DrMADModel.from_model(metrics.net())
        model.compile(
            momentum(),
            **metrics.arguments(),
            hyperparameters=[LearningRate()],
            jit_compile=False,
            self_check=False,
        )
        logs = model.fit(*training, meta_iterations=0, **options).history
    assert logs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(
            logs[name][-1], values[-1], rtol=1e-5, err_msg=name
        )


def test_optimizers_are_of_their_classes():
    """What they do is tested in `optimizers_test.py`."""
    for name, rows in optimizers.WORKING.items():
        made = {type(optimizers.OPTIMIZERS[row].make()) for row in rows}
        assert {one.__name__ for one in made} == {name}
    listed = [row for rows in optimizers.WORKING.values() for row in rows]
    assert set(optimizers.UPDATES) <= set(listed)


@pytest.mark.parametrize(
    "name", named(Refused, conformance.here(keras.optimizers, optimizers.TABLE))
)
def test_optimizers_that_are_refused(name):
    row = optimizers.TABLE[name]
    model = kd.DrMADModel.from_model(
        small_things.FAMILIES["constraints"].model_of(["NonNeg"])
    )
    with pytest.raises(TypeError, match=row.words):
        model.compile(row.make(), "mse", hyperparameters=[LearningRate()])


@pytest.mark.parametrize("name", optimizers.BROKEN)
def test_optimizers_that_need_a_newer_keras_are_refused(name):
    row = optimizers.UPDATES_OF_ALL[optimizers.CLASSES[name][0]]
    model = kd.DrMADModel.from_model(
        small_things.FAMILIES["constraints"].model_of(["NonNeg"])
    )
    with pytest.raises(ValueError, match=f"{name}, which needs Keras"):
        model.compile(row.make(), "mse", hyperparameters=[LearningRate()])


@pytest.mark.parametrize("name", named(Right, optimizers.SCHEDULES))
def test_schedules(name):
    optimizers.check_schedule(name)


@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__)
def test_what_is_not_applicable_has_a_reason(module):
    for name in named(NotApplicable, TABLES[module]):
        assert TABLES[module][name].why.endswith("."), name


def test_the_page_is_what_the_tables_say():
    written = page.PATH.read_text(encoding="utf-8")
    assert written == page.page(), "python tests/write_supported.py"
