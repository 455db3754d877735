"""Weights of examples, where the loss has more axes than the examples."""

import keras
import numpy as np

from checks import relative_error
from conformance import assert_all_right
from faults import (
    assert_right_by_differences,
    members,
    wrapped,
)
from keras_drmad import hyperparameters as kinds

KIND = "weights of examples, where a loss has more axes"
GENERATOR = np.random.default_rng(0)
N, T, K = 10, 5, 3
X = GENERATOR.normal(size=(N, T, 3))
Y = GENERATOR.integers(0, K, (N, T))
ONE_HOT = np.eye(K)[Y]
IMAGES = GENERATOR.normal(size=(N, 4, 3, 1))
MASKS = GENERATOR.integers(0, 2, (N, 4, 3, 1)).astype(float)
WEIGHTS = GENERATOR.uniform(0.1, 0.9, N)
STEPS = GENERATOR.uniform(0.1, 0.9, (N, T))


def sgd():
    return keras.optimizers.SGD(0.5)


def net(outputs=K, before=None, shape=(T, 3)):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    h = inputs if before is None else before(inputs)
    return keras.Model(inputs, keras.layers.Dense(outputs)(h))


def images():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 3, 1))
    return keras.Model(
        inputs, keras.layers.Conv2D(1, 3, padding="same")(inputs)
    )


def masked():
    return net(before=keras.layers.Masking())


def several(nested):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((T, 3))
    each = keras.layers.Dense(K, name="each")(inputs)
    last = keras.layers.Dense(1, name="last")(inputs[:, 0])
    return keras.Model(inputs, nested(each, last))


def as_list(each, last):
    return [each, last]


def as_dict(each, last):
    return {"each": each, "last": last}


def deep(each, last):
    return {"a": each, "b": {"c": last}}


def sparse(**options):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **options
    )


def one_hot(**options):
    return keras.losses.CategoricalCrossentropy(from_logits=True, **options)


def binary():
    return keras.losses.BinaryCrossentropy(from_logits=True)


def by_element(y, y_pred):
    return keras.ops.square(y - y_pred)


def spread(weights, shape):
    """Returns weights of the first axes for all axes, as Keras needs them."""
    rest = (1,) * (len(shape) - weights.ndim)
    return np.broadcast_to(weights.reshape(weights.shape + rest), shape)


def assert_same_weights(ours, theirs):
    error = relative_error(ours.get_weights(), theirs.get_weights())
    assert error < 1e-9, error


def trained_by_keras(model, loss, x, y, **fit):
    model.compile(sgd(), loss, run_eagerly=True)
    model.fit(x, y, epochs=1, shuffle=False, verbose=0, **fit)
    return model


def trained(model, loss, x, y, learned, **fit):
    ours = wrapped(model, sgd(), loss, learned)
    for k, values in enumerate(fit.pop("values", [])):
        ours.hyperparameters[k].assign(values)
    fit = {"shuffle": False, "verbose": 0, "meta_iterations": 0} | fit
    ours.fit(x, y, **fit)
    return ours


# A model, its loss, its data, the shape that its loss has before a mean.
CASES = {
    "class numbers": (net, sparse, (X, Y), (N, T)),
    "squared error (N, T, k)": (
        net,
        keras.losses.MeanSquaredError,
        (X, ONE_HOT),
        (N, T),
    ),
    "images (N, H, W, 1)": (images, binary, (IMAGES, MASKS), (N, 4, 3)),
    "a loss with all axes": (net, lambda: by_element, (X, ONE_HOT), (N, T, K)),
    "a sum": (net, lambda: sparse(reduction="sum"), (X, Y), (N, T)),
    "a mean by weights": (
        net,
        lambda: one_hot(reduction="mean_with_sample_weight"),
        (X, ONE_HOT),
        (N, T),
    ),
    "a mask": (masked, sparse, (X * (X[..., :1] > -0.5), Y), (N, T)),
    "one step": (
        lambda: net(1, shape=(1, 3)),
        keras.losses.MeanSquaredError,
        (X[:, :1], X[:, :1, :1]),
        (N, 1),
    ),
}


def beside(names):
    """Returns a model of models with an output each, if there are several."""
    models = [CASES[name][0]() for name in names]
    if len(models) == 1:
        return models[0]
    return keras.Model(
        [model.input for model in models], [model.output for model in models]
    )


def arguments(names):
    """Returns losses, x, y and the weights that Keras needs."""
    losses, x, y, weights = [], [], [], []
    for name in names:
        _, loss, data, shape = CASES[name]
        losses.append(loss())
        x.append(data[0])
        y.append(data[1])
        weights.append(spread(WEIGHTS, shape))
    given = losses, x, y, weights
    return given if len(names) > 1 else [one[0] for one in given]


@members(KIND, {f"ExampleWeights, {', '.join(CASES)}": [*CASES]})
def weighs_examples(names):
    assert_all_right(names, assert_weighs)


def assert_weighs(names):
    # Of nine examples: as many as there are steps, and a short last batch.
    loss, *given = arguments(names)
    x, y, weights = keras.tree.map_structure(lambda a: a[:9], given)
    theirs = trained_by_keras(
        beside(names), loss, x, y, batch_size=T, sample_weight=weights
    )
    ours = trained(
        beside(names),
        arguments(names)[0],
        x,
        y,
        [kinds.ExampleWeights(9)],
        values=[WEIGHTS[:9]],
        batch_size=T,
    )
    assert_same_weights(ours, theirs)


@members(
    KIND,
    {
        f"ExampleWeights in plain Keras, {name}": name
        for name in ("class numbers", "images (N, H, W, 1)")
    },
)
def weighs_examples_in_plain_keras(name):
    """Of one output; with the weights that Keras needs, and with ours."""
    make_model, loss, (x, y), shape = CASES[name]
    learned = [kinds.ExampleWeights(N)]
    ours = trained(
        make_model(), loss(), x, y, learned, values=[WEIGHTS], batch_size=T
    )
    for weights in (spread(WEIGHTS, shape), ours.to_keras().sample_weight):
        theirs = trained_by_keras(
            make_model(), loss(), x, y, batch_size=T, sample_weight=weights
        )
        assert_same_weights(ours, theirs)


@members(
    KIND, {"ExampleWeights times sample_weight (N,), (N, 1) and (N, T)": None}
)
def multiplies_own_weights(_):
    names = ["class numbers"] * 3
    loss, x, y, weights = arguments(names)
    own = [WEIGHTS[::-1], WEIGHTS[::-1, None], STEPS]
    theirs = trained_by_keras(
        beside(names),
        loss,
        x,
        y,
        batch_size=5,
        sample_weight=[
            w * spread(o, (N, T)) for w, o in zip(weights, own, strict=True)
        ],
    )
    ours = trained(
        beside(names),
        arguments(names)[0],
        x,
        y,
        [kinds.ExampleWeights(N)],
        values=[WEIGHTS],
        batch_size=5,
        sample_weight=own,
    )
    assert_same_weights(ours, theirs)


@members(
    KIND,
    {
        "class_weight, targets (N, T, K)": (
            one_hot,
            ONE_HOT,
            {"class_weight": {0: 2.0, 2: 0.5}},
            np.array([2.0, 1.0, 0.5])[Y],
        ),
        "class_weight, targets (N, T, 1), times sample_weight (N,)": (
            sparse,
            Y[..., None],
            {"class_weight": {0: 2.0}, "sample_weight": WEIGHTS},
            np.array([2.0, 1.0, 1.0])[Y] * WEIGHTS[:, None],
        ),
        "class_weight, targets (N, T), times sample_weight (N, 1)": (
            sparse,
            Y,
            {"class_weight": {0: 2.0}, "sample_weight": WEIGHTS[:, None]},
            np.array([2.0, 1.0, 1.0])[Y] * WEIGHTS[:, None],
        ),
    },
)
def weighs_by_arguments(case):
    loss, y, given, right = case
    theirs = trained_by_keras(
        net(), loss(), X, y, batch_size=5, sample_weight=right
    )
    ours = trained(
        net(), loss(), X, y, [kinds.LearningRate()], batch_size=5, **given
    )
    assert_same_weights(ours, theirs)


@members(
    KIND,
    {
        "a list, targets in a dict": (as_list, as_dict),
        "deeper": (deep, deep),
    },
)
def weighs_several_outputs(case):
    # The weights of the losses, of the examples and of a user, together.
    outputs, targets = case
    own = targets(STEPS, WEIGHTS[::-1])
    y = targets(Y, WEIGHTS[:, None])
    losses = outputs(sparse(), keras.losses.MeanAbsoluteError())
    theirs = trained_by_keras(
        several(outputs),
        losses,
        X,
        outputs(Y, WEIGHTS[:, None]),
        batch_size=5,
        sample_weight=outputs(
            STEPS * 0.5 * spread(WEIGHTS, (N, T)), WEIGHTS[::-1] * 3 * WEIGHTS
        ),
    )
    ours = trained(
        several(outputs),
        targets(sparse(), keras.losses.MeanAbsoluteError()),
        X,
        y,
        [kinds.LossWeights(), kinds.ExampleWeights(N)],
        values=[[0.5, 3.0], WEIGHTS],
        batch_size=5,
        sample_weight=own,
    )
    assert_same_weights(ours, theirs)


@members(KIND, {"hypergradients, deeper": deep})
def right_by_differences(nested):
    model = wrapped(
        several(nested),
        sgd(),
        nested(sparse(), keras.losses.MeanSquaredError()),
        [kinds.LossWeights(), kinds.ExampleWeights(N)],
    )
    y = nested(Y, WEIGHTS[:, None])
    assert_right_by_differences(
        model,
        X,
        y,
        batch_size=5,
        epochs=1,
        sample_weight=nested(STEPS, WEIGHTS),
        validation_data=(X * 0.9, y, nested(WEIGHTS, WEIGHTS)),
    )
