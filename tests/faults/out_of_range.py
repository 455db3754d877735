"""A user's numbers that stand for places, and are out of range."""

import keras
import numpy as np
import tensorflow as tf

from faults import RIGHT, members, refused, wrapped
from keras_drmad import hyperparameters as kinds

KIND = "places out of range"
GENERATOR = np.random.default_rng(0)
N = 24
X = GENERATOR.normal(size=(N, 4))
Y = GENERATOR.integers(0, 3, N)
ROWS = np.arange(N)
DOCUMENTS = GENERATOR.integers(0, 5, (N, 3))


def net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def two():
    inputs = keras.Input((4,))
    one, other = (keras.layers.Dense(3, name=name) for name in "ab")
    return keras.Model(inputs, [one(inputs), other(inputs)])


def reader(name=None):
    inputs = keras.Input((3,), name=name, dtype="int32")
    h = keras.layers.Embedding(5, 2)(inputs)
    return keras.Model(
        inputs if name is None else {name: inputs},
        keras.layers.Dense(3)(keras.layers.Flatten()(h)),
    )


def sparse():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def changed(array, row, value):
    array = np.array(array)
    array[row] = value
    return array


def stream(*arrays, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


class Slices(keras.utils.PyDataset):
    """The same as a `PyDataset`."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, k):
        return tuple(a[8 * k : 8 * k + 8] for a in self.arrays)


def fit(model, kind, data, loss=sparse, jit_compile=False, **more):
    wrapper = wrapped(model, "sgd", loss(), [kind], jit_compile=jit_compile)
    return wrapper.fit(
        data,
        **{"validation_data": (X, Y), "meta_iterations": 1, "verbose": 0}
        | more,
    )


@members(
    KIND,
    {
        "index of ExampleWeights, all": (ROWS + 1000, "1000", stream),
        "index of ExampleWeights, the last batch": (
            changed(ROWS, 23, 24),
            "24",
            stream,
        ),
        "index of ExampleWeights, negative": (
            changed(ROWS, 0, -1),
            "-1",
            stream,
        ),
        "index of ExampleWeights, negative, later": (
            changed(ROWS, 17, -2),
            "-2",
            stream,
        ),
        "index of ExampleWeights, fractions": (ROWS + 0.0, "float64", stream),
        "index of ExampleWeights, two axes": (ROWS[:, None], "(8, 1)", stream),
        "index of ExampleWeights, a PyDataset": (
            changed(ROWS, 12, 99),
            "99",
            Slices,
        ),
    },
)
def index_of_example_weights(case):
    index, received, make = case
    data = make(X, Y, np.ones(N), index)
    return refused(
        lambda: fit(net(), kinds.ExampleWeights(N), data, jit_compile=True),
        "`index`",
        received,
    )


@members(
    KIND,
    {
        "index of groups": (
            lambda: kinds.ExampleWeights(groups=[0, 1] * 6),
            "12",
        ),
        "index of LearnedData": (lambda: kinds.LearnedData(X[:20]), "20"),
    },
)
def index_of_other_kinds(case):
    kind, received = case
    data = stream(X, Y, np.ones(N), ROWS)
    return refused(lambda: fit(net(), kind(), data), "`index`", received)


@members(KIND, {"index, in range": ROWS[::-1].copy()})
def index_in_range(index):
    data = stream(X, Y, np.ones(N), index)
    fit(net(), kinds.ExampleWeights(N), data, jit_compile=True)
    return RIGHT


@members(
    KIND,
    {
        "labels, the last batch of a stream": changed(Y, 23, 3),
        "labels, negative, the second batch of a stream": changed(Y, 9, -1),
    },
)
def labels_of_a_stream(y):
    return refused(
        lambda: fit(net(), kinds.L2(), stream(X, y), jit_compile=True),
        "`y`",
        str(y.max() if y.max() > 2 else y.min()),
    )


@members(
    KIND,
    {
        "labels of validation data, a stream": (
            net,
            sparse,
            stream(X, Y),
            stream(X, changed(Y, 23, 7)),
            "7",
        ),
        "labels of one of two outputs": (
            two,
            lambda: [sparse(), sparse()],
            stream(X, (Y, Y)),
            (X, [Y, changed(Y, 20, 9)]),
            "9",
        ),
    },
)
def labels_of_validation_data(case):
    make_model, loss, data, held_out, received = case
    return refused(
        lambda: fit(
            make_model(),
            kinds.L2(),
            data,
            loss,
            jit_compile=True,
            validation_data=held_out,
        ),
        "`validation_data`",
        received,
    )


@members(
    KIND,
    {
        "words of an Embedding, arrays": lambda x: {"x": x, "y": Y},
        "words of an Embedding, a stream": lambda x: {"x": stream(x, Y)},
        "words of an Embedding, by name": lambda x: {
            "x": {"words": x},
            "y": Y,
        },
    },
)
def words(data):
    data = data(changed(DOCUMENTS, 20, 5))
    name = "words" if isinstance(data["x"], dict) else None
    held_out = DOCUMENTS if name is None else {name: DOCUMENTS}
    wrapper = wrapped(
        reader(name), "sgd", sparse(), [kinds.L2()], jit_compile=True
    )
    return refused(
        lambda: wrapper.fit(
            **data,
            validation_data=(held_out, Y),
            batch_size=8 if "y" in data else None,
            shuffle=False,
            meta_iterations=1,
            verbose=0,
        ),
        "Embedding",
        "to 5",
    )
