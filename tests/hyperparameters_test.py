"""Kinds of hyperparameters: what each does, and its values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from closed_forms import (
    LinearTerm,
    bound,
    exact_model,
    linear_net,
    penalty,
    tanh_net,
)
from keras_drmad.hyperparameters import L1, L2, ExampleWeights, LearningRate

PENALTIES = {"l1": L1, "l2": L2}
PER = ("all", "layer", "input", "weight")
OPTIMIZER = keras.optimizers.SGD


def by_hand(name, coefficient, w):
    measure = np.abs if name == "l1" else np.square
    return float(np.sum(coefficient * measure(w)))


def rate_of(kind, variable, rate, t=0):
    raw = kind.raw.value
    return kind.number(raw, "learning_rate", variable, rate, tf.constant(t))


# ---- penalties


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_equals_that_of_keras(name, per):
    kind, model = bound(PENALTIES[name](per, initial=0.25))
    regularizer = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    kernels = [layer.kernel for layer in model.layers[1:]]
    expected = sum(float(regularizer[name](0.25)(w)) for w in kernels)
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_per_unit_by_hand(name):
    # Row i of a kernel has the i-th coefficient of its layer.
    kind, model = bound(PENALTIES[name]("input"))
    values = np.linspace(0.1, 0.7, 7)
    kind.assign(values)
    a, b = (layer.kernel.numpy() for layer in model.layers[1:])
    expected = by_hand(name, values[:4, None], a) + by_hand(
        name, values[4:, None], b
    )
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_per_weight_with_biases_by_hand(name):
    kind, model = bound(PENALTIES[name]("weight", biases=True))
    model.set_weights([w + 0.5 for w in model.get_weights()])
    values = np.linspace(0.1, 0.7, 4 * 3 + 3 + 3 * 2 + 2)
    kind.assign(values)
    flat = np.concatenate([w.ravel() for w in model.get_weights()])
    expected = by_hand(name, values, flat)
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)


def test_penalty_per_layer_with_biases_by_hand():
    kind, model = bound(L2("layer", biases=True))
    model.set_weights([w + 0.5 for w in model.get_weights()])
    kind.assign([0.1, 0.7])
    squares = [np.sum(np.square(w)) for w in model.get_weights()]
    expected = 0.1 * sum(squares[:2]) + 0.7 * sum(squares[2:])
    assert penalty(kind, model) == pytest.approx(expected, rel=1e-5)


# ---- learning rates


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("per", ["all", "input", "weight"])
def test_penalty_in_a_compiled_function(per, jit_compile):
    kind, model = bound(L2(per, 0.3), tanh_net(hidden=9))
    kernels = [w for w in model.get_weights() if w.ndim == 2]

    @tf.function(jit_compile=jit_compile, autograph=False)
    def penalty_of():
        params = {id(v): v.value for v in model.trainable_variables}
        operations = tf.compat.v1.get_default_graph().get_operations
        value = kind.penalty(kind.raw.value, params)
        kinds.update(operation.type for operation in operations())
        return value

    kinds: set[str] = set()
    expected = sum(0.3 * np.sum(w**2) for w in kernels)
    np.testing.assert_allclose(penalty_of(), expected, rtol=1e-6)
    # By columns for XLA alone: elsewhere these are more operations.
    assert ("Maximum" in kinds) == jit_compile


@pytest.mark.parametrize("per, expected", [("all", ()), ("layer", (2,))])
def test_learning_rate_starts_at_the_optimizers(per, expected):
    kind, _ = bound(LearningRate(per), optimizer=OPTIMIZER(0.25))
    assert tuple(kind.raw.shape) == expected
    np.testing.assert_allclose(kind.value(), 0.25, rtol=1e-6)


def test_learning_rate_takes_the_place_of_a_number():
    kind, model = bound(LearningRate("layer"), optimizer=OPTIMIZER(0.25))
    kind.assign([0.1, 0.3])
    rates = [
        float(rate_of(kind, v, tf.constant(0.25)))
        for v in model.trainable_variables
    ]
    # A layer's bias shares the rate of its kernel.
    assert rates == pytest.approx([0.1, 0.1, 0.3, 0.3])


def test_learning_rate_multiplies_a_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.25, 10, 0.5)
    kind, model = bound(LearningRate(), optimizer=OPTIMIZER(schedule))
    kind.assign(3.0)
    v = model.trainable_variables[0]
    rate = rate_of(kind, v, tf.constant(0.5))
    assert float(rate) == pytest.approx(1.5)


def test_learning_rate_of_other_layers_stays():
    kind, model = bound(LearningRate(layers="b", initial=0.5))
    first = model.trainable_variables[0]
    rate = rate_of(kind, first, tf.constant(0.25))
    assert float(rate) == 0.25


# ---- values


@pytest.mark.parametrize("kind", [L1, L2, LearningRate])
def test_raw_is_the_logarithm_of_the_value(kind):
    kind, _ = bound(kind("layer", initial=0.5))
    np.testing.assert_allclose(kind.raw, np.log([0.5, 0.5]), rtol=1e-6)
    kind.raw.assign([0.0, 1.0])
    np.testing.assert_allclose(kind.value(), np.exp([0.0, 1.0]), rtol=1e-6)


def test_assign_takes_a_number_or_an_array():
    kind, _ = bound(L2("layer"))
    kind.assign(0.5)
    np.testing.assert_allclose(kind.value(), [0.5, 0.5], rtol=1e-6)
    kind.assign([0.25, 0.5])
    np.testing.assert_allclose(kind.value(), [0.25, 0.5], rtol=1e-6)


def test_assign_takes_back_what_value_gives_where_rounding_took_it_to_an_end():
    kind, _ = bound(ExampleWeights(3))
    kind.raw.assign([-200.0, 1.0, 30.0])
    value = kind.value()
    np.testing.assert_array_equal(value[::2], [0.0, 1.0])
    kind.assign(value)
    np.testing.assert_allclose(kind.value(), value, atol=1e-7)
    assert np.isfinite(kind.raw).all()
    with pytest.raises(ValueError, match="`value`"):
        kind.assign(1.0)  # not rounded: a user's own number


@pytest.mark.parametrize("value", [0.0, -1.0, [0.5, 3.0], float("nan"), 1e-9])
def test_assign_out_of_range(value):
    kind, _ = bound(L2("layer", bounds=(1e-6, 1.0)))
    with pytest.raises(ValueError, match="`value`.*'l2'"):
        kind.assign(value)
    np.testing.assert_allclose(kind.value(), 1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    "bounds, expected",
    [
        (None, [1e-9, 1e-3, 1e3]),
        ((1e-6, None), [1e-6, 1e-3, 1e3]),
        ((None, 1.0), [1e-9, 1e-3, 1.0]),
        ((1e-6, 1.0), [1e-6, 1e-3, 1.0]),
    ],
)
def test_clip_moves_values_back_to_their_bounds(bounds, expected):
    kind, _ = bound(L2("input", layers="b", bounds=bounds))
    kind.raw.assign(np.log([1e-9, 1e-3, 1e3]))
    kind.clip()
    np.testing.assert_allclose(kind.value(), expected, rtol=1e-5)


def test_steps_of_fit_stay_within_the_bounds():
    x, y = np.ones((4, 4)), np.ones((4, 2))
    kind = L2(initial=0.5, bounds=(0.4, 0.6))
    model = exact_model(
        tanh_net(), [kind], meta_optimizer=keras.optimizers.SGD(1e6)
    )
    with pytest.warns(UserWarning, match="'l2' ended at their bounds"):
        history = model.fit(
            x, y, validation_data=(x, y), meta_iterations=3, verbose=0
        ).history
    assert history["l2/mean"][0] == pytest.approx(0.5)
    for mean in history["l2/mean"][1:]:
        assert mean in (pytest.approx(0.4), pytest.approx(0.6))


def test_values_before_binding():
    for use in (L2().value, lambda: L2().assign(1.0)):
        with pytest.raises(ValueError, match="'l2'.*compile"):
            use()


def test_binding_again_keeps_what_was_learned():
    kind, model = bound(L2("input"))
    kind.assign(0.5)
    kind.bind(model, OPTIMIZER())
    np.testing.assert_allclose(kind.value(), 0.5, rtol=1e-6)


def test_a_kind_of_ones_own():
    kind, model = bound(LinearTerm(), linear_net())
    assert penalty(kind, model) == pytest.approx(
        0.1 * np.sum(model.get_weights()[0]), rel=1e-5
    )


# ---- arguments


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"per": "neuron"}, "per"),
        ({"initial": 0.0}, "initial"),
        ({"initial": -1.0}, "initial"),
        ({"initial": float("nan")}, "initial"),
        ({"initial": 2.0, "bounds": (0.1, 1.0)}, "initial"),
        ({"bounds": (1.0, 0.1)}, "bounds"),
        ({"bounds": (-1.0, 1.0)}, "bounds"),
        ({"bounds": 3}, "bounds"),
    ],
)
@pytest.mark.parametrize("kind", [L1, LearningRate])
def test_arguments_out_of_range(kind, arguments, argument):
    with pytest.raises(ValueError, match=f"argument `{argument}`.*Received"):
        kind(**arguments)


@pytest.mark.parametrize("kind", [L2, LearningRate])
def test_initial_of_another_type(kind):
    with pytest.raises(TypeError, match="`initial`.*'high'"):
        kind(initial="high")


def test_a_model_without_kernels():
    net = keras.Input((4,)), layers.BatchNormalization()
    with pytest.raises(ValueError, match="biases=True"):
        bound(L2(), (net[0], net[1](net[0])))


@pytest.mark.parametrize(
    "kind",
    [
        L1(),
        L2(
            "input",
            0.5,
            layers=["a", "b"],
            biases=True,
            bounds=(None, 1.0),
            name="decay",
        ),
        LearningRate("layer", bounds=(1e-5, 1.0)),
        LearningRate(initial=0.5, layers="a.*"),
    ],
    ids=repr,
)
def test_config_round_trip(kind):
    config = keras.saving.serialize_keras_object(kind)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(kind)
    assert copy.get_config() == kind.get_config()
    assert copy.bounds == kind.bounds
    kind, _ = bound(kind)
    copy, _ = bound(copy)
    np.testing.assert_array_equal(copy.raw, kind.raw)


def test_layers_given_as_objects_become_names_in_a_config():
    model = keras.Model(*tanh_net())
    config = L2(layers=[model.get_layer("a"), "b"]).get_config()
    assert config["layers"] == ["a", "b"]
