"""Batches of what a user passes, checked: arrays or streams."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.nested import leaves
from keras_drmad.core.state import Batch
from keras_drmad.training import passes, tables
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.kept_arrays import KeptArrays
from keras_drmad.training.plan import Source
from keras_drmad.training.streams import StreamBatches


def training_source(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool,
    seed: int,
    strings: bool = False,
    class_axis: int | None = -1,
    examples: np.ndarray | None = None,
) -> Source:
    """Returns the training batches; the arguments are those of `plan`.

    Args:
        x: as for `plan`, and so are the others; arrays as tensors of
            `KeptArrays`.
        examples: `(n,)` integers, the places of the examples to train on; all
            by default.

    Raises:
        ValueError: if the data are fewer than a batch.
        TypeError: if they are of a type that cannot be read more than once, or
            `class_weight` is no dict of numbers.
    """
    _check_steps("steps_per_epoch", steps_per_epoch)
    if class_weight is not None and not _are_class_weights(class_weight):
        raise arguments.type_error(
            "class_weight",
            class_weight,
            "a dict from class, a whole number, to weight, a number",
        )
    if not is_stream(x, y, sample_weight, "x"):
        data = x, y, sample_weight
        if class_weight is not None:
            data = _weighted_by_class(data, class_weight, class_axis)
        return _array_source(
            data,
            batch_size,
            steps_per_epoch,
            shuffle,
            seed,
            "x",
            "batch_size",
            examples,
        )
    return _stream_source(
        x,
        class_weight,
        steps_per_epoch,
        shuffle,
        seed,
        "x",
        strings,
        class_axis,
    )


def validation_source(
    data: Any,
    batch_size: int | None,
    steps: int | None,
    argument: str,
    kept: KeptArrays,
    strings: bool = False,
    without_y: bool = True,
) -> Source:
    """Returns the batches of a validation set, in the order given.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, x alone, a `tf.data.Dataset`
            or a `keras.utils.PyDataset`.
        batch_size: int, 32 by default, at most the number of examples.
        steps: int, the number of batches; all by default.
        argument: str, the name of the argument, for errors.
        kept: the arrays that calls before had.
        strings: bool, whether the model takes strings.
        without_y: bool, whether x may come alone.

    Raises:
        ValueError: as `training_source`.
        TypeError: as `training_source`.
    """
    _check_steps("validation_steps", steps)
    _check_steps("validation_batch_size", batch_size)
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        steps = _no_more(steps, _known_number_of_batches(data), argument)
        return _stream_source(data, None, steps, False, 0, argument, strings)
    if isinstance(data, list):
        data = tuple(data)
    _check_is_read_again(data, argument)
    count = len(data) if isinstance(data, tuple) else 1
    if count not in (2, 3) and not (count == 1 and without_y):
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected a tuple (x, y) "
            "or (x, y, sample_weight), a `tf.data.Dataset` or a "
            "`keras.utils.PyDataset`; x alone where training has no y. "
            f"Received: a {type(data).__name__}, of {count} part(s)."
        )
    arrays = kept.tensors(*passes.unpack(data)[:3], argument, strings)
    size = len(leaves(arrays)[0])
    limit = min(32 if batch_size is None else batch_size, size)
    steps = _no_more(steps, -(-size // limit), argument)
    return _array_source(
        arrays, limit, steps, False, 0, argument, "validation_batch_size"
    )


# ---- arrays


def _array_source(
    data,
    batch_size,
    steps,
    shuffle,
    seed,
    argument,
    size_argument,
    examples=None,
) -> Source:
    size = len(leaves(data)[0]) if examples is None else len(examples)
    batch_size = min(32, size) if batch_size is None else batch_size
    _check_steps(size_argument, batch_size)
    if batch_size > size:
        without = "" if examples is None else " without those split off"
        raise ValueError(
            f"Invalid value for argument `{size_argument}`. Expected at most "
            f"the number of examples in `{argument}`{without}, {size}. "
            f"Received: {size_argument}={batch_size}."
        )
    source = ArrayBatches(data, batch_size, shuffle, seed, examples)
    return Source(source, steps or source.steps_per_pass)


def held_out_source(
    training: ArrayBatches,
    data: tuple,
    examples: np.ndarray,
    batch_size: int | None,
    steps: int | None,
) -> Source:
    """Returns the batches of the examples that were split off.

    Args:
        training: the training batches; inputs and targets are on the device
            once, for both.
        data: `(x, y, sample_weight)`, as `fit` was given it.
        examples: `(n,)` integers, the places of the held-out examples.
        batch_size: int, 32 by default, at most the number of examples.
        steps: int, the number of batches; all by default.

    Raises:
        TypeError: if a number is not whole.
        ValueError: if a number is not positive.
    """
    _check_steps("validation_steps", steps)
    _check_steps("validation_batch_size", batch_size)
    x, y, _ = training.data
    limit = min(32 if batch_size is None else batch_size, len(examples))
    steps = _no_more(steps, -(-len(examples) // limit), "validation_split")
    return _array_source(
        (x, y, data[2]),
        limit,
        steps,
        False,
        0,
        "x",
        "validation_batch_size",
        examples,
    )


def check_weighed(source: Source, argument: str) -> None:
    """Checks that held-out arrays have a weight that is not 0.

    Args:
        source: the batches that hyperparameters are fitted to.
        argument: str, in which their weights came, for errors.

    Raises:
        ValueError: if all weights are 0.
    """
    if not isinstance(source.batches, ArrayBatches):
        return
    weights = leaves(source.batches.data[2])
    if weights and not any(np.any(w) for w in weights):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected sample weights "
            "that are not all 0, for hyperparameters are fitted to the loss of "
            f"the examples that have some. Received: {len(weights[0])} weights "
            "of 0."
        )


def _are_class_weights(given: Any) -> bool:
    """Returns whether an argument is a dict from whole numbers to numbers."""

    def is_class(key: Any) -> bool:
        is_bool = isinstance(key, (bool, np.bool_))
        return is_bool or (arguments.is_real(key) and key % 1 == 0)

    return isinstance(given, Mapping) and all(
        is_class(key) and arguments.is_real(weight)
        for key, weight in given.items()
    )


def _weighted_by_class(
    data: tuple, class_weight: Mapping, class_axis: int | None
) -> tuple:
    _, y, sample_weight = data
    if tf.is_tensor(y):
        y = np.asarray(y)
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)
    weights = _class_weights(y, sample_weight, class_weight, class_axis)
    return *data[:2], weights


def _class_weights(
    y: Any, sample_weight: Any, class_weight: Mapping, class_axis: int | None
) -> Any:
    """Returns the weight of each label's class, times its own."""
    if y is None or isinstance(y, (dict, list, tuple)):
        raise ValueError(
            "Argument `class_weight` needs one array of targets. Received: "
            f"targets of type {type(y).__name__}. Use `sample_weight`."
        )
    classes = _classes(y, class_axis)
    present, places = np.unique(classes, return_inverse=True)
    of_class = [class_weight.get(int(k), 1.0) for k in present]
    weights = np.array(of_class, keras.config.floatx())[places]
    weights = weights.reshape(classes.shape)
    if sample_weight is None:
        return weights
    # Either may lack axes of the other, the last ones.
    ndim = max(weights.ndim, sample_weight.ndim)
    one, other = (
        a.reshape(a.shape + (1,) * (ndim - a.ndim))
        for a in (weights, sample_weight)
    )
    return one * other


def _classes(y: np.ndarray, axis: int | None) -> np.ndarray:
    """Returns the number of each label's class."""
    if y.ndim > 1 and axis is not None and y.shape[axis] > 1:
        return y.argmax(axis)
    if y.ndim > 1 and y.shape[-1] == 1:
        y = y.squeeze(-1)
    return np.round(y).astype(int)


# ---- streams


def is_stream(x: Any, y: Any, sample_weight: Any, argument: str) -> bool:
    """Returns whether data come as a data set, and not as arrays.

    Args:
        x: a data set, or arrays.
        y: targets, with arrays alone.
        sample_weight: weights of the examples, with arrays alone.
        argument: str, the name of the argument, for errors.

    Raises:
        TypeError: if the data can be read only once.
        ValueError: if `y` or `sample_weight` stand beside a data set.
    """
    if not isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        _check_is_read_again(x, argument)
        return False
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Arguments `y` and `sample_weight` go with arrays. Received: x of "
            f"type {type(x).__name__}, which should yield (x, y) or (x, y, "
            "sample_weight) itself."
        )
    return True


def _check_is_read_again(x: Any, argument: str) -> None:
    """Checks that data are not of a type that is read once, or a function.

    Raises:
        TypeError: if they are.
    """
    is_table = hasattr(x, "__array__")  # some of these can be called, too
    if x is None or hasattr(x, "__next__") or (callable(x) and not is_table):
        what = f"a {type(x).__name__}"
        raise TypeError(
            f"Invalid type for argument `{argument}`. Expected arrays, a "
            "`tf.data.Dataset` or a `keras.utils.PyDataset`, which can be "
            f"read again in each meta-iteration. Received: {what}. Of a "
            "generator make a data set: `tf.data.Dataset.from_generator("
            "function, output_signature=...)`, or a subclass of "
            "`keras.utils.PyDataset`."
        )


def _stream_source(
    data,
    class_weight,
    steps,
    shuffle,
    seed,
    argument,
    strings,
    class_axis=None,
) -> Source:
    steps = steps or _number_of_batches(data, argument)
    if isinstance(data, tf.data.Dataset):
        counted = passes.dataset_passes(data)
    else:
        counted = passes.py_dataset_passes(data, shuffle)

    def checked(seed: int, number: int):
        for batch in counted(seed, number):
            x, y, sample_weight, index = tables.checked(
                batch, argument, strings
            )
            if class_weight is not None:
                sample_weight = _class_weights(
                    y, sample_weight, class_weight, class_axis
                )
            yield Batch(x, y, sample_weight, index)

    return Source(StreamBatches(checked, seed, counted=counted), steps)


def _no_more(steps: int | None, count: int, argument: str) -> int | None:
    """Returns `validation_steps`, but no more than there are batches.

    Args:
        steps: int, as for `validation_source`.
        count: int, the number of batches; below 0 where it is not known.
        argument: str, in which they came, for a warning.
    """
    if steps is None or not 0 < count < steps:
        return steps
    warnings.warn(
        f"Argument `{argument}` has {count} batches, fewer than "
        f"validation_steps={steps}. Each of them counts once.",
        UserWarning,
        stacklevel=arguments.users_level(),
    )
    return count


def warn_of_ends(data: Any, steps: int | None, epochs: int) -> None:
    """Warns if a data set that says its length ends within an epoch.

    Args:
        data: `x`, as for `plan`.
        steps: int, `steps_per_epoch`; `None` for all batches.
        epochs: int.
    """
    if steps is None or not isinstance(
        data, (tf.data.Dataset, keras.utils.PyDataset)
    ):
        return
    count = _known_number_of_batches(data)
    if count % steps and 0 < count < epochs * steps:
        warnings.warn(
            f"Argument `x` has {count} batches, and ends within an epoch of "
            f"steps_per_epoch={steps}. Training goes through the data again "
            "there, so that each epoch has all of its steps; "
            "`keras.Model.fit` would end the epoch. Take a `steps_per_epoch` "
            "that divides the number of batches for what both do, or "
            "`repeat()` a `tf.data.Dataset`.",
            UserWarning,
            stacklevel=arguments.users_level(),
        )


def _known_number_of_batches(data: Any) -> int:
    """Returns how many batches there are; below 0: endless, or not known."""
    if isinstance(data, tf.data.Dataset):
        return int(data.cardinality())
    return -1 if data.num_batches is None else data.num_batches


def _number_of_batches(data: Any, argument: str) -> int:
    count = _known_number_of_batches(data)
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = int(data.reduce(np.int64(0), lambda n, *_: n + 1))
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
        arguments.whole(argument, steps, 1)
