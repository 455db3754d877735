"""The rule of `SignConsensus`, against the rule written in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from consensus_rule import Kind, Rule, bound, built, gradients, step
from keras_drmad import hyperparameters as kinds
from keras_drmad.core import walked
from small_models import assert_same

# ---- the formula


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reach": 2.0, "prior": 11.0, "layer_rate": 0.2},
        {"forget": 0.8},
        {"layer_rate": 0.0},
    ],
)
def test_is_the_formula(options):
    kind = bound()
    rule = Rule(kind.raw.numpy(), kind.unit, kind.layers, **options)
    optimizer = built(kind, **options)
    for g in gradients(15, 7):
        np.testing.assert_allclose(
            step(optimizer, kind, g), rule.step(g), rtol=1e-12
        )


def test_is_the_formula_within_bounds():
    clipped = 0
    for seed in range(5):
        kind = bound((-1.0, 0.7))
        bounds = -1.0, 0.7
        rule = Rule(kind.raw.numpy(), kind.unit, kind.layers, bounds)
        optimizer = built(kind)
        for g in gradients(25, 7, seed=seed):
            found = step(optimizer, kind, g)
            np.testing.assert_allclose(found, rule.step(g), rtol=1e-12)
            clipped += np.isin(found, bounds).sum()
    assert clipped > 100


def test_no_bound_is_no_number_that_tensorflow_checks(request):
    tf.debugging.enable_check_numerics()
    request.addfinalizer(tf.debugging.disable_check_numerics)
    kind = bound()  # without bounds
    step(built(kind), kind, gradients(1, 7)[0])
    limit = walked.finite_limit(float("inf"), kind.raw.value.dtype)
    assert np.isfinite(limit) and limit > 1e300


def test_is_the_formula_after_assignments():
    kind = bound((-1.0, 0.7))
    rule = Rule(kind.raw.numpy(), kind.unit, kind.layers, (-1.0, 0.7))
    optimizer = built(kind)
    generator = np.random.default_rng(1)
    kind.raw.assign(rule.raw + 0.1)  # before the first step
    rule.assign(rule.raw + 0.1)
    for t, g in enumerate(gradients(30, 7)):
        np.testing.assert_allclose(
            step(optimizer, kind, g), rule.step(g), rtol=1e-12, atol=1e-14
        )
        if t % 7 == 3:
            is_new = generator.random(7) < 0.5
            new = generator.uniform(-0.9, 0.6, 7)
            kind.raw.assign(np.where(is_new, new, kind.raw))
            rule.assign(np.where(is_new, new, rule.raw))


def test_rate_may_be_a_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 4, 0.5)
    kind = bound()
    rule = Rule(
        kind.raw.numpy(),
        kind.unit,
        kind.layers,
        rate=lambda t: float(schedule(t)),
    )
    optimizer = built(kind, learning_rate=schedule)
    for g in gradients(12, 7):
        np.testing.assert_allclose(
            step(optimizer, kind, g), rule.step(g), rtol=1e-6
        )


def test_works_alone_on_any_variables():
    variables = [keras.Variable(np.ones((2, 3))), keras.Variable(np.zeros(4))]
    rules = [Rule(np.ravel(v)) for v in variables]
    optimizer = kd.SignConsensus()
    for g in gradients(10, 10):
        each = np.reshape(g[:6], (2, 3)), g[6:]
        optimizer.apply(list(map(tf.constant, each)), variables)
        for rule, variable, own in zip(rules, variables, each, strict=True):
            np.testing.assert_allclose(
                np.ravel(variable), rule.step(np.ravel(own)), rtol=1e-5
            )


def test_compiled_in_a_function_too():
    found = []
    for wrap in (lambda f: f, tf.function):
        kind = bound((-1.0, 0.7))
        optimizer = built(kind)
        apply = wrap(lambda g, o=optimizer, k=kind: o.apply([g], [k.raw]))
        for g in gradients(8, 7):
            apply(tf.constant(g))
        found.append(kind.raw.numpy())
    np.testing.assert_allclose(*found, rtol=1e-14)


def test_sizes_of_gradients_do_not_matter():
    found = []
    for size in (1.0, 1e-300, 1e300):
        kind = bound()
        optimizer = built(kind)
        for g in gradients(8, 7):
            step(optimizer, kind, np.sign(g) * size)
        found.append(kind.raw.numpy())
    assert_same(found[:1] * 2, found[1:])


# ---- what the formula means


def test_certain_signs_reach_further_than_a_coins():
    variable = keras.Variable(np.zeros(3))
    optimizer = kd.SignConsensus(1e-9)
    for t in range(20):
        coin = 1.0 if t % 2 else -1.0
        optimizer.apply([tf.constant([-1.0, 0.0, coin])], [variable])
    np.testing.assert_allclose(variable, [3 * 20 / 26, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(optimizer.certainty(variable), [1, 0, 0])
    np.testing.assert_array_equal(optimizer.votes(variable), [20, 0, 20])


class Far(Kind):
    """A kind whose entries go four times as far by consensus."""

    reach = 4.0


def test_the_reach_of_a_kind_is_a_factor_on_that_of_the_rule():
    ends = []
    for kind_of, reach in ((Far, 3.0), (Kind, 12.0), (Kind, 3.0)):
        kind = bound(kind_of=kind_of)
        optimizer = built(kind, reach=reach)
        raws = [step(optimizer, kind, g) for g in gradients(9, 7)]
        ends.append([*raws, *optimizer.within_reach(kind.raw, 5)])
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(np.subtract(ends[0], ends[2])).max() > 0.1


@pytest.mark.parametrize("reach", [0.0, -1.0, np.nan, np.inf])
def test_a_reach_that_is_not_positive_is_refused(reach):
    kind = bound(kind_of=Far)
    kind.reach = reach
    with pytest.raises(ValueError, match="reach of 'kind'"):
        built(kind)


def test_which_kinds_go_further():
    weights = kinds.ExampleWeights
    assert weights(5).reach == 4.0
    assert weights(5, transform=kinds.Sigmoid(0, 2)).reach == 4.0
    assert weights(5, transform="log").reach == 1.0
    assert weights(groups=[0, 1, 1]).reach == 1.0
    assert kinds.L2().reach == kinds.LearningRate().reach == 1.0


@pytest.mark.parametrize(
    "single, expected",
    [
        ("common", 0.3 * 5),
        ("consensus", 3 * 5 / 11),
        ("both", 0.3 * 5 + 3 * 5 / 11),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_single_entry(shape, single, expected):
    variable = keras.Variable(np.zeros(shape))
    optimizer = kd.SignConsensus(single=single)
    for _ in range(5):
        optimizer.apply([tf.fill(shape, -2.0)], [variable])
    np.testing.assert_allclose(variable, np.full(shape, expected), rtol=1e-6)
    np.testing.assert_array_equal(optimizer.votes(variable), np.full(shape, 5))


def test_leaves_a_bound_when_the_signs_turn():
    kind = bound((-1.0, 0.7))
    optimizer = built(kind)
    for _ in range(30):
        step(optimizer, kind, -np.ones(7))
    np.testing.assert_array_equal(kind.raw, np.full(7, 0.7))
    # All entries turn: the common part has not run away.
    for _ in range(20):
        step(optimizer, kind, np.ones(7))
    assert kind.raw.numpy().max() < 0.7


def test_a_step_after_an_assignment_is_as_small_as_any():
    kind = bound((-1.0, 0.7))
    optimizer = built(kind)
    for _ in range(30):
        step(optimizer, kind, -np.ones(7))
    kind.raw.assign(np.full(7, -0.9))
    moved = step(optimizer, kind, -np.ones(7)) + 0.9
    assert (moved >= 0).all() and (moved <= 0.5 * kind.unit + 1e-9).all()


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("forget", [1.0, 0.9])
def test_within_reach_is_where_signs_that_agree_lead(steps, before, forget):
    for sign in (-1, 1):
        kind = bound()
        optimizer = built(kind, forget=forget)
        for g in gradients(before, 7):
            step(optimizer, kind, g)
        ends = dict(
            zip((1, -1), optimizer.within_reach(kind.raw, steps), strict=True)
        )
        for _ in range(steps):
            step(optimizer, kind, np.full(7, float(sign)))
        np.testing.assert_allclose(kind.raw, ends[sign], rtol=1e-5)


def test_within_reach_of_sign_descent():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 4, 0.5)
    for rate in (0.25, schedule):
        kind = bound()
        optimizer = kd.SignDescent(rate)
        optimizer.know([kind])
        optimizer.build([kind.raw])
        _, highest = optimizer.within_reach(kind.raw, 6)
        for _ in range(6):
            step(optimizer, kind, -np.ones(7))
        np.testing.assert_allclose(kind.raw, highest, rtol=1e-6)
