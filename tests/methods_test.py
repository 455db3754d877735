"""DrMAD against reverse mode, against the paper's lines, and at its limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import assert_exact_hypergradient, cosine, flat, relative_error
from closed_forms import (
    LinearTerm,
    exact_model,
    linear_net,
    regression,
    tanh_net,
)
from keras_drmad.core.span import Span
from keras_drmad.differentiation.line import Line
from keras_drmad.differentiation.lines import Lines
from keras_drmad.differentiation.stored import Stored
from keras_drmad.hyperparameters import L1, L2, LearningRate

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(20)
VALIDATION = regression(10, seed=1)
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}
T = 12


def gradients(method, kinds, net=linear_net, optimizer=None):
    """Returns the hypergradient of one training of 12 steps."""
    keras.utils.set_random_seed(0)
    model = exact_model(net(), kinds, optimizer, hypergradient=method)
    return model.hypergradient(X, Y, **TRAINING).gradients


# ---- where DrMAD is exact, and where it is not


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    ids=["sgd", "momentum", "nesterov"],
)
def test_drmad_is_exact_on_a_quadratic_with_a_linear_hyperparameter(options):
    # Neither ∂²L/∂w² nor ∂²L/∂λ∂w depends on w: any way back will do.
    approximate, exact = (
        gradients(
            method,
            [LinearTerm()],
            optimizer=keras.optimizers.SGD(0.1, **options),
        )
        for method in (kd.DrMAD(1.0), kd.ReverseMode())
    )
    assert relative_error(approximate, exact) < 1e-12


def test_the_linear_term_is_differentiated_exactly():
    # The witness of the test above has a witness itself.
    model = exact_model(linear_net(), [LinearTerm()])
    assert_exact_hypergradient(model, X, Y, **TRAINING)


def test_drmad_is_biased_where_the_mixed_derivative_depends_on_w():
    # ∂²L/∂λ∂w = 2 exp(λ) w for a penalty, and the line has another w.
    approximate, exact = (
        gradients(method, [L2("weight", 0.05)])
        for method in (kd.DrMAD(1.0), kd.ReverseMode())
    )
    assert 0.5 < cosine(approximate, exact) < 0.9999


def test_one_step_is_exact():
    # For T = 1 the line has the one state s_0 that matters.
    model = exact_model(
        tanh_net(),
        [L2("input", 0.05), LearningRate()],
        hypergradient=kd.DrMAD(),
    )
    training = TRAINING | {"epochs": 1, "steps_per_epoch": 1}
    assert_exact_hypergradient(model, X, Y, **training)


@pytest.mark.parametrize(
    "method, T, visited, mean_of",
    [
        (kd.DrMAD(40, average=False), 40, range(40), 0),
        (kd.DrMAD(5, last=40, average=False), 40, [7, 15, 23, 31, 39], 0),
        (kd.DrMAD(0.1, average=False), 40, range(36, 40), 0),
        (kd.DrMAD(1, average=False), 40, [39], 0),
        (kd.DrMAD(), 40, range(36, 40), 4),
        (kd.DrMAD(2), 40, [38, 39], 2),
        (kd.DrMAD(3, last=0.5), 40, [25, 32, 39], 4),
        # Two chunks: the mean begins in the first, or with the second.
        (kd.DrMAD(), 212, range(191, 212), 21),
        (kd.DrMAD(22), 220, range(198, 220), 22),
        (kd.DrMAD(20), 220, range(200, 220), 20),
    ],
    ids=str,
)
def test_drmad_follows_the_lines_of_the_paper(method, T, visited, mean_of):
    alpha, gamma = 0.5, 0.75
    optimizer = keras.optimizers.SGD(alpha * (1 - gamma), momentum=gamma)
    keras.utils.set_random_seed(0)
    model = exact_model(
        linear_net(), [L2("weight", 0.05)], optimizer, hypergradient=method
    )
    w_0 = model.get_weights()[0]
    training = TRAINING | {"epochs": T // 4}
    actual = model.hypergradient(X, Y, shuffle=False, **training)

    def batch(t):
        return X[5 * (t % 4) :][:5], Y[5 * (t % 4) :][:5]

    w, v, size, path = w_0, 0.0, 10, []  # size: numbers in a batch of targets
    for t in range(T):
        path.append(w)
        x, y = batch(t)
        v = gamma * v - (1 - gamma) * (2 * x.T @ (x @ w - y) / size + 0.1 * w)
        w = w + alpha * v
    end, t_end = w, T
    if mean_of:  # the mean of the last states before w_T, and of their t
        end = np.mean(path[T - mean_of :], axis=0)
        t_end = np.mean(np.arange(T)[T - mean_of :])
    x, y = VALIDATION
    dw = 2 * x.T @ (x @ w - y) / y.size
    dv, d_penalty = 0.0, 0.0
    for t in reversed(visited):
        beta, (x, _) = t / t_end, batch(t)
        w = (1 - beta) * w_0 + beta * end
        dv = dv + alpha * dw
        dw = dw - (1 - gamma) * (2 * x.T @ (x @ dv) / size + 0.1 * dv)
        d_penalty = d_penalty - (1 - gamma) * 0.1 * w * dv
        dv = gamma * dv
    np.testing.assert_allclose(
        actual.gradients["l2"], d_penalty.ravel(), rtol=1e-10
    )


def test_a_walk_for_learning_rates_covers_the_training():
    def used(method, *kinds):
        keras.utils.set_random_seed(0)
        model = exact_model(linear_net(), [*kinds], hypergradient=method)
        model.hypergradient(X, Y, **TRAINING)
        return model.resolved.method, model.resolved.why

    whole = repr(kd.DrMAD(last=1.0, average=False))
    method, why = used(kd.DrMAD(), LearningRate(), L2())
    assert (repr(method), why[:14]) == (whole, "hyperparameter")
    assert repr(used(kd.DrMAD(), L2())[0]) == repr(kd.DrMAD())
    given = kd.DrMAD(0.2, last=0.5)
    assert used(given, LearningRate()) == (given, "")


# ---- the way back


@pytest.mark.parametrize("way", [Line, Lines])
@pytest.mark.parametrize(
    "T, L, R",
    [(1, 1, 1), (12, 12, 1), (12, 12, 12), (12, 7, 5), (2000, 1400, 200)],
)
def test_lines_spread_their_iterations(way, T, L, R):
    iterations = way(R, L, 1).iterations(Span(0, T))
    assert len(set(iterations)) == R
    assert list(iterations) == sorted(iterations)
    assert iterations[0] >= T - L and iterations[-1] == T - 1
    gaps = np.diff([T - L - 1, *iterations])  # the parts each stands for
    assert gaps.max() - gaps.min() <= 1


def test_stored_visits_every_iteration():
    assert list(Stored().iterations(Span(0, 5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "reverse_steps, T, R",
    [(0.1, 2000, 200), (1.0, 7, 7), (0.01, 7, 1), (3, 7, 3), (1, 7, 1)],
)
def test_reverse_steps_count_or_divide(reverse_steps, T, R):
    bound = kd.DrMAD(reverse_steps).bind(T, None)
    assert len(bound.iterations(Span(0, T))) == R


@pytest.mark.parametrize("reverse_steps", [0, -1, 0.0, 1.5, float("nan")])
def test_reverse_steps_out_of_range(reverse_steps):
    with pytest.raises(ValueError, match="reverse_steps.*at least 1"):
        kd.DrMAD(reverse_steps)


@pytest.mark.parametrize("reverse_steps", ["0.1", None, True, [3]])
def test_reverse_steps_of_another_type(reverse_steps):
    with pytest.raises(TypeError, match="reverse_steps"):
        kd.DrMAD(reverse_steps)


def test_more_reverse_steps_than_steps():
    with pytest.raises(ValueError, match=r"reverse_steps.* 12\..*=13"):
        gradients(kd.DrMAD(13), [L2()])


# ---- the guard against a walk back that explodes


@pytest.fixture(scope="module")
def steep(float64):
    """A model, and a training whose straight way back is a steep one.

    Large inputs and an effective rate of 5: on the line between the ends, far
    from where the steps went, one step multiplies the adjoint by up to 10.
    """
    keras.utils.set_random_seed(0)
    model = exact_model(
        tanh_net(8),
        [L2("input", 1e-4)],
        keras.optimizers.SGD(0.5, momentum=0.9),
        hypergradient=kd.DrMAD(1.0, average=False),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = VALIDATION
    training = {"x": 5 * X, "y": Y.argmax(1), "batch_size": 5, "epochs": 20}
    return model, training | {"validation_data": (x, y.argmax(1))}


def test_an_exploding_walk_ends_early(steep):
    model, training = steep
    with pytest.warns(RuntimeWarning, match="of 80 reverse steps"):
        record = model.hypergradient(**training)
    used = record.diagnostics["reverse_steps_used"]
    assert 1 <= used < record.diagnostics["reverse_steps"] == 80
    assert record.diagnostics["adjoint_growth"] > Line.growth_limit
    assert np.isfinite(flat(record.gradients)).all()


def test_the_step_that_explodes_is_left_out(steep, monkeypatch):
    model, training = steep
    with pytest.warns(RuntimeWarning):
        guarded = model.hypergradient(**training)
    used = int(guarded.diagnostics["reverse_steps_used"])
    # The same walk, ended there on purpose.
    monkeypatch.setattr(
        Line,
        "iterations",
        lambda self, span: np.arange(span.last - used, span.last),
    )
    shorter = model.hypergradient(**training)
    assert shorter.diagnostics["adjoint_growth"] <= Line.growth_limit
    assert relative_error(guarded.gradients, shorter.gradients) < 1e-12


def test_without_the_guard_it_would_explode(steep, monkeypatch):
    model, training = steep
    monkeypatch.setattr(Line, "growth_limit", float("inf"))
    record = model.hypergradient(**training)
    assert record.diagnostics["adjoint_growth"] > 1e6


def test_fit_warns_of_it_once(steep):
    model, training = steep
    with pytest.warns(RuntimeWarning, match="meta-iteration 1 ") as caught:
        model.fit(**training, meta_iterations=3, verbose=0, seed=0)
    assert len(caught) == 1
    assert max(model.diagnostics["reverse_steps_used"]) < 80
    assert np.isfinite(model.diagnostics["hypergradient_norm"]).all()


def test_reverse_mode_warns_when_it_meets_a_nan():
    # The second derivative of |w|^1.5 at a bias of 0 is infinite.
    class Between(L1):
        @staticmethod
        def measure(w):
            return tf.abs(w) ** 1.5

    model = exact_model(tanh_net(), [Between(layers="a", biases=True)])
    with pytest.warns(RuntimeWarning, match="left the finite numbers"):
        model.hypergradient(X, Y, **TRAINING)
