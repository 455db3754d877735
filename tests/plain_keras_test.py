"""What was learned, in plain Keras: by hand, and in a program without us."""

import dataclasses
import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import exact_model, penalty, regression, tanh_net
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.hyperparameters.base import Training
from keras_drmad.hyperparameters.transforms import Identity

pytestmark = pytest.mark.usefixtures("float64")

SGD, AdamW = keras.optimizers.SGD, keras.optimizers.AdamW
schedules = keras.optimizers.schedules
L = kinds.LearningRate
T = 6  # two epochs of three batches, the last one short
X, Y = regression(11)
CLASSES = np.arange(11) % 2
ONE_HOT = np.eye(2)[CLASSES]
WEIGHTS = ["a/kernel", "a/bias", "b/kernel", "b/bias"]
# Keras makes a float32 tensor of a Python float, in float64, too.
SINGLE = 2e-7


def momentum():
    return SGD(0.1, momentum=0.8)


def learned(hyperparameters, optimizer=None, net=None, **options):
    """Returns a model with weights and values that no constructor gives."""
    model = exact_model(
        tanh_net() if net is None else net,
        hyperparameters,
        optimizer or momentum(),
        **options,
    )
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=w.shape) / 2 for w in model.get_weights()]
    )
    for h in model.hyperparameters:
        h.raw.assign(h.raw.value + generator.normal(size=h.raw.shape) / 5)
        h.assign(h.value().numpy().astype("float32"))  # see `SINGLE`
    return model


def exported(*args, **options):
    """Returns what leaves, without a warning, and the hyperparameters."""
    model = learned(*args, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.to_keras(), *model.hyperparameters


def left_out(*args, **options):
    """Returns what leaves, and the hyperparameters, of which one does not."""
    model = learned(*args, **options)
    with pytest.warns(UserWarning, match="no place in plain Keras") as caught:
        plain = model.to_keras()
    assert list(plain.left_out) == [model.hyperparameters[0].name]
    (warning,) = caught
    assert f"'{model.hyperparameters[0].name}'" in str(warning.message)
    assert warning.filename == __file__
    return plain, *model.hyperparameters


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


# ---- the optimizer


def config_of(optimizer):
    """Returns a config without the name, which Keras counts up."""
    return optimizer.get_config() | {"name": None}


def test_numbers_of_the_optimizer():
    plain, rate, beta, decay = exported(
        [L(), kinds.Momentum(coefficient="beta_1"), kinds.WeightDecay()],
        AdamW(0.01, beta_2=0.99, weight_decay=0.1, clipnorm=3.0),
    )
    config = config_of(plain.optimizer)
    given = AdamW(0.01, beta_2=0.99, weight_decay=0.1, clipnorm=3.0)
    given = config_of(given) | {
        "learning_rate": pytest.approx(float(rate.value())),
        "beta_1": pytest.approx(float(beta.value())),
        "weight_decay": pytest.approx(float(decay.value())),
    }
    assert type(plain.optimizer) is AdamW
    assert config == given
    assert plain.learning_rate == config["learning_rate"]


def test_without_numbers_it_is_the_models_own():
    plain, _ = exported([kinds.L2()], momentum())
    assert config_of(plain.optimizer) == config_of(momentum())
    assert plain.learning_rate == pytest.approx(0.1)
    assert plain.rates is plain.sample_weight is plain.training_data is None
    assert plain.loss == "mse" and plain.loss_weights is None


def test_a_rate_for_each_step_is_exact():
    plain, rate = exported([L(schedule="step", steps=T)])
    assert type(plain.learning_rate) is schedules.PiecewiseConstantDecay
    found = [float(plain.learning_rate(t)) for t in range(T + 3)]
    values = rate.value().numpy()
    np.testing.assert_array_equal(plain.rates, values)
    values = values.astype("float32")  # as Keras has them
    np.testing.assert_array_equal(found, [*values, *[values[-1]] * 3])


def test_rates_that_stay_share_a_boundary():
    model = learned([L(schedule="step", steps=T)])
    for values, boundaries in (
        ([1, 1, 2, 2, 2, 3], [1, 4]),
        ([1, 1, 1, 1, 1, 3], [4]),
    ):
        model.hyperparameters[0].assign(np.array(values, float))
        plain = model.to_keras()
        assert plain.learning_rate.boundaries == boundaries
        found = [float(plain.learning_rate(t)) for t in range(T)]
        np.testing.assert_allclose(found, values, rtol=SINGLE)
    model.hyperparameters[0].assign(0.5)
    assert model.to_keras().learning_rate == pytest.approx(0.5)


SCHEDULES = {
    "cosine": schedules.CosineDecay(0.2, 4, alpha=0.1),
    "warmup": schedules.CosineDecay(
        0.02, 3, alpha=0.1, warmup_target=0.2, warmup_steps=2
    ),
    "restarts": schedules.CosineDecayRestarts(0.2, 3, m_mul=0.5, alpha=0.1),
    "exponential": schedules.ExponentialDecay(0.2, 3, 0.5, staircase=True),
    "inverse": schedules.InverseTimeDecay(0.2, 3, 0.5),
    "pieces": schedules.PiecewiseConstantDecay([2, 4], [0.2, 0.1, 0.05]),
    "polynomial": schedules.PolynomialDecay(0.2, 4, 0.01, power=2.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_multiplied(name):
    given = SCHEDULES[name]
    plain, factor = exported([L()], SGD(given))
    assert type(plain.learning_rate) is type(given)
    for t in range(T + 3):  # and on, beyond any training
        expected = float(given(t)) * float(factor.value())
        assert float(plain.learning_rate(t)) == pytest.approx(expected, SINGLE)
    plain, factor = exported([L(schedule="step", steps=T)], SGD(given))
    for t, value in enumerate(factor.value().numpy()):
        expected = float(given(t)) * value
        assert float(plain.learning_rate(t)) == pytest.approx(expected, SINGLE)


@keras.saving.register_keras_serializable("keras_drmad_tests")
class Halves(schedules.LearningRateSchedule):
    """A schedule of a user's own."""

    def __call__(self, step):
        return 0.1 * 0.5 ** tf.cast(step, "float64")

    def get_config(self):
        return {}


def test_a_schedule_of_a_users_own():
    plain, factor = exported([L(schedule="step", steps=T)], SGD(Halves()))
    expected = 0.1 * 0.5 ** np.arange(T) * factor.value()
    np.testing.assert_allclose(plain.rates, expected, rtol=1e-12)
    plain, _ = left_out([L()], SGD(Halves()))
    assert isinstance(plain.learning_rate, Halves)
    assert "Multiply" in plain.left_out["learning_rate"]


def test_pieces_need_a_training():
    plain, kind = left_out([L(schedule="piecewise", knots=3)])
    assert "Call `fit` first" in plain.left_out["learning_rate"]
    kind.prepare(Training(T, len(X), None))  # as `fit` does
    plain, _ = exported([kind])
    np.testing.assert_array_equal(plain.rates, kind.over_time(T))
    assert plain.rates.shape == (T,)


@pytest.mark.parametrize(
    "per, shapes",
    [
        ("input", [(4, 1), (1,), (3, 1), (1,)]),
        ("output", [(1, 3), (3,), (1, 2), (2,)]),
        ("weight", [(4, 3), (3,), (3, 2), (2,)]),
    ],
)
def test_rates_of_units_leave_as_arrays(per, shapes):
    plain, rate = left_out([L(per)])
    assert plain.learning_rate == pytest.approx(0.1)
    arrays = [plain.arrays[f"learning_rate/{path}"] for path in WEIGHTS]
    assert [a.shape for a in arrays] == shapes


def test_momenta_have_no_schedule():
    plain, kind = left_out([kinds.Momentum("layer", schedule="step", steps=T)])
    assert "schedules of the learning rate only" in plain.left_out["momentum"]
    assert plain.arrays["momentum/a/kernel"].shape == (T, 1, 1)


def parts(optimizer, attribute):
    """Returns a number of each part of an optimizer, by its weights."""
    optimizer.build(keras.Model(*tanh_net()).trainable_variables)
    return {
        tuple(v.path for v in one._trainable_variables): getattr(one, attribute)
        for one in optimizer.optimizers
    }


def test_numbers_of_layers_need_several_optimizers():
    plain, rate, gamma = exported([L("layer"), kinds.Momentum(layers="b")])
    assert type(plain.optimizer) is keras.optimizers.MultiOptimizer
    assert list(plain.learning_rate) == WEIGHTS
    a, b = rate.value().numpy()
    assert list(plain.learning_rate.values()) == pytest.approx([a, a, b, b])
    assert parts(plain.optimizer, "momentum") == {
        ("a/kernel", "a/bias"): 0.8,
        ("b/kernel", "b/bias"): pytest.approx(float(gamma.value())),
    }


def test_what_was_excluded_from_decay_stays_so():
    optimizer = AdamW(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    plain, decay = exported([kinds.WeightDecay("layer")], optimizer)
    a, b = decay.value().numpy()
    assert parts(plain.optimizer, "weight_decay") == {
        ("a/kernel",): pytest.approx(a),
        ("a/bias", "b/bias"): 0.0,
        ("b/kernel",): pytest.approx(b),
    }


def test_a_common_norm_needs_common_numbers():
    clipped = SGD(0.1, global_clipnorm=1.0)
    plain, _ = left_out([L("layer")], clipped)
    assert "global_clipnorm" in plain.left_out["learning_rate"]
    assert config_of(plain.optimizer) == config_of(clipped)
    assert plain.learning_rate == pytest.approx(0.1)
    plain, rate = exported([L()], SGD(0.1, global_clipnorm=1.0))
    assert plain.learning_rate == pytest.approx(float(rate.value()))


def test_many_rates_are_said_to_be_slow():
    model = learned([L(schedule="step", steps=201)])
    model.hyperparameters[0].assign(np.linspace(0.1, 0.2, 201))
    with pytest.warns(UserWarning, match="more than 200 steps.*plain.rates"):
        model.to_keras()


# ---- the loss and the data


def test_example_weights_are_multiplied():
    groups = [0, 1, 2] * 3 + [0, 1]
    one, other = kinds.ExampleWeights, {"groups": groups, "name": "sources"}
    plain, each, sources = exported([one(11), one(**other)])
    expected = each.value().numpy() * sources.value().numpy()[groups]
    np.testing.assert_allclose(plain.sample_weight, expected, rtol=1e-12)


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


def test_sparse_labels_are_not_smoothed():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
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


# ---- a program that does not know this package

PLAIN = """
import json
import pathlib
import sys

sys.modules["keras_drmad"] = None  # an import of it would raise

import keras
import numpy as np

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
FIT = dict(batch_size=4, epochs=2, shuffle=False, verbose=0)


def one():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="b")(x))


def two():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    main = keras.layers.Dense(2, name="main")(x)
    return keras.Model(inputs, [main, keras.layers.Dense(1, name="aux")(x)])


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rates):
        self.rates = rates

    def __call__(self, step):
        last = len(self.rates) - 1
        return keras.ops.take(self.rates, keras.ops.minimum(step, last))


def run(folder, looks_up=False):
    with open(folder / "hyperparameters.json") as file:
        tuned = json.load(file)["keras"]
    tuned = keras.saving.deserialize_keras_object(tuned)
    arrays = np.load(folder / "arrays.npz")
    given = np.load(folder / "given.npz")
    x, y = given["x"], [given[f"y_{k}"] for k in range(given["outputs"])]
    x_val, y_val = x[::-1][:6] / 2, [a[::-1][:6] for a in y]
    make = one if len(y) == 1 else two
    model, count = make(), given["weights"]
    model.set_weights([given[f"w_{k}"] for k in range(count)])
    for v in model.trainable_variables:
        v.regularizer = tuned["regularizers"][v.path]
        if f"left_out/l2/{v.path}" in arrays:
            c = arrays[f"left_out/l2/{v.path}"]
            v.regularizer = lambda w, c=c: keras.ops.sum(c * w**2)
    if looks_up:
        tuned["optimizer"].learning_rate = Rates(arrays["learning_rate"])
    model.compile(tuned["optimizer"], tuned["loss"], tuned["loss_weights"])
    weights = arrays.get("sample_weight")
    if "own_weights" in given:
        weights = weights * given["own_weights"]
    history = model.fit(x, y, sample_weight=weights, **FIT).history
    judge = make()  # without what is there for training only
    judge.set_weights(model.get_weights())
    with open(folder / "compiled.json") as file:
        options = keras.saving.deserialize_keras_object(json.load(file))
    judge.compile(**options, run_eagerly=True)
    score = judge.evaluate(x_val, y_val, return_dict=True, verbose=0)["loss"]
    np.savez(
        folder / f"found{'_looked_up' * looks_up}.npz",
        loss=history["loss"],
        val_loss=score,
        **{f"w_{k}": w for k, w in enumerate(model.get_weights())},
    )


for folder in sorted(pathlib.Path(".").iterdir()):
    run(folder)
    if folder.name == "steps":
        run(folder, looks_up=True)
known = {name for name, module in sys.modules.items() if module is not None}
assert not any(name.startswith("keras_drmad") for name in known)
"""


def cross_entropy():
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def squares():
    return "mse"


STEP = dict(schedule="step", steps=T)


def trapped():
    """Returns an optimizer of which every option counts."""
    optimizer = AdamW(
        schedules.CosineDecay(0.05, 5),
        weight_decay=0.2,
        clipnorm=0.5,
        use_ema=True,
        ema_momentum=0.7,
        ema_overwrite_frequency=4,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


CASES = {
    "steps": (lambda: [kinds.L2("layer", 0.05), L(**STEP)], momentum, squares),
    "adamw": (
        lambda: [L(), kinds.WeightDecay(), kinds.Momentum()],
        lambda: AdamW(0.05, weight_decay=0.2),
        squares,
    ),
    "examples": (
        lambda: [kinds.ExampleWeights(11), kinds.LabelSmoothing()],
        momentum,
        cross_entropy,
    ),
    "outputs": (
        lambda: [kinds.LossWeights(), kinds.L1("tensor", 0.02)],
        momentum,
        lambda: ["mse", "mse"],
    ),
    "layers": (
        lambda: [L("layer"), kinds.Momentum("tensor")],
        lambda: SGD(0.1, momentum=0.8, nesterov=True),
        squares,
    ),
    "units": (
        lambda: [kinds.L2("input", 0.05, biases=True)],
        momentum,
        squares,
    ),
    "together": (
        lambda: [
            L("layer", **STEP),
            kinds.WeightDecay("layer"),
            kinds.Momentum(layers="b", coefficient="beta_2"),
            kinds.ExampleWeights(11),
            kinds.L2("tensor", 0.05, biases=True),
            kinds.L1(initial=0.05),
        ],
        trapped,
        squares,
    ),
}


def two_plain_outputs():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    main = keras.layers.Dense(2, name="main")(x)
    return keras.Model(inputs, [main, keras.layers.Dense(1, name="aux")(x)])


def prepared(name, folder):
    """Writes what a case needs; returns what training it here gives."""
    make, optimizer, loss = CASES[name]
    options: dict = dict(loss=loss())
    y, own = [ONE_HOT if loss is cross_entropy else Y], {}
    if name == "outputs":
        options |= dict(net=two_plain_outputs(), loss_weights=[1.0, 0.25])
        y = [Y, Y[:, :1] + X[:, :1]]
    if name == "examples":
        own = {"own_weights": np.linspace(0.5, 1.5, 11)}
    model = learned(make(), optimizer(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "units" else "error")
        model.to_keras().save(folder)
    start = model.get_weights()
    np.savez(
        folder / "given.npz",
        x=X,
        outputs=len(y),
        weights=len(start),
        **{f"y_{k}": a for k, a in enumerate(y)},
        **{f"w_{k}": a for k, a in enumerate(start)},
        **own,
    )
    options.pop("net", None)
    compiled = keras.saving.serialize_keras_object(options)
    (folder / "compiled.json").write_text(json.dumps(compiled))
    y = y if name == "outputs" else y[0]
    history = model.fit(
        X,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        meta_iterations=0,
        sample_weight=own.get("own_weights"),
        verbose=0,
    ).history
    held_out = tf.nest.map_structure(lambda a: a[::-1][:6], y)
    score = model.evaluate(
        X[::-1][:6] / 2, held_out, return_dict=True, verbose=0
    )
    expected = {f"w_{k}": w for k, w in enumerate(model.get_weights())}
    moved = max(
        np.abs(a - b).max()
        for a, b in zip(start, model.get_weights(), strict=True)
    )
    assert moved > 1e-2
    return expected | {"loss": history["loss"], "val_loss": score["loss"]}


@pytest.fixture(scope="module")
def witnessed(float64, tmp_path_factory):
    """Trains each case here and in a program that has Keras alone."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("plain")
    expected = {name: prepared(name, folder / name) for name in CASES}
    run = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return expected, folder


@pytest.mark.parametrize(
    "name, file",
    [*((name, "found") for name in CASES), ("steps", "found_looked_up")],
)
def test_a_program_without_this_package_trains_the_same(witnessed, name, file):
    expected, folder = witnessed
    found = np.load(folder / name / f"{file}.npz")
    assert set(found) == set(expected[name])
    for key, value in expected[name].items():
        # A product of rates is rounded to single precision.
        tolerance = 1e-6 if name == "together" else 1e-9
        np.testing.assert_allclose(found[key], value, rtol=tolerance)
