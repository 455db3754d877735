"""`SignConsensus` as an optimizer of Keras, and in models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from consensus_rule import Rule, bound, built, gradients, step
from keras_drmad import hyperparameters as kinds
from small_models import (
    VALIDATION,
    X,
    Y,
    assert_helps,
    assert_same,
    compiled,
    fit,
    hidden,
    numbers,
)

# ---- as an optimizer of Keras


def test_config_round_trip():
    optimizer = kd.SignConsensus(
        0.2,
        reach=4.0,
        prior=9,
        layer_rate=0,
        single="both",
        forget=0.5,
        name="mine",
    )
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is kd.SignConsensus
    assert copy.get_config() == optimizer.get_config()
    given = {"reach": 4, "prior": 9, "layer_rate": 0, "forget": 0.5}
    assert copy.get_config().items() >= given.items()
    assert copy.single == "both" and copy.name == "mine"


@pytest.mark.parametrize(
    "kind, options, argument, received",
    [
        (ValueError, {"learning_rate": 0}, "learning_rate", "=0"),
        (TypeError, {"learning_rate": "big"}, "learning_rate", "'big'"),
        (ValueError, {"reach": -1.0}, "reach", "=-1.0"),
        (ValueError, {"reach": np.inf}, "reach", "=inf"),
        (TypeError, {"prior": "six"}, "prior", "'six'"),
        (ValueError, {"prior": 0}, "prior", "=0"),
        (ValueError, {"layer_rate": -0.5}, "layer_rate", "=-0.5"),
        (ValueError, {"single": "none"}, "single", "'none'"),
        (ValueError, {"forget": 0.0}, "forget", "=0.0"),
        (ValueError, {"forget": 1.5}, "forget", "=1.5"),
    ],
)
def test_wrong_arguments(kind, options, argument, received):
    with pytest.raises(kind) as error:
        kd.SignConsensus(**options)
    assert_helps(error, argument, received)


def test_the_certainty_of_unknown_values():
    kind = bound()
    with pytest.raises(ValueError) as error:
        kd.SignConsensus().certainty(kind.raw)
    assert_helps(error, "raw", "Variable")
    with pytest.raises(ValueError) as error:
        built(kind).votes(keras.Variable(1.0))
    assert_helps(error, "raw", "Variable")


@pytest.mark.parametrize("unit", [0.0, -1.0, np.inf, np.nan, np.ones(3)])
def test_a_kind_with_a_wrong_unit(unit):
    kind = bound()
    kind.unit = unit
    with pytest.raises(ValueError, match="'kind' has an invalid `unit`"):
        built(kind)


# ---- in a model


def two_kinds(**options):
    """Returns a model that tunes an entry an input, and one in all."""
    defaults = dict(
        hyperparameters=[
            kinds.L2("input", 1e-2, bounds=(1e-4, 1.0)),
            kinds.LearningRate(),
            kinds.InitialWeights("last"),
        ],
        meta_optimizer=kd.SignConsensus(),
    )
    return compiled(hidden(), **defaults | options)


def raws(model):
    return [h.raw.numpy() for h in model.hyperparameters]


def slots(model):
    return [np.array(v) for v in model.meta_optimizer.variables]


def test_fit_moves_the_raw_values_by_the_formula():
    model = two_kinds()
    l2, rate, first = model.hyperparameters
    bounds = np.log(1e-4), np.log(1.0)
    rule = Rule(l2.raw.numpy(), 1.0, np.repeat([1, 2], [4, 5]), bounds)
    before, signs, start = raws(model), 0, model.get_weights()
    for _ in range(3):
        model.set_weights(start)  # where each `fit` begins, too
        g = model.hypergradient(
            X, Y, batch_size=8, epochs=2, validation_data=VALIDATION, seed=0
        ).gradients
        rule.step(g["l2"].numpy())
        signs += np.sign(g["learning_rate"])
        fit(model, meta_iterations=1, keep="last")
        np.testing.assert_allclose(l2.raw, rule.raw, rtol=1e-5)
    np.testing.assert_allclose(rate.raw, before[1] - 0.3 * signs, rtol=1e-5)
    moved = np.abs(first.raw.numpy() - before[2])
    spread = before[2][:15].std()
    assert moved.max() <= spread * (3 * 0.3 + 3 * 3 / 9) * 1.001
    assert moved.max() > 0.5 * spread


def mover(name):
    consensus = kd.SignConsensus(0.2)
    others = {"l2": consensus, "learning_rate": "adam"}
    return {"alone": consensus, "by name": others}[name]


@pytest.mark.parametrize("name", ["alone", "by name"])
def test_a_saved_fit_goes_on_to_the_same_bits(name, tmp_path):
    model = two_kinds(meta_optimizer=mover(name))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(numbers(loaded), numbers(model))
    model.save_weights(tmp_path / "model.weights.h5")
    other = two_kinds(meta_optimizer=mover(name))
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(slots(other), slots(model))
    assert fit(loaded, seed=5) == fit(model, seed=5)
    assert_same(numbers(loaded), numbers(model))


def test_checkpoints_have_the_slots(tmp_path):
    kind = bound()
    optimizer = built(kind)
    for g in gradients(5, 7):
        step(optimizer, kind, g)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "c"))
    other = built(bound())
    tf.train.Checkpoint(optimizer=other).restore(path).assert_consumed()
    pairs = zip(other.variables, optimizer.variables, strict=True)
    for variable, expected in pairs:
        np.testing.assert_array_equal(variable, expected)


def test_compiled_again_with_the_same_optimizer():
    model = two_kinds()
    variables = [h.raw for h in model.hyperparameters]
    gradients = [tf.ones(v.shape) for v in variables]
    model.meta_optimizer.apply(gradients, variables)
    before = slots(model)
    model.compile(
        "sgd",
        model.loss,
        hyperparameters=model.hyperparameters,
        meta_optimizer=model.meta_optimizer,
    )
    assert_same(slots(model), before)
    model.meta_optimizer.apply(gradients, variables)
    np.testing.assert_array_equal(
        model.meta_optimizer.votes(variables[0]), np.full(9, 2)
    )
