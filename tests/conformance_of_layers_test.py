"""Layers of Keras that have a row are what it says; see `conformance`."""

import keras
import pytest

from conformance import (
    Refused,
    assert_all_right,
    here,
    layer_group,
    layers,
    layers_for_images,
    layers_plain,
    named,
)
from conftest import precision

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.self_check,
]


LONG = {"recurrent", "convolutional recurrent", "moved pixels"}  # to trace


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
        for name in layers.GROUPS
    ],
)
def test_layers(name):
    group = layers.GROUPS[name]
    with precision(group.dtype):
        assert_all_right(
            list(here(keras.layers, group.makes)),
            lambda names: layer_group.check(group, names),
        )


@pytest.mark.parametrize(
    "name", named(Refused, here(keras.layers, layers.LAYERS))
)
def test_layers_that_are_refused(name):
    row = layers.LAYERS[name]
    with pytest.raises(ValueError, match=row.words):
        layers.check_refused(row)


@pytest.mark.parametrize("name", ["RandomPerspective", "RandomZoom"])
def test_layers_that_move_pixels_are_refused_behind_weights(name):
    group = layers_for_images.MOVED_PIXELS._replace(is_first=False)
    with (
        precision(group.dtype),
        pytest.raises(ValueError, match=f"{name}.*cannot differentiate"),
    ):
        layer_group.check(group, [name])


def test_saved_models_are_refused_if_trainable():
    makes = {"TFSMLayer": lambda: layers_plain.saved(trainable=True)}
    with pytest.raises(ValueError, match="TFSMLayer"):
        layer_group.check(
            layers_plain.TOKENS._replace(makes=makes), ["TFSMLayer"]
        )
