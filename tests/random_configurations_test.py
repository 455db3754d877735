"""No method returns inf or nan, whatever net, optimizer and learning rate."""

import warnings

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import flat
from keras_drmad.hyperparameters import L1, L2, LearningRate
from small_models import CLASSES, FEATURES, data

PER_MODEL = 16
METHODS = [
    lambda: kd.DrMAD(),
    lambda: kd.DrMAD(1.0, average=False),
    lambda: kd.DrMAD(0.3, last=1.0, average=False),
    lambda: kd.DrMAD(1.0, curvature="gauss_newton"),
    lambda: kd.DrMAD(0.8, anchors=5, spacing="end"),
    lambda: kd.DrMAD(1.0, anchors=3, curvature="gauss_newton"),
    lambda: kd.ReverseMode(),
    lambda: kd.ReverseMode("bfloat16"),
    lambda: kd.ReverseMode("checkpointed"),
    lambda: kd.Truncated(0.4),
    lambda: kd.Implicit("neumann", terms=30),
    lambda: kd.Implicit("cg", terms=10),
    lambda: kd.OneStep(),
]
OPTIMIZERS = [
    lambda momentum: keras.optimizers.SGD(momentum=momentum),
    lambda momentum: keras.optimizers.SGD(momentum=momentum, nesterov=True),
    lambda momentum: keras.optimizers.Adam(beta_1=momentum),
    lambda momentum: keras.optimizers.RMSprop(momentum=momentum),
    lambda momentum: keras.optimizers.Nadam(beta_1=momentum),
]


def random_net(generator):
    """Returns a built model of one to three layers, sometimes normalized."""
    x = first = keras.Input((FEATURES,))
    for _ in range(generator.integers(0, 3)):
        activation = generator.choice(["tanh", "relu", "gelu", "sigmoid"])
        units = int(generator.integers(2, 12))
        x = keras.layers.Dense(units, str(activation))(x)
        if generator.random() < 0.3:
            x = keras.layers.BatchNormalization()(x)
    return keras.Model(first, keras.layers.Dense(CLASSES)(x))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(13))
def test_hypergradients_are_finite(number):
    # 13 models, each at 16 settings: 208 configurations.
    generator = np.random.default_rng(number)
    keras.utils.set_random_seed(number)
    method = METHODS[number % len(METHODS)]()
    momentum = float(generator.choice([0.1, 0.5, 0.9, 0.99]))
    optimizer = OPTIMIZERS[number % len(OPTIMIZERS)](momentum)
    kinds = [L2("input"), L1("layer", 1e-4)]
    if not isinstance(method, (kd.Implicit, kd.OneStep)):
        kinds.append(LearningRate("layer", initial=0.1))
    model = kd.DrMADModel.from_model(random_net(generator))
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=kinds,
        hypergradient=method,
        jit_compile=False,
    )
    start = model.get_weights()
    x, y = data(40, seed=number)
    found = 0
    for _ in range(PER_MODEL):
        rate = 10 ** generator.uniform(-3, 1)
        if len(kinds) == 3:
            kinds[2].assign(rate)
        else:
            model.optimizer.learning_rate.assign(rate)
        kinds[0].assign(10 ** generator.uniform(-7, 0))
        model.elementary_model.set_weights(
            [w * 10 ** generator.uniform(-1, 1) for w in start]
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                record = model.hypergradient(
                    x,
                    y,
                    batch_size=8,
                    epochs=int(generator.integers(8, 20)),
                    validation_data=data(20, seed=number + 1000),
                )
        except FloatingPointError:  # the training itself diverged, and said so
            continue
        found += 1
        assert np.isfinite(flat(record.gradients)).all()
        assert np.isfinite(list(record.diagnostics.values())).all()
    assert found >= PER_MODEL // 4
