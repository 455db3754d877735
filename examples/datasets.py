"""Image classification data for the experiments, as arrays.

Images come flattened, as float32 in [0, 1] minus the mean training image, as
the papers prepare MNIST.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np


class Images(NamedTuple):
    """Images split in three.

    Attributes:
        train: `(x, y)`, images `(n, pixels)` and classes `(n,)`.
        validation: the same, to fit hyperparameters to.
        test: the same, held out.
        shape: `(height, width)` or `(height, width, channels)`.
        classes: int, how many there are.
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    shape: tuple[int, ...]
    classes: int


def load(
    name: str, data_dir: str | None, sizes: tuple[int, int, int], seed: int
) -> Images:
    """Loads a data set and draws training, validation and test examples.

    Args:
        name: `"digits"`, scikit-learn's bundled 8 x 8 digits; `"mnist"`, from
            `mnist.npz` with Keras's keys if `data_dir` holds it; or an image
            classification data set of TFDS.
        data_dir: a folder with `mnist.npz` or with what TFDS prepared; by
            default the environment variable `KERAS_DRMAD_DATA`.
        sizes: numbers of training, validation and test examples.
        seed: int, of the draw.

    Raises:
        ValueError: if there are fewer examples, or they are not images.
        FileNotFoundError: if TFDS can't find or download the data.
    """
    data_dir = data_dir or os.environ.get("KERAS_DRMAD_DATA")
    images, labels = _read(name, data_dir)
    if sum(sizes) > len(images):
        raise ValueError(
            f"The data set '{name}' has {len(images)} examples. Received: "
            f"{sizes[0]} for training, {sizes[1]} for validation and "
            f"{sizes[2]} for the test, {sum(sizes)} in all. Ask for fewer."
        )
    order = np.random.default_rng(seed).permutation(len(images))[: sum(sizes)]
    x = images[order].reshape(sum(sizes), -1).astype("float32")
    x /= images.max()
    x -= x[: sizes[0]].mean(axis=0)
    y = labels[order].astype("int32")
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2])
    train, validation, test = ((x[part], y[part]) for part in parts)
    return Images(
        train,
        validation,
        test,
        shape=tuple(n for n in images.shape[1:] if n > 1),
        classes=int(labels.max()) + 1,
    )


def _read(name: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        from sklearn import datasets

        digits = datasets.load_digits()
        return digits.images, digits.target
    if name == "mnist" and data_dir:
        path = pathlib.Path(data_dir, "mnist.npz")
        if path.exists():
            with np.load(path, allow_pickle=False) as arrays:
                return arrays["x_train"], arrays["y_train"]
    return _read_tfds(name, data_dir)


def _read_tfds(name: str, data_dir: str | None):
    import tensorflow_datasets as tfds

    try:
        images, labels = tfds.as_numpy(
            tfds.load(
                name,
                split="train",
                data_dir=data_dir,
                batch_size=-1,
                as_supervised=True,
            )
        )
    except Exception as error:
        raise FileNotFoundError(
            f"TFDS can't give the data set '{name}': {error}\nWith a network, "
            f"run `tfds build {name} --data_dir=FOLDER` once and pass "
            "`--data_dir=FOLDER`. For MNIST, a folder with Keras's mnist.npz "
            "will do. Without either, use `--dataset=digits`."
        ) from error
    if images.ndim != 4:
        raise ValueError(
            f"The data set '{name}' does not consist of images of one size. "
            f"Received: an array of shape {images.shape}."
        )
    return images, labels
