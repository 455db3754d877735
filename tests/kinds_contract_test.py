"""The kinds table: every kind crossed with what all of them promise.

That each kind's hypergradient is that of differences stands in `kinds_test`.
"""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
import small_models
from checks import relative_error
from closed_forms import exact_model, tanh_net
from conftest import reseed
from keras_drmad import hyperparameters as kinds
from keras_drmad import results
from small_models import assert_helps, built_once

N, T = 12, 6  # a short minibatch of all kinds is in `kinds_test`
X = np.random.default_rng(0).normal(size=(N, 4)).astype("float32")
Y = np.arange(N) % 2
VALIDATION = X[:8] + 0.1, Y[:8]
TRAINING = dict(batch_size=4, steps_per_epoch=T, validation_data=VALIDATION)

KINDS = {
    "L2": lambda: kinds.L2("input", 0.01, layers="a", bounds=(1e-6, 1.0)),
    "L1": lambda: kinds.L1("weight", 0.01, biases=True),
    "LearningRate": lambda: kinds.LearningRate(
        "layer", 0.1, schedule="step", steps=T, bounds=(None, 1.0)
    ),
    "Momentum": lambda: kinds.Momentum(
        "input", 0.5, schedule="piecewise", knots=3, coefficient="momentum"
    ),
    "WeightDecay": lambda: kinds.WeightDecay("layer", 0.01),
    "InitialScale": lambda: kinds.InitialScale("all", 0.5, biases=True),
    "InitialWeights": lambda: kinds.InitialWeights("a", bounds=(-9.0, 9.0)),
    "ExampleWeights": lambda: kinds.ExampleWeights(N, initial=0.25),
    "groups": lambda: kinds.ExampleWeights(
        groups=np.arange(N) // 3,
        initial=np.linspace(0.5, 1.5, -(-N // 3)),
        transform=kinds.Sigmoid(0.0, 2.0),
    ),
    "LabelSmoothing": lambda: kinds.LabelSmoothing(0.2, bounds=(0.01, 0.5)),
    "LearnedData": lambda: kinds.LearnedData(X, bounds=(-9.0, 9.0)),
    "LossWeights": lambda: kinds.LossWeights(0.5, layers="noisy"),
    "Temperature": lambda: kinds.Temperature(2.0),
    "WeightSharing": lambda: kinds.WeightSharing([["a", "b"]], 0.25),
}
each_kind = pytest.mark.parametrize("name", KINDS)


def net(name):
    """Returns a net that has a place for a kind."""
    if name == "WeightSharing":  # two layers of one shape
        x = inputs = keras.Input((4,))
        for layer in "ab":
            x = keras.layers.Dense(4, "tanh", name=layer)(x)
        return inputs, keras.layers.Dense(2)(x)
    if name == "LossWeights":
        x = inputs = keras.Input((4,))
        x = keras.layers.Dense(3, name="a")(x)
        x = keras.layers.ActivityRegularization(l2=0.1, name="noisy")(x)
        return inputs, keras.layers.Dense(2)(x)
    return tanh_net()


def model_of(name, **options):
    reseed(1)
    decay = 0.01 if name == "WeightDecay" else None
    return exact_model(
        net(name),
        [KINDS[name]()],
        keras.optimizers.SGD(0.1, momentum=0.5, weight_decay=decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )


# ---- as configurations


@each_kind
def test_config_round_trip(name):
    kind = KINDS[name]()
    config = keras.saving.serialize_keras_object(kind)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(kind)
    assert repr(copy.get_config()) == repr(kind.get_config())
    assert copy.name == kind.name and copy.bounds == kind.bounds


# ---- natural units

PLAIN = {"InitialWeights", "LearnedData", "WeightSharing"}


@each_kind
def test_a_unit_is_a_finite_positive_number(name):
    kind = model_of(name).hyperparameters[0]
    unit = np.broadcast_to(kind.unit, kind.raw.shape)
    assert np.all((unit > 0) & np.isfinite(unit))
    assert (unit == 1).all() != (name in PLAIN)


# ---- in tables and pictures


@each_kind
def test_parts_have_each_entry_once_under_a_name_of_its_own(name):
    kind = model_of(name).hyperparameters[0]
    parts = kind.parts()
    entries = np.concatenate([np.ravel(part.entries) for part in parts])
    np.testing.assert_array_equal(np.sort(entries), np.arange(kind.count))
    assert all(len(p.axes) == p.entries.ndim for p in parts)
    names = results.words_of(parts, np.arange(kind.count))
    assert len(set(names)) == kind.count


@each_kind
def test_each_kind_has_a_picture_words_and_a_table(name, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    model = small_models.as_if_tuned(model_of(name))
    kind = model.hyperparameters[0]
    figure = kd.plots.values(model)
    figure.savefig(tmp_path / "values.png", dpi=30)
    drawn = [a for a in figure.axes if a.lines or a.images or a.collections]
    assert drawn
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.close(figure)
    texts = []
    model.results_summary(print_fn=texts.append)
    assert f"{kind.name} ({type(kind).__name__})" in texts[0]
    if importlib.util.find_spec("pandas"):
        assert len(model.to_dataframe()) == kind.count


# ---- all together: with other ways back, compilers and sources

TOGETHER = (
    "L2",
    "L1",
    "LearningRate",
    "InitialScale",
    "ExampleWeights",
    "LabelSmoothing",
    "LearnedData",
    "LossWeights",
    "Temperature",
    "WeightSharing",
)


def all_of_them(*extra, names=TOGETHER, **options):
    """Returns a model that tunes all kinds that go together, or some."""
    x = inputs = keras.Input((4,))
    for layer in "ab":
        x = keras.layers.Dense(4, "tanh", name=layer)(x)
    x = keras.layers.ActivityRegularization(l2=0.1, name="noisy")(x)
    return exact_model(
        (inputs, keras.layers.Dense(2)(x)),
        [KINDS[name]() for name in (*names, *extra)],
        keras.optimizers.SGD(0.1, momentum=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )


@pytest.fixture(scope="module")
def together():
    """Returns a function to a model that tunes all, compiled once, as new.

    Its argument is whether there is a momentum among the kinds: all methods
    but the reversible one see it.
    """
    return built_once(
        lambda momentum=True: all_of_them(*["Momentum"] * momentum)
    )


@pytest.fixture(scope="module")
def exact(together):
    """Returns the gradients of all kinds by reverse mode."""
    return each_gradient(together())


def each_gradient(model, method=None):
    """Returns the gradients, by another method than the model's if given."""
    own = model.method
    model._assembly.method = method or own
    try:
        return model.hypergradient(X, Y, **TRAINING).gradients
    finally:
        model._assembly.method = own


def assert_same_gradients(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative_error(found[name], gradient) < tolerance, name


def test_saved_with_a_model(together, tmp_path):
    model = together()
    model.fit(X, Y, **TRAINING, meta_iterations=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for kind, other in zip(
        model.hyperparameters, loaded.hyperparameters, strict=True
    ):
        np.testing.assert_array_equal(kind.value(), other.value())
    np.testing.assert_array_equal(
        model.predict(X, verbose=0), loaded.predict(X, verbose=0)
    )
    # The loaded one trains to the same weights.
    found, expected = (
        each.validation_loss_after(X, Y, **TRAINING) for each in (loaded, model)
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_logs_and_values_by_layer(together):
    model = together()
    recorder = kd.callbacks.HyperparameterHistory()
    history = model.fit(
        X, Y, **TRAINING, meta_iterations=2, verbose=0, callbacks=[recorder]
    ).history
    for kind in model.hyperparameters:
        values = recorder.values[kind.name]
        assert values.shape == (2, *kind.raw.shape)
        assert history[f"{kind.name}/mean"] == pytest.approx(
            [values[0].mean(), values[1].mean()], rel=1e-4, abs=1e-6
        )
        assert not np.array_equal(values[0], values[1]), kind.name
        parts = kind.by_layer(values)
        assert sum(part[0].size for part in parts.values()) == values[0].size


@pytest.mark.slow
def test_xla_gives_the_same_numbers(exact):
    reseed()
    model = all_of_them("Momentum", jit_compile=True)
    assert_same_gradients(each_gradient(model), exact, 1e-3)


@pytest.mark.slow
def test_checkpoints_see_every_kind(together, exact):
    found = each_gradient(together(), kd.ReverseMode("checkpointed"))
    assert_same_gradients(found, exact, 1e-4)


@pytest.mark.slow
def test_a_reversed_walk_sees_every_kind(together, exact):
    # The momentum that it does not see is that of the optimizer.
    found = each_gradient(together(False), kd.ReverseMode("reversible"))
    expected = {name: exact[name] for name in found}
    assert_same_gradients(found, expected, 1e-4)


def test_drmad_sees_every_kind(together):
    model = together()
    model._assembly.method = kd.DrMAD()
    record = model.hypergradient(X, Y, **TRAINING)
    for name, gradient in record.gradients.items():
        array = np.array(gradient)
        assert np.isfinite(array).all() and np.abs(array).max() > 0, name
    # One rate for each step: all of them are seen.
    assert record.diagnostics["reverse_steps"] == T
    rates = np.array(record.gradients["learning_rate"])
    assert (np.abs(rates).max(axis=1) > 0).all()


def test_streams_that_name_their_examples():
    order = np.random.default_rng(3).permutation(N)

    def batches():
        for k in range(0, N, 4):
            index = order[k : k + 4].astype("int32")
            yield X[index], Y[index], np.ones(len(index), "float32"), index

    signature = tuple(
        tf.TensorSpec(shape, dtype)
        for shape, dtype in (
            ((None, 4), tf.float32),
            ((None,), tf.int64),
            ((None,), tf.float32),
            ((None,), tf.int32),
        )
    )
    stream = tf.data.Dataset.from_generator(batches, output_signature=signature)
    training = dict(epochs=2, validation_data=VALIDATION)
    model = model_of("ExampleWeights")
    found = model.hypergradient(stream, **training).gradients
    expected = model.hypergradient(
        X[order], Y[order], batch_size=4, shuffle=False, **training
    ).gradients
    ordered = np.zeros(N)
    ordered[order] = expected["example_weights"]
    assert relative_error(found["example_weights"], ordered) < 1e-5


# ---- what is refused


def refused(make, *words):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    for word in words:
        assert word in str(error.value), error.value
    return error


STARTS = ("InitialScale", "InitialWeights")
UPDATES = ("LearningRate", "Momentum", "WeightDecay")
SCHEDULES = ("LearningRate", "Momentum")  # those above have one


@pytest.mark.parametrize(
    "method, blind_to",
    [
        (kd.Implicit(), (*UPDATES, *STARTS)),
        (kd.OneStep(), (*UPDATES, *STARTS)),
        (kd.Truncated(0.5), (*SCHEDULES, *STARTS)),
        (kd.DrMAD(last=0.5), (*SCHEDULES, *STARTS)),
        (kd.ReverseMode("reversible"), ("Momentum",)),
        (kd.ReverseMode(), ()),
        (kd.DrMAD(), ()),
        (kd.Auto(), ()),
    ],
    ids=repr,
)
def test_methods_refuse_what_they_cannot_see(method, blind_to):
    for name in blind_to:
        kind = KINDS[name]().name
        refused(
            lambda name=name: model_of(name, hypergradient=method),
            "`hypergradient`",
            repr(method),
            f"'{kind}'",
        )
    seen = [name for name in KINDS if name not in blind_to]
    together = [name for name in seen if name in (*TOGETHER, "Momentum")]
    all_of_them(names=together, hypergradient=method)
    for name in seen:
        if name == "WeightDecay" and "reversible" in repr(method):
            continue  # the optimizer itself is refused
        if name not in together:
            model_of(name, hypergradient=method)


@pytest.mark.parametrize("last", [2, T - 1])
@pytest.mark.parametrize("method", [kd.Truncated, kd.DrMAD])
def test_a_count_of_steps_that_ends_early_is_refused_by_fit(method, last):
    options = (
        {"last": last}
        if method is kd.Truncated
        else {"last": last, "reverse_steps": 1}
    )
    model = model_of("InitialScale", hypergradient=method(**options))
    refused(lambda: model.fit(X, Y, **TRAINING, verbose=0), "'initial_scale'")


def test_steps_of_a_schedule_have_to_be_those_of_the_training():
    model = model_of("LearningRate")
    training = TRAINING | {"steps_per_epoch": T + 1}
    refused(
        lambda: model.fit(X, Y, **training, verbose=0),
        "'learning_rate'",
        f"steps={T + 1}",
    )
    # Used only, a schedule keeps its last value.
    model.fit(X, Y, **training, meta_iterations=0, verbose=0)


def test_start_and_continue_contradict_each_other():
    for name in ("InitialScale", "InitialWeights"):
        model = model_of(name)
        refused(
            lambda model=model: model.fit(
                X, Y, **TRAINING, initial_weights="continue", verbose=0
            ),
            "`initial_weights`",
            "'continue'",
        )


def test_example_weights_of_other_data():
    model = model_of("ExampleWeights")
    refused(
        lambda: model.fit(X[:-1], Y[:-1], **TRAINING, verbose=0),
        "'example_weights'",
        "ExampleWeights(11)",
    )
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    refused(
        lambda: model.fit(stream, validation_data=VALIDATION, verbose=0),
        "'example_weights'",
        "(x, y, sample_weight, index)",
    )


def test_learned_data_of_another_shape():
    model = model_of("LearnedData")
    refused(
        lambda: model.fit(X[:-1], Y[:-1], **TRAINING, verbose=0),
        "'learned_data'",
        "11 of shape (4,)",
    )


@pytest.mark.parametrize(
    "make, argument, received",
    [
        (lambda: kinds.LearningRate(schedule="cosine"), "schedule", "'cosine'"),
        (lambda: kinds.LearningRate(schedule="step"), "steps", "=None"),
        (lambda: kinds.Momentum(knots=1), "knots", "=1"),
        (lambda: kinds.Momentum(initial=1.0), "initial", "=1.0"),
        (lambda: kinds.Momentum(coefficient="beta"), "coefficient", "'beta'"),
        (lambda: kinds.Momentum(bounds=(0.5, 2.0)), "bounds", "2.0"),
        (lambda: kinds.ExampleWeights(), "size", "=None"),
        (lambda: kinds.ExampleWeights(0), "size", "=0"),
        (lambda: kinds.ExampleWeights(3, [0, 1]), "size", "=3"),
        (lambda: kinds.ExampleWeights(groups=[-1]), "groups", "-1"),
        (lambda: kinds.ExampleWeights(groups=[0.5]), "groups", "float64"),
        (lambda: kinds.ExampleWeights(3, initial=[0.5]), "initial", "(1,)"),
        (
            lambda: kinds.ExampleWeights(groups=[0, 1, 1], initial=[0.5] * 3),
            "initial",
            "(3,)",
        ),
        (lambda: kinds.ExampleWeights(2, initial=[0.5, 1.5]), "initial", "1.5"),
        (
            lambda: kinds.ExampleWeights(3, transform="exp"),
            "transform",
            "'exp'",
        ),
        (lambda: kinds.LabelSmoothing(1.5), "initial", "=1.5"),
        (lambda: kinds.LearnedData(3.0), "initial", "()"),
        (lambda: kinds.LearnedData("images"), "initial", "'images'"),
        (lambda: kinds.Temperature(-1.0), "initial", "=-1.0"),
        (lambda: kinds.WeightSharing([]), "layers", "=[]"),
        (lambda: kinds.WeightSharing("a"), "layers", "='a'"),
        (lambda: kinds.Sigmoid(1.0, 0.0), "high", "low=1.0"),
        (lambda: kd.layers.LearnedValue(-1.0), "initial", "=-1.0"),
        (lambda: kd.layers.LearnedValue(1.0, "exp"), "transform", "'exp'"),
    ],
)
def test_bad_arguments(make, argument, received):
    error = refused(make)
    assert f"`{argument}`" in str(error.value)
    assert received in str(error.value)


def of_bytes():
    inputs = keras.Input((4,), dtype="uint8")
    return inputs, keras.layers.Dense(2)(inputs)


def compiled_with(kind, optimizer="sgd", loss="mse", layers=None):
    exact_model(
        tanh_net() if layers is None else layers,
        [kind],
        keras.optimizers.get(optimizer),
        loss=loss,
    )


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: compiled_with(kinds.Momentum()), ["'momentum'", "SGD"]),
        (lambda: compiled_with(kinds.Momentum(), "nadam"), ["Nadam"]),
        (lambda: compiled_with(kinds.WeightDecay()), ["AdamW", "SGD"]),
        (lambda: compiled_with(kinds.LabelSmoothing()), ["cross-entropy"]),
        (lambda: compiled_with(kinds.Temperature()), ["from_logits"]),
        (
            lambda: compiled_with(kinds.LearnedData(X), layers=of_bytes()),
            ["'learned_data'", "uint8"],
        ),
        (lambda: compiled_with(kinds.LossWeights()), ["several outputs"]),
        (lambda: compiled_with(kinds.LossWeights(layers="c")), ["'c'"]),
        (
            lambda: compiled_with(kinds.WeightSharing(["a", "b"])),
            ["at least two"],
        ),
        (
            lambda: compiled_with(kinds.WeightSharing([["a", "b"]])),
            ["equal shapes"],
        ),
    ],
)
def test_what_finds_nothing_to_act_on_is_refused(make, words):
    refused(make, *words)


def test_a_silent_layer_has_no_loss_to_weigh():
    model = exact_model(tanh_net(), [kinds.LossWeights(layers="a")], loss="mse")
    with pytest.raises(ValueError) as error:
        model.fit(X, X[:, :2], **TRAINING | {"validation_data": (X, X[:, :2])})
    assert "add_loss" in str(error.value)


def test_no_hyperparameters_at_all():
    with pytest.raises(ValueError) as error:
        exact_model(tanh_net(), [])
    assert_helps(error, "hyperparameters", "none")
    with pytest.raises(ValueError) as error:
        exact_model(tanh_net(), "all")
    assert_helps(error, "hyperparameters", "'all'")


def test_knots_stay_where_they_were_learned(tmp_path):
    model = model_of("Momentum")
    raw = model.hyperparameters[0].raw
    raw.assign(np.linspace(-1, 1, raw.value.numpy().size).reshape(raw.shape))
    # Used before it was tuned, it is spread over that training.
    model.fit(X, Y, batch_size=4, meta_iterations=0, verbose=0)
    kind = model.hyperparameters[0]
    assert kind.steps == 3
    model.fit(X, Y, **TRAINING, meta_iterations=1, keep="last", verbose=0)
    raw.assign(np.linspace(-1, 1, raw.value.numpy().size).reshape(raw.shape))
    expected = kind.over_time(T)
    model.fit(X, Y, batch_size=4, epochs=4, meta_iterations=0, verbose=0)
    # Calls that only look take values over their own steps, and leave them.
    other = TRAINING | {"steps_per_epoch": 2}
    model.hypergradient(X, Y, **other)
    model.validation_loss_after(X, Y, **other)
    model.check_hypergradient(X, Y, **other, directions=1, verbose=0)
    model.check_hyperparameters(X, Y, **other, draws=2, verbose=0)
    assert kind.steps == T
    np.testing.assert_array_equal(
        model.hyperparameters[0].over_time(T), expected
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.hyperparameters[0].over_time(T), expected
    )
    assert np.ptp(expected, axis=0).min() > 0.1


@pytest.mark.parametrize(
    "first, second",
    [
        (kinds.LearningRate(), kinds.LearningRate("layer", name="other")),
        (kinds.Momentum(layers="a"), kinds.Momentum(name="other")),
        (kinds.InitialScale(name="scale"), kinds.InitialWeights(name="other")),
    ],
)
def test_what_another_kind_would_replace_is_refused(first, second):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    with pytest.raises(ValueError) as error:
        exact_model(tanh_net(), [first, second], optimizer)
    assert_helps(error, "hyperparameters", f"'{first.name}'")
    assert "'other'" in str(error.value)


def test_kinds_on_other_weights_or_that_multiply_go_together():
    schedule = keras.optimizers.schedules.CosineDecay(0.2, 10)
    exact_model(
        tanh_net(),
        [kinds.LearningRate(), kinds.LearningRate("layer", name="factor")],
        keras.optimizers.SGD(schedule),
    )
    exact_model(
        tanh_net(),
        [
            kinds.LearningRate(layers="a"),
            kinds.LearningRate(layers="b", name="other"),
            kinds.InitialWeights(),
            kinds.InitialScale(),
        ],
    )
