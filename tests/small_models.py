"""Tiny models and data for the tests of whole workflows."""

import functools
import re

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from conftest import reseed

FEATURES, CLASSES = 4, 3


def data(size=24, seed=0):
    """Returns `(x, y)`: points, and the class of a noisy linear map."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, FEATURES)).astype("float32")
    teacher = np.random.default_rng(100).normal(size=(FEATURES, CLASSES))
    logits = x @ teacher + generator.normal(size=(size, CLASSES))
    return x, logits.argmax(axis=1)


X, Y = data(24)
VALIDATION = data(16, seed=1)
# What every `fit` of the tests starts from: 3 batches, 6 steps.
FIT = dict(x=X, y=Y, batch_size=8, epochs=2, seed=0, verbose=0)


def linear():
    """Returns softmax regression, without the softmax."""
    reseed()
    inputs = keras.Input((FEATURES,))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(inputs))


def hidden(units=5, dropout=0.0):
    """Returns a net with one hidden layer."""
    reseed()
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Dense(units, activation="tanh", name="first")(inputs)
    if dropout:
        h = keras.layers.Dropout(dropout)(h)
    outputs = keras.layers.Dense(CLASSES, name="last")(h)
    return keras.Model(inputs, outputs)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model=None, **options):
    """Returns a `DrMADModel`, by default over `linear()`, without XLA."""
    model = kd.DrMADModel.from_model(linear() if model is None else model)
    defaults = dict(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.5),
        loss=cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-2)],
        jit_compile=False,
        hypergradient=kd.DrMAD(),
        meta_optimizer=keras.optimizers.Adam(0.05),
    )
    model.compile(**defaults | options)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, **options):
    """Returns the history of a short `fit` on one path, as a dict."""
    defaults = FIT | dict(
        validation_data=VALIDATION, meta_iterations=2, initial_weights="same"
    )
    return model.fit(**defaults | options).history


def as_if_tuned(model, seed=0):
    """Gives a model what a `fit` of two meta-iterations leaves, but sooner."""
    generator = np.random.default_rng(seed)
    kinds, record = model.hyperparameters, model.tuning_record
    model.untuned = [h.raw.numpy() for h in kinds]
    record.begin(
        meta_iterations=2,
        every=0,
        initial_weights="same",
        keep="last",
        draws=1,
        steps=6,
        seed=0,
        method="DrMAD()",
        why="",
    )
    for k in range(2):
        logs = {"loss": 1.0 - k / 4, "val_loss": 0.75 - k / 4}
        logs |= {"hypergradient_norm": 0.1, "adjoint_growth": 1.0}
        record.add(kinds, [h.raw.value for h in kinds], logs)
        for h in kinds:
            steps = h.unit * generator.normal(size=h.raw.shape)
            h.raw.assign(h.raw.numpy() + 0.5 * steps)
            h.clip()
    record.end("complete")
    return model


def variables(model):
    """Returns the variables that hold all a model knows."""
    return [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *(h.raw for h in model.hyperparameters),
        *model.optimizer.variables,
        *model.meta_optimizer.variables,
    ]


def numbers(model):
    """Returns all that a model knows, an array for each variable."""
    return [np.array(v) for v in variables(model)]


def put_back(model, before):
    """Gives a model the numbers that `numbers` returned."""
    for variable, value in zip(variables(model), before, strict=True):
        variable.assign(value)


def built_once(build):
    """Returns `build` such that tests share its models, each as new.

    What takes time in these tests is tracing, and a model is traced anew for
    each object, however short its trainings are. The function that is returned
    builds a model for each list of arguments, once, and gives it the numbers of
    its first day at each call. For fixtures of module scope: models of all
    files at once would fill the memory.
    """

    @functools.cache
    def built(*arguments):
        reseed()
        model = build(*arguments)
        model.optimizer.build(model.trainable_variables)
        return model, numbers(model)

    def as_new(*arguments):
        model, before = built(*arguments)
        put_back(model, before)
        return model

    return as_new


def assert_same(some, others, **tolerance):
    """Asserts that two lists of arrays are equal, or close."""
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def visited(walk):
    """Returns the batches of a walk, by iteration, as arrays."""
    found = {}
    for iterations, chunk in walk:
        for i, t in enumerate(iterations):
            x, y, *_ = chunk.visit(tf.constant(i), lambda batch: batch)
            found[int(t)] = x.numpy(), y.numpy()
    return found


def assert_same_batches(some, others):
    assert some.keys() == others.keys()
    for t, batch in some.items():
        assert_same(batch, others[t])


def at_each_end(model, function):
    """Returns a callback and the list of what it finds after each epoch."""
    found = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(function(model))
    )
    return callback, found


class At(keras.callbacks.Callback):
    """Does something at one end of a meta-iteration, or within it."""

    def __init__(self, epoch, function, within=False):
        super().__init__()
        self.epoch, self.function, self.within = epoch, function, within
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.within and self.now == self.epoch:
            self.function()

    def on_epoch_end(self, epoch, logs=None):
        if not self.within and epoch == self.epoch:
            self.function()


def assert_helps(error, argument, received):
    """Asserts that an error says the argument, what came and what to do."""
    message = str(error.value)
    assert f"`{argument}`" in message
    assert received in message
    assert re.search("Expected|Pass|Use|Give|Convert|which should", message)
