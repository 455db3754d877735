"""Bad arguments of `compile`, constructors and models: errors that help."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from small_models import (
    CLASSES,
    FEATURES,
    VALIDATION,
    X,
    Y,
    assert_helps,
    compiled,
    hidden,
    linear,
)

hp = kd.hyperparameters


# ---- compile


def scaled():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())


def tuned(*kinds):
    return dict(hyperparameters=list(kinds))


# What `compile` is given, the argument that the error names, what came.
WRONG_VALUES = [
    (lambda: tuned(), "hyperparameters", "none"),
    (lambda: tuned(hp.L2(), hp.L2()), "hyperparameters", "['l2', 'l2']"),
    (lambda: tuned(hp.L2(layers="nope.*")), "layers", "'nope.*'"),
    (lambda: tuned(hp.L2(layers=keras.layers.Dense(3))), "layers", "Dense"),
    (lambda: tuned(hp.LearningRate(bounds=(1, 2))), "initial", "0.1"),
    (lambda: tuned(hp.L2(name="a/b")), "name", "'a/b'"),
    (lambda: dict(meta_optimizer="nope"), "meta_optimizer", "'nope'"),
    (lambda: dict(jit_compile="yes"), "jit_compile", "'yes'"),
]

WRONG_TYPES = [
    (lambda: dict(hyperparameters=hp.L2()), "hyperparameters", "L2("),
    (lambda: tuned("l2"), "hyperparameters", "'l2'"),
    (lambda: tuned(hp.L2), "hyperparameters", "L2"),
    (lambda: tuned(hp.L2(layers=3)), "layers", "3"),
    (lambda: dict(hypergradient="drmad"), "hypergradient", "'drmad'"),
    (lambda: dict(hypergradient=kd.DrMAD), "hypergradient", "DrMAD"),
    (lambda: dict(meta_optimizer=0.1), "meta_optimizer", "0.1"),
    (lambda: dict(meta_optimizer=scaled()), "meta_optimizer", "LossScale"),
    (lambda: dict(optimizer=scaled()), "optimizer", "LossScale"),
]


def assert_refused(kind, function, argument, received):
    with pytest.raises(kind) as error:
        function()
    assert_helps(error, argument, received)


@pytest.mark.parametrize("options, argument, received", WRONG_VALUES)
def test_wrong_values_in_compile(options, argument, received):
    def function():
        compiled(**options())

    assert_refused(ValueError, function, argument, received)


@pytest.mark.parametrize("options, argument, received", WRONG_TYPES)
def test_wrong_types_in_compile(options, argument, received):
    def function():
        compiled(**options())

    assert_refused(TypeError, function, argument, received)


def test_what_is_wrapped_by_the_policy_is_said_to_be():
    dense = keras.layers.Dense(1, dtype="mixed_float16")
    net = keras.Sequential([keras.Input((2,)), dense], name="net")
    net.dtype_policy = dense.dtype_policy
    with pytest.raises(TypeError, match=r"`optimizer`.*with 'mixed_float16'"):
        compiled(net)


# ---- models


def frozen():
    model = linear()
    model.trainable = False
    return model


def with_whole_numbers():
    class Counter(keras.layers.Layer):
        def build(self, input_shape):
            self.count = self.add_weight(
                (), dtype="int32", initializer="zeros", trainable=True
            )

        def call(self, x):
            return x + keras.ops.cast(self.count, x.dtype)

    inputs = keras.Input((FEATURES,))
    return keras.Model(inputs, Counter()(inputs))


def without_build():
    return keras.Sequential([keras.layers.Dense(CLASSES)])


def built_without_its_layers():
    class Held(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.layer(x)

    model = Held()
    with pytest.warns(UserWarning, match="unbuilt state"):
        model.build((None, FEATURES))
    return model


def with_its_own_step():
    class OwnStep(keras.Model):
        def train_step(self, data):
            return {"loss": 0.0}

    inputs = keras.Input((FEATURES,))
    return OwnStep(inputs, keras.layers.Dense(CLASSES)(inputs))


@pytest.mark.parametrize(
    "make, kind, says",
    [
        (frozen, ValueError, "no trainable weights.*`layer.trainable = True`"),
        (with_whole_numbers, ValueError, "floating dtypes.*int32"),
        (without_build, ValueError, "a built model.*keras.Input"),
        (built_without_its_layers, ValueError, r"a built.*model\(x\[:1\]\)"),
        (with_its_own_step, ValueError, "OwnStep.*`train_step`.*compute_loss"),
        (compiled, ValueError, "DrMADModel.*`train_step`"),
        (lambda: "model", TypeError, "keras.Model.*'model' of type str"),
    ],
)
def test_models(make, kind, says):
    with pytest.raises(kind, match=rf"(?s)`model`.*{says}"):
        compiled(make())


def test_hyperparameters_beside_the_model():
    with pytest.raises(
        TypeError, match=r"`outputs`.*`compile\(hyperparameters"
    ):
        kd.DrMADModel(hidden(), [kd.hyperparameters.L2()])


def test_a_subclass_with_its_own_loss():
    # It would be heard nowhere: the elementary model's is.
    class Mine(kd.DrMADModel):
        def compute_loss(self, *args, **kwargs):
            return 0.0

    with pytest.raises(TypeError, match=r"Mine.*`compute_loss`.*from_model"):
        Mine(hidden())


def test_a_meta_optimizer_moves_the_values_of_one_model():
    mine = keras.optimizers.Adam(0.1)
    model = compiled(meta_optimizer=mine)
    with pytest.raises(ValueError, match=r"`meta_optimizer`.*Pass a new one"):
        compiled(meta_optimizer=mine)
    # The same hyperparameters once more are fine.
    compiled(
        model.elementary_model,
        meta_optimizer=mine,
        hyperparameters=model.hyperparameters,
    )


# ---- constructors

WRONG_VALUES_IN_CONSTRUCTORS = [
    (lambda: kd.DrMAD(0), "reverse_steps", "=0"),
    (lambda: kd.DrMAD(-3), "reverse_steps", "=-3"),
    (lambda: kd.DrMAD(1.5), "reverse_steps", "=1.5"),
    (lambda: kd.DrMAD(float("nan")), "reverse_steps", "=nan"),
    (lambda: kd.SignDescent(0), "learning_rate", "=0"),
    (lambda: kd.SignDescent(-0.1), "learning_rate", "=-0.1"),
    (lambda: hp.L2(per="row"), "per", "'row'"),
    (lambda: hp.LearningRate(per="row"), "per", "'row'"),
    (lambda: hp.L2(initial=0), "initial", "=0"),
    (lambda: hp.L1(initial=-1.0), "initial", "=-1.0"),
    (lambda: hp.L2(initial=float("inf")), "initial", "=inf"),
    (lambda: hp.L2(initial=1.0, bounds=(0.1, 0.5)), "initial", "=1.0"),
    (lambda: hp.L2(bounds=(1, 0)), "bounds", "(1, 0)"),
    (lambda: hp.L2(bounds=(-1, 1)), "bounds", "(-1, 1)"),
    (lambda: hp.L2(bounds=(1, 2, 3)), "bounds", "(1, 2, 3)"),
    (lambda: hp.L2(bounds=3), "bounds", "=3"),
]

WRONG_TYPES_IN_CONSTRUCTORS = [
    (lambda: kd.DrMAD("all"), "reverse_steps", "'all'"),
    (lambda: kd.DrMAD(True), "reverse_steps", "True"),
    (lambda: kd.SignDescent("big"), "learning_rate", "'big'"),
    (lambda: hp.L2(initial="0.1"), "initial", "'0.1'"),
]


@pytest.mark.parametrize(
    "make, argument, received", WRONG_VALUES_IN_CONSTRUCTORS
)
def test_wrong_values_in_constructors(make, argument, received):
    assert_refused(ValueError, make, argument, received)


@pytest.mark.parametrize(
    "make, argument, received", WRONG_TYPES_IN_CONSTRUCTORS
)
def test_wrong_types_in_constructors(make, argument, received):
    assert_refused(TypeError, make, argument, received)


def test_values_outside_the_bounds():
    l2 = hp.L2(per="input", bounds=(1e-6, 0.1))
    with pytest.raises(ValueError, match="'l2' has no values yet.*compile"):
        l2.assign(0.01)
    compiled(hyperparameters=[l2])
    before = np.array(l2.raw)
    for value in (-1.0, 0.2, np.nan, [1e-3] * 3 + [0.5]):
        with pytest.raises(ValueError, match="`value`.*0.1.*'l2'.*Received"):
            l2.assign(value)
    np.testing.assert_array_equal(l2.raw, before)


@pytest.mark.parametrize(
    "name", ["hypergradient", "validation_loss_after", "check_hypergradient"]
)
def test_what_one_training_does_not_take(name):
    training = dict(validation_data=VALIDATION, batch_size=8)
    with pytest.raises(TypeError) as error:
        getattr(compiled(), name)(X, Y, meta_iterations=3, **training)
    assert_helps(error, "meta_iterations", "['meta_iterations']")
