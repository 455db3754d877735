"""No method returns inf or nan, whatever net, optimizer and learning rate."""

import warnings

import keras
import numpy as np
import pytest

import keras_drmad as kd
from checks import flat
from keras_drmad.hyperparameters import L1, L2, LearningRate
from small_models import CLASSES, FEATURES, data

PER_METHOD = 8
# Those in a row share a model and its loops. 13 methods: 104 configurations.
METHODS = [
    [
        kd.DrMAD(),
        kd.DrMAD(1.0, average=False),
        kd.DrMAD(0.3, last=1.0, average=False),
    ],
    [
        kd.DrMAD(0.8, anchors=5, spacing="end"),
        kd.DrMAD(1.0, anchors=3, curvature="gauss_newton"),
        kd.DrMAD(1.0, curvature="gauss_newton"),
    ],
    [kd.ReverseMode(), kd.ReverseMode("bfloat16"), kd.Truncated(0.4)],
    [kd.ReverseMode("checkpointed")],
    [
        kd.Implicit("neumann", terms=30),
        kd.Implicit("cg", terms=10),
        kd.OneStep(),
    ],
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
@pytest.mark.parametrize("number", range(len(METHODS)))
def test_hypergradients_are_finite(number):
    generator = np.random.default_rng(number)
    keras.utils.set_random_seed(number)
    methods = METHODS[number]
    momentum = float(generator.choice([0.1, 0.5, 0.9, 0.99]))
    kinds = [L2("input"), L1("layer", 1e-4)]
    if not isinstance(methods[0], kd.Implicit):
        kinds.append(LearningRate("layer", initial=0.1))
    model = kd.DrMADModel.from_model(random_net(generator))
    model.compile(
        optimizer=OPTIMIZERS[number](momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=kinds,
        hypergradient=methods[0],
        jit_compile=False,
    )
    start = model.get_weights()
    x, y = data(40, seed=number)
    for method in methods:
        model._assembly.method = method
        found = 0
        for _ in range(PER_METHOD):
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
                        epochs=int(generator.integers(6, 14)),
                        validation_data=data(24, seed=number + 1000),
                    )
            except FloatingPointError:  # the training diverged, and said so
                continue
            found += 1
            assert np.isfinite(flat(record.gradients)).all(), method
            diagnostics = list(record.diagnostics.values())
            assert np.isfinite(diagnostics).all(), method
        assert found >= PER_METHOD // 4, method
