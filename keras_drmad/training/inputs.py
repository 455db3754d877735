"""What a user passes to `fit`, checked and turned into batches."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments
from keras_drmad.core.nested import leaves
from keras_drmad.core.state import Batch
from keras_drmad.training import streams, tables
from keras_drmad.training.arrays import ArrayBatches
from keras_drmad.training.plan import Plan, Source, Split
from keras_drmad.training.streams import StreamBatches


def plan(
    x: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    shuffle: bool = True,
    validation_split: float = 0.0,
    validation_data: Any = None,
    validation_batch_size: int | None = None,
    validation_steps: int | None = None,
    hyper_data: Any = None,
    seed: int | None = None,
    is_tuned: bool = True,
    class_axis: int | None = -1,
    strings: bool = False,
) -> Plan:
    """Returns the plan of a training; the arguments are those of `fit`.

    Args:
        x: as for `fit`, and so are the others.
        is_tuned: bool, whether there must be data to fit hyperparameters to.
        class_axis: int, the axis of classes in `y`; `None` where `y` has the
            numbers of classes.
        strings: bool, whether the model takes strings.

    Raises:
        TypeError: if data or an argument are of a type that can't serve.
        ValueError: if the data are empty, of unequal lengths, not finite or
            fewer than a batch, or an argument is not valid.
    """
    arguments.whole("epochs", epochs, 1)
    parts = None
    if validation_split and validation_data is None:
        x, y, sample_weight = _arrays_to_split(x, y, sample_weight, strings)
        parts = split(len(leaves(x)[0]), validation_split)
    held = validation_data is not None or parts is not None
    if is_tuned and not held and hyper_data is None:
        raise ValueError(
            "Invalid value for argument `validation_data`. Hyperparameters are "
            "fitted to the loss on data that is not trained on. Received: "
            "None. Pass `validation_data=(x_val, y_val)`, `validation_split` "
            "or `hyper_data`."
        )
    seed = drawn_seed(seed)
    training = training_source(
        x,
        y,
        sample_weight,
        class_weight,
        batch_size,
        steps_per_epoch,
        shuffle,
        seed,
        strings,
        class_axis,
        None if parts is None else parts.last()[0],
    )

    def held_out(data, argument):
        if data is None:
            return None
        size = validation_batch_size
        size = batch_size if size is None else size
        return validation_source(
            data, size, validation_steps, argument, strings, y is None
        )

    if parts is None:
        reports = held_out(validation_data, "validation_data")
    else:
        size = validation_batch_size
        reports = _held_out_source(
            training.batches,
            (x, y, sample_weight),
            parts.last()[1],
            batch_size if size is None else size,
            validation_steps,
        )
    hyper = held_out(hyper_data, "hyper_data")
    if hyper is None:
        hyper, reports = reports, None
    return Plan(training, epochs, hyper, reports, seed, parts)


def drawn_seed(seed: int | None) -> int:
    """Returns the argument `seed`, or for `None` one of NumPy's generator.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is negative.
    """
    given = arguments.seed("seed", seed)
    return int(np.random.randint(2**31)) if given is None else given


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
        x: as for `plan`, and so are the others.
        examples: `(n,)` integers, the places of the examples to train on; all
            by default.

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
        data = tables.all_arrays(x, y, sample_weight, "x", strings)
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
        strings: bool, whether the model takes strings.
        without_y: bool, whether x may come alone.

    Raises:
        ValueError: as `training_source`.
        TypeError: as `training_source`.
    """
    _check_steps("validation_steps", steps)
    _check_steps("validation_batch_size", batch_size)
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
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
    arrays = tables.all_arrays(*streams.unpack(data)[:3], argument, strings)
    size = len(leaves(arrays)[0])
    limit = min(32 if batch_size is None else batch_size, size)
    return _array_source(
        arrays, limit, steps, False, 0, argument, "validation_batch_size"
    )


def split(size: int, fraction: float) -> Split:
    """Returns the division that holds out a fraction of the examples.

    As many examples are held out as by `keras.Model.fit`.

    Raises:
        TypeError: if the fraction is not a number.
        ValueError: if it leaves nothing on one side.
    """
    if not arguments.is_real(fraction):
        expected = "a fraction in (0, 1)"
        raise arguments.type_error("validation_split", fraction, expected)
    count = math.floor(size * (1 - fraction)) if 0 < fraction < 1 else 0
    if not 0 < count < size:
        raise ValueError(
            "Invalid value for argument `validation_split`. Expected a "
            "fraction in (0, 1) that leaves examples on both sides. "
            f"Received: validation_split={fraction} for {size} examples."
        )
    return Split(size, count)


def _arrays_to_split(
    x: Any, y: Any, sample_weight: Any, strings: bool
) -> tuple[Any, Any, Any]:
    """Returns the arguments as arrays.

    Raises:
        ValueError: if `x` is not made of arrays.
    """
    if _is_stream(x, y, sample_weight, "x"):
        raise ValueError(
            "Argument `validation_split` needs arrays. Received: "
            f"x of type {type(x).__name__}. Pass `validation_data` instead."
        )
    return tables.all_arrays(x, y, sample_weight, "x", strings)


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
        raise ValueError(
            f"Invalid value for argument `{size_argument}`. Expected at most "
            f"the number of examples in `{argument}`, {size}. "
            f"Received: {size_argument}={batch_size}."
        )
    source = ArrayBatches(data, batch_size, shuffle, seed, examples)
    return Source(source, steps or source.steps_per_pass)


def _held_out_source(
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


def _weighted_by_class(
    data: tuple, class_weight: Mapping, class_axis: int | None
) -> tuple:
    x, y, sample_weight = data
    weights = _class_weights(y, sample_weight, class_weight, class_axis)
    return x, y, weights


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


def _is_stream(x: Any, y: Any, sample_weight: Any, argument: str) -> bool:
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
        passes = streams.dataset_passes(data)
    else:
        passes = streams.py_dataset_passes(data, shuffle)

    def checked(seed: int, number: int):
        for batch in passes(seed, number):
            x, y, sample_weight, index = tables.checked(
                batch, argument, strings
            )
            if class_weight is not None:
                sample_weight = _class_weights(
                    y, sample_weight, class_weight, class_axis
                )
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
        arguments.whole(argument, steps, 1)
