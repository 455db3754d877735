"""The pictures show the numbers they were given."""

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

import small_models
from keras_drmad import loss_along_line, plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_values_by_layer_draws_the_geometric_mean_and_spread():
    rows = np.exp(np.array([[0.0, 2.0], [1.0, 5.0]]))
    axes = plots.values_by_layer({"dense": rows}, label="L2")
    (line,) = axes.lines
    np.testing.assert_allclose(np.log(line.get_ydata()), [1.0, 3.0])
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    (band,) = axes.collections
    corners = np.log(band.get_paths()[0].vertices[:, 1])
    assert np.isclose(corners.max(), 5) and np.isclose(corners.min(), 0)


def test_curves_draws_each_named_entry():
    history = {"val_loss": [3.0, 2.0, 1.0], "loss": [1.0, 1.0, 1.0]}
    axes = plots.curves(history, {"val_loss": "validation"}, ylabel="loss")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), history["val_loss"])
    assert axes.get_ylabel() == "loss"


def test_a_single_meta_iteration_is_seen():
    for axes in (
        plots.values_by_layer({"dense": np.ones((1, 2))}),
        plots.curves({"loss": [1.0]}, {"loss": "training"}),
    ):
        assert axes.lines[0].get_marker() == "."


def test_input_map_draws_the_values_in_place():
    axes = plots.input_map(np.arange(1.0, 7.0), (2, 3))
    image = axes.images[0].get_array()
    np.testing.assert_array_equal(image, [[1, 2, 3], [4, 5, 6]])
    with_0 = plots.input_map(np.zeros(6), (2, 3)).images[0]
    assert with_0.colorbar is not None


def test_loss_along_line_ends_in_the_losses_at_both_ends():
    model = small_models.compiled(small_models.hidden(dropout=0.5))
    small_models.fit(model)
    data = small_models.VALIDATION
    before = small_models.numbers(model)
    axes = plots.loss_along_line(
        model, {"training": data}, alphas=[0.0, 0.5, 1.0]
    )
    losses = axes.lines[0].get_ydata()
    small_models.assert_same(small_models.numbers(model), before)
    for place, weights in ((0, model.start_weights), (2, model.end_weights)):
        for variable, value in zip(
            model.trainable_variables, weights, strict=True
        ):
            variable.assign(value)
        loss = model.evaluate(*data, verbose=0, return_dict=True)["loss"]
        np.testing.assert_allclose(losses[place], loss, rtol=1e-5)


def with_normalization(scaled=True):
    """Returns a fitted model with BatchNormalization between linear layers."""
    inputs = keras.Input((small_models.FEATURES,))
    h = keras.layers.Dense(3)(inputs)
    h = keras.layers.BatchNormalization(center=scaled, scale=scaled)(h)
    outputs = keras.layers.Dense(small_models.CLASSES)(h) if scaled else h
    model = small_models.compiled(keras.Model(inputs, outputs))
    small_models.fit(model)
    return model


def test_statistics_along_the_line_are_those_of_training():
    model = with_normalization()
    x, y = small_models.X, small_models.Y
    ends = model.start_weights, model.end_weights
    before = small_models.numbers(model)
    alphas = [0.0, 0.3, 1.0]
    found = loss_along_line.losses_along_line(
        model, {"training": (x, y)}, alphas=alphas
    )
    small_models.assert_same(small_models.numbers(model), before)
    assert model.layers[2].momentum == 0.99
    for alpha, loss in zip(alphas, found["training"], strict=True):
        for v, *w in zip(model.trainable_variables, *ends, strict=True):
            v.assign((1 - alpha) * w[0] + alpha * w[1])
        # All data in one batch: its statistics are those of the batch.
        expected = small_models.cross_entropy()(y, model(x, training=True))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_statistics_are_means_over_batches_of_the_first_data(monkeypatch):
    monkeypatch.setattr("keras_drmad.loss_along_line.BATCH", 10)
    model = with_normalization(scaled=False)
    x, y = small_models.X, small_models.Y  # 24: batches of 10, 10 and 4
    other = small_models.VALIDATION
    data = {"training": (x, y), "validation": other}
    found = loss_along_line.losses_along_line(model, data, alphas=[0.0])
    kernel, bias = (w.numpy() for w in model.start_weights)
    parts = [h @ kernel + bias for h in (x[:10], x[10:20], x[20:])]
    sizes = [10, 10, 4]
    mean = np.average([z.mean(axis=0) for z in parts], axis=0, weights=sizes)
    variance = np.average([z.var(axis=0) for z in parts], axis=0, weights=sizes)
    logits = (other[0] @ kernel + bias - mean) / np.sqrt(variance + 1e-3)
    expected = small_models.cross_entropy()(other[1], logits)
    np.testing.assert_allclose(found["validation"], [expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("alphas", "losses", "expected", "is_there"),
    [
        # height, foot, top, fall
        ([0, 0.5, 1], [4, 1, 0], (0, 0, 0, 4), False),
        ([0, 0.2, 0.4, 1], [3, 1, 2, 0], (1, 0.2, 0.4, 3), True),
        ([0, 0.2, 0.4, 1], [9, 5, 5.4, -1], (0.4, 0.2, 0.4, 10), False),
        ([0, 0.2, 0.4, 1], [9, 5, 5.6, -1], (0.6, 0.2, 0.4, 10), True),
        ([0, 0.5, 1], [1, 0, 1], (1, 0.5, 1, 0), True),  # overshot
        ([0, 0.5, 1], [0, 1, 2], (2, 0, 1, -2), True),  # worse than before
        ([0, 0.5, 1], [1, 1, 1], (0, 0, 0, 0), False),  # no training
        ([-1, 0, 0.5, 1, 2], [0, 4, 1, 0, 9], (0, 0, 0, 4), False),
        ([0, 0.1 * 3, 1 + 1e-12], [1, 0, 3], (3, 0.3, 1, -2), True),
    ],
)
def test_barrier_is_the_largest_rise(alphas, losses, expected, is_there):
    found = loss_along_line.barrier(alphas, losses)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.is_there == is_there


def test_barrier_of_a_wave():
    places = np.linspace(0, 1, 401)
    found = loss_along_line.barrier(places, np.cos(3 * np.pi * places))
    np.testing.assert_allclose(found, (2, 1 / 3, 2 / 3, 2), atol=0.003)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_a_barrier(value):
    found = loss_along_line.barrier([0, 0.5, 1], [1, value, 0])
    assert found.is_there and found.top == 0.5


@pytest.mark.parametrize("alphas", [[0.5], [-1, 0, 2], [1, 0.5, 0], []])
def test_barrier_needs_ascending_places_on_the_way(alphas):
    with pytest.raises(ValueError) as error:
        loss_along_line.barrier(alphas, np.ones(len(alphas)))
    small_models.assert_helps(error, "alphas", "Received")


def test_loss_along_line_shows_a_barrier_and_warns():
    model = small_models.compiled(small_models.hidden())
    small_models.fit(model, epochs=60, meta_iterations=0)
    # Two nets that differ in the order of their units, and in nothing else.
    order = np.roll(np.arange(5), 1)
    kernel, bias, last, _ = (w.numpy() for w in model.end_weights)
    permuted = (kernel[:, order], bias[order], last[order])
    first = model.start_weights
    for variable, value in zip(first, model.end_weights, strict=True):
        variable.assign(value)
    for variable, value in zip(model.end_weights, permuted, strict=False):
        variable.assign(value)
    data = {"training": (small_models.X, small_models.Y)}
    with pytest.warns(UserWarning, match="ReverseMode.*anchors=") as found:
        axes = plots.loss_along_line(model, data)
    (told,) = (w for w in found if w.category is UserWarning)
    assert told.filename == __file__
    line = axes.lines[0]
    rise = loss_along_line.barrier(line.get_xdata(), line.get_ydata())
    assert rise.is_there and abs(rise.fall) < 1e-5
    (span,) = axes.patches
    left, right = span.get_x(), span.get_x() + span.get_width()
    np.testing.assert_allclose((left, right), (rise.foot, rise.top))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"rises by {rise.height:.3g}" in texts[1]


def test_loss_along_line_needs_a_fitted_model_and_data():
    model = small_models.compiled()
    with pytest.raises(ValueError, match="Call `fit`"):
        plots.loss_along_line(model, {})
    small_models.fit(model)
    with pytest.raises(ValueError) as error:
        plots.loss_along_line(model, {})
    small_models.assert_helps(error, "data", "{}")
