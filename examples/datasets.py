"""Image classification data for the experiments, as arrays.

Images come flattened, as float32 in [0, 1] minus the mean training image, as
the papers prepare MNIST.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from absl import flags

# Files with Keras's keys: x_train, y_train, x_test, y_test.
FILES = {"mnist": "mnist.npz", "cifar10": "cifar10_jpeg_5k1k.npz"}
flags.disclaim_key_flags()  # they belong to the program that asks for them


class Images(NamedTuple):
    """Images split in three.

    Attributes:
        train: `(x, y)`, images `(n, pixels)` and classes `(n,)`.
        validation: the same, to fit hyperparameters to.
        test: the same, held out.
        shape: `(height, width)` or `(height, width, channels)`.
        classes: int, how many there are.
        mean: `(pixels,)`, the mean training image; add it to have [0, 1].
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    shape: tuple[int, ...]
    classes: int
    mean: np.ndarray

    def with_wrong_labels(
        self, part: float, seed: int, by_class: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns training labels, and a mask of those that are now wrong.

        Args:
            part: float, how much of the labels other ones replace.
            seed: int, of the choice.
            by_class: bool, whether each wrong label is the class after the
                right one, instead of any other class.
        """
        labels = self.train[1]
        random = np.random.default_rng(seed)
        wrong = random.permutation(len(labels)) < round(part * len(labels))
        moves = random.integers(1, self.classes, len(labels))
        others = labels + (1 if by_class else moves)
        return np.where(wrong, others % self.classes, labels), wrong

    def as_pictures(self, centred: bool = False) -> "Images":
        """Returns the images as `(n, height, width, channels)`.

        Args:
            centred: bool, whether the mean training image stays subtracted;
                otherwise pixels are in [0, 1] again.
        """
        shape = (*self.shape, 1)[:3]
        train, validation, test = (
            ((x if centred else x + self.mean).reshape(-1, *shape), y)
            for x, y in self[:3]
        )
        return self._replace(
            train=train, validation=validation, test=test, shape=shape
        )


def define_flags() -> None:
    """Defines the flags that say which data there are, and their seed."""
    flags.DEFINE_string(
        "dataset",
        "digits",
        "digits, mnist, cifar10 or an image data set of TFDS.",
    )
    flags.DEFINE_integer("seed", 0, "Of data, weights and batches.", 0)


def chosen(
    digits: tuple[int, int, int], others: tuple[int, int, int]
) -> Images:
    """Loads the data set that the flags name.

    Args:
        digits: numbers of training, validation and test examples where the
            data set is scikit-learn's digits.
        others: the same for any other data set.
    """
    values = flags.FLAGS
    sizes = digits if values.dataset == "digits" else others
    return load(values.dataset, values.data_dir, sizes, values.seed)


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
    images, labels, own_test = _read(name, data_dir)
    common = len(images) - own_test
    counts = (sum(sizes[:2]), sizes[2]) if own_test else (sum(sizes), 0)
    if counts[0] > common or counts[1] > own_test:
        for_test = f", and {own_test} for the test" if own_test else ""
        raise ValueError(
            f"The data set '{name}' has {common} examples{for_test}. Received: "
            f"{sizes[0]} for training, {sizes[1]} for validation and "
            f"{sizes[2]} for the test, {sum(sizes)} in all. Ask for fewer."
        )
    random = np.random.default_rng(seed)
    order = np.concatenate(
        [
            random.permutation(common)[: counts[0]],
            random.permutation(own_test)[: counts[1]] + common,
        ]
    )
    x = images[order].reshape(sum(sizes), -1).astype("float32")
    x /= images.max()
    mean = x[: sizes[0]].mean(axis=0)
    x -= mean
    y = labels[order].astype("int32")
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2])
    train, validation, test = ((x[part], y[part]) for part in parts)
    return Images(
        train,
        validation,
        test,
        shape=tuple(n for n in images.shape[1:] if n > 1),
        classes=int(labels.max()) + 1,
        mean=mean,
    )


def _read(
    name: str, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns images, labels, and how many at the end are for the test only."""
    if name == "digits":
        from sklearn import datasets

        digits = datasets.load_digits()
        return digits.images, digits.target, 0
    path = pathlib.Path(data_dir or "", FILES.get(name, ""))
    if not path.is_file():
        return *_read_tfds(name, data_dir), 0
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
        if name == "mnist":  # of which the papers draw their test examples too
            return images, labels, 0
        images = np.concatenate([images, arrays["x_test"]])
        labels = np.concatenate([labels, arrays["y_test"]])
        return images, labels, len(arrays["y_test"])


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
