"""The mask of outputs, which Keras's losses look for, is lost on the way."""

import keras
import numpy as np

import keras_drmad as kd
from checks import relative_error
from faults import (
    assert_right_by_differences,
    assert_trains_like_keras,
    members,
    wrapped,
)
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameters.transforms import Identity

KIND = "the mask of outputs is lost"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 5, 3))
X[:, 4:] = 0  # padding
X[2, 1:] = 0
Y = GENERATOR.integers(0, 3, (8, 5))
ONE_HOT = np.eye(3)[Y]
WORDS = np.where(X[..., 0] == 0, 0, 1 + Y)


class Shift(kinds.Hyperparameter):
    """A kind of a user's own: numbers added to outputs, more to later ones."""

    transform = Identity()

    def __init__(self, name="shift"):
        super().__init__(name, None)

    def bind(self, model, optimizer):
        self.create((), 0.0)

    def outputs(self, raw, y_pred):
        return keras.tree.map_structure(
            lambda z: z + raw * keras.ops.arange(3, dtype=z.dtype), y_pred
        )


def sparse(**options):
    # Not in the table: a loss has the dtype of numbers when it was made.
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **options
    )


def one_hot(**options):
    return keras.losses.CategoricalCrossentropy(from_logits=True, **options)


def cubed(y, y_pred):
    return keras.ops.mean(keras.ops.abs(y - y_pred) ** 3, axis=-1)


def sgd():
    return keras.optimizers.SGD(0.5)


def masking(*outputs):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5, 3))
    h = keras.layers.Masking()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, *outputs)(h))


def embedding():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    h = keras.layers.Embedding(4, 3, mask_zero=True)(inputs)
    last = keras.layers.Dense(3, name="last")(h[:, 0])
    each = keras.layers.Dense(3, name="each")(h)
    return keras.Model(inputs, as_dict(each, last))


def linear():
    """Returns a model with an output for each of three losses."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5, 3))
    h = keras.layers.Masking()(inputs)
    return keras.Model(
        inputs,
        [
            keras.layers.Dense(3)(h),
            keras.layers.Dense(3, "softmax")(h),
            keras.layers.Dense(3)(h),
        ],
    )


def several(nested):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5, 3))
    h = keras.layers.Masking()(inputs)
    last = keras.layers.Dense(3, name="last")(h[:, 0])
    each = keras.layers.Dense(3, name="each")(h)
    return keras.Model(inputs, nested(each, last))


def as_list(each, last):
    return [each, last]


def as_dict(each, last):
    return {"each": each, "last": last}


@members(
    KIND,
    {
        "Temperature, Masking": (
            masking,
            lambda: kinds.Temperature(),
            one_hot,
            (X, ONE_HOT),
        ),
        "Temperature, Embedding, outputs in a dict": (
            embedding,
            lambda: kinds.Temperature(),
            lambda: as_dict(sparse(), sparse()),
            (WORDS, as_dict(Y, Y[:, 0])),
        ),
        "Temperature, outputs in a list, reduction='sum'": (
            lambda: several(as_list),
            lambda: kinds.Temperature(),
            lambda: [sparse(reduction="sum"), sparse()],
            (X, [Y, Y[:, 0]]),
        ),
        "a kind of one's own, squared error and a loss function": (
            lambda: several(as_list),
            Shift,
            lambda: [cubed, keras.losses.MeanSquaredError()],
            (X, [ONE_HOT, ONE_HOT[:, 0]]),
        ),
    },
)
def trains_like_keras(case):
    make_model, kind, loss, (x, y) = case
    assert_trains_like_keras(
        make_model, sgd, loss(), [kind()], x, y, batch_size=4, epochs=1
    )


@members(
    KIND,
    {
        "LabelSmoothing, sample weights": (
            masking,
            one_hot,
            {"sample_weight": GENERATOR.uniform(0.2, 2.0, (8, 5))},
        ),
        "LabelSmoothing, softmax and a binary loss": (
            lambda: masking("softmax"),
            keras.losses.BinaryCrossentropy,
            {},
        ),
    },
)
def smooths_like_keras(case):
    make_model, loss, fit = case
    assert_trains_like_keras(
        make_model,
        sgd,
        loss(),
        [kinds.LabelSmoothing(0.2)],
        X,
        ONE_HOT,
        plain={"loss": loss(label_smoothing=0.2)},
        batch_size=3,
        **fit,
    )


@members(KIND, {"LabelSmoothing, sparse labels": None})
def smooths_sparse_labels(_):
    smoothed = masking()
    smoothed.compile(sgd(), one_hot(label_smoothing=0.2))
    smoothed.fit(X, ONE_HOT, batch_size=4, shuffle=False, verbose=0)
    ours = wrapped(masking(), sgd(), sparse(), [kinds.LabelSmoothing(0.2)])
    ours.fit(X, Y, batch_size=4, shuffle=False, verbose=0, meta_iterations=0)
    error = relative_error(ours.get_weights(), smoothed.get_weights())
    assert error < 1e-9, error


@members(KIND, {"hypergradients, also of a kind of one's own": None})
def right_by_differences(_):
    model = wrapped(
        masking(),
        sgd(),
        sparse(),
        [
            kinds.Temperature(1.5),
            kinds.LabelSmoothing(0.2),
            Shift(),
            kinds.ExampleWeights(8),
        ],
    )
    assert_right_by_differences(
        model, X, Y, batch_size=4, epochs=1, validation_data=(X * 0.9, Y)
    )


@members(
    KIND,
    {
        "Gauss-Newton, logits, a softmax, squared error": (
            lambda: [
                one_hot(),
                keras.losses.CategoricalCrossentropy(),
                keras.losses.MeanSquaredError(),
            ]
        )
    },
)
def gauss_newton_of_a_linear_model(losses):
    # Where logits are linear in the weights, it is the Hessian.
    found = []
    y = [ONE_HOT] * 3
    model = wrapped(linear(), sgd(), losses(), [kinds.L2("layer", 0.01)])
    for curvature in ("hessian", "gauss_newton"):
        model._assembly.method = kd.DrMAD(1.0, curvature=curvature)
        record = model.hypergradient(
            X, y, batch_size=4, epochs=2, validation_data=(X * 0.9, y)
        )
        found.append(record.gradients["l2"])
    error = relative_error(found[1], found[0])
    assert error < 1e-9, error
