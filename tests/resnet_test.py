"""The example with a residual net, and its hypergradient."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import assert_exact_hypergradient
from closed_forms import exact_model
from conftest import set_precision
from running import assert_folder_is_complete, run_program
from small_nets import one_stage
from studies.residual_net import residual_net


def images(size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, 8, 8, 3)), np.arange(size) % 4


@pytest.mark.slow
def test_exact_hypergradient_of_a_residual_net():
    set_precision("float64")
    try:
        model = exact_model(
            residual_net((8, 8, 3), 4, blocks=1, channels=2),
            "auto",
            keras.optimizers.Adam(1e-2),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        l2, rate = model.hyperparameters
        assert l2.raw.shape == rate.raw.shape == (10,)
        # A step small beside the kinks of ReLU.
        assert_exact_hypergradient(
            model,
            *images(12),
            batch_size=6,
            steps_per_epoch=4,
            validation_data=images(6, seed=1),
            step=1e-6,
            rtol=1e-4,
        )
    finally:
        set_precision("float32")


def test_short_run(tmp_path):
    out = run_program(
        "studies.resnet",
        tmp_path,
        "--channels=2",
        "--steps=4",
        "--meta_iterations=2",
        "--hypergradient=drmad",
        constants={"studies.residual_net.residual_net": one_stage},
    )
    assert "4 hyperparameters by DrMAD" in out
    folder = tmp_path / "resnet" / "short"
    assert_folder_is_complete(
        folder, {"l2", "learning_rate", "loss"}, "--channels=2"
    )
    loaded = keras.models.load_model(folder / "model.keras")
    assert isinstance(loaded, kd.DrMADModel)
