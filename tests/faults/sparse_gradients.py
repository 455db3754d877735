"""Sparse gradients: optimizers of Keras see rows, not their sums."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

from checks import assert_exact_hypergradient
from conformance import assert_all_right
from conformance.optimizers import BROKEN
from faults import assert_trains_like_keras, members, wrapped
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.problem import ElementaryProblem

HAS_TABLES = hasattr(layers, "ReversibleEmbedding")  # since Keras 3.12
RNG = np.random.default_rng(4)
TOKENS, Y = RNG.integers(0, 3, (8, 5)), RNG.normal(size=(8, 2))
HELD_OUT = RNG.integers(0, 6, (4, 5)), RNG.normal(size=(4, 2))


def embedding():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int64")
    x = layers.Flatten()(layers.Embedding(8, 3)(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def regularized(inputs):
    return layers.Flatten()(
        layers.Embedding(8, 3, embeddings_regularizer="l2")(inputs)
    )


def masked(inputs):
    x = layers.Embedding(8, 3, mask_zero=True)(inputs)
    return layers.GlobalAveragePooling1D()(x)


def shared(inputs):
    """Looks up one table twice, and multiplies by it."""
    table = layers.ReversibleEmbedding(8, 3)
    x = layers.Dense(3)(table(inputs))
    return layers.GlobalAveragePooling1D()(table(x, reverse=True))


READERS = {"a regularizer": regularized, "a mask": masked}
if HAS_TABLES:
    READERS["one table used twice"] = shared


def branches(names):
    """Returns a model with a branch for each of `READERS`."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int64")
    outputs = [READERS[name](inputs) for name in names]
    total = layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, layers.Dense(2)(total))


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.05),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.05),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adafactor": lambda: optimizers.Adafactor(0.05),
    "RMSprop": lambda: optimizers.RMSprop(0.02, centered=True, momentum=0.5),
    "Ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    "Lamb": lambda: optimizers.Lamb(0.05),
    "Muon": lambda: optimizers.Muon(0.05),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: optimizers.Adam(0.05, global_clipnorm=0.1),
    "averages": lambda: optimizers.Adam(0.05, use_ema=True),
    "accumulation": lambda: optimizers.Adam(
        0.05, gradient_accumulation_steps=2
    ),
}


@members("sparse gradients are rows", OPTIMIZERS, lacking=BROKEN)
def rows(make):
    """Four steps, one by one; `models` trains by the loops of `fit`."""
    ours, theirs = embedding(), embedding()
    for model in (ours, theirs):
        model.compile(make(), "mse", run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
    batches = [
        Batch(tf.constant(TOKENS[part]), tf.constant(Y[part]))
        for part in (slice(0, 4), slice(4, 8))
    ]
    problem = ElementaryProblem(
        ours, ours.optimizer, Together.none(), batches[0]
    )
    state, unseen = problem.state(), problem.metrics_state()
    first = theirs.get_weights()
    for batch in 2 * batches:
        theirs.train_on_batch(batch.x, batch.y)
        state, *_ = problem.step(state, [], batch, unseen)
    last = theirs.get_weights()
    assert any((a != b).any() for a, b in zip(first, last, strict=True))
    for a, b in zip(state.params, last, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@members("sparse gradients are rows", {", ".join(READERS): READERS})
def models(readers):
    training = {"batch_size": 4, "epochs": 2, "shuffle": False}
    assert_all_right(
        [*readers],
        lambda names: assert_trains_like_keras(
            lambda: branches(names),
            OPTIMIZERS["Adam"],
            "mse",
            [LearningRate()],
            TOKENS,
            Y,
            **training,
        ),
    )


@members(
    "sparse gradients are differentiated",
    {
        "Adagrad": OPTIMIZERS["Adagrad"],
        "Adam, clipnorm": lambda: optimizers.Adam(0.05, clipnorm=0.1),
    },
)
def differentiated(make):
    model = wrapped(
        embedding(), make(), "mse", [L2("layer", 0.01), LearningRate()]
    )
    assert_exact_hypergradient(
        model, TOKENS, Y, batch_size=4, epochs=2, validation_data=HELD_OUT
    )
