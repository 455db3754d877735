"""What a user passes to `fit`, checked and turned into a plan."""

import math
from collections.abc import Mapping
from typing import Any

from keras_drmad import arguments
from keras_drmad.core.nested import leaves
from keras_drmad.training.kept_arrays import KeptArrays
from keras_drmad.training.plan import Plan, Split
from keras_drmad.training.randomness import drawn_seed
from keras_drmad.training.sources import (
    check_weighed,
    held_out_source,
    is_stream,
    training_source,
    validation_source,
)


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
    kept: KeptArrays | None = None,
) -> Plan:
    """Returns the plan of a training; the arguments are those of `fit`.

    Args:
        x: as for `fit`, and so are the others.
        is_tuned: bool, whether there must be data to fit hyperparameters to.
        class_axis: int, the axis of classes in `y`; `None` where `y` has the
            numbers of classes.
        strings: bool, whether the model takes strings.
        kept: the arrays that calls before had; `None` for no such calls.

    Raises:
        TypeError: if data or an argument are of a type that can't serve.
        ValueError: if the data are empty, of unequal lengths, not finite or
            fewer than a batch, or an argument is not valid.
    """
    arguments.whole("epochs", epochs, 1)
    arguments.choice("shuffle", shuffle, (True, False, 0, 1))  # not "batch"
    kept = KeptArrays() if kept is None else kept
    is_split = bool(validation_split) and validation_data is None
    is_streamed = is_stream(x, y, sample_weight, "x")
    if is_split and is_streamed:
        raise ValueError(
            "Argument `validation_split` needs arrays. Received: "
            f"x of type {type(x).__name__}. Pass `validation_data` instead."
        )
    held = validation_data is not None or is_split
    if is_tuned and not held and hyper_data is None:
        raise ValueError(
            "Invalid value for argument `validation_data`. Hyperparameters are "
            "fitted to the loss on data that is not trained on. Received: "
            "None. Pass `validation_data=(x_val, y_val)`, `validation_split` "
            "or `hyper_data`."
        )
    seed = drawn_seed(seed)
    if not is_streamed:
        x, y, sample_weight = kept.tensors(x, y, sample_weight, "x", strings)
    parts = split(len(leaves(x)[0]), validation_split) if is_split else None
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
            data, size, validation_steps, argument, kept, strings, y is None
        )

    if parts is None:
        reports = held_out(validation_data, "validation_data")
    else:
        size = validation_batch_size
        reports = held_out_source(
            training.batches,
            (x, y, sample_weight),
            parts.last()[1],
            batch_size if size is None else size,
            validation_steps,
        )
    hyper = held_out(hyper_data, "hyper_data")
    fitted = "hyper_data"
    if hyper is None:
        hyper, reports = reports, None
        fitted = "validation_data" if parts is None else "sample_weight"
    if is_tuned:
        check_weighed(hyper, fitted)
    return Plan(training, epochs, hyper, reports, seed, parts)


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
