"""What a user passes to `fit`, checked and turned into batches."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import checks
from keras_drmad.core.state import Batch
from keras_drmad.training import batches as batches_lib
from keras_drmad.training.batches import ArrayBatches, StreamBatches

Batches = ArrayBatches | StreamBatches


class Source(NamedTuple):
    """Batches and how many of them make one epoch.

    Attributes:
        batches: the minibatches.
        steps: int, batches in an epoch (of validation data: in all).
    """

    batches: Batches
    steps: int


class Plan(NamedTuple):
    """The elementary training that each meta-iteration repeats.

    Attributes:
        training: the training batches.
        epochs: int; T = epochs x training.steps.
        hyper: the batches of the loss that hyperparameters are fitted to;
            `None` where none are fitted.
        validation: the batches that only report, `None` for `hyper`.
    """

    training: Source
    epochs: int
    hyper: Any
    validation: Source | None

    @property
    def T(self) -> int:
        """The number of elementary steps."""
        return self.epochs * self.training.steps

    @property
    def pauses(self) -> range:
        """Where a walk pauses to report: eight times, but not too often."""
        return range(0, self.T, max(50, -(-self.T // 8)))

    @property
    def last_epoch(self) -> tuple[int]:
        """The first step of the last epoch, where the metrics start anew."""
        return (self.T - self.training.steps,)


TRAINING_ARGUMENTS = (
    "x",
    "y",
    "sample_weight",
    "class_weight",
    "batch_size",
    "steps_per_epoch",
    "shuffle",
    "seed",
)


def plan(
    training: Source,
    epochs: int,
    validation_data: Any,
    hyper_data: Any,
    batch_sizes: Sequence[int | None],
    steps: int | None,
) -> Plan:
    """Returns the plan of trainings; the arguments are those of `fit`.

    Args:
        training: the training batches.
        epochs: int.
        validation_data: what hyperparameters are fitted to, unless there is
            `hyper_data`; or `None`.
        hyper_data: what they are fitted to; or `None`.
        batch_sizes: of both, the first that is given counts.
        steps: int, the number of batches of both; all by default.

    Raises:
        ValueError: as `training_source`.
        TypeError: as `training_source`.
    """
    batch_size = next((b for b in batch_sizes if b is not None), None)
    held_out = [
        None if data is None else validation_source(data, batch_size, steps, k)
        for k, data in (
            ("validation_data", validation_data),
            ("hyper_data", hyper_data),
        )
    ]
    reports, hyper = held_out
    if hyper is None:
        return Plan(training, epochs, reports, None)
    return Plan(training, epochs, hyper, reports)


def training_source(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool,
    seed: int,
) -> Source:
    """Returns the training batches; the arguments are those of `fit`.

    Raises:
        ValueError: if the data are empty, of unequal lengths, not finite, or
            fewer than a batch.
        TypeError: if they are of a type that cannot be read more than once.
    """
    _check_steps("steps_per_epoch", steps_per_epoch)
    if class_weight is not None and not isinstance(class_weight, Mapping):
        raise TypeError(
            "Invalid type for argument `class_weight`. Expected a dict from "
            f"class to weight. Received: class_weight={class_weight!r}."
        )
    if not _is_stream(x, y, sample_weight, "x"):
        data = _arrays(x, y, sample_weight, "x")
        if class_weight is not None:
            data = _weighted_by_class(data, class_weight)
        return _array_source(
            data, batch_size, steps_per_epoch, shuffle, seed, "x", "batch_size"
        )
    return _stream_source(x, class_weight, steps_per_epoch, shuffle, seed, "x")


def validation_source(
    data: Any, batch_size: int | None, steps: int | None, argument: str
) -> Source:
    """Returns the batches of a validation set, in the order given.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`.
        batch_size: int, 32 by default, at most the number of examples.
        steps: int, the number of batches; all by default.
        argument: str, the name of the argument, for errors.

    Raises:
        ValueError: as `training_source`.
        TypeError: as `training_source`.
    """
    _check_steps("validation_steps", steps)
    _check_steps("validation_batch_size", batch_size)
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        return _stream_source(data, None, steps, False, 0, argument)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected a tuple (x, y) "
            "or (x, y, sample_weight), a `tf.data.Dataset` or a "
            f"`keras.utils.PyDataset`. Received: a {type(data).__name__}."
        )
    arrays = _arrays(*batches_lib.unpack(tuple(data))[:3], argument)
    size = len(batches_lib.leaves(arrays)[0])
    limit = min(32 if batch_size is None else batch_size, size)
    return _array_source(
        arrays, limit, steps, False, 0, argument, "validation_batch_size"
    )


def split(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple:
    """Splits off the last fraction of the examples, as `keras.Model.fit`.

    Returns:
        `(x, y, sample_weight)` for training, and the same for validation.

    Raises:
        TypeError: if the fraction is not a number.
        ValueError: if it leaves nothing on one side, or `x` is not made of
            arrays.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real):
        raise TypeError(
            "Invalid type for argument `validation_split`. Expected a fraction "
            f"in (0, 1). Received: validation_split={fraction!r}."
        )
    if _is_stream(x, y, sample_weight, "x"):
        raise ValueError(
            "Argument `validation_split` needs arrays. Received: "
            f"x of type {type(x).__name__}. Pass `validation_data` instead."
        )
    data = _arrays(x, y, sample_weight, "x")
    size = len(batches_lib.leaves(data)[0])
    place = math.floor(size * (1 - fraction)) if 0 < fraction < 1 else 0
    if not 0 < place < size:
        raise ValueError(
            "Invalid value for argument `validation_split`. Expected a "
            "fraction in (0, 1) that leaves examples on both sides. "
            f"Received: validation_split={fraction} for {size} examples."
        )
    parts = slice(0, place), slice(place, size)
    return tuple(
        batches_lib.map_arrays(lambda a, part=part: a[part], data)
        for part in parts
    )


# ---- arrays


def _arrays(x: Any, y: Any, sample_weight: Any, argument: str) -> tuple:
    """Returns `(x, y, sample_weight)` as arrays with floats in `floatx`."""
    data = _checked((x, y, sample_weight), argument)
    sizes = {len(a) for a in batches_lib.leaves(data)}
    if len(sizes) > 1:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected the same "
            "number of examples in all arrays of inputs, targets and weights. "
            f"Received: {sorted(sizes)}."
        )
    if not sizes or 0 in sizes:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected at least one "
            "example. Received: an empty data set."
        )
    return data


def _checked(data: Sequence, argument: str) -> tuple:
    """Returns the parts of data as finite arrays, floats in `floatx`."""
    own = ("x", "y", "sample_weight", "index")[: len(data)]
    names = own if argument == "x" else (argument,) * len(own)

    def checked(a: Any, name: str) -> np.ndarray:
        array = _array(a, name)
        check_finite(array, name)
        return array

    return tuple(
        batches_lib.map_arrays(lambda a, name=name: checked(a, name), part)
        for part, name in zip(data, names, strict=True)
    )


def check_finite(array: np.ndarray, argument: str) -> None:
    """Checks that an array holds neither nan nor inf.

    Raises:
        ValueError: if it does.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        rest = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected finite "
            f"numbers. Received: {int((~rest).sum())} of {len(array)} examples "
            f"with nan or inf, the first at index {int(np.argmin(rest))}. "
            "Remove or replace them."
        )


def _array(a: Any, argument: str) -> np.ndarray:
    a = np.asarray(a)
    if a.dtype.kind not in "fiub":
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected arrays of "
            f"numbers. Received: an array of dtype {a.dtype}. Encode it as "
            "numbers first."
        )
    if a.ndim == 0:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected arrays with "
            "the examples on the first axis. Received: a single number. "
            "Convert lists with `np.array(...)`, and batch data sets with "
            "`.batch(...)`."
        )
    return a.astype(keras.config.floatx()) if a.dtype.kind == "f" else a


def _array_source(
    data, batch_size, steps, shuffle, seed, argument, size_argument
) -> Source:
    size = len(batches_lib.leaves(data)[0])
    batch_size = min(32, size) if batch_size is None else batch_size
    _check_steps(size_argument, batch_size)
    if batch_size > size:
        raise ValueError(
            f"Invalid value for argument `{size_argument}`. Expected at most "
            f"the number of examples in `{argument}`, {size}. "
            f"Received: {size_argument}={batch_size}."
        )
    source = ArrayBatches(data, batch_size, shuffle, seed)
    return Source(source, steps or source.steps_per_pass)


def _weighted_by_class(data: tuple, class_weight: Mapping) -> tuple:
    x, y, sample_weight = data
    return x, y, _class_weights(y, sample_weight, class_weight)


def _class_weights(y: Any, sample_weight: Any, class_weight: Mapping) -> Any:
    """Returns the weight of each example's class, times its own."""
    if y is None or isinstance(y, (dict, list, tuple)):
        raise ValueError(
            "Argument `class_weight` needs one array of targets. Received: "
            f"targets of type {type(y).__name__}. Use `sample_weight`."
        )
    several = y.ndim > 1 and y.shape[-1] > 1
    classes = y.argmax(-1) if several else y.reshape(len(y)).round().astype(int)
    present, places = np.unique(classes, return_inverse=True)
    of_class = [class_weight.get(int(k), 1.0) for k in present]
    weights = np.array(of_class, keras.config.floatx())[places]
    if sample_weight is None:
        return weights
    rest = (1,) * (sample_weight.ndim - 1)
    return weights.reshape(-1, *rest) * sample_weight


# ---- streams


def _is_stream(x: Any, y: Any, sample_weight: Any, argument: str) -> bool:
    if not isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        if x is None or hasattr(x, "__next__"):
            raise TypeError(
                f"Invalid type for argument `{argument}`. Expected arrays, a "
                "`tf.data.Dataset` or a `keras.utils.PyDataset`, which can be "
                f"read again in each meta-iteration. Received: {type(x)}."
            )
        return False
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Arguments `y` and `sample_weight` go with arrays. Received: x of "
            f"type {type(x).__name__}, which should yield (x, y) or (x, y, "
            "sample_weight) itself."
        )
    return True


def _stream_source(
    data, class_weight, steps, shuffle, seed, argument
) -> Source:
    steps = steps or _number_of_batches(data, argument)
    if isinstance(data, tf.data.Dataset):
        passes = batches_lib.dataset_passes(data)
    else:
        passes = batches_lib.py_dataset_passes(data, shuffle)

    def checked(seed: int, number: int):
        for batch in passes(seed, number):
            x, y, sample_weight, index = _checked(batch, argument)
            if class_weight is not None:
                sample_weight = _class_weights(y, sample_weight, class_weight)
            yield Batch(x, y, sample_weight, index)

    return Source(StreamBatches(checked, seed), steps)


def _number_of_batches(data: Any, argument: str) -> int:
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        if count == tf.data.UNKNOWN_CARDINALITY:
            count = int(data.reduce(np.int64(0), lambda n, *_: n + 1))
    else:
        count = -1 if data.num_batches is None else data.num_batches
    if count < 0:
        steps = "steps_per_epoch" if argument == "x" else "validation_steps"
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected a finite data "
            f"set, or `{steps}`. Received: an endless one, without `{steps}`."
        )
    if count == 0:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected at least one "
            "batch. Received: an empty data set."
        )
    return count


def _check_steps(argument: str, steps: Any) -> None:
    if steps is not None:
        checks.check_counts(**{argument: steps})
