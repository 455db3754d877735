"""Words for arguments: equal for equal ones, other words for others."""

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.training import fingerprints

X = np.arange(12.0).reshape(4, 3)


def words(value):
    return fingerprints.of_arguments({"x": value})["x"]


def frame(values):
    return pytest.importorskip("pandas").DataFrame(values, columns=list("abc"))


FORMS = {
    "array": lambda x: x,
    "array of another order": lambda x: np.asfortranarray(x),
    "float32": lambda x: x.astype("float32"),
    "bfloat16": lambda x: tf.cast(x, tf.bfloat16),
    "tensor": tf.constant,
    "list": lambda x: x.tolist(),
    "long list": lambda x: np.tile(x, (50, 1)).tolist(),
    "strings": lambda x: x.astype(str),
    "objects": lambda x: x.astype(str).astype(object),
    "dates": lambda x: x.astype("datetime64[s]"),
    "ragged": lambda x: tf.RaggedTensor.from_tensor(x),
    "frame": frame,
    "two": lambda x: (np.zeros(3), x),
    "dict": lambda x: {"a": np.zeros(3), "b": [x]},
    "data set": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(len(x)),
}


@pytest.mark.parametrize("form", FORMS)
def test_equal_arguments_have_equal_words(form):
    some, others = (words(FORMS[form](X.copy())) for _ in range(2))
    assert some == others
    assert len(some) < 500


@pytest.mark.parametrize("form", [form for form in FORMS if form != "data set"])
def test_another_number_has_other_words(form):
    x = X.copy()
    x[2, 1] += 1
    assert words(FORMS[form](x)) != words(FORMS[form](X))


def test_data_sets_are_known_by_shapes_and_length():
    dataset = tf.data.Dataset.from_tensor_slices(X)
    assert words(dataset) != words(dataset.batch(2))
    assert words(dataset) != words(dataset.take(2))


def test_numbers_and_words_are_as_they_are():
    for value in (None, 3, 0.1, True, "auto"):
        assert words(value) == repr(value)
    assert words([1, 2]) == words((1, 2)) == "(1, 2)"


@pytest.mark.parametrize(
    "value",
    [[0.1] * 500, [[1, 2, 3]] * 200, "a" * 5000],
    ids=["numbers", "lists", "text"],
)
def test_what_is_long_in_a_config_has_few_words(value):
    def given(value):
        config = {"class_name": "A", "config": {"values": value, "seed": 3}}
        return dict(fingerprints.entries("model", config))

    words = given(value)
    assert words["model.seed"] == "3"
    assert len(words["model.values"]) < 100
    assert words == given(value)
    assert words != given(value + value[:1])
    assert words != given(value[1:] + value[-1:] * 2)


def test_names_that_keras_has_counted_are_the_same():
    def of(name):
        return dict(fingerprints.entries("0", {"name": name}))

    assert of("dropout_2.rate") == of("dropout_3.rate") == of("dropout.rate")
    assert of("dropout_2.rate") != of("noise_2.rate")


def test_long_words_are_shown_where_they_differ():
    saved = {"x": "a" * 100 + "b" + "c" * 100, "y": "1"}
    given = {"x": "a" * 100 + "d" + "c" * 100, "y": "1", "z": "2"}
    with pytest.raises(ValueError, match="other arguments") as error:
        fingerprints.check(saved, given)
    lines = str(error.value).splitlines()
    assert "aab" in lines[1] and "aad" in lines[1]
    assert len(lines[1]) < 200
    assert lines[2].strip() == "z: nothing in the backup, 2 now"
    fingerprints.check(saved, dict(saved))
