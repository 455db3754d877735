"""Hypergradients of fixed problems are those of the first edition.

`first_edition.json` holds what `numbers` of this file returned on commit
bcbf4e8, the last one of the first edition (where `per="input"` was called
"unit"). The house was built anew since; these numbers must not move.
"""

import functools
import json
import pathlib

import keras
import numpy as np
import pytest

import keras_drmad as kd

pytestmark = pytest.mark.usefixtures("float64")

FILE = pathlib.Path(__file__).with_name("first_edition.json")
kinds = kd.hyperparameters
SIZE, HELD_OUT, T = 22, 9, 24


def points(size, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, 6))
    return x, np.abs(x[:, :3]).argmax(axis=1)


def tanh_net():
    x = inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", name="a")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="b")(x))


def net_with_state():
    x = inputs = keras.Input((6,))
    x = keras.layers.Reshape((6, 1))(x)
    x = keras.layers.Conv1D(4, 3, activation="softplus", name="a")(x)
    x = keras.layers.BatchNormalization(momentum=0.8)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.2, seed=1)(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="b")(x))


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.75)


def scheduled_adam():
    rate = keras.optimizers.schedules.CosineDecay(0.05, 40)
    return keras.optimizers.Adam(rate, clipnorm=0.5)


# A net, an optimizer, kinds, methods.
PROBLEMS = {
    "penalties-and-rates": (
        tanh_net,
        momentum,
        lambda: [kinds.L2("input", 0.01), kinds.LearningRate("layer")],
        {
            "stored": kd.ReverseMode(),
            "bfloat16": kd.ReverseMode("bfloat16"),
            "checkpointed": kd.ReverseMode("checkpointed"),
            "reversible": kd.ReverseMode("reversible"),
            "line": kd.DrMAD(),
            "paper": kd.DrMAD(0.5, last=1.0, average=False),
            "lines": kd.DrMAD(0.7, anchors=5, spacing="end"),
            "truncated": kd.Truncated(0.4),
            "auto": kd.Auto(),
        },
    ),
    "penalties-at-the-end": (
        tanh_net,
        momentum,
        lambda: [kinds.L1("layer", 0.01), kinds.LabelSmoothing(0.1)],
        {
            "neumann": kd.Implicit(terms=8),
            "cg": kd.Implicit("cg", terms=4, curvature="gauss_newton"),
            "one-step": kd.OneStep(),
            "gauss-newton": kd.DrMAD(0.5, curvature="gauss_newton"),
        },
    ),
    "a-net-with-state": (
        net_with_state,
        scheduled_adam,
        lambda: [
            kinds.L2("layer", 0.01, biases=True),
            kinds.ExampleWeights(SIZE),
            kinds.InitialScale("layer"),
            kinds.LearningRate(schedule="piecewise", knots=3),
        ],
        {
            "stored": kd.ReverseMode(),
            "checkpointed": kd.ReverseMode("checkpointed"),
            "lines": kd.DrMAD(1.0, anchors=6),
        },
    ),
}
CASES = [(name, method) for name in PROBLEMS for method in PROBLEMS[name][3]]


@pytest.fixture(scope="module")
def model_of(float64):
    """Returns a function from problems to models, each compiled once."""

    @functools.cache
    def model_of(name):
        net, optimizer, hyperparameters, methods = PROBLEMS[name]
        keras.utils.set_random_seed(0)
        model = kd.DrMADModel.from_model(net())
        model.compile(
            optimizer=optimizer(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            hyperparameters=hyperparameters(),
            hypergradient=next(iter(methods.values())),
            jit_compile=False,
        )
        return model

    return model_of


def numbers(model, method):
    """Returns the validation loss and the gradients of a method.

    A hypergradient leaves the model as it was, so methods share the model.
    """
    model._assembly.method = method
    record = model.hypergradient(
        *points(SIZE, 0),
        batch_size=5,
        steps_per_epoch=T,
        validation_data=points(HELD_OUT, 1),
        validation_batch_size=4,
        seed=3,
    )
    gradients = {k: np.ravel(g).tolist() for k, g in record.gradients.items()}
    return {"validation_loss": record.validation_loss, **gradients}


@pytest.mark.filterwarnings("ignore:The walk:RuntimeWarning")
@pytest.mark.parametrize("name, method", CASES)
def test_the_numbers_of_the_first_edition(model_of, name, method):
    expected = json.loads(FILE.read_text(encoding="utf-8"))[name][method]
    found = numbers(model_of(name), PROBLEMS[name][3][method])
    assert found.keys() == expected.keys()
    for key, value in found.items():
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(
            value, expected[key], rtol=1e-9, atol=1e-9 * scale
        )
