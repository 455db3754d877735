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
            `mnist.npz` with Keras's keys if `data_dir` holds it; `"cifar10"`,
            from `cifar10_jpeg_5k1k.npz` with the same keys, its test examples
            from its own test images; or an image classification data set of
            TFDS.
        data_dir: a folder with these files or with what TFDS prepared; by
            default the environment variable `KERAS_DRMAD_DATA`.
        sizes: numbers of training, validation and test examples.
        seed: int, of the draw.

    Raises:
        ValueError: if there are fewer examples, or they are not images.
        FileNotFoundError: if TFDS can't find or download the data.
    """
    data_dir = data_dir or os.environ.get("KERAS_DRMAD_DATA")
    pools = _read(name, data_dir)
    counts = [sum(sizes)]
    if len(pools) == 2:
        counts = [sizes[0] + sizes[1], sizes[2]]
    held = [len(labels) for _, labels in pools]
    if any(count > n for count, n in zip(counts, held, strict=True)):
        raise ValueError(
            f"The data set '{name}' has {' + '.join(map(str, held))} examples. "
            f"Received: {sizes[0]} for training, {sizes[1]} for validation and "
            f"{sizes[2]} for the test, {sum(sizes)} in all. Ask for fewer."
        )
    random = np.random.default_rng(seed)
    orders = [
        random.permutation(n)[:count]
        for count, n in zip(counts, held, strict=True)
    ]
    pairs = list(zip(pools, orders, strict=True))
    images = np.concatenate([images[order] for (images, _), order in pairs])
    labels = np.concatenate([labels[order] for (_, labels), order in pairs])
    x = images.reshape(sum(sizes), -1).astype("float32")
    x /= max(images.max() for images, _ in pools)
    x -= x[: sizes[0]].mean(axis=0)
    y = labels.astype("int32")
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2])
    train, validation, test = ((x[part], y[part]) for part in parts)
    return Images(
        train,
        validation,
        test,
        shape=tuple(n for n in images.shape[1:] if n > 1),
        classes=1 + max(int(labels.max()) for _, labels in pools),
    )


def _read(
    name: str, data_dir: str | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns images and labels; of two pools, the second is for the test."""
    if name == "digits":
        from sklearn import datasets

        digits = datasets.load_digits()
        return [(digits.images, digits.target)]
    # The papers draw MNIST's test examples from the training images too.
    files = {
        "mnist": ("mnist.npz", ["train"]),
        "cifar10": ("cifar10_jpeg_5k1k.npz", ["train", "test"]),
    }
    if name in files and data_dir:
        file, parts = files[name]
        path = pathlib.Path(data_dir, file)
        if path.exists():
            with np.load(path, allow_pickle=False) as arrays:
                return [(arrays[f"x_{k}"], arrays[f"y_{k}"]) for k in parts]
    return [_read_tfds(name, data_dir)]


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
