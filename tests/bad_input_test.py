"""Bad input to `fit`: an error that helps, and nothing is lost."""

import re

import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from small_models import (
    CLASSES,
    VALIDATION,
    X,
    Y,
    assert_helps,
    assert_same,
    compiled,
    fit,
    linear,
    numbers,
)

x_val, y_val = VALIDATION
ONE = np.arange(len(X)) == 5  # one bad example
NAN = np.where(ONE, np.nan, 1.0)
WIDE_NAN = X * NAN[:, None]


def stream(x=X, y=Y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def of(x, **options):
    """Returns options of `fit` for a stream."""
    return dict(x=x, y=None, batch_size=None) | options


def validation(x, y=y_val):
    return dict(validation_data=(x, y))


def split(fraction, **options):
    return dict(validation_data=None, validation_split=fraction) | options


# What `fit` is given, the argument that the error names, what it says came.
WRONG_DATA = [
    (dict(x=X[:0], y=Y[:0]), "x", "empty"),
    (of(stream().take(0)), "x", "empty"),
    (of(stream().filter(lambda x, y: False)), "x", "empty"),
    (of(stream().repeat()), "x", "endless"),
    (of(stream().unbatch()), "y", "single number"),
    (of(stream(), y=Y), "y", "Dataset"),
    (of(stream(), sample_weight=NAN), "sample_weight", "Dataset"),
    (dict(y=Y[:-1]), "y", "24 in `x`, 23 in `y`"),
    (dict(sample_weight=np.ones(3)), "sample_weight", "3 in `sample_weight`"),
    (validation(x_val, y_val[:-1]), "validation_data", "16 in `x`, 15 in `y`"),
    (dict(x=X.tolist(), y=Y.tolist()), "x", "single number"),
    (dict(x=X[:, :2]), "x", "(8, 2)"),
    (dict(x=WIDE_NAN), "x", "index 5"),
    (dict(x=np.where(ONE[:, None], np.inf, X)), "x", "index 5"),
    (of(stream(WIDE_NAN)), "x", "1 of 8"),
    (dict(y=Y * NAN), "y", "index 5"),
    (dict(sample_weight=NAN), "sample_weight", "index 5"),
    (dict(y=None), "y", "None"),
    (dict(y=np.eye(CLASSES)[Y]), "y", "(8, 3)"),
    (dict(y=Y + 1), "y", "from 1 to 3"),
    (dict(y=Y - 1), "y", "from -1 to 1"),
    (dict(y=np.append(Y[:-1], 7)), "y", "from 0 to 7"),  # in the last batch
    (dict(y=np.append(Y[:-1], 0.5)), "y", "value of 0.5, and 1 of 24"),
    (of(stream(y=Y + 0.5)), "y", "8 of 8 with a fraction"),
    (validation(x_val, y_val / 4), "validation_data", "with a fraction"),
    (dict(validation_data=None), "validation_data", "None"),
    (dict(validation_data=stream().repeat()), "validation_data", "endless"),
    (validation(x_val[:0], y_val[:0]), "validation_data", "empty"),
    (validation(x_val[:, :2]), "validation_data", "(8, 2)"),
    (validation(x_val, y_val + 5), "validation_data", "from 5 to 7"),
    (validation(x_val * np.nan), "validation_data", "16 of 16"),
    (
        dict(validation_data=(*VALIDATION, np.zeros(16))),
        "validation_data",
        "16 weights of 0",
    ),
    (
        dict(hyper_data=(*VALIDATION, np.zeros(16))),
        "hyper_data",
        "16 weights of 0",
    ),
    (
        split(0.5, sample_weight=np.zeros(24)),
        "sample_weight",
        "24 weights of 0",
    ),
    (dict(hyper_data=(x_val * np.nan, y_val)), "hyper_data", "16 of 16"),
    (split(1.5), "validation_split", "=1.5"),
    (split(0.5, batch_size=13), "batch_size", "without those split off, 12"),
    (split(-0.2), "validation_split", "=-0.2"),
    (split(0.99), "validation_split", "24 examples"),
    (of(stream(), **split(0.2)), "validation_split", "Dataset"),
]

WRONG_KINDS_OF_DATA = [
    (dict(x=None), "x", "NoneType"),
    (of(iter([(X, Y)])), "x", "iterator"),
    (dict(x=X.astype(str)), "x", "<U"),
    (dict(y=np.array([None, *Y[1:]], object)), "y", "object"),
    (
        dict(
            x=np.array(
                [row[: 1 + k % 2].tolist() for k, row in enumerate(X)], object
            )
        ),
        "x",
        "different lengths",
    ),
    (dict(validation_data=x_val), "validation_data", "ndarray"),
    (dict(class_weight=[1, 2, 3]), "class_weight", "[1, 2, 3]"),
    (dict(class_weight={"cat": 2.0}), "class_weight", "{'cat': 2.0}"),
    (dict(class_weight={0: "2"}), "class_weight", "{0: '2'}"),
    (split("0.2"), "validation_split", "'0.2'"),
]

WRONG_OPTIONS = [
    (dict(batch_size=0), "batch_size", "=0"),
    (dict(batch_size=25), "batch_size", "=25"),
    (dict(epochs=0), "epochs", "=0"),
    (dict(steps_per_epoch=0), "steps_per_epoch", "=0"),
    (dict(shuffle="batch"), "shuffle", "'batch'"),
    (dict(initial_epoch=-1), "initial_epoch", "=-1"),
    (dict(validation_steps=0), "validation_steps", "=0"),
    (dict(validation_batch_size=0), "validation_batch_size", "=0"),
    (dict(meta_iterations=-1), "meta_iterations", "=-1"),
    (dict(initial_weights="new"), "initial_weights", "'new'"),
    (dict(seed=-1), "seed", "=-1"),
]

WRONG_KINDS_OF_OPTIONS = [
    (dict(batch_size=2.5), "batch_size", "2.5"),
    (dict(epochs="2"), "epochs", "'2'"),
    (dict(steps_per_epoch="all"), "steps_per_epoch", "'all'"),
    (dict(initial_epoch="1"), "initial_epoch", "'1'"),
    (dict(meta_iterations=1.5), "meta_iterations", "1.5"),
    (dict(meta_iterations=True), "meta_iterations", "True"),
    (dict(seed=0.5), "seed", "0.5"),
]


@pytest.fixture(scope="module")
def model():
    return compiled()


def name(row):
    return f"{row[1]} {row[2]}"


def assert_refused(model, kind, options, argument, received):
    before = numbers(model)
    with pytest.raises(kind) as error:
        fit(model, **options)
    assert_helps(error, argument, received)
    assert_same(numbers(model), before)


@pytest.mark.parametrize("row", WRONG_DATA + WRONG_OPTIONS, ids=name)
def test_wrong_values(model, row):
    assert_refused(model, ValueError, *row)


@pytest.mark.parametrize(
    "row", WRONG_KINDS_OF_DATA + WRONG_KINDS_OF_OPTIONS, ids=name
)
def test_wrong_types(model, row):
    assert_refused(model, TypeError, *row)


def test_a_label_that_comes_late_in_a_stream(model):
    late = stream(y=np.append(Y[:-1], 7))
    before = numbers(model)
    with pytest.raises(Exception, match="label value of 7"):
        fit(model, **of(late))
    assert_same(numbers(model), before)


def test_more_reverse_steps_than_steps():
    model = compiled(hypergradient=kd.DrMAD(reverse_steps=7))
    row = ({}, "reverse_steps", "=7")
    assert_refused(model, ValueError, *row)
    with pytest.raises(ValueError, match=r"training steps, 6\b"):
        fit(model)


def test_not_compiled():
    model = kd.DrMADModel.from_model(linear())
    for function in (
        model.fit,
        model.hypergradient,
        model.validation_loss_after,
    ):
        with pytest.raises(ValueError, match=r"Call `compile\(.*hyperparam"):
            function(X, Y, validation_data=VALIDATION)


def test_one_hypergradient(model):
    for function in (model.hypergradient, model.validation_loss_after):
        with pytest.raises(ValueError) as error:
            function(X, Y, validation_data=None)
        assert_helps(error, "validation_data", "None")
        with pytest.raises(ValueError) as error:
            function(X, Y, batch_size=25, validation_data=VALIDATION)
        assert_helps(error, "batch_size", "=25")
        assert re.search("at most", str(error.value))
