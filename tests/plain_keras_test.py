"""What was learned, in plain Keras: penalties, losses, data, and the record."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_drmad as kd
from closed_forms import exact_model, penalty, tanh_net
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.hyperparameters.transforms import Identity
from plain_models import (
    SINGLE,
    WEIGHTS,
    T,
    X,
    Y,
    exported,
    learned,
    left_out,
)
from this_keras import KERAS, several_optimizers

pytestmark = pytest.mark.usefixtures("float64")

SGD = keras.optimizers.SGD
L = kinds.LearningRate

# ---- penalties


def regularized(plain, model):
    return sum(
        float(plain.regularizers[v.path](v.value))
        for v in model.trainable_variables
        if plain.regularizers[v.path] is not None
    )


@pytest.mark.parametrize("per", ["all", "layer", "tensor"])
def test_regularizers_are_the_penalties(per):
    plain, l2, l1 = exported([kinds.L2(per, 0.02, biases=True), kinds.L1(per)])
    assert list(plain.regularizers) == WEIGHTS
    assert all(
        type(r) is keras.regularizers.L1L2 for r in plain.regularizers.values()
    )
    assert plain.regularizers["a/bias"].l1 == 0.0
    expected = penalty(l2, l2.model) + penalty(l1, l2.model)
    assert regularized(plain, l2.model) == pytest.approx(expected, rel=SINGLE)


@pytest.mark.skipif(
    KERAS < (3, 15), reason="L1 is a float32 number before Keras 3.15"
)
def test_regularizers_have_those_of_layers_in_them():
    inputs = keras.Input((4,))
    own = keras.regularizers
    x = keras.layers.Dense(3, name="a", kernel_regularizer=own.L2(0.5))(inputs)
    x = keras.layers.Dense(2, name="b", bias_regularizer=own.L1(0.25))(x)
    plain, l1 = exported([kinds.L1(layers="a")], net=(inputs, x))
    assert plain.regularizers["a/bias"] is None
    assert plain.regularizers["b/kernel"] is None
    assert plain.regularizers["a/kernel"].l2 == 0.5
    assert plain.regularizers["a/kernel"].l1 == pytest.approx(float(l1.value()))
    expected = sum(map(float, l1.model.losses)) + penalty(l1, l1.model)
    assert regularized(plain, l1.model) == pytest.approx(expected, rel=SINGLE)


def test_a_regularizer_that_is_no_sum_is_left_out():
    inputs = keras.Input((4,))
    own = keras.regularizers.OrthogonalRegularizer()
    x = keras.layers.Dense(3, name="a", kernel_regularizer=own)(inputs)
    plain, l2 = left_out([kinds.L2()], net=(inputs, x))
    assert "neither L1 nor L2" in plain.left_out["l2"]
    assert plain.regularizers == {"a/kernel": own, "a/bias": None}


@pytest.mark.parametrize("per", ["input", "weight"])
def test_penalties_of_units_leave_as_arrays(per):
    plain, l2 = left_out([kinds.L2(per, biases=True)])
    assert plain.regularizers == dict.fromkeys(WEIGHTS)
    found = sum(
        np.sum(plain.arrays[f"l2/{v.path}"] * np.square(v))
        for v in l2.model.trainable_variables
    )
    assert found == pytest.approx(penalty(l2, l2.model), rel=1e-12)


# ---- the loss and the data


def test_example_weights_are_multiplied():
    groups = [0, 1, 2] * 3 + [0, 1]
    one, other = kinds.ExampleWeights, {"groups": groups, "name": "sources"}
    plain, each, sources = exported([one(11), one(**other)])
    expected = each.value().numpy() * sources.value().numpy()[groups]
    np.testing.assert_allclose(plain.sample_weight, expected, rtol=1e-12)


class Sequences(keras.Model):
    """Outputs `(N, T, 2)` of a class of one's own, and `(N, 1)` beside."""

    def __init__(self, *, two=False):
        super().__init__()
        self.each, self.all = keras.layers.Dense(2), keras.layers.Dense(1)
        self.two = two

    def call(self, x):
        beside = self.all(keras.ops.mean(x["a"], 1))
        return [beside, self.each(x["a"])] if self.two else self.each(x["a"])


@pytest.mark.parametrize("two", [False, True])
def test_example_weights_have_the_axes_of_a_subclassed_models_losses(two):
    net = Sequences(two=two)
    net({"a": X[:, :, None]})
    plain, kind = exported([kinds.ExampleWeights(11)], net=net)
    assert plain.sample_weight.shape == (11, 1)
    np.testing.assert_array_equal(plain.sample_weight[:, 0], kind.value())


def test_example_weights_are_left_out_where_no_axes_are_known():
    class Eager(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x + 0 * np.sum(x))  # not symbolic

    net = Eager()
    net(X)
    plain, kind = left_out([kinds.ExampleWeights(11)], net=net)
    assert plain.sample_weight is None
    assert "(n, 1) for losses" in plain.left_out["example_weights"]
    np.testing.assert_array_equal(plain.values[kind.name], kind.value())


@pytest.mark.parametrize(
    "loss",
    [keras.losses.CategoricalCrossentropy, keras.losses.BinaryCrossentropy],
)
def test_label_smoothing_adds_to_that_of_the_loss(loss):
    given = loss(from_logits=True, label_smoothing=0.2)
    plain, kind = exported([kinds.LabelSmoothing()], loss=given)
    epsilon = float(kind.value())
    assert type(plain.loss) is loss and plain.loss.get_config()["from_logits"]
    assert 1 - plain.loss.label_smoothing == pytest.approx((1 - epsilon) * 0.8)
    plain, kind = exported(
        [kinds.LabelSmoothing()],
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    assert plain.loss.label_smoothing == pytest.approx(float(kind.value()))


def test_sparse_labels_are_smoothed_where_keras_can():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if "label_smoothing" in loss.get_config():  # since Keras 3.16
        plain, kind = exported([kinds.LabelSmoothing()], loss=loss)
        smoothing = plain.loss.get_config()["label_smoothing"]
        assert smoothing == pytest.approx(float(kind.value()))
        return
    plain, kind = left_out([kinds.LabelSmoothing()], loss=loss)
    assert plain.loss is loss
    said = plain.left_out["label_smoothing"]
    assert f"label_smoothing={float(kind.value()):.6g}" in said


class Hint(keras.layers.Layer):
    """Adds the mean of its input squared to the loss."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


def two_outputs(as_dict=False):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    hidden = Hint(name="hint")(hidden)
    outputs = {
        "main": keras.layers.Dense(2, name="main")(hidden),
        "aux": keras.layers.Dense(1, name="aux")(hidden),
    }
    return keras.Model(inputs, outputs if as_dict else list(outputs.values()))


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize(
    "loss, given",
    [
        ("mse", None),
        (["mse", "mae"], [1.0, 0.25]),
        ({"main": "mse", "aux": "mae"}, {"main": 1.0, "aux": 0.25}),
        ({"main": "mse", "aux": "mae"}, None),
    ],
)
def test_loss_weights_multiply_those_given(loss, given, as_dict):
    if as_dict and isinstance(loss, list):
        pytest.skip("Keras takes lists for lists")
    plain, kind = exported(
        [kinds.LossWeights()],
        net=two_outputs(as_dict),
        loss=loss,
        loss_weights=given,
    )
    values = dict(zip(kind.names, kind.value().numpy(), strict=True))
    aux = 1.0 if given is None else 0.25
    assert plain.loss_weights == pytest.approx(
        {"main": values["main"], "aux": values["aux"] * aux}
    )
    # Keras takes it so, and it is what training minimizes.
    y = {"main": Y, "aux": Y[:, :1]} if as_dict else [Y, Y[:, :1]]
    model = learned(
        [kind], net=two_outputs(as_dict), loss=loss, loss_weights=given
    )
    kind.raw.assign(kind.transform.raw(2.0) + 0 * kind.raw.value)
    plain = model.to_keras()
    other = two_outputs(as_dict)
    other.set_weights(model.get_weights())
    other.compile("sgd", plain.loss, loss_weights=plain.loss_weights)
    found = other.evaluate(X, y, verbose=0, return_dict=True)["loss"]
    history = model.fit(X, y, batch_size=11, meta_iterations=0, verbose=0)
    assert history.history["loss"][0] == pytest.approx(found, rel=1e-12)


def test_losses_of_layers_have_no_weights():
    plain, kind = left_out(
        [kinds.LossWeights(layers="hint")],
        net=two_outputs(),
        loss=["mse", "mse"],
    )
    assert set(plain.loss_weights) == {"main", "aux"}
    said = plain.left_out["loss_weights"]
    assert f"hint by {float(kind.value()[2]):.6g}" in said


def test_an_output_and_its_layer_have_weights_of_their_own():
    """Also two layers of one name, in models inside the model."""
    inputs, shape = keras.Input((4,)), (4,)
    h = inputs
    for k in range(2):
        inner = keras.Sequential(name=f"part_{k}")
        inner.add(keras.Input(shape))
        inner.add(keras.layers.ActivityRegularization(l2=0.1, name="hint"))
        h = inner(h)
    outputs = [
        keras.layers.Dense(n, name=name, activity_regularizer="l2")(h)
        for name, n in (("main", 2), ("hint", 1))
    ]
    kind = kinds.LossWeights(layers=["main", "hint"])
    model = exact_model((inputs, outputs), [kind], loss=["mse", "mse"])
    hints = ["hint (layer)", "hint (layer) (2)", "hint (layer) (3)"]
    assert sorted(kind.names[2:]) == [*hints, "main (layer)"]
    values = np.arange(2.0, 8.0)
    kind.assign(values)
    with pytest.warns(UserWarning, match="loss_weights"):
        plain = model.to_keras()
    assert plain.loss_weights == pytest.approx({"main": 2.0, "hint": 3.0})
    assert "main (layer) by" in plain.left_out["loss_weights"]
    by_layer = kind.by_layer(values[np.newaxis])
    np.testing.assert_array_equal([a[0, 0] for a in by_layer.values()], values)
    assert [part.entries for part in kind.parts()] == list(range(6))


def test_data_and_first_weights():
    plain, data, scale, start = exported(
        [
            kinds.LearnedData(X),
            kinds.InitialScale("input", layers="a", biases=True),
            kinds.InitialWeights(layers="b"),
        ]
    )
    np.testing.assert_array_equal(plain.training_data, data.value())
    assert list(plain.initial_scales) == ["a/kernel", "a/bias"]
    flat = np.concatenate([np.ravel(a) for a in plain.initial_weights.values()])
    np.testing.assert_array_equal(flat, start.value())
    assert plain.initial_weights["b/kernel"].shape == (3, 2)
    # The hooks say so, too.
    weights = data.model.trainable_variables
    params = {id(v): v.value for v in weights}
    for kind in (scale, start):
        params = kind.start(kind.raw.value, params)
    for v in weights:
        drawn = plain.initial_scales.get(v.path, 1.0) * v.numpy()
        found = plain.initial_weights.get(v.path, drawn)
        np.testing.assert_allclose(found, params[id(v)], rtol=1e-12)


def test_scales_of_learned_weights():
    plain, start, scale = exported(
        [kinds.InitialWeights(biases=False), kinds.InitialScale("all")]
    )
    assert plain.initial_scales == {}
    found = plain.initial_weights["a/kernel"]
    expected = np.reshape(start.value()[:12], (4, 3)) * float(scale.value())
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_temperature_is_a_layer():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain, kind = left_out([kinds.Temperature()], loss=loss)
    factor = f"Rescaling({1 / float(kind.value()):.6g})"
    assert factor in plain.left_out["temperature"]


# ---- kinds of other people


class Own(Hyperparameter):
    """A kind without a place in Keras."""

    transform = Identity()

    def __init__(self):
        super().__init__("own", None)

    def bind(self, model, optimizer):
        self.create((2,), 0.5)


class Doubled(Own):
    """One with a place."""

    def to_keras(self, plain):
        plain.loss_weights = [float(a) for a in self.value()]


def test_a_kind_of_a_users_own():
    plain, kind = left_out([Own()])
    np.testing.assert_array_equal(plain.values["own"], kind.value())
    plain, kind = exported([Doubled()])
    assert plain.loss_weights == list(kind.value().numpy())


# ---- the whole record


def everything():
    model = learned(
        [
            kinds.L2("layer"),
            kinds.L1("input", biases=True),
            L("layer", schedule="step", steps=T),
            kinds.Momentum("tensor"),
            kinds.WeightDecay("weight"),
            kinds.ExampleWeights(11),
            kinds.LabelSmoothing(),
            kinds.Temperature(),
            kinds.InitialScale(),
        ],
        SGD(0.1, momentum=0.8, weight_decay=0.01),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    with pytest.warns(UserWarning):
        return model, model.to_keras()


@several_optimizers
def test_the_record_is_whole_and_ready_for_json():
    model, plain = everything()
    record = json.loads(json.dumps(plain.record))
    assert record == plain.record
    assert [r["name"] for r in record] == [
        h.name for h in model.hyperparameters
    ]
    assert [r["name"] for r in record if r["left_out"]] == [
        "l1",
        "weight_decay",
        "temperature",
    ]
    for r, h in zip(record, model.hyperparameters, strict=True):
        np.testing.assert_array_equal(r["values"], h.value())
        assert r["kind"] == type(h).__name__
        assert type(h).from_config(r["config"]).get_config() == h.get_config()
    assert record[0]["by_layer"] == {
        "a": record[0]["values"][:1],
        "b": record[0]["values"][1:],
    }
    assert record[7]["by_layer"] == {}


@several_optimizers
def test_what_is_saved_comes_back(tmp_path):
    _, plain = everything()
    plain.save(tmp_path / "runs" / "tuned")
    folder = tmp_path / "runs" / "tuned"
    content = json.loads((folder / "hyperparameters.json").read_text())
    assert content["hyperparameters"] == plain.record
    assert "keras_drmad" not in json.dumps(content["keras"])
    tuned = keras.saving.deserialize_keras_object(content["keras"])
    serialize = keras.saving.serialize_keras_object
    for name in ("regularizers", "optimizer", "learning_rate", "loss"):
        assert serialize(tuned[name]) == serialize(getattr(plain, name))
    arrays = np.load(folder / "arrays.npz")
    assert set(arrays) == (
        {"sample_weight", "initial_scales/a/kernel", "initial_scales/b/kernel"}
        | {f"learning_rate/{path}" for path in WEIGHTS}
        | {f"left_out/l1/{path}" for path in WEIGHTS}
        | {f"left_out/weight_decay/{path}" for path in WEIGHTS}
        | {f"values/{name}" for name in plain.values}
    )
    np.testing.assert_array_equal(arrays["sample_weight"], plain.sample_weight)
    np.testing.assert_array_equal(
        arrays["left_out/l1/a/kernel"], plain.arrays["l1/a/kernel"]
    )


def test_the_record_is_what_it_was_when_the_model_left():
    plain, kind = exported([kinds.L2()])
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain.optimizer = None
    before = plain.values["l2"].copy()
    kind.assign(0.5)
    np.testing.assert_array_equal(plain.values["l2"], before)


def test_bad_moments():
    with pytest.raises(ValueError, match="compile"):
        kd.DrMADModel(*tanh_net()).to_keras()
    inputs = keras.Input((4,))
    a, b = (keras.layers.Dense(2, name=name) for name in "ab")
    outputs = b(a(inputs))
    b.kernel._path = a.kernel.path
    model = exact_model((inputs, outputs), [kinds.L2()])
    with pytest.raises(ValueError, match="Give the layers different names"):
        model.to_keras()
