"""The kind of a user's own that `docs/howto/own_kind.md` shows."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import assert_exact_hypergradient
from closed_forms import exact_model, regression, tanh_net

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE = DOCS / "howto" / "own_kind.md"
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def source():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [b for b in blocks if "class ClassWeights" in b]
    return block


@pytest.fixture(scope="module")
def own(source):
    names: dict = {}
    exec(source, names)
    return names["ClassWeights"]


def test_it_is_short(source):
    assert len(source.splitlines()) < 40


X, Y = regression(12)[0], np.arange(12) % 2
TRAINING = dict(
    batch_size=4,
    steps_per_epoch=6,
    validation_data=(regression(8, seed=1)[0], Y[:8]),
)


def model_of(own, **options):
    return exact_model(
        tanh_net(),
        [own(2)],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 1.5, 12)])
def test_it_is_differentiated(own, weights):
    model = model_of(own)
    assert_exact_hypergradient(model, X, Y, sample_weight=weights, **TRAINING)


def test_it_is_what_class_weight_does(own):
    model = model_of(own)
    model.hyperparameters[0].assign([0.5, 2.0])
    start = model.get_weights()
    arguments = dict(batch_size=4, meta_iterations=0, seed=0, verbose=0)
    model.fit(X, Y, **arguments)
    found = model.get_weights()
    model.hyperparameters[0].assign(1.0)
    model.set_weights(start)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        model.elementary_model.loss,
        hyperparameters=model.hyperparameters,
        jit_compile=False,
    )
    model.fit(X, Y, class_weight={0: 0.5, 1: 2.0}, **arguments)
    for a, b in zip(model.get_weights(), found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_it_is_saved(own, tmp_path):
    model = model_of(own)
    model.fit(X, Y, meta_iterations=2, verbose=0, **TRAINING)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, kd.DrMADModel)
    np.testing.assert_array_equal(
        loaded.hyperparameters[0].value(), model.hyperparameters[0].value()
    )
