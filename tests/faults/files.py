"""Files between plain and wrapped models, and what they keep."""

import os
import tempfile

import keras
import numpy as np
import pytest

import keras_drmad as kd
from faults import ONE_PATH, members, refused, wrapped
from small_models import (
    VALIDATION,
    X,
    Y,
    as_if_tuned,
    cross_entropy,
    hidden,
)

H = kd.hyperparameters
L = keras.layers


@keras.saving.register_keras_serializable("faults")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = L.Dense(5), L.Dense(3)
        self.scale = self.add_weight((), name="scale", initializer="ones")

    def call(self, x):
        return self.scale * self.last(self.first(x))


def sequential():
    return keras.Sequential(
        [keras.Input((4,)), L.Dense(5, name="first"), L.Dense(3, name="last")]
    )


def nested():
    def inner(name):
        return keras.Sequential(
            [keras.Input((4,)), L.Dense(4, name="a")], name=name
        )

    inputs = keras.Input((4,))
    h = inner("two")(inner("one")(inputs))
    return keras.Model(inputs, L.Dense(3, name="head")(h))


def own():
    model = Own()
    model(X[:1])
    return model


def tuned(model, kinds=None, **options):
    kinds = kinds or [H.L2(initial=0.5), H.LearningRate()]
    return wrapped(model, "sgd", cross_entropy(), kinds, **options)


def same(some, others):
    for a, b in zip(some.get_weights(), others.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def plain_into_wrapped(make, path):
    one, other = make(), tuned(make())
    one.compile("sgd", cross_entropy())
    one.save(path) if path.endswith(".keras") else one.save_weights(path)
    other.load_weights(path)
    return one, other


def uncompiled_into_wrapped(make, path):
    one, other = kd.DrMADModel.from_model(make()), tuned(make())
    one.save(path) if path.endswith(".keras") else one.save_weights(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)  # as Keras does
        other.load_weights(path)
    return one, other


def wrapped_into_plain(make, path):
    one, other = tuned(make()), make()
    one.save_weights(path)
    other.load_weights(path)
    return one, other


def checkpoint_into_plain(make, path):
    one, other = tuned(make()), make()
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    one.fit(**ONE_PATH, meta_iterations=1, callbacks=[save])
    other.compile("sgd", cross_entropy())
    other.load_weights(path)
    return one, other


def wrapped_into_uncompiled(make, path):
    one, other = tuned(make()), kd.DrMADModel.from_model(make())
    one.save(path) if path.endswith(".keras") else one.save_weights(path)
    other.load_weights(path)
    return one, other


def wrapped_into_wrapped(make, path):
    one, other = tuned(make()), tuned(make())
    one.optimizer.build(one.trainable_variables)
    other.optimizer.build(other.trainable_variables)
    for v in (*one.optimizer.variables, *one.meta_optimizer.variables):
        v.assign(v + keras.ops.cast(3, v.dtype))
    one.hyperparameters[0].assign(0.25)
    as_if_tuned(one)
    one.save(path) if path.endswith(".keras") else one.save_weights(path)
    other.load_weights(path)
    for a, b in zip(one.hyperparameters, other.hyperparameters, strict=True):
        np.testing.assert_array_equal(a.raw.numpy(), b.raw.numpy())
    for name in ("optimizer", "meta_optimizer"):
        pairs = zip(
            getattr(one, name).variables,
            getattr(other, name).variables,
            strict=True,
        )
        assert all((a.numpy() == b.numpy()).all() for a, b in pairs), name
    return one, other


H5, WHOLE = "weights.h5", "keras"
INTO_WRAPPED = (
    [(sequential, H5), (hidden, WHOLE), (own, H5)],
    [(sequential, WHOLE), (hidden, H5), (own, WHOLE)],
)
CASES = [
    *((plain_into_wrapped, *case) for case in INTO_WRAPPED[0]),
    *((uncompiled_into_wrapped, *case) for case in INTO_WRAPPED[1]),
    *((wrapped_into_uncompiled, *case) for case in INTO_WRAPPED[0]),
    *((wrapped_into_wrapped, *case) for case in INTO_WRAPPED[1]),
    *((wrapped_into_wrapped, *case) for case in INTO_WRAPPED[0]),
    *((wrapped_into_plain, make, H5) for make in (sequential, hidden, own)),
    (checkpoint_into_plain, own, H5),
]


@members(
    "weights between plain and wrapped",
    {
        f"{way.__name__}, {make.__name__}, {end}": (way, make, end)
        for way, make, end in CASES
    },
)
def arrive(case):
    way, make, end = case
    with tempfile.TemporaryDirectory() as folder:
        same(*way(make, f"{folder}/m.{end}"))


@members("weights with other hyperparameters", {"weights.h5": 0, "keras": 1})
def say_so(is_whole):
    one, other = tuned(hidden()), tuned(hidden(), [H.Temperature()])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/m.{'keras' if is_whole else 'weights.h5'}"
        one.save(path) if is_whole else one.save_weights(path)
        return refused(lambda: other.load_weights(path), "hyperparameters")


@members(
    "HDF5 for a whole model",
    {
        "save": lambda m, p: m.save(p + ".h5"),
        "hdf5": lambda m, p: m.save(p + ".hdf5"),
        "keras.saving.save_model": lambda m, p: keras.saving.save_model(
            m, p + ".h5"
        ),
        "keras.models.save_model": lambda m, p: keras.models.save_model(
            m, p + ".h5", include_optimizer=False
        ),
        "a checkpoint": lambda m, p: m.fit(
            **ONE_PATH,
            meta_iterations=1,
            callbacks=[keras.callbacks.ModelCheckpoint(p + ".h5")],
        ),
    },
)
def is_refused(save):
    model = tuned(hidden())
    before = model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        refused(lambda: save(model, f"{folder}/m"), ".keras", "elementary")
        assert not os.listdir(folder) or "a" not in os.listdir(folder)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def layer(name):
    return lambda m: m.get_layer(name)


def within(outer, name):
    return lambda m: m.get_layer(outer).get_layer(name)


@members(
    "layers= in a file",
    {
        "auto, Sequential": (sequential, None),
        "auto, nested": (nested, None),
        "auto, Functional": (hidden, None),
        "auto, subclassed": (own, None),
        "a layer, Sequential": (sequential, [layer("first")]),
        "a name, Sequential": (sequential, [lambda m: "last"]),
        "a path, Sequential": (sequential, [lambda m: m.layers[0].path]),
        "an expression": (sequential, [lambda m: r".*/f.*t"]),
        "one of two, nested": (nested, [within("two", "a")]),
        "both ways, nested": (nested, [within("one", "a"), lambda m: "head"]),
        "a path, nested": (nested, [lambda m: "two/a"]),
    },
)
def loads_with_the_same(case):
    make, choose = case
    inside, kinds = make(), "auto"
    if choose:
        layers = [entry(inside) for entry in choose]
        kinds = [H.LearningRate("layer", layers=layers), H.L2("layer")]
    model = tuned(inside, kinds)
    for h in model.hyperparameters:
        h.assign(
            np.linspace(1e-3, 2e-3, int(np.prod(h.raw.shape) or 1)).reshape(
                h.raw.shape
            )
        )
    first = model
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            model.save(f"{folder}/m.keras")
            loaded = keras.models.load_model(f"{folder}/m.keras")
            pairs = zip(
                model.hyperparameters, loaded.hyperparameters, strict=True
            )
            for a, b in pairs:
                np.testing.assert_array_equal(a.raw.numpy(), b.raw.numpy())
                rows = np.arange(a.raw.shape[0] if a.raw.shape else 1)[None]
                if a.raw.shape:
                    assert [*a.by_layer(rows)] == [*b.by_layer(rows)]
                assert a.acts_on == b.acts_on
                assert len(a.acts_at()) == len(b.acts_at())
            model = loaded
    if make in (sequential, hidden):  # whose names are all there is to find
        return
    given = dict(batch_size=8, validation_data=VALIDATION)
    losses = [m.validation_loss_after(X, Y, **given) for m in (first, model)]
    assert losses[0] == losses[1]
