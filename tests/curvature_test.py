"""The Gauss-Newton matrix, against JᵀHJ built from full Jacobians."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

import keras_drmad as kd
from checks import flat, relative_error
from closed_forms import exact_model, linear_net, regression, tanh_net
from keras_drmad.core import nested
from keras_drmad.core.adjoint import second_products, step_back
from keras_drmad.core.curvature import HESSIAN, GaussNewton
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.hyperparameters.together import Together
from keras_drmad.seam.convexity import convex_places
from keras_drmad.seam.places import places_of
from keras_drmad.seam.problem import ElementaryProblem
from small_models import assert_helps
from this_keras import KERAS

pytestmark = pytest.mark.usefixtures("float64")

X, TARGETS = regression(6)
CLASSES = np.array([0, 1, 1, 0, 1, 0])
GAUSS_NEWTON = GaussNewton()
ONE_HOT = np.eye(2)[CLASSES]
WEIGHTS = np.linspace(0.5, 2, 6)
PENALTY = 0.05
# By how many examples Keras divides a loss of activities: none before 3.14.
ACTIVE = len(X) if KERAS >= (3, 14) else 1


# ---- a net of 4, 3 and 2 units, and the same once more without Keras


def net(activation=None, normalized=False, heads=1, **options):
    inputs = keras.Input((4,))
    h = layers.Dense(3, activation="tanh", name="hidden", **options)(inputs)
    if normalized:
        h = layers.BatchNormalization()(h)
    outputs = [
        layers.Dense(2, activation=activation, name=f"z{k}")(h)
        for k in range(heads)
    ]
    return inputs, outputs if heads > 1 else outputs[0]


def forward(w, normalized=False):
    """Returns the hidden units, and the outputs before their activation."""
    h = tf.tanh(tf.constant(X) @ w[0] + w[1])
    hidden, w = h, w[2:]
    if normalized:
        mean = tf.reduce_mean(h, 0)
        variance = tf.reduce_mean((h - mean) ** 2, 0)
        epsilon = 1e-3  # that of Keras
        h = (h - mean) / tf.sqrt(variance + epsilon) * w[0] + w[1]
        w = w[2:]
    kernels, biases = w[::2], w[1::2]
    z = [h @ k + b for k, b in zip(kernels, biases, strict=True)]
    return hidden, z


class Case(NamedTuple):
    """A net and its loss, in Keras's words and in TensorFlow's.

    Attributes:
        net: dict, the options of `net`.
        loss: a function that returns what `compile` takes: a Keras loss keeps
            the float dtype of the moment at which it was made.
        targets: what `fit` takes as y.
        loss_of: function of the list of outputs z.
        penalty: function of the weights and the hidden units.
        sample_weight: what `fit` takes.
    """

    net: dict
    loss: Callable
    targets: Any
    loss_of: Callable
    penalty: Callable = lambda w, h: 0.0
    sample_weight: Any = None


def squared(z, y=TARGETS, weights=1.0):
    return tf.reduce_mean(tf.reduce_mean((z - y) ** 2, 1) * weights)


def softmax_entropy(z):
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=ONE_HOT, logits=z)
    )


def sigmoid_entropy(z):
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=ONE_HOT, logits=z)
    )


CASES = {
    "mse": Case({}, lambda: "mse", TARGETS, lambda z: squared(z[0])),
    "logits": Case(
        {},
        lambda: losses.SparseCategoricalCrossentropy(from_logits=True),
        CLASSES,
        lambda z: softmax_entropy(z[0]),
    ),
    "softmax": Case(
        {"activation": "softmax"},
        lambda: "categorical_crossentropy",
        ONE_HOT,
        lambda z: softmax_entropy(z[0]),
    ),
    "sigmoid": Case(
        {"activation": "sigmoid"},
        lambda: "binary_crossentropy",
        ONE_HOT,
        lambda z: sigmoid_entropy(z[0]),
    ),
    "two-outputs": Case(
        {"heads": 2},
        lambda: ["mse", losses.CategoricalCrossentropy(from_logits=True)],
        [TARGETS, ONE_HOT],
        lambda z: squared(z[0]) + softmax_entropy(z[1]),
    ),
    "sample-weights": Case(
        {},
        lambda: "mse",
        TARGETS,
        lambda z: squared(z[0], weights=WEIGHTS),
        sample_weight=WEIGHTS,
    ),
    "normalized": Case(
        {"normalized": True}, lambda: "mse", TARGETS, lambda z: squared(z[0])
    ),
    "own-penalty": Case(
        {"kernel_regularizer": keras.regularizers.L2(0.25)},
        lambda: "mse",
        TARGETS,
        lambda z: squared(z[0]),
        lambda w, h: 0.25 * tf.reduce_sum(w[0] ** 2),
    ),
    # Of the activations: through the hidden units, its Hessian in the weights.
    "own-activity": Case(
        {"activity_regularizer": keras.regularizers.L2(0.25)},
        lambda: "mse",
        TARGETS,
        lambda z: squared(z[0]),
        lambda w, h: 0.25 * tf.reduce_sum(h**2) / ACTIVE,
    ),
}


class Built(NamedTuple):
    """A case's problem, products as a function, and matrices.

    Attributes:
        problem: `ElementaryProblem`.
        product: a function, see `compiled_products`.
        through: JᵀHJ by hand.
        penalties: the Hessian of all penalties by hand.
        actual: the matrix that the products have.
    """

    problem: ElementaryProblem
    product: Callable
    through: np.ndarray
    penalties: np.ndarray
    actual: np.ndarray


@pytest.fixture(scope="module", params=CASES)
def built(request, float64):
    """Returns a case, built once."""
    case = CASES[request.param]
    keras.utils.set_random_seed(0)
    inputs, outputs = net(**case.net)
    kinds = [L2("input", PENALTY)]
    model = exact_model((inputs, outputs), kinds, loss=case.loss())
    weight = case.sample_weight
    batch = Batch(
        tf.constant(X),
        tf.nest.map_structure(tf.constant, case.targets),
        None if weight is None else tf.constant(weight),
    )
    problem = ElementaryProblem(
        model.elementary_model, model.optimizer, Together(kinds), batch
    )
    product = compiled_products(problem, batch)
    through, penalties = by_hand(case, problem)
    actual = dense(product, len(through))
    return Built(problem, product, through, penalties, actual)


def compiled_products(problem, batch):
    """Returns both second products as a function of one flat vector."""
    state, hparams = problem.state(), problem.hparams()

    @tf.function(autograph=False)
    def products(state, hparams, vector, curvature):
        return second_products(
            problem, state, hparams, batch, vector, curvature
        )

    def of(vector, curvature=None):
        curvature = curvature or GAUSS_NEWTON
        parts = np.split(vector, np.cumsum([tf.size(x) for x in state.params]))
        shaped = [
            tf.constant(np.reshape(part, x.shape))
            for part, x in zip(parts, state.params, strict=False)
        ]
        return products(state, hparams, shaped, curvature)

    return of


def dense(product, size):
    """Returns the matrix of a linear function of flat vectors."""
    return np.array([flat(product(one)[0]) for one in np.eye(size)]).T


def hessian(f, x):
    """Returns the dense Hessian of f at a list of tensors."""
    with tf.GradientTape() as second:
        second.watch(x)
        with tf.GradientTape() as first:
            first.watch(x)
            value = f(x)
        slopes = first.gradient(value, x, unconnected_gradients="zero")
        slope = tf.concat([tf.reshape(s, [-1]) for s in slopes], 0)
    return joined(second.jacobian(slope, x, unconnected_gradients="zero"))


def joined(jacobians):
    """Returns Jacobians with respect to a list of tensors as one matrix."""
    return np.concatenate(
        [np.reshape(j, (len(j), -1)) for j in jacobians], axis=1
    )


def by_hand(case, problem):
    """Returns JᵀHJ, and the Hessian of all penalties."""
    w = problem.state().params
    normalized = case.net.get("normalized", False)
    with tf.GradientTape() as tape:
        tape.watch(w)
        _, z = forward(w, normalized)
        outputs = tf.concat([tf.reshape(x, [-1]) for x in z], 0)
    J = joined(tape.jacobian(outputs, w, unconnected_gradients="zero"))
    H = hessian(case.loss_of, [tf.stop_gradient(x) for x in z])

    def penalties(w):
        # `L2` penalizes kernels, and BatchNormalization's scale is none.
        kernels = [x for x in w if len(x.shape) == 2]
        l2 = PENALTY * tf.add_n([tf.reduce_sum(x**2) for x in kernels])
        return l2 + case.penalty(w, forward(w, normalized)[0])

    return J.T @ H @ J, hessian(penalties, w)


# ---- the matrix


def test_is_the_matrix_of_full_jacobians(built):
    expected = built.through + built.penalties
    np.testing.assert_allclose(built.actual, expected, atol=1e-13)
    # It is another one than the Hessian: the tests say something.
    full = dense(lambda one: built.product(one, HESSIAN), len(expected))
    assert relative_error(built.actual, full) > 1e-2


def test_has_no_negative_directions(built):
    actual = built.actual - built.penalties
    np.testing.assert_allclose(actual, actual.T, atol=1e-13)
    assert np.linalg.eigvalsh(actual).min() > -1e-13


def test_mixed_product_is_exact(built):
    vector = np.random.default_rng(0).normal(
        size=len(flat(built.problem.state().params))
    )
    found, expected = (
        built.product(vector, curvature)[1] for curvature in (None, HESSIAN)
    )
    assert relative_error(found, expected) < 1e-13


# ---- in a step back, with every kind of slot


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
}


@pytest.mark.parametrize(
    "make, optimizer",
    [(tanh_net, "momentum"), *((linear_net, name) for name in OPTIMIZERS)],
)
def test_step_back_is_exact_where_the_model_is_linear(make, optimizer):
    kinds = [L2("input", PENALTY), LearningRate("layer")]
    model = exact_model(make(), kinds, OPTIMIZERS[optimizer]())
    batch = Batch(tf.constant(X), tf.constant(TARGETS))
    problem = ElementaryProblem(
        model.elementary_model, model.optimizer, Together(kinds), batch
    )
    hparams = problem.hparams()
    state, _, _ = problem.step(problem.initial_state(), hparams, batch, [])
    adjoint = [
        tf.constant(np.random.default_rng(k).normal(size=x.shape))
        for k, x in enumerate(nested.float_leaves(state))
    ]
    found, expected = (
        tf.function(step_back, autograph=False)(
            problem, state, hparams, batch, adjoint, curvature
        )
        for curvature in (GAUSS_NEWTON, HESSIAN)
    )
    assert relative_error(found[1], expected[1]) < 1e-12  # the mixed product
    error = relative_error(found[0], expected[0])
    assert error < 1e-12 if make is linear_net else error > 1e-4


@pytest.mark.parametrize(
    "method",
    [
        kd.DrMAD(1.0, curvature="gauss_newton"),
        kd.Implicit("cg", terms=5, curvature="gauss_newton"),
    ],
    ids=repr,
)
def test_methods_take_it(method):
    # For a model that is linear it is the Hessian, whoever asks for it.
    gradients = []
    for curvature in ("gauss_newton", "hessian"):
        keras.utils.set_random_seed(0)
        config = method.get_config() | {"curvature": curvature}
        model = exact_model(
            linear_net(),
            [L2("input", PENALTY)],
            hypergradient=type(method)(**config),
        )
        record = model.hypergradient(
            X, TARGETS, 2, epochs=4, validation_data=regression(6, seed=1)
        )
        gradients.append(record.gradients)
    assert relative_error(*gradients) < 1e-12


# ---- losses that are convex in the outputs, and others


class Outputs:
    """A problem of which only outputs and loss count."""

    def __init__(self, loss, y, activation=None):
        self.model = self
        self.loss = loss
        self.loss_of = getattr(losses, loss)()
        self.y = tf.constant(y)
        self.activation = activation or tf.identity

    def state(self):
        return ()

    hparams = state

    def outputs(self, state, hparams, batch, before_activation):
        start = tf.random.normal(self.y.shape, dtype=tf.float64)
        z, y_pred_of = places_of(self.activation(start), before_activation)
        return z, [], lambda z: self.loss_of(self.y, y_pred_of(z))


PROBABILITIES = np.full((6, 2), 0.5)
SIGNS = 2 * ONE_HOT - 1
CONVEX = {
    "MeanSquaredError": TARGETS,
    "MeanAbsolutePercentageError": TARGETS,
    "Huber": TARGETS,
    "Hinge": SIGNS,
    "CategoricalHinge": ONE_HOT,
    "Poisson": np.abs(TARGETS),
    "KLDivergence": PROBABILITIES,
    "CategoricalCrossentropy": ONE_HOT,
    "BinaryCrossentropy": ONE_HOT,
}
AFTER_ACTIVATION = {
    "CategoricalCrossentropy": tf.nn.softmax,
    "KLDivergence": tf.nn.softmax,
    "BinaryCrossentropy": tf.nn.sigmoid,
}
NOT_CONVEX = {
    "CosineSimilarity": TARGETS,
    "MeanSquaredLogarithmicError": np.abs(TARGETS) / 10,
    "Dice": ONE_HOT,
}
FAST = {"MeanSquaredError", "Huber", "CategoricalCrossentropy", "Dice"}


def each_loss(names):
    """Returns a parametrization; each loss takes a second or two to look at."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
            for name in names
        ],
    )


@each_loss(CONVEX)
def test_convex_losses_are_taken(name):
    problem = Outputs(name, CONVEX[name], AFTER_ACTIVATION.get(name))
    assert convex_places(problem, ()).before_activation


@pytest.mark.parametrize(
    "name, activation",
    [
        ("MeanSquaredError", tf.nn.softmax),
        ("BinaryFocalCrossentropy", tf.nn.sigmoid),
    ],
)
def test_convex_in_probabilities_but_not_in_logits(name, activation):
    problem = Outputs(name, ONE_HOT, activation)
    assert not convex_places(problem, ()).before_activation


@each_loss(NOT_CONVEX)
def test_other_losses_are_refused(name):
    problem = Outputs(name, NOT_CONVEX[name])
    with pytest.raises(ValueError) as error:
        convex_places(problem, ())
    assert_helps(error, "curvature", name)


def concave(y, y_pred):
    return keras.ops.log(1 + keras.ops.square(y - y_pred))


@pytest.mark.parametrize(
    "loss",
    ["cosine_similarity", pytest.param(concave, marks=pytest.mark.slow)],
)
def test_a_model_says_so_when_it_trains(loss):
    model = exact_model(
        tanh_net(),
        [L2()],
        loss=loss,
        hypergradient=kd.DrMAD(curvature="gauss_newton"),
    )
    with pytest.raises(ValueError) as error:
        model.hypergradient(X, TARGETS, validation_data=(X, TARGETS))
    assert_helps(error, "curvature", "cosine" if loss != concave else "concave")
