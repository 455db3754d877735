"""Kinds that act on weights of several dtypes."""

import keras
import numpy as np

from checks import relative_error
from faults import assert_right_by_differences, members, wrapped
from keras_drmad import ForwardMode, ReverseMode
from keras_drmad import hyperparameters as kinds

KIND = "weights of several dtypes"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 4))
Y = GENERATOR.normal(size=(8, 2))
PER = ("all", "layer", "tensor", "input", "output", "weight")


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def layers(first, last="float64"):
    def make():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        h = keras.layers.Dense(3, "tanh", dtype=first, name="a")(inputs)
        return keras.Model(
            inputs, keras.layers.Dense(2, dtype=last, name="b")(h)
        )

    return make


def low_rank():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(3, dtype="bfloat16")
    h = layer(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(h))
    layer.enable_lora(2)
    return model


NETS = {
    "float32 and float64": layers("float32"),
    "bfloat16 and float64": layers("bfloat16"),
    "a mixed policy": layers("mixed_bfloat16"),
    "float16 and float32": layers("float16", "float32"),
    "bfloat16, LoRA": low_rank,
}
TRAINING = dict(batch_size=8, epochs=2, verbose=0)


def kinds_of_weights():
    """Returns kinds of one model, on weights of several dtypes."""
    return [
        *(kinds.L2(per, 0.1, name=f"l2_{per}") for per in PER),
        *(kinds.L1(per, 0.1, name=f"l1_{per}") for per in ("all", "output")),
        kinds.InitialWeights(),
        kinds.LearningRate("weight"),
        kinds.Momentum("layer"),
        kinds.WeightDecay("layer", 0.01),
        kinds.InitialScale("layer"),
    ]


def assert_learns(model):
    history = model.fit(
        X, Y, **TRAINING, validation_data=(X, Y), meta_iterations=1
    ).history
    assert np.isfinite(history["val_loss"]).all()
    for h, start in zip(model.hyperparameters, model.untuned, strict=True):
        assert np.isfinite(h.value().numpy()).all(), h.name
        assert (h.raw.numpy() != start).any(), h.name


@members(
    KIND,
    {
        "penalties, numbers of the optimizer and where it starts, bfloat16": (
            kinds_of_weights
        )
    },
)
def learns(make):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5, weight_decay=0.01)
    net = NETS["bfloat16 and float64"]()
    assert_learns(wrapped(net, optimizer, "mse", make()))


@members(
    KIND,
    {name: NETS[name] for name in ("a mixed policy", "float16 and float32")},
)
def trains_as_a_regularizer(make_model):
    class Penalty(keras.regularizers.Regularizer):
        def __call__(self, w):
            # Keras's own `L1L2` cannot add terms of several dtypes.
            w = keras.ops.cast(w, keras.config.floatx())
            return 0.1 * keras.ops.sum(w**2) + 0.1 * keras.ops.sum(abs(w))

    made = [kinds.L2("layer", 0.1), kinds.L1("all", 0.1)]
    ours = wrapped(make_model(), momentum(), "mse", made)
    theirs = make_model()
    for layer in theirs.layers[1:]:
        layer.kernel.regularizer = Penalty()
    theirs.compile(momentum(), "mse", run_eagerly=True)
    theirs.fit(X, Y, **TRAINING)
    ours.fit(X, Y, meta_iterations=0, **TRAINING)
    error = relative_error(
        [w.astype("float64") for w in ours.get_weights()],
        [w.astype("float64") for w in theirs.get_weights()],
    )
    assert error < 1e-3, error
    assert_learns(ours)


def penalties_and_rates():
    return [
        kinds.L2("layer", 0.1),
        kinds.L1("tensor", 0.1),
        kinds.LearningRate("layer", 0.1),
    ]


DIFFERENTIATED = dict(
    x=X, y=Y, batch_size=4, epochs=1, validation_data=(X * 0.9, Y)
)


@members(
    KIND,
    {"hypergradient of penalties and of numbers, exact methods": None},
)
def right_by_differences(_):
    net = NETS["float32 and float64"]()
    more = [kinds.Momentum("output", 0.5), kinds.InitialScale("layer")]
    model = wrapped(net, momentum(), "mse", [*penalties_and_rates(), *more])
    assert_right_by_differences(model, **DIFFERENTIATED, rtol=1e-3, step=3e-2)
    assert_methods_agree(model, rtol=1e-5)


@members(KIND, {"exact methods, bfloat16, LoRA": 0.05})
def other_exact_methods_agree(rtol):
    model = wrapped(low_rank(), momentum(), "mse", penalties_and_rates())
    assert_methods_agree(model, rtol)


def assert_methods_agree(model, rtol):
    found = []
    for method in (ForwardMode(), ReverseMode("checkpointed")):
        model._assembly.method = method
        found.append(model.hypergradient(**DIFFERENTIATED).gradients)
    assert relative_error(*found) < rtol, found
