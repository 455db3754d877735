"""Inputs as Keras takes them: strings, tables, sparse arrays, no targets."""

import importlib.util

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from conformance import assert_all_right
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


def looks_up():
    keras.utils.set_random_seed(1)
    city = keras.Input((1,), dtype="string", name="city")
    h = L.StringLookup(vocabulary=CITIES.tolist())(city)
    h = L.Flatten()(L.Embedding(5, 3)(h))
    return keras.Model(city, L.Dense(1)(h))


def vectorized(inputs):
    words = L.TextVectorization(max_tokens=12, output_sequence_length=3)
    words.adapt(TEXT)
    return L.Flatten()(L.Embedding(12, 3)(words(inputs["text"])))


def hashed(inputs):
    return L.Flatten()(L.Embedding(7, 2)(L.Hashing(7)(inputs["city"])))


def one_hot(inputs):
    lookup = L.StringLookup(vocabulary=CITIES.tolist(), output_mode="one_hot")
    return lookup(inputs["city"])


READERS = {
    "TextVectorization": vectorized,
    "Hashing": hashed,
    "StringLookup": one_hot,
    "numbers": lambda inputs: inputs["age"],
}


def beside(names):
    """Returns a model of a dict, with a branch for each of `READERS`."""
    keras.utils.set_random_seed(1)
    inputs = {
        name: keras.Input((1,), dtype="string", name=name)
        for name in ("city", "text")
    }
    inputs["age"] = keras.Input((1,), name="age")
    h = [READERS[name](inputs) for name in names]
    return keras.Model(
        inputs, L.Dense(1)(L.Concatenate()(h) if len(h) > 1 else h[0])
    )


def in_a_dict(city):
    return {"city": city, "age": T**2}


def as_objects(x):
    return {k: v if v is T else v.astype(object) for k, v in x.items()}


@members(
    "strings",
    {
        "StringLookup, of objects, bytes, a tensor, a short batch": [
            CITY,
            CITY.astype(object),
            np.char.encode(CITY, "utf-8"),
            tf.constant(CITY),
        ]
    },
)
def array_of_strings(forms):
    assert_reads(looks_up, forms, 5)


@members("strings", {f"in a dict, {', '.join(READERS)}": READERS})
def dict_of_strings(readers):
    x = {"city": CITY, "text": TEXT, "age": T}
    assert_all_right(
        [*readers],
        lambda names: assert_reads(
            lambda: beside(names), [x, as_objects(x)], 4
        ),
    )


def assert_reads(make, forms, size):
    """Differences, other forms, and Keras's weights."""
    kinds = [H.LearningRate("layer", initial=0.05)]
    model = wrapped(make(), keras.optimizers.SGD(0.05), "mse", kinds)
    given = dict(batch_size=size, epochs=2, shuffle=False)
    x, *others = forms
    arrays = dict(x=x, y=T, validation_data=(x, T), **given)
    assert_right_by_differences(model, **arrays)
    expected = model.validation_loss_after(**arrays)
    for other in others:
        loss = model.validation_loss_after(
            other, T, **given, validation_data=(other, T)
        )
        assert loss == expected
    ours = tf.convert_to_tensor if not isinstance(x, dict) else _tensors
    plain = make()
    plain.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True)
    plain.fit(ours(x), T, **given, verbose=0)
    model.fit(x, T, **given, verbose=0, meta_iterations=0)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def _tensors(x):
    return {k: tf.constant(v.tolist()) for k, v in x.items()}


@members("strings in a stream", {"StringLookup, beside numbers": T})
def stream_of_strings(numbers):
    x = {"city": CITY, "text": TEXT, "age": numbers}
    data = tf.data.Dataset.from_tensor_slices((x, T)).batch(4)
    model = beside(["StringLookup", "numbers"])
    kinds = [H.L2("layer", initial=0.1)]
    model = wrapped(model, keras.optimizers.SGD(0.05), "mse", kinds)
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
    y = Y[:16]
    forms = [X[:16].astype(dtype) for dtype in dtypes]
    arrays = [dict(x=x.astype("float64"), y=y, batch_size=4) for x in forms]
    streams = [dict(x=Refills(x, y)) for x in forms]
    expected, found = (
        [model.hypergradient(**d, **given).gradients["l2"] for d in data]
        for data in (arrays, streams)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


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
    arrays = dict(x=X, batch_size=8, shuffle=False)
    losses = []
    for held_out in forms:
        is_stream = isinstance(held_out, tf.data.Dataset)
        data = dict(x=streamed(X)) if is_stream else arrays
        losses.append(
            model.validation_loss_after(**data, validation_data=held_out)
        )
    logs = model.fit(
        **arrays,
        validation_data=forms[0],
        meta_iterations=1,
        initial_weights="same",
        verbose=0,
    ).history
    losses.append(model.evaluate(VALIDATION[0], batch_size=8, verbose=0))
    np.testing.assert_allclose(losses, logs["val_loss"][0], rtol=1e-6)


@members("targets that are missing", {"x alone": X, "(x,)": (X,)})
def says_so(held_out):
    model = wrapped(linear(), "sgd", cross_entropy(), [H.L2()])
    return refused(
        lambda: model.fit(X, Y, validation_data=held_out), "validation_data"
    )
