"""The kind of a user's own that `docs/howto/own_kind.md` shows."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.together import Together

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


# ---- kinds with a mistake


class Mine(kd.hyperparameters.Hyperparameter):
    """A kind that does nothing, but what `hooks` say."""

    transform = kd.hyperparameters.Log()

    def __init__(self, bounds=None, **hooks):
        super().__init__("mine", bounds)
        for name, hook in hooks.items():
            setattr(self, name, hook)

    def bind(self, model, optimizer):
        self.create((2,), 1.0)


class WithoutTransform(Mine):
    transform = None


class Uninitialized(Mine):
    def __init__(self):
        pass


class Empty(Mine):
    def bind(self, model, optimizer):
        pass


@pytest.mark.parametrize(
    "make, words",
    [
        (WithoutTransform, "WithoutTransform has no `transform`"),
        (Uninitialized, r"Uninitialized .* `super\(\).__init__"),
        (Empty, r"'mine' has no values.*`self.create\(shape"),
        (lambda: Mine(bounds=(2.0, 5.0)), r"`initial`.*bounds \[2.0, 5.0\]"),
    ],
)
def test_what_is_amiss_in_a_kind_is_said(make, words):
    model = kd.DrMADModel(*tanh_net())
    with pytest.raises((TypeError, ValueError), match=f"(?s){words}"):
        model.compile("sgd", "mse", hyperparameters=[make()])


@pytest.mark.parametrize(
    "hook, returns, words",
    [
        ("penalty", lambda raw, params: raw, "a scalar tensor"),
        ("loss", lambda raw, loss, *_: raw * loss, "a scalar tensor"),
        ("loss", lambda *_: None, "a scalar tensor"),
        ("batch", lambda raw, batch: batch[:2], "a `Batch`"),
        ("weights", lambda raw, params: [*params.values()], "a dict with"),
        ("start", lambda raw, params: {}, "a dict with"),
    ],
)
def test_what_a_hook_returns_is_checked(hook, returns, words):
    together = Together([Mine(**{hook: returns})])
    raw, batch = tf.zeros(2), Batch(tf.zeros(2), tf.zeros(2))
    arguments = {
        "loss": (tf.zeros(()), batch, tf.zeros(2), {}),
        "batch": (batch,),
    }
    of = "loss" if hook == "penalty" else hook
    with pytest.raises(TypeError, match=f"`{hook}` of.*'mine'.*{words}"):
        getattr(together, of)([raw], *arguments.get(of, ({1: raw},)))
