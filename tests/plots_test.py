"""The pictures show the numbers they were given."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

import small_models
from keras_drmad import plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_penalties_by_layer_draws_the_geometric_mean_and_spread():
    rows = np.exp(np.array([[0.0, 2.0], [1.0, 5.0]]))
    axes = plots.penalties_by_layer({"dense": rows}, label="L2")
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


def test_input_map_draws_the_values_in_place():
    axes = plots.input_map(np.arange(1.0, 7.0), (2, 3))
    image = axes.images[0].get_array()
    np.testing.assert_array_equal(image, [[1, 2, 3], [4, 5, 6]])


def test_loss_along_line_ends_in_the_losses_at_both_ends():
    model = small_models.compiled(small_models.hidden())
    small_models.fit(model)
    data = small_models.VALIDATION
    before = model.get_weights()
    axes = plots.loss_along_line(
        model, {"training": data}, alphas=[0.0, 0.5, 1.0]
    )
    losses = axes.lines[0].get_ydata()
    for variable, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(variable, kept)
    for place, weights in ((0, model.start_weights), (2, model.end_weights)):
        for variable, value in zip(
            model.trainable_variables, weights, strict=True
        ):
            variable.assign(value)
        loss = model.evaluate(*data, verbose=0, return_dict=True)["loss"]
        np.testing.assert_allclose(losses[place], loss, rtol=1e-5)


def test_loss_along_line_needs_a_fitted_model():
    with pytest.raises(ValueError, match="Call `fit`"):
        plots.loss_along_line(small_models.compiled(), {})
