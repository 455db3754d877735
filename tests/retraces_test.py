"""No loop is traced, and so compiled, twice for the same shapes.

Arrays and their batches have fixed shapes, so XLA compiles as often as
TensorFlow traces: once for each number of examples, trained or validated on.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import traces
from conftest import reseed
from small_models import cross_entropy

GENERATOR = np.random.default_rng(0)
X = GENERATOR.integers(0, 3, (32, 4))
Y = GENERATOR.integers(0, 2, 32)
NETS = {
    "dense": lambda x: x,
    # Whose gradients are rows, of which a short batch has fewer.
    "embedding": lambda x: keras.layers.Flatten()(
        keras.layers.Embedding(3, 2)(x)
    ),
}


def model_of(net, **options):
    reseed()
    inputs = keras.Input((4,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(2)(NETS[net](inputs)))
    defaults = dict(
        optimizer=keras.optimizers.Adam(0.01),
        hyperparameters=[kd.hyperparameters.L2()],
        hypergradient=kd.DrMAD(),
        jit_compile=False,
        self_check=False,
    )
    model.compile(loss=cross_entropy(), **(defaults | options))
    return model


def ask(model, size=30, held_out=7, epochs=2, **options):
    """Trains on batches of 8, validates on those of 4."""
    model.hypergradient(
        X[:size],
        Y[:size],
        8,
        epochs,
        validation_data=(X[:held_out], Y[:held_out]),
        validation_batch_size=4,
        **options,
    )


def fit(model, **options):
    model.fit(
        X[:30],
        Y[:30],
        8,
        epochs=2,
        validation_data=(X[:7], Y[:7]),
        validation_batch_size=4,
        meta_iterations=3,
        keep="last",
        verbose=0,
        seed=0,
        **options,
    )


@pytest.fixture(scope="module", params=NETS)
def asked(request):
    """A model that was asked once, with short batches."""
    model = model_of(request.param)
    ask(model)
    return model


def set_rate(model):
    model.optimizer.learning_rate = 0.02


def set_value(model):
    (l2,) = model.hyperparameters
    l2.raw.assign(l2.raw + 1)


SAME = {
    "shorter": lambda model: ask(model, steps_per_epoch=1, epochs=1),
    "longer": lambda model: ask(model, epochs=60),  # several chunks
    "seed": lambda model: ask(model, seed=5),
    "order": lambda model: ask(model, shuffle=False),
    "rate": lambda model: (set_rate(model), ask(model)),
    "value": lambda model: (set_value(model), ask(model)),
    "several draws": lambda model: ask(model, draws=2),
    "fit": fit,
}


@pytest.mark.parametrize("change", SAME)
def test_what_changes_no_shape_traces_nothing(asked, change):
    before = counts_of(asked)
    assert set(before.values()) == {1}
    SAME[change](asked)
    counts = counts_of(asked)
    assert {name: counts[name] for name in before} == before
    assert set(counts) - set(before) <= {"same", "validate"}  # asked for first


@pytest.mark.parametrize("net", NETS)
def test_each_number_of_examples_is_traced_once(net):
    model = model_of(net)
    for _ in range(2):
        for size in (30, 29, 32):  # short batches of 6, of 5, none
            ask(model, size=size)
        counts = counts_of(model)
        assert counts == {"forward": 3, "differentiate": 1, "backward": 3}
    for _ in range(2):
        for held_out in (7, 5, 8):
            ask(model, size=29, held_out=held_out)
        counts = counts_of(model)
        assert counts == {"forward": 3, "differentiate": 3, "backward": 3}


class Counting(keras.layers.Layer):
    """Counts how often the layer is called, which is when it is traced."""

    calls = 0

    def call(self, x):
        Counting.calls += 1
        return x


def calls_for(size, **options):
    """Returns the calls of a layer until a model was asked once."""
    reseed()
    inputs = keras.Input((4,), **options)
    model = kd.DrMADModel(inputs, keras.layers.Dense(2)(Counting()(inputs)))
    model.compile(
        keras.optimizers.SGD(0.1),
        cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2()],
        jit_compile=False,
        self_check=False,
    )
    Counting.calls = 0
    ask(model, size=size, held_out=8)
    return Counting.calls


def test_short_batches_are_traced_with_full_ones():
    # Without short ones, both loops copy the step that was looked at.
    assert calls_for(30) == calls_for(32) + 2


def test_what_computes_with_a_size_is_traced_for_each():
    def loss(y, y_pred):
        weights = tf.linalg.diag_part(tf.eye(y_pred.shape[0]))
        losses = keras.losses.sparse_categorical_crossentropy(
            y, y_pred, from_logits=True
        )
        return weights * losses

    reseed()
    inputs = keras.Input((4,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(2)(inputs))
    twin = model_of("dense")
    twin.set_weights(model.get_weights())
    model.compile(
        keras.optimizers.Adam(0.01),
        loss,
        hyperparameters=[kd.hyperparameters.L2()],
        hypergradient=kd.DrMAD(),
        jit_compile=False,
    )
    found, expected = (
        one.hypergradient(
            X[:30], Y[:30], 8, validation_data=(X[:7], Y[:7]), seed=0
        )
        for one in (model, twin)
    )
    np.testing.assert_allclose(
        found.validation_loss, expected.validation_loss, rtol=1e-6
    )
    np.testing.assert_allclose(
        found.gradients["l2"], expected.gradients["l2"], rtol=1e-4
    )


def test_a_batch_size_that_inputs_give_stays_known():
    assert calls_for(30, batch_size=8) > calls_for(32, batch_size=8)


def counts_of(model):
    """Returns the traces of loops that were called, by the first word."""
    return {k.split()[0]: n for k, n in traces(model).items() if n}


def test_xla_compiles_short_batches_of_an_embedding_once():
    model = model_of("embedding", jit_compile=True)
    fit(model)
    before = counts_of(model)
    assert set(before.values()) == {1}
    fit(model)
    ask(model, epochs=5, seed=1)
    assert counts_of(model) == before
    assert model.uses_xla
