"""`check_hypergradient` says of right, weak and wrong methods what they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import exact_model, regression, tanh_net
from keras_drmad.hypergradient_check import check
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.training.elementary_training import ElementaryTraining
from small_models import assert_helps

pytestmark = pytest.mark.usefixtures("float64")

X, Y = regression(40)
TRAINING = {
    "batch_size": 5,
    "epochs": 10,
    "validation_data": regression(15, seed=1),
}


class Quadratic:
    """A loss gᵀ(p − p_0) + ½ c |p − p_0|² of parameters p, to be checked."""

    def __init__(self, gradient, curvature=0.0):
        self.gradient = np.asarray(gradient, float)
        self.curvature = curvature
        self.variable = keras.Variable(np.arange(len(gradient), dtype=float))
        self.start = self.variable.numpy()

    def __call__(self):
        p = self.variable.numpy() - self.start
        return float(self.gradient @ p + self.curvature * p @ p / 2)

    def check(self, claimed, directions=200):
        claimed = [np.asarray(claimed, float)]
        return check(
            claimed, [self.variable], self, directions, 0.1, seed=0, size=1.0
        )


def at_angle(degrees, gradient, size=1.0):
    """Returns a vector at an angle to another, times a size."""
    g = np.asarray(gradient, float)
    other = np.roll(g, 1) * np.where(np.arange(len(g)) % 2, 1.0, -1.0)
    other -= other @ g / (g @ g) * g
    other *= np.linalg.norm(g) / np.linalg.norm(other)
    angle = np.deg2rad(degrees)
    return size * (np.cos(angle) * g + np.sin(angle) * other)


GRADIENT = np.random.default_rng(5).normal(size=50)


@pytest.mark.parametrize(
    "claimed, verdict",
    [
        (GRADIENT, "exact"),
        (at_angle(30, GRADIENT), "right direction and size"),
        (at_angle(30, GRADIENT, size=0.1), "right direction"),
        (at_angle(75, GRADIENT), "weak"),
        (at_angle(90, GRADIENT), "noise"),
        (-GRADIENT, "noise"),
        (0 * GRADIENT, "noise"),
    ],
    ids=["exact", "30", "30_small", "75", "90", "180", "zero"],
)
def test_verdict(claimed, verdict):
    report = Quadratic(GRADIENT).check(claimed)
    assert report.verdict == verdict
    assert report.verdict in str(report) and report.advice in str(report)


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 150])
def test_cosine_is_estimated(degrees):
    # 200 random directions tell the norm of g to about 1 / √400.
    report = Quadratic(GRADIENT).check(at_angle(degrees, GRADIENT))
    expected = np.cos(np.deg2rad(degrees))
    assert report.cosine == pytest.approx(expected, abs=0.15)


def test_changes_are_those_of_both_sides():
    # A curvature cancels between the two sides; the length is per value.
    quadratic = Quadratic(GRADIENT, curvature=3.0)
    report = quadratic.check(2 * GRADIENT, directions=1)
    step = 0.1 * np.sqrt(50)
    along = report.directions[0]
    norm = np.linalg.norm(GRADIENT)
    np.testing.assert_allclose(along.predicted, 2 * step * 2 * norm)
    np.testing.assert_allclose(along.actual, 2 * step * norm)
    assert report.directions[1].actual == pytest.approx(
        report.directions[1].predicted / 2
    )


def test_a_part_of_the_truth_is_not_exact():
    # Along itself a projection of the gradient predicts all that happens.
    half = np.where(np.arange(50) % 2, GRADIENT, 0)
    report = Quadratic(GRADIENT).check(half, directions=3)
    along = report.directions[0]
    assert along.actual == pytest.approx(along.predicted)
    assert report.verdict == "right direction and size"


def test_no_value_moves_far_alone():
    # All of the gradient is in one value: 0.1 √50 would move it by 0.7.
    spike = np.eye(1, 200)[0]
    report = Quadratic(spike).check(spike, directions=1)
    assert report.directions[0].distance == pytest.approx(2 * 10 * 0.1)
    assert report.directions[1].distance == pytest.approx(2 * 0.1 * 200**0.5)


def test_changes_below_rounding_are_called_so():
    report = Quadratic(1e-17 * GRADIENT).check(1e-17 * GRADIENT)
    assert report.verdict == "too small to measure"


def tuned(method, kinds=None):
    return exact_model(
        tanh_net(), kinds or [L2("input", 0.05)], hypergradient=method
    )


def test_of_a_model():
    model = tuned(kd.ReverseMode(), [L2("input", 0.05), LearningRate("layer")])
    before = [w.numpy() for w in model.weights]
    values = [h.raw.numpy() for h in model.hyperparameters]
    report = model.check_hypergradient(
        X, Y, directions=3, length=0.003, **TRAINING
    )
    assert report.verdict == "exact"
    assert [d.name for d in report.directions] == ["hypergradient"] + [
        "random"
    ] * 3
    for w, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(w, value)
    for h, value in zip(model.hyperparameters, values, strict=True):
        np.testing.assert_array_equal(h.raw, value)


def test_of_a_method_that_is_wrong(monkeypatch):
    model = tuned(kd.ReverseMode())
    right = ElementaryTraining.hypergradient

    def turned(self, *args, **kwargs):
        record = right(self, *args, **kwargs)
        return record._replace(
            gradients={k: -g for k, g in record.gradients.items()}
        )

    monkeypatch.setattr(ElementaryTraining, "hypergradient", turned)
    report = model.check_hypergradient(X, Y, **TRAINING)
    assert report.verdict == "noise"
    assert report.cosine < -0.3


def shuffled(again):
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(40, reshuffle_each_iteration=again).batch(5)


STREAM = TRAINING | {"batch_size": None}


@pytest.mark.parametrize(
    "data_of",
    [lambda: shuffled(False), lambda: shuffled(True).cache()],
    ids=["shuffled once", "cached"],
)
def test_of_a_data_set(data_of):
    report = tuned(kd.ReverseMode()).check_hypergradient(
        data_of(), length=0.003, **STREAM
    )
    assert report.verdict == "exact"


def test_a_data_set_has_to_give_the_same_batches():
    model = tuned(kd.ReverseMode())
    raw = model.hyperparameters[0].raw.numpy()
    with pytest.raises(ValueError) as error:
        model.check_hypergradient(shuffled(True), **STREAM)
    assert_helps(error, "x", "yields others")
    np.testing.assert_array_equal(model.hyperparameters[0].raw, raw)


@pytest.mark.parametrize("verbose", [0, "auto"])
def test_a_bar_counts_the_trainings(capsys, verbose):
    tuned(kd.ReverseMode()).check_hypergradient(
        X, Y, directions=1, verbose=verbose, **TRAINING
    )
    assert ("5/5" in capsys.readouterr().out) == (verbose != 0)


def test_a_split_has_no_place_in_what_looks_once():
    model = tuned(kd.ReverseMode())
    looks = "hypergradient", "validation_loss_after", "check_hypergradient"
    for name in looks:
        with pytest.raises(TypeError) as error:
            getattr(model, name)(X, Y, **TRAINING, validation_split=0.5)
        assert_helps(error, "validation_split", "validation_split")


@pytest.mark.parametrize(
    "arguments, received",
    [({"length": 0.0}, "length=0.0"), ({"directions": 0}, "directions=0")],
    ids=["length", "directions"],
)
def test_bad_arguments(arguments, received):
    with pytest.raises(ValueError) as error:
        tuned(kd.ReverseMode()).check_hypergradient(
            X, Y, **TRAINING | arguments
        )
    assert_helps(error, next(iter(arguments)), received)
