"""Groups of layers for vectors, sequences and tokens."""

import tempfile
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers as L
from keras import ops

from conformance.layer_group import Group


def both(layer: keras.Layer) -> Callable:
    """Returns a function of x that gives a layer two inputs."""
    return lambda x: layer([x, x * x])


def itself(layer: keras.Layer) -> Callable:
    """Returns a function of x that attends to x itself."""
    return lambda x: layer(x, x)


# Without a loop, which takes long to trace.


def stacked_cells() -> keras.Layer:
    cells = L.StackedRNNCells([L.GRUCell(2), L.LSTMCell(2)])
    return L.RNN(cells, unroll=True)


def backwards() -> keras.Layer:
    return L.RNN(L.SimpleRNNCell(2), go_backwards=True, unroll=True)


def masked() -> Callable:
    """Returns a function of x that takes the first step for padding."""

    def simple_rnn(x):
        hidden = ops.concatenate([ops.zeros_like(x[:, :1]), x[:, 1:]], 1)
        return L.SimpleRNN(2)(L.Masking()(hidden))

    return simple_rnn


def is_high(x):
    return ops.cast(x > 127, "int32")


def looked_up(table: keras.Layer) -> Callable:
    """Returns a function of x that looks up a row for each."""
    return lambda x: table(is_high(x))


def there_and_back(x):
    """Looks up rows of a table, and multiplies by the table."""
    table = L.ReversibleEmbedding(2, 3)
    return table(ops.tanh(looked_up(table)(x)), reverse=True)


def whole(x):
    """Returns integers, tens."""
    return ops.cast(10 * ops.round(x / 10), "int64")


class Letters(L.Layer):
    """Makes words of numbers."""

    def call(self, x):
        return tf.gather(["a", "b", "c"], tf.cast(x[:, :1] / 100, tf.int32))

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], 1), "string")


def words(layer: keras.Layer) -> Callable:
    """Returns a function of x that makes words of it, and looks them up."""
    return lambda x: L.Embedding(4, 2)(layer(Letters()(x)))


def saved(trainable: bool) -> keras.Layer:
    """Returns a model with weights as a layer, by way of a file."""
    inputs = keras.Input((3,))
    outputs = L.Dense(2, activation="tanh")(L.Rescaling(0.01)(inputs))
    folder = tempfile.mkdtemp()
    keras.Model(inputs, outputs).export(folder, verbose=False)
    return L.TFSMLayer(folder, call_endpoint="serve", trainable=trainable)


VECTORS = Group(
    (6,),
    {
        "Activation": lambda: L.Activation("tanh"),
        "ActivityRegularization": lambda: L.ActivityRegularization(0.1, 0.1),
        "AlphaDropout": lambda: L.AlphaDropout(0.3),
        "BatchNormalization": lambda: L.BatchNormalization(momentum=0.5),
        "Dense": lambda: L.Dense(3, kernel_regularizer="l2"),
        "Dropout": lambda: L.Dropout(0.3),
        "ELU": lambda: L.ELU(),
        "GaussianDropout": lambda: L.GaussianDropout(0.3),
        "GaussianNoise": lambda: L.GaussianNoise(0.3),
        "GroupNormalization": lambda: L.GroupNormalization(2),
        "Identity": lambda: L.Identity(),
        "Lambda": lambda: L.Lambda(ops.sin),
        "LayerNormalization": lambda: L.LayerNormalization(),
        "LeakyReLU": lambda: L.LeakyReLU(),
        "Normalization": lambda: L.Normalization(mean=0.5, variance=2.0),
        "PReLU": lambda: L.PReLU("uniform"),
        "RMSNormalization": lambda: L.RMSNormalization(),
        "ReLU": lambda: L.ReLU(negative_slope=0.1, threshold=0.1),
        "RepeatVector": lambda: L.RepeatVector(2),
        "Rescaling": lambda: L.Rescaling(2.0, 1.0),
        "Reshape": lambda: L.Reshape((2, 3)),
        "Softmax": lambda: L.Softmax(),
        "UnitNormalization": lambda: L.UnitNormalization(),
    },
)
MERGING = Group(
    (4,),
    {
        "Add": lambda: both(L.Add()),
        "Average": lambda: both(L.Average()),
        "Concatenate": lambda: both(L.Concatenate()),
        "Dot": lambda: both(L.Dot(1, normalize=True)),
        "Maximum": lambda: both(L.Maximum()),
        "Minimum": lambda: both(L.Minimum()),
        "Multiply": lambda: both(L.Multiply()),
        "Subtract": lambda: both(L.Subtract()),
        "add": lambda: lambda x: L.add([x, x * x]),
        "average": lambda: lambda x: L.average([x, x * x]),
        "concatenate": lambda: lambda x: L.concatenate([x, x * x]),
        "dot": lambda: lambda x: L.dot([x, x * x], 1),
        "maximum": lambda: lambda x: L.maximum([x, x * x]),
        "minimum": lambda: lambda x: L.minimum([x, x * x]),
        "multiply": lambda: lambda x: L.multiply([x, x * x]),
        "subtract": lambda: lambda x: L.subtract([x, x * x]),
    },
)
SEQUENCES = Group(
    (4, 3),
    {
        "AdaptiveAveragePooling1D": lambda: L.AdaptiveAveragePooling1D(2),
        "AdaptiveMaxPooling1D": lambda: L.AdaptiveMaxPooling1D(2),
        "AdditiveAttention": lambda: both(L.AdditiveAttention(dropout=0.2)),
        "Attention": lambda: both(
            L.Attention(use_scale=True, score_mode="concat", dropout=0.2)
        ),
        "AveragePooling1D": lambda: L.AveragePooling1D(2),
        "Conv1D": lambda: L.Conv1D(2, 2),
        "Conv1DTranspose": lambda: L.Conv1DTranspose(2, 2),
        "Cropping1D": lambda: L.Cropping1D(1),
        "DepthwiseConv1D": lambda: L.DepthwiseConv1D(2),
        "EinsumDense": lambda: L.EinsumDense("abc,cd->abd", (4, 2)),
        "Flatten": lambda: L.Flatten(),
        "GlobalAveragePooling1D": lambda: L.GlobalAveragePooling1D(),
        "GlobalMaxPooling1D": lambda: L.GlobalMaxPooling1D(),
        "GroupQueryAttention": lambda: itself(
            L.GroupQueryAttention(2, 2, 1, dropout=0.2)
        ),
        "MaxPooling1D": lambda: L.MaxPooling1D(2, 1, "same"),
        "MultiHeadAttention": lambda: itself(
            L.MultiHeadAttention(2, 2, dropout=0.2)
        ),
        "Permute": lambda: L.Permute((2, 1)),
        "SeparableConv1D": lambda: L.SeparableConv1D(2, 2),
        "SpatialDropout1D": lambda: L.SpatialDropout1D(0.3),
        "TimeDistributed": lambda: L.TimeDistributed(L.Dense(2)),
        "UpSampling1D": lambda: L.UpSampling1D(2),
        "ZeroPadding1D": lambda: L.ZeroPadding1D(2),
    },
)
RECURRENT = Group(
    (2, 2),
    {
        "Bidirectional": lambda: L.Bidirectional(L.SimpleRNN(2, unroll=True)),
        "GRU": lambda: L.GRU(2),
        "GRUCell": stacked_cells,
        "LSTM": lambda: L.LSTM(2, dropout=0.2, recurrent_dropout=0.2),
        "LSTMCell": stacked_cells,
        "Masking": masked,
        "RNN": backwards,
        "SimpleRNN": masked,
        "SimpleRNNCell": backwards,
        "StackedRNNCells": stacked_cells,
    },
)
CONVOLUTIONAL_RECURRENT = Group(
    (2, 3, 3, 3, 2),
    {
        "ConvLSTM1D": lambda: (
            lambda x: L.ConvLSTM1D(2, 2, unroll=True)(x[:, :, 0, 0])
        ),
        "ConvLSTM2D": lambda: (
            lambda x: L.ConvLSTM2D(2, 2, unroll=True)(x[:, :, 0])
        ),
        "ConvLSTM3D": lambda: L.ConvLSTM3D(2, 2, unroll=True),
    },
)
TOKENS = Group(
    (3,),
    {
        "CategoryEncoding": lambda: lambda x: L.CategoryEncoding(3)(is_high(x)),
        "Discretization": lambda: L.Discretization([100.0, 127.0, 150.0]),
        "Embedding": lambda: looked_up(L.Embedding(2, 3)),
        "HashedCrossing": lambda: (
            lambda x: L.HashedCrossing(4, output_mode="one_hot")(
                (whole(x[:, :1]), whole(x[:, 1:2]))
            )
        ),
        "Hashing": lambda: lambda x: L.Embedding(4, 2)(L.Hashing(4)(whole(x))),
        "IntegerLookup": lambda: (
            lambda x: L.Embedding(4, 2)(
                L.IntegerLookup(vocabulary=[120, 130, 140])(whole(x))
            )
        ),
        "ReversibleEmbedding": lambda: there_and_back,
        "StringLookup": lambda: words(L.StringLookup(vocabulary=["a", "b"])),
        "TFSMLayer": lambda: saved(trainable=False),
        "TextVectorization": lambda: words(
            L.TextVectorization(vocabulary=["a"], output_sequence_length=2)
        ),
    },
    is_first=True,
)
