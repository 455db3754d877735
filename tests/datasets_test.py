"""The examples' data."""

import numpy as np
import pytest

from examples import datasets


def test_digits_are_split_scaled_and_centred():
    images = datasets.load("digits", None, (1000, 400, 397), seed=0)
    x, y = images.train
    assert x.shape == (1000, 64) and x.dtype == np.float32
    assert images.shape == (8, 8) and images.classes == 10
    assert len(images.validation[0]) == 400 and len(images.test[1]) == 397
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    assert set(y) == set(range(10))
    every = np.concatenate([x, images.validation[0], images.test[0]])
    assert len(np.unique(every.round(4), axis=0)) == 1797, "parts overlap"


def test_the_draw_follows_the_seed():
    first, again, other = (
        datasets.load("digits", None, (100, 50, 50), seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.train[1], again.train[1])
    assert (first.train[1] != other.train[1]).any()


def test_asking_for_too_many_examples_says_how_many_there_are():
    with pytest.raises(ValueError, match="1797 examples"):
        datasets.load("digits", None, (1000, 500, 500), seed=0)


def test_mnist_is_read_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_DRMAD_DATA", raising=False)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 28, 28)).astype("uint8")
    labels = (np.arange(30) % 10).astype("uint8")
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels)

    loaded = datasets.load("mnist", str(tmp_path), (10, 10, 10), seed=0)

    x = np.concatenate([loaded.train[0], loaded.validation[0], loaded.test[0]])
    raw = images.reshape(30, -1) / images.max()
    distances = x[:, None] - raw[None]
    spread = distances.std(axis=2).min(axis=1)
    assert (spread < 0.5).all() and loaded.shape == (28, 28)


def test_tfds_data_is_asked_for_by_name(monkeypatch):
    import tensorflow_datasets as tfds

    asked = {}
    images = np.arange(5 * 4 * 4 * 3).reshape(5, 4, 4, 3).astype("uint8")

    def load(name, **kwargs):
        asked.update(kwargs, name=name)
        return images, np.arange(5) % 2

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    loaded = datasets.load("cifar10", "folder", (2, 2, 1), seed=0)

    assert asked["name"] == "cifar10" and asked["data_dir"] == "folder"
    assert loaded.shape == (4, 4, 3) and loaded.classes == 2
    assert loaded.train[0].shape == (2, 48)


def test_tfds_data_are_read_from_a_prepared_folder(tmp_path):
    import tensorflow_datasets as tfds

    class TinyImages(tfds.core.GeneratorBasedBuilder):
        """Twelve images of noise, made here."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(4, 4, 1)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            random = np.random.default_rng(0)
            for k in range(12):
                image = random.integers(0, 256, (4, 4, 1)).astype("uint8")
                yield k, {"image": image, "label": k % 3}

    TinyImages(data_dir=tmp_path).download_and_prepare()
    images = datasets.load("tiny_images", str(tmp_path), (6, 3, 3), seed=0)
    assert images.train[0].shape == (6, 16) and images.shape == (4, 4)
    labels = [images.train[1], images.validation[1], images.test[1]]
    np.testing.assert_array_equal(np.bincount(np.concatenate(labels)), [4] * 3)


def test_missing_data_say_how_to_get_them(monkeypatch):
    import tensorflow_datasets as tfds

    def load(name, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.delenv("KERAS_DRMAD_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="--dataset=digits") as error:
        datasets.load("mnist", None, (2, 2, 1), seed=0)
    assert "no network" in str(error.value)
