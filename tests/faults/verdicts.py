"""Verdicts of `check_hypergradient`, and the numbers beside them."""

import keras
import numpy as np

import keras_drmad as kd
from closed_forms import exact_model, regression, tanh_net
from faults import members
from keras_drmad.hypergradient_check import check

H = kd.hyperparameters
X, Y = regression(40)
TRAINING = dict(batch_size=20, epochs=2, validation_data=(X[:20], Y[:20]))
GRADIENT = np.random.default_rng(5).normal(size=50)


def of_numbers(claimed, directions, is_exact=False, gradient=GRADIENT):
    variable = keras.Variable(np.zeros(len(gradient)))
    return check(
        [claimed],
        [variable],
        lambda: float(gradient @ variable.numpy()),
        directions,
        0.1,
        seed=0,
        size=1.0,
        is_exact=is_exact,
    )


@members(
    "a cosine beside exact",
    {"1 and 2 directions, seeds 0 and 1": [(1, 0), (1, 1), (2, 0), (2, 1)]},
)
def agrees_with_exact(cases):
    model = exact_model(
        tanh_net(), [H.L2("all", 0.05), H.LearningRate("layer")]
    )
    for directions, seed in cases:
        report = model.check_hypergradient(
            X, Y, directions=directions, seed=seed, length=1e-3, **TRAINING
        )
        assert report.verdict == "exact", (directions, seed)
        assert report.cosine > 0.99, (directions, seed, report.cosine)


@members("a cosine from few directions", {str(n): n for n in (1, 2, 5, 20)})
def is_of_the_angle(directions):
    assert of_numbers(GRADIENT, directions).cosine > 0.999
    assert of_numbers(-GRADIENT, directions).cosine < -0.999
    half = np.where(np.arange(50) % 2, GRADIENT, 0)
    report = of_numbers(half, directions)
    exact = np.linalg.norm(half) / np.linalg.norm(GRADIENT)
    assert report.verdict != "exact"
    assert abs(report.cosine - exact) < (0.35 if directions < 20 else 0.15)


@members(
    "advice that fits the cause",
    {
        "0 where the loss moves": (0 * GRADIENT, False, "0, but the loss"),
        "another way, exact": (-GRADIENT, True, "The method is exact"),
        "another way": (-GRADIENT, False, "ReverseMode"),
        "a wrong size, exact": (0.1 * GRADIENT, True, "The method is exact"),
        "a wrong size": (0.1 * GRADIENT, False, "SignDescent"),
    },
)
def names_the_cause(case):
    claimed, is_exact, words = case
    report = of_numbers(claimed, 4, is_exact)
    assert words in report.advice, report.advice
    if is_exact:
        assert "ReverseMode" not in report.advice


@members("nothing to measure", {"0 where nothing moves": 0})
def says_too_small(_):
    nothing = 0 * GRADIENT
    report = of_numbers(nothing, 3, gradient=nothing)
    assert report.verdict == "too small to measure"
