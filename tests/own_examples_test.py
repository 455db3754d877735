"""The examples of a kind and of a layer of a user's own."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import assert_exact_hypergradient
from closed_forms import exact_model, regression, tanh_net
from examples.class_weights import ClassWeights
from examples.fourier_features import FourierFeatures
from running import (
    assert_flag_is_refused_without_tensorflow,
    assert_folder_is_complete,
    history,
    run_program,
)

PROGRAMS = ["own_kind", "own_layer"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_flags_are_answered_without_tensorflow(name):
    assert_flag_is_refused_without_tensorflow(
        f"examples.{name}", "--meta_iterations=0"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, figure, shape, hyperparameter",
    [
        ("own_kind", "class_weights", (10,), "class_weights"),
        ("own_layer", "bandwidths", (64,), "features.bandwidth"),
    ],
)
def test_short_run_tunes_and_writes_its_folder(
    tmp_path, name, figure, shape, hyperparameter
):
    out = run_program(
        f"examples.{name}", tmp_path, "--meta_iterations=4", "--steps=100"
    )
    folder = tmp_path / name / "short"
    losses = history(folder)["val_loss"]
    assert min(losses) < losses[0]
    assert "Verdict: " in out and "test_loss" in out
    with np.load(folder / "hyperparameters.npz") as arrays:
        assert arrays[hyperparameter].shape == (4, *shape)
    assert_folder_is_complete(folder, {figure}, "--steps=100")
    loaded = keras.models.load_model(folder / "model.keras")
    assert isinstance(loaded, kd.DrMADModel)


@pytest.mark.usefixtures("float64")
class TestHypergradient:
    """Against finite differences of whole trainings."""

    X, Y = regression(12)[0], np.arange(12) % 2
    VALIDATION = regression(8, seed=1)[0], np.arange(8) % 2

    def check(self, net, hyperparameters):
        model = exact_model(
            net,
            hyperparameters,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        assert_exact_hypergradient(
            model,
            self.X,
            self.Y,
            batch_size=4,
            steps_per_epoch=6,
            validation_data=self.VALIDATION,
        )

    def test_of_class_weights(self):
        self.check(tanh_net(), [ClassWeights(2)])

    def test_of_bandwidths(self):
        inputs = keras.Input((self.X.shape[1],))
        features = FourierFeatures(5, self.X.shape[1], bandwidth=0.7)
        outputs = keras.layers.Dense(2)(features(inputs))
        self.check((inputs, outputs), [])


def test_features_are_those_of_a_gaussian_kernel():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    z = FourierFeatures(20_000, 3, bandwidth=0.5)(x).numpy()
    distances = ((x[:, None] - x) ** 2).sum(axis=-1)
    # Of 20,000 features the mean deviates by about 1 / √20,000 = 0.007.
    np.testing.assert_allclose(
        z @ z.T, np.exp(-(0.5**2) * distances / 2), atol=0.03
    )
