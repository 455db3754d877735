"""The optimizer in plain Keras: its numbers, schedules and parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from closed_forms import tanh_net
from keras_drmad import hyperparameters as kinds
from keras_drmad import keras_internals
from keras_drmad.hyperparameters.base import Training
from plain_models import (
    SINGLE,
    WEIGHTS,
    T,
    X,
    exported,
    learned,
    left_out,
    momentum,
)
from this_keras import several_optimizers

pytestmark = pytest.mark.usefixtures("float64")

SGD, AdamW = keras.optimizers.SGD, keras.optimizers.AdamW
schedules = keras.optimizers.schedules
L = kinds.LearningRate


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


@pytest.mark.parametrize("per", ["all", "layer"])
def test_pieces_are_laid_out_at_once(per, monkeypatch):
    """Not step by step, which took seconds for thousands of steps."""
    model = learned([L(per, schedule="piecewise", knots=3)])
    (kind,) = model.hyperparameters
    kind.prepare(Training(7, len(X), None))
    at, seen = kind._at, []
    one = np.stack(
        [
            kind.transform.value(at(kind.raw.value, tf.constant(t)))
            for t in range(9)
        ]
    )
    monkeypatch.setattr(
        kind, "_at", lambda *given: seen.append(1) or at(*given)
    )
    np.testing.assert_allclose(kind.over_time(9), one, rtol=1e-15)
    assert len(seen) == 1


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


@several_optimizers
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


@several_optimizers
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


@pytest.mark.parametrize("of", ["bias", "a/"])
def test_a_common_norm_keeps_what_all_weights_share(of):
    """Exclusions too, where names tell them: "bias" does, a layer does not."""

    def is_in(v):
        return of in v.path

    net = keras.Model(*tanh_net())
    optimizer = AdamW(0.01, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(list(filter(is_in, net.weights)))
    model = learned([kinds.Momentum("layer"), L()], optimizer, (net,))
    with pytest.warns(UserWarning, match="no place in plain Keras"):
        plain = model.to_keras()
    assert set(plain.left_out) == {"momentum", "exclude_from_weight_decay"}
    rate = float(model.hyperparameters[1].value())
    assert plain.learning_rate == pytest.approx(rate)
    assert plain.optimizer.beta_1 == 0.9
    words = plain.left_out["exclude_from_weight_decay"]
    paths = [v.path for v in net.weights if is_in(v)]
    assert str(paths) in words
    assert ("`plain.optimizer` does it" in words) == (of == "bias")
    for v in keras.Model(*tanh_net()).weights:
        for one in (v, v.value):  # of which Keras on TensorFlow asks
            decays = keras_internals.has_weight_decay(plain.optimizer, one)
            assert decays != (of == "bias" and is_in(v))


def test_many_rates_are_said_to_be_slow():
    model = learned([L(schedule="step", steps=201)])
    model.hyperparameters[0].assign(np.linspace(0.1, 0.2, 201))
    with pytest.warns(UserWarning, match="more than 200 steps.*plain.rates"):
        model.to_keras()
