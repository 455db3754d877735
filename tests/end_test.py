"""The ways that look at the end only: one step, Neumann's sum, the inverse."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import relative_error
from closed_forms import exact_model, linear_net, regression, tanh_net
from keras_drmad.core.span import Span
from keras_drmad.hyperparameters import L2, LearningRate
from small_models import assert_helps

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)
VALIDATION = regression(20, seed=1)
TRAINING = {"batch_size": 20, "validation_data": VALIDATION}
RATE, PENALTY = 0.25, 0.05
SGD = keras.optimizers.SGD


def ridge(method, optimizer=None, per="weight"):
    """Returns a model with the loss mean (x w − y)² + Σ penalty · w²."""
    keras.utils.set_random_seed(0)
    return exact_model(
        linear_net(),
        [L2(per, PENALTY)],
        optimizer or SGD(RATE),
        hypergradient=method,
    )


def hessian(x=X):
    """Returns that of the loss in one column of w: the same for both."""
    return 2 * x.T @ x / Y.size + 2 * PENALTY * np.eye(4)


def validation_gradient(w):
    x, y = VALIDATION
    return 2 * x.T @ (x @ w - y) / y.size


def trained(epochs, x=X, y=Y, batch_size=20):
    """Returns the weights after that many passes, in order."""
    keras.utils.set_random_seed(0)
    model = exact_model(linear_net(), [L2()])
    (w,) = model.get_weights()
    for _ in range(epochs):
        for k in range(0, len(x), batch_size):
            a, b = x[k : k + batch_size], y[k : k + batch_size]
            w = w - RATE * (2 * a.T @ (a @ w - b) / b.size + 2 * PENALTY * w)
    return w


# ---- a few terms


def test_one_step_is_that_of_t1_t2():
    # dλ = −α ∂F/∂w_T ∂²L/∂λ∂w at w_T, with the penalty exp(λ) of each weight.
    model = ridge(kd.OneStep())
    found = model.hypergradient(X, Y, epochs=3, **TRAINING)
    w = trained(3)
    expected = -RATE * validation_gradient(w) * 2 * PENALTY * w
    np.testing.assert_allclose(
        found.gradients["l2"], expected.ravel(), rtol=1e-12
    )
    assert found.diagnostics["reverse_steps_used"] == 1
    assert found.diagnostics["copies"] == 0  # s_T is the training's own


@pytest.fixture(scope="module")
def model_by(float64):
    """Returns a function from options of SGD to models, each compiled once.

    Its first argument is the method that the model then has.
    """
    built = functools.cache(
        lambda options: ridge(kd.OneStep(), SGD(RATE, **dict(options)))
    )

    def model_by(method, **options):
        model = built(tuple(options.items()))
        model._assembly.method = method
        return model

    return model_by


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_neumann_sums_terms_of_the_series(model_by, terms):
    # α Σ (1 − α H_T) ... (1 − α H_k+1) ∂F/∂w, each of its own minibatch.
    model = model_by(kd.Implicit("neumann", terms))
    training = TRAINING | {"batch_size": 10, "shuffle": False}
    found = model.hypergradient(X, Y, epochs=3, **training)
    w = trained(3, batch_size=10)
    vector, total = validation_gradient(w), 0.0
    for k in range(terms):
        part = X[10:] if k % 2 == 0 else X[:10]
        total = total + vector
        H = 2 * part.T @ part / 20 + 2 * PENALTY * np.eye(4)
        vector = vector - RATE * H @ vector
    expected = -RATE * total * 2 * PENALTY * w
    np.testing.assert_allclose(
        found.gradients["l2"], expected.ravel(), rtol=1e-11
    )


def test_a_schedule_is_as_at_the_last_steps():
    # Its rate at step T, which no step of the training has, is 0.
    schedule = keras.optimizers.schedules.PolynomialDecay(RATE, 4, 0.0)
    model = ridge(kd.OneStep(), SGD(schedule))
    found = model.hypergradient(X, Y, epochs=4, **TRAINING)
    trainer = ridge(kd.OneStep(), SGD(schedule))
    trainer.fit(X, Y, batch_size=20, epochs=4, meta_iterations=0, verbose=0)
    (w,) = trainer.get_weights()
    expected = -RATE / 4 * validation_gradient(w) * 2 * PENALTY * w
    np.testing.assert_allclose(
        found.gradients["l2"], expected.ravel(), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("method", "alone"),
    [
        (kd.OneStep(), kd.OneStep()),
        (kd.Implicit(terms=6), kd.Implicit(terms=3)),
        (kd.Truncated(1), kd.Truncated(1)),
        (kd.Truncated(4), kd.Truncated(2)),
        (kd.DrMAD(1, average=False), kd.DrMAD(1, average=False)),
        (kd.DrMAD(4, last=8), kd.DrMAD(2, last=4)),
    ],
    ids=repr,
)
def test_accumulated_gradients(method, alone, model_by):
    """Two sums of one minibatch are one step; a step more moves nothing."""
    expected = model_by(alone).hypergradient(X, Y, epochs=4, **TRAINING)
    model = model_by(method, gradient_accumulation_steps=2)
    rtol = 0.3 if isinstance(method, kd.DrMAD) else 1e-9  # lines differ
    for epochs in (8, 9):
        found = model.hypergradient(X, Y, epochs=epochs, **TRAINING)
        loss = found.validation_loss
        np.testing.assert_allclose(loss, expected.validation_loss, rtol=1e-12)
        error = relative_error(found.gradients["l2"], expected.gradients["l2"])
        assert error < rtol, epochs


def test_conjugate_gradients_take_the_mean_of_minibatches():
    # Two minibatches in turn have the mean Hessian of all the data.
    model = ridge(kd.Implicit("cg", 4 * 2))
    training = TRAINING | {"batch_size": 10, "shuffle": False}
    found = model.hypergradient(X, Y, epochs=3, **training)
    w = trained(3, batch_size=10)
    q = np.linalg.solve(hessian(), validation_gradient(w))
    expected = -2 * PENALTY * w * q
    np.testing.assert_allclose(
        found.gradients["l2"], expected.ravel(), rtol=1e-8
    )
    assert found.diagnostics["residual"] < 1e-9


# ---- the limit


def at_the_minimum():
    """Returns dF/dλ by the implicit function theorem, at the minimum."""
    w = np.linalg.solve(hessian(), 2 * X.T @ Y / Y.size)
    q = np.linalg.solve(hessian(), validation_gradient(w))
    return (-2 * PENALTY * w * q).ravel()


METHODS = {
    "neumann": lambda T: kd.Implicit("neumann", T),
    "cg": lambda T: kd.Implicit("cg", 8),
    "reverse": lambda T: kd.ReverseMode(),
}


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.5}], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_tends_to_the_implicit_function_theorem(name, momentum, model_by):
    errors = []
    for T in (10, 50, 400):
        model = model_by(METHODS[name](T), **momentum)
        found = model.hypergradient(X, Y, epochs=T, **TRAINING)
        errors.append(relative_error(found.gradients["l2"], at_the_minimum()))
    # The slowest direction shrinks by 1 − α · 0.3 in each step.
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors
    assert errors[2] < 1e-8


# ---- no minimum


def test_negative_curvature_is_told():
    model = exact_model(
        tanh_net(),
        [L2("input", 1e-4)],
        SGD(0.01),
        hypergradient=kd.Implicit("cg", terms=20),
    )
    with pytest.warns(RuntimeWarning, match="negative curvature.*gauss_newton"):
        found = model.hypergradient(X, Y, epochs=2, **TRAINING)
    diagnostics = found.diagnostics
    assert diagnostics["reverse_steps_used"] < diagnostics["reverse_steps"]
    # ... and the way out that it names is one.
    model.compile(
        SGD(0.01),
        "mse",
        hyperparameters=model.hyperparameters,
        hypergradient=kd.Implicit("cg", 20, curvature="gauss_newton"),
        jit_compile=False,
    )
    found = model.hypergradient(X, Y, epochs=2, **TRAINING)
    assert found.diagnostics["reverse_steps_used"] == 20


# ---- what cannot be seen from the end


@pytest.mark.parametrize(
    "method",
    [kd.Implicit(), kd.Implicit("cg"), kd.OneStep()],
    ids=repr,
)
def test_learning_rates_are_refused(method):
    kinds = [L2(), LearningRate(name="pace")]
    with pytest.raises(ValueError) as error:
        exact_model(tanh_net(), kinds, hypergradient=method)
    assert_helps(error, "hypergradient", "['pace']")
    assert repr(method) in str(error.value)


@pytest.mark.parametrize("terms", [7, 200])
def test_minibatches_of_conjugate_gradients(terms):
    # The mean Hessian is that of up to 50 minibatches, whatever the terms.
    bound = kd.Implicit("cg", terms).bind(400, None)
    assert list(bound.iterations(Span(0, 400))) == list(range(350, 400))
    assert bound.solves == terms
    assert bound.iterations(Span(0, 3)).size == 3


def test_conjugate_gradients_see_past_a_short_batch():
    # A stream's chunk ends where the shape of its batches changes.
    x, y = X[:15], Y[:15]
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    streamed, arrays = (
        ridge(kd.Implicit("cg", 8))
        .hypergradient(*data, epochs=3, validation_data=VALIDATION, **options)
        .gradients
        for data, options in (
            ((stream,), {}),
            ((x, y, 10), {"shuffle": False}),
        )
    )
    assert relative_error(streamed, arrays) < 1e-10


def test_more_terms_than_steps():
    model = ridge(kd.Implicit("neumann", terms=20))
    with pytest.raises(ValueError, match=r"`terms`.* 3\..*terms=20.*[Tt]rain"):
        model.hypergradient(X, Y, epochs=3, **TRAINING)


def test_a_stream(model_by):
    def stream(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(10)

    for method in (kd.Implicit("neumann", 3), kd.Implicit("cg", 8)):
        model = model_by(method)
        arrays, streamed = (
            model.hypergradient(
                *data, epochs=4, validation_data=VALIDATION, **options
            ).gradients
            for data, options in (
                ((X, Y, 10), {"shuffle": False}),
                ((stream(X, Y),), {}),
            )
        )
        assert relative_error(streamed, arrays) < 1e-12
