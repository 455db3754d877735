"""Every kind of hyperparameter against finite differences, and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient, flat
from closed_forms import exact_model, regression, tanh_net
from keras_drmad import hyperparameters as kinds

pytestmark = pytest.mark.usefixtures("float64")

SGD = keras.optimizers.SGD
T = 7
X, Y = regression(12, seed=2)  # three batches a pass
CLASSES = np.arange(12) % 2
TRAINING = dict(
    batch_size=4,
    steps_per_epoch=T,
    validation_data=regression(4, seed=1),
)


def momentum():
    return SGD(0.1, momentum=0.8)


def Adam():
    return keras.optimizers.Adam(0.05)


def adamw():
    return keras.optimizers.AdamW(0.05, weight_decay=0.1)


def schedule():
    return SGD(keras.optimizers.schedules.CosineDecay(0.2, 10), momentum=0.8)


STEP = dict(schedule="step", steps=T)
PIECES = dict(schedule="piecewise", knots=3)
L = kinds.LearningRate
M = kinds.Momentum
D = kinds.WeightDecay


def nesterov_with_decay():
    return SGD(0.1, 0.8, nesterov=True, weight_decay=0.1)


def rmsprop():
    return keras.optimizers.RMSprop(0.01, momentum=0.5)


def penalties():
    """Returns both penalties for every group of weights, some with biases."""
    return [
        kind(per, 0.02, biases=biases, name=f"{kind.__name__}_{per}")
        for kind in (kinds.L1, kinds.L2)
        for per, biases in (
            ("all", False),
            ("layer", True),
            ("input", False),
            ("weight", True),
        )
    ]


# Each kind is checked alone; those in a row share a model, which is compiled
# once.
REGRESSION = {
    # L1 has a kink where a weight crosses 0: steps of differences are small.
    "penalties": (
        momentum,
        [
            *penalties(),
            L("input"),
            kinds.InitialScale("input", biases=True),
        ],
    ),
    "layer": (
        nesterov_with_decay,
        [L("layer"), M("layer"), D("weight"), kinds.InitialWeights()],
    ),
    "output": (
        momentum,
        [
            L("output"),
            M("output", **PIECES),
            kinds.L2("output", biases=True),
            kinds.InitialScale("output", biases=True),
        ],
    ),
    "weight": (
        Adam,
        [
            L("weight"),
            M("layer"),
            M(coefficient="beta_2"),
            kinds.ExampleWeights(groups=[0, 1, 2] * 4, transform="log"),
        ],
    ),
    "schedule": (
        schedule,
        [
            L("input", **PIECES),
            M("input", **PIECES),
            kinds.ExampleWeights(12),
            kinds.LearnedData(X),
        ],
    ),
    "decay": (
        adamw,
        [
            L(),
            D("layer", layers="a"),
            D("input", layers="b", name="later", **STEP),
            M(coefficient="beta_1", **PIECES),
        ],
    ),
    "rmsprop": (
        rmsprop,
        [
            L("layer", **STEP),
            M(),
            M("layer", coefficient="rho"),
            kinds.InitialScale(),
        ],
    ),
    "lamb": (
        lambda: keras.optimizers.Lamb(0.01),
        [
            L(layers="a", **PIECES),
            M("layer"),
            kinds.InitialWeights("a", biases=False),
        ],
    ),
    "adamax": (
        lambda: keras.optimizers.Adamax(0.01),
        [L(**STEP), M("layer", **STEP)],
    ),
}
SLOW = {"rmsprop"}


def filled(model):
    """Gives a model weights that no layer's initializer gives, and values."""
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=w.shape) / 2 for w in model.get_weights()]
    )
    for h in model.hyperparameters:
        noise = generator.normal(size=h.raw.shape) / 5
        h.raw.assign(h.raw.value + noise)
    return model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else [])
        for name in REGRESSION
    ],
)
def test_hypergradient_in_regression(name):
    optimizer, declared = REGRESSION[name]
    model = filled(exact_model(tanh_net(), declared, optimizer()))
    assert_exact_hypergradient(model, X, Y, **TRAINING)


# ---- losses of classes


def sparse(from_logits=True):
    return keras.losses.SparseCategoricalCrossentropy(from_logits)


WEIGHTS = np.linspace(0.5, 1.5, 12)
ONE_HOT = np.eye(2)[CLASSES]


@pytest.mark.parametrize(
    "loss, y, weights",
    [
        (sparse, CLASSES, WEIGHTS),
        (keras.losses.CategoricalCrossentropy, ONE_HOT, None),
        (keras.losses.BinaryCrossentropy, ONE_HOT, WEIGHTS),
    ],
    ids=["sparse-weighted", "one-hot", "binary-weighted"],
)
def test_hypergradient_in_classification(loss, y, weights):
    declared = [kinds.LabelSmoothing(), kinds.Temperature()]
    model = filled(
        exact_model(
            tanh_net(), declared, momentum(), loss=loss(from_logits=True)
        )
    )
    held_out = regression(4, seed=1)[0], y[:4]
    training = TRAINING | dict(validation_data=held_out, sample_weight=weights)
    assert_exact_hypergradient(model, X, y, **training)


@pytest.mark.parametrize(
    "loss, y",
    [
        (keras.losses.CategoricalCrossentropy, np.eye(2)[CLASSES]),
        (keras.losses.BinaryCrossentropy, np.eye(2)[CLASSES]),
    ],
)
def test_label_smoothing_is_that_of_keras(loss, y):
    kind = kinds.LabelSmoothing(0.25)
    model = filled(
        exact_model(tanh_net(), [kind], momentum(), loss=loss(from_logits=True))
    )
    kind.assign(0.25)
    z = model.predict(X, verbose=0)
    smooth = loss(from_logits=True, label_smoothing=0.25)
    batch = kd.hyperparameters.base.Batch(tf.constant(X), tf.constant(y))
    plain = loss(from_logits=True)(y, z)
    found = kind.loss(kind.raw.value, plain, batch, tf.constant(z))
    np.testing.assert_allclose(found, smooth(y, z), rtol=1e-12)


# ---- several losses


class Hint(keras.layers.Layer):
    """Adds the mean of its input squared to the loss."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


def two_outputs(as_dict=False):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    hidden = Hint(name="hint")(hidden)
    outputs = {
        "main": keras.layers.Dense(2, name="main")(hidden),
        "aux": keras.layers.Dense(1, name="aux")(hidden),
    }
    return keras.Model(inputs, outputs if as_dict else list(outputs.values()))


def test_hypergradient_of_loss_weights():
    y = {"main": Y, "aux": Y[:, :1] + X[:, :1]}
    held_out = {name: a[:4] for name, a in y.items()}
    model = filled(
        exact_model(
            two_outputs(as_dict=True),
            [kinds.LossWeights(layers="hint")],
            momentum(),
            loss=dict.fromkeys(y, "mse"),
            loss_weights={"main": 1.0, "aux": 0.25},
        )
    )
    (kind,) = model.hyperparameters
    assert kind.names == ["aux", "main", "hint"]
    training = TRAINING | dict(
        validation_data=(X[:4], held_out),
        sample_weight=dict.fromkeys(y, WEIGHTS),
    )
    assert_exact_hypergradient(model, X, y, **training)


def test_loss_weights_by_hand():
    model = exact_model(
        two_outputs(),
        [kinds.LossWeights(layers="hint")],
        SGD(0.1),
        loss=["mse", "mse"],
        loss_weights=[1.0, 0.5],
    )
    (kind,) = model.hyperparameters
    assert kind.names == ["main", "aux", "hint"]
    kind.assign([2.0, 0.5, 3.0])
    z, aux = model.predict(X, verbose=0)
    hidden = keras.Model(
        model.elementary_model.inputs, model.get_layer("a").output
    )
    h = hidden.predict(X, verbose=0)
    expected = (
        2 * np.mean((z - Y) ** 2)
        + 0.5 * 0.5 * np.mean((aux - Y[:, :1]) ** 2)
        + 3 * np.mean(h**2)
    )
    y = [Y, Y[:, :1]]
    history = model.fit(
        X, y, batch_size=12, meta_iterations=0, verbose=0, shuffle=False
    ).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-12)


# ---- inside layers


class Bend(keras.layers.Layer):
    """x + slopes · x², with a slope for each feature."""

    def build(self, shape):
        self.slopes = kd.layers.LearnedValue(
            np.full(shape[-1], 0.1), transform="identity"
        )

    def call(self, x):
        return x + self.slopes.value() * x**2


def bent():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    return inputs, keras.layers.Dense(2, name="b")(Bend(name="bend")(hidden))


@pytest.mark.parametrize("method", [kd.ReverseMode(), kd.DrMAD(1.0)])
def test_hypergradient_inside_a_layer(method):
    # Validation depends on it directly, too.
    model = filled(exact_model(bent(), [], momentum(), hypergradient=method))
    assert [h.name for h in model.hyperparameters] == ["bend.slopes"]
    layer = model.get_layer("bend")
    assert [v.path for v in layer.trainable_variables] == []
    if isinstance(method, kd.ReverseMode):
        assert_exact_hypergradient(model, X, Y, **TRAINING)
        return
    # With a learning rate of 0 only the direct part is left, and is exact.
    model = filled(
        exact_model(bent(), [], SGD(0.0, momentum=0.5), hypergradient=method)
    )
    assert_exact_hypergradient(model, X, Y, **TRAINING)


def test_hyperparameter_of_a_layer_learns_and_is_saved(tmp_path):
    model = filled(exact_model(bent(), [kinds.L2()], momentum()))
    assert [h.name for h in model.hyperparameters] == ["l2", "bend.slopes"]
    before = model.hyperparameters[1].value().numpy()
    model.fit(X, Y, **TRAINING, meta_iterations=3, verbose=0, keep="last")
    learned = model.hyperparameters[1].value().numpy()
    assert np.abs(learned - before).min() > 1e-3
    layer = model.get_layer("bend")
    np.testing.assert_array_equal(layer.slopes.value(), learned)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Bend": Bend}
    )
    assert [h.name for h in loaded.hyperparameters] == ["l2", "bend.slopes"]
    np.testing.assert_array_equal(loaded.hyperparameters[1].value(), learned)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0)
    )


# ---- shared between tasks


def towers(tasks=2):
    inputs = keras.Input((4,))
    outputs = []
    for k in range(tasks):
        hidden = keras.layers.Dense(3, activation="tanh", name=f"bottom_{k}")
        outputs.append(keras.layers.Dense(2, name=f"top_{k}")(hidden(inputs)))
    return keras.Model(inputs, outputs)


def shared(**options):
    sharing = kinds.WeightSharing(["bottom_.", "top_."])
    return filled(
        exact_model(
            towers(),
            [sharing, kinds.L2("input", 0.01)],
            momentum(),
            loss=["mse"] * 2,
            **options,
        )
    )


def test_hypergradient_of_weight_sharing():
    model = filled(
        exact_model(
            towers(3),
            [
                kinds.WeightSharing(["bottom_.", ["top_0", "top_1", "top_2"]]),
                kinds.L2("input", 0.01),
            ],
            Adam(),
            loss=["mse"] * 3,
        )
    )
    y = [Y, Y + X[:, :2], Y - X[:, 2:]]
    held_out = (X[:4], [a[:4] for a in y])
    training = TRAINING | dict(validation_data=held_out)
    assert_exact_hypergradient(model, X, y, **training)


def test_weight_sharing_leaves_the_model_with_what_it_computes_with():
    model = shared()
    y = [Y, Y + X[:, :2]]
    held_out = (X[:4], [a[:4] for a in y])
    training = TRAINING | dict(validation_data=held_out)
    before = model.get_weights()
    model.fit(X, y, meta_iterations=0, epochs=1, verbose=0, batch_size=12)
    after = model.get_weights()
    # One more training without steps to speak of changes nothing.
    model.optimizer.learning_rate.assign(0.0)
    model.optimizer.momentum = 0.0
    assert not np.allclose(flat(before), flat(after))
    history = model.fit(
        X, y, **training, meta_iterations=2, keep="best", verbose=0
    ).history
    results = model.evaluate(*held_out, verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-9)


def test_mixed_weights_by_hand():
    model = shared()
    sharing, _ = model.hyperparameters
    matrices = sharing.value().numpy()
    problem_params = {
        id(v): tf.convert_to_tensor(v.value) for v in model.trainable_variables
    }
    mixed = sharing.weights(sharing.raw.value, problem_params)
    kernels = [model.get_layer(f"top_{k}").kernel for k in range(2)]
    z = np.stack([np.array(v) for v in kernels])
    for k, v in enumerate(kernels):
        expected = np.tensordot(matrices[1][k], z, 1)
        np.testing.assert_allclose(mixed[id(v)], expected, rtol=1e-12)
    back = sharing.params(sharing.raw.value, mixed)
    for key, value in problem_params.items():
        np.testing.assert_allclose(back[key], value, rtol=1e-9)


# ---- together


def test_kinds_at_once_on_short_minibatches():
    model = filled(
        exact_model(
            bent(),
            [
                kinds.L2("input", 0.02),
                kinds.L1("layer", 0.01),
                L("layer", **STEP),
                M("layer", **PIECES),
                kinds.InitialScale(),
                kinds.ExampleWeights(11),
                kinds.LabelSmoothing(),
                kinds.LearnedData(X[:11]),
            ],
            momentum(),
            loss=sparse(),
        )
    )
    assert len(model.hyperparameters) == 9
    training = TRAINING | dict(
        validation_data=(regression(4, seed=1)[0], CLASSES[:4])
    )
    # The last batch of a pass over 11 examples is short.
    assert_exact_hypergradient(model, X[:11], CLASSES[:11], **training)


class Scale(keras.layers.Layer):
    """Multiplies by a hyperparameter that it was given."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor.value()


def test_hyperparameter_shared_by_two_layers():
    factor = kd.layers.LearnedValue(0.7)
    x = inputs = keras.Input((4,))
    x = Scale(factor, name="first")(keras.layers.Dense(3, "tanh")(x))
    x = keras.layers.Dense(2)(Scale(factor, name="second")(x))
    model = exact_model((inputs, x), [], momentum())
    assert [h.name for h in model.hyperparameters] == ["first.factor"]
    assert_exact_hypergradient(model, X, Y, **TRAINING)
