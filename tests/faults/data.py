"""Inputs as Keras takes them: strings, tables, sparse arrays, no targets."""

import importlib.util

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from faults import (
    assert_right_by_differences,
    members,
    refused,
    wrapped,
)
from small_models import VALIDATION, X, Y, cross_entropy, linear

H = kd.hyperparameters
L = keras.layers
CITIES = np.array(["Rome", "Oslo", "Lima", "Kyōto"])
CITY = CITIES[np.random.default_rng(0).integers(0, 4, 12)][:, None]
TEXT = np.array(
    [[f"{a[0]} is not {b[0]}"] for a, b in zip(CITY, CITY[::-1], strict=True)]
)
T = np.random.default_rng(1).normal(size=(12, 1))
TRAINING = dict(batch_size=4, epochs=2)


def looks_up():
    keras.utils.set_random_seed(1)
    city = keras.Input((1,), dtype="string", name="city")
    h = L.StringLookup(vocabulary=CITIES.tolist())(city)
    h = L.Flatten()(L.Embedding(5, 3)(h))
    return keras.Model(city, L.Dense(1)(h))


def reads():
    keras.utils.set_random_seed(1)
    text = keras.Input((1,), dtype="string", name="text")
    words = L.TextVectorization(max_tokens=12, output_sequence_length=3)
    words.adapt(TEXT)
    h = L.Flatten()(L.Embedding(12, 3)(words(text)))
    return keras.Model(text, L.Dense(1)(h))


def hashes():
    keras.utils.set_random_seed(1)
    city = keras.Input((1,), dtype="string", name="city")
    h = L.Flatten()(L.Embedding(7, 2)(L.Hashing(7)(city)))
    return keras.Model(city, L.Dense(1)(h))


def both():
    keras.utils.set_random_seed(1)
    city = keras.Input((1,), dtype="string", name="city")
    age = keras.Input((1,), name="age")
    h = L.StringLookup(vocabulary=CITIES.tolist(), output_mode="one_hot")(city)
    return keras.Model(
        {"city": city, "age": age}, L.Dense(1)(L.Concatenate()([h, age]))
    )


def in_a_dict(city):
    return {"city": city, "age": T**2}


@members(
    "strings",
    {
        "StringLookup, of objects, bytes, a tensor, a short batch": (
            looks_up,
            [
                CITY,
                CITY.astype(object),
                np.char.encode(CITY, "utf-8"),
                tf.constant(CITY),
            ],
            5,
        ),
        "TextVectorization": (reads, [TEXT], 4),
        "Hashing": (hashes, [CITY], 4),
        "beside numbers, also objects": (
            both,
            [in_a_dict(CITY), in_a_dict(CITY.astype(object))],
            4,
        ),
    },
)
def arrays_of_strings(case):
    make, forms, size = case
    kinds = [H.LearningRate("layer", initial=0.05)]
    model = wrapped(make(), keras.optimizers.SGD(0.05), "mse", kinds)
    given = dict(TRAINING, batch_size=size)
    x, *others = forms
    assert_right_by_differences(model, x, T, **given, validation_data=(x, T))
    expected = model.validation_loss_after(
        x, T, **given, validation_data=(x, T)
    )
    for other in others:
        loss = model.validation_loss_after(
            other, T, **given, validation_data=(other, T)
        )
        assert loss == expected
    ours = tf.convert_to_tensor if not isinstance(x, dict) else _tensors
    plain = make()
    plain.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True)
    plain.fit(ours(x), T, **given, shuffle=False, verbose=0)
    model.fit(x, T, **given, shuffle=False, verbose=0, meta_iterations=0)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def _tensors(x):
    return {k: tf.constant(v.tolist()) for k, v in x.items()}


@members(
    "strings in a stream",
    {"StringLookup": (looks_up, CITY), "beside": (both, in_a_dict(CITY))},
)
def streams_of_strings(case):
    make, x = case
    data = tf.data.Dataset.from_tensor_slices((x, T)).batch(4)
    kinds = [H.L2("layer", initial=0.1)]
    model = wrapped(make(), keras.optimizers.SGD(0.05), "mse", kinds)
    given = dict(epochs=2, validation_data=data)
    assert_right_by_differences(model, data, None, **given)


class Refills(keras.utils.PyDataset):
    """Yields the same arrays each time, filled with another batch."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y
        self.batch = np.empty_like(x[:4]), np.empty_like(y[:4])

    def __len__(self):
        return len(self.x) // 4

    def __getitem__(self, k):
        for filled, a in zip(self.batch, (self.x, self.y), strict=True):
            filled[:] = a[4 * k : 4 * k + 4]
        return self.batch


@members(
    "a stream that fills one array again and again",
    {"float64, float16": ("float64", "float16")},  # shared and converted
)
def refilled(dtypes):
    model = wrapped(
        linear(), keras.optimizers.SGD(0.1), cross_entropy(), [H.L2()]
    )
    model.set_weights([w + 0.1 for w in model.get_weights()])
    given = dict(epochs=2, shuffle=False, validation_data=VALIDATION)
    for dtype in dtypes:
        x, y = X[:16].astype(dtype), Y[:16]
        expected, found = (
            model.hypergradient(**data, **given).gradients["l2"]
            for data in (dict(x=x, y=y, batch_size=4), dict(x=Refills(x, y)))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=dtype)


class Yields(keras.utils.PyDataset):
    """Batches of any kind."""

    def __init__(self, make, y):
        super().__init__()
        self.make, self.y = make, y

    def __len__(self):
        return 2

    def __getitem__(self, k):
        return self.make(k), self.y


@members(
    "strings and XLA",
    {"auto": "auto", "refused": True},
)
def without_xla(jit_compile):
    kinds = [H.L2("layer", initial=0.1)]
    model = wrapped(looks_up(), "sgd", "mse", kinds, jit_compile=jit_compile)

    def fit():
        model.fit(
            CITY, T, validation_data=(CITY, T), meta_iterations=1, verbose=0
        )

    if jit_compile != "auto":
        return refused(fit, "jit_compile", "strings")
    return fit()


@members(
    "batches of a stream",
    {
        "strings of a PyDataset": (looks_up, lambda k: CITY, T),
        "sparse": (
            lambda: numbers_of("age"),
            lambda k: {"age": tf.sparse.from_dense(T)},
            T,
        ),
        "sparse, of a data set": (
            lambda: numbers_of("age"),
            lambda k: None,
            T,
        ),
    },
)
def arrive(case):
    make, batch, y = case
    data = Yields(batch, y)
    if batch(0) is None:
        x = {"age": tf.sparse.from_dense(T)}
        data = tf.data.Dataset.from_tensors((x, T)).repeat(2)
    model = wrapped(make(), "sgd", "mse", [H.L2("layer")])
    loss = model.validation_loss_after(data, validation_data=data)
    x = CITY if make is looks_up else {"age": T}
    twice = tf.data.Dataset.from_tensors((x, y)).repeat(2)
    assert loss == model.validation_loss_after(twice, validation_data=twice)


@members(
    "strings that are refused",
    {
        "for a model of numbers": (
            linear,
            X.astype(str),
            Y,
            ["`x`", "strings"],
        ),
        "as targets": (linear, X, CITIES[Y], ["`y`", "strings"]),
        "a feature": (
            lambda: numbers_of("city", "age"),
            in_a_dict(CITY),
            T,
            ["x['city']", "StringLookup"],
        ),
        "objects": (
            linear,
            np.array([[None, 1, 2, 3]] * 24, object),
            Y,
            ["`x`", "object"],
        ),
    },
)
def strings_are_refused(case):
    make, x, y, words = case
    model = wrapped(make(), "sgd", "mse", [H.L2()])
    return refused(
        lambda: model.fit(x, y, validation_data=(x, y), verbose=0), *words
    )


def numbers_of(*names):
    inputs = {name: keras.Input((1,), name=name) for name in names}
    return keras.Model(inputs, L.Dense(1)(L.Concatenate()([*inputs.values()])))


def of_objects(table):
    return table.astype(object)


def nullable(table):
    return table.astype("Float64")


def mixed(table):
    return table.assign(a=(table["a"] > 0).astype("boolean"))


def of_bools(table):
    return table.assign(
        a=table["a"] > 0, b=(table["b"] * 9).round().astype("Int64")
    )


def of_categories(table):
    return table.assign(a=(table["a"] > 0).astype(int).astype("category"))


def tables(change):
    import pandas

    return change(pandas.DataFrame(X, columns=list("abcd")))


HAS_PANDAS = importlib.util.find_spec("pandas") is not None
HAS_SCIPY = importlib.util.find_spec("scipy") is not None


CHANGES = (of_objects, nullable, mixed, of_bools, of_categories)


@members(
    "tables of pandas",
    {", ".join(f.__name__ for f in CHANGES): CHANGES} if HAS_PANDAS else {},
)
def columns_become_numbers(changes):
    import pandas

    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    labels = pandas.Series(Y, dtype="Int64")
    given = dict(batch_size=8, seed=0)
    for change in changes:
        table = tables(change)
        arrays = np.array(table.astype(float)), Y
        assert model.validation_loss_after(
            table, labels, validation_data=(table, labels), **given
        ) == model.validation_loss_after(
            *arrays, validation_data=arrays, **given
        ), change.__name__


@members(
    "tables that are refused",
    {
        "a text": (lambda t: t.assign(b="x"), "x['b']"),
        "missing": (lambda t: nullable(t).mask(t > 1), "nan"),
        "categories": (
            lambda t: t.assign(b="x").astype({"b": "category"}),
            "x['b']",
        ),
    }
    if HAS_PANDAS
    else {},
)
def tables_are_refused(case):
    change, word = case
    table = tables(change)
    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    return refused(
        lambda: model.fit(table, Y, validation_data=VALIDATION), word
    )


def scipys(form):
    import scipy.sparse

    return getattr(scipy.sparse, form)(X * (X > 0))


@members("sparse arrays", {"a tensor, and those of SciPy": None})
def are_made_dense(_):
    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    forms = [tf.sparse.from_dense(X * (X > 0))]
    if HAS_SCIPY:
        forms += map(scipys, ("csr_matrix", "csc_array", "coo_matrix"))
    dense = X * (X > 0)
    given = dict(batch_size=8, seed=0)
    expected = model.validation_loss_after(
        dense, Y, validation_data=(dense, Y), **given
    )
    for x in forms:
        assert expected == model.validation_loss_after(
            x, Y, validation_data=(x, Y), **given
        ), type(x)


def generator():
    yield X, Y


@members(
    "what is read once",
    {
        "a generator": generator,
        "a function": lambda: generator,
        "a lambda": lambda: lambda: (X, Y),
        "zip": lambda: zip(X, Y, strict=True),
        "nothing": lambda: None,
        "as validation": "validation",
    },
)
def names_the_way_out(make):
    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    if make == "validation":
        return refused(
            lambda: model.fit(X, Y, validation_data=generator),
            "validation_data",
            "from_generator",
        )
    return refused(
        lambda: model.fit(make(), validation_data=VALIDATION),
        "`x`",
        "from_generator",
        "PyDataset",
    )


class Reconstructs(keras.Model):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return keras.ops.mean((keras.ops.cast(x, y_pred.dtype) - y_pred) ** 2)


class AddsLoss(keras.layers.Layer):
    def call(self, pair):
        x, y = pair
        self.add_loss(keras.ops.mean((x - y) ** 2))
        return y


def autoencoder(kind=Reconstructs):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    y = L.Dense(4)(L.Dense(2)(inputs))
    if kind is AddsLoss:
        return keras.Model(inputs, AddsLoss()([inputs, y]))
    return kind(inputs, y)


def streamed(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(8)


@members(
    "models without targets",
    {
        "x alone, (x,), [x], a tensor, a data set": (
            Reconstructs,
            [
                VALIDATION[0],
                (VALIDATION[0],),
                [VALIDATION[0]],
                tf.constant(VALIDATION[0]),
                streamed(VALIDATION[0]),
            ],
        ),
        "add_loss, x alone, (x,)": (
            AddsLoss,
            [VALIDATION[0], (VALIDATION[0],)],
        ),
    },
)
def train_without_y(case):
    kind, forms = case
    model = wrapped(autoencoder(kind), "sgd", None, [H.L2()])
    for held_out in forms:
        is_stream = isinstance(held_out, tf.data.Dataset)
        logs = model.fit(
            streamed(X) if is_stream else X,
            validation_data=held_out,
            batch_size=None if is_stream else 8,
            meta_iterations=1,
            initial_weights="same",
            verbose=0,
        ).history
        found = model.evaluate(VALIDATION[0], batch_size=8, verbose=0)
        np.testing.assert_allclose(logs["val_loss"][0], found, rtol=1e-6)


@members("targets that are missing", {"x alone": X, "(x,)": (X,)})
def says_so(held_out):
    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    return refused(
        lambda: model.fit(X, Y, validation_data=held_out), "validation_data"
    )
