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
KINDS = {
    **{f"L2({per!r})": lambda per=per: kinds.L2(per, 0.1) for per in PER},
    **{
        f"L1({per!r})": lambda per=per: kinds.L1(per, 0.1)
        for per in ("all", "output")
    },
    **{
        f"LearningRate({per!r})": lambda per=per: kinds.LearningRate(per)
        for per in ("layer", "weight")
    },
    "WeightDecay": lambda: kinds.WeightDecay("layer", 0.01),
    "Momentum": lambda: kinds.Momentum("layer"),
    "InitialScale": lambda: kinds.InitialScale("layer"),
    "InitialWeights": lambda: kinds.InitialWeights(),
}


def trained(make_model, made, meta_iterations=1):
    optimizer = momentum()
    if made and isinstance(made[0], kinds.WeightDecay):
        optimizer = keras.optimizers.AdamW(0.01)
    model = wrapped(make_model(), optimizer, "mse", made)
    history = model.fit(
        X,
        Y,
        batch_size=8,
        epochs=2,
        validation_data=(X, Y),
        meta_iterations=meta_iterations,
        verbose=0,
    ).history
    return model, history


@members(
    KIND,
    {
        f"{name}, {net}": (NETS[net], KINDS[name])
        for name in KINDS
        for net in ("bfloat16 and float64",)
    }
    | {f"L2('layer'), {net}": (NETS[net], KINDS["L2('layer')"]) for net in NETS}
    | {f"L1('all'), {net}": (NETS[net], KINDS["L1('all')"]) for net in NETS},
)
def learns(case):
    make_model, kind = case
    model, history = trained(make_model, [kind()])
    assert np.isfinite(history["val_loss"]).all()
    assert model.diagnostics["hypergradient_norm"][0] > 0
    for h in model.hyperparameters:
        assert np.isfinite(h.value().numpy()).all()


@members(KIND, {name: net for name, net in NETS.items() if "LoRA" not in name})
def trains_as_a_regularizer(make_model):
    class Penalty(keras.regularizers.Regularizer):
        def __call__(self, w):
            # Keras's own `L2` cannot add terms of several dtypes.
            w = keras.ops.cast(w, keras.config.floatx())
            return 0.1 * keras.ops.sum(w**2)

    theirs = make_model()
    for layer in theirs.layers[1:]:
        layer.kernel.regularizer = Penalty()
    theirs.compile(momentum(), "mse", run_eagerly=True)
    theirs.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    ours = wrapped(make_model(), momentum(), "mse", [kinds.L2(initial=0.1)])
    ours.fit(X, Y, batch_size=8, epochs=2, meta_iterations=0, verbose=0)
    error = relative_error(
        [w.astype("float64") for w in ours.get_weights()],
        [w.astype("float64") for w in theirs.get_weights()],
    )
    assert error < 1e-3, error


@members(
    KIND,
    {
        "hypergradient of penalties": lambda: [
            kinds.L2("layer", 0.1),
            kinds.L1("tensor", 0.1),
        ],
        "hypergradient of numbers": lambda: [
            kinds.LearningRate("layer", 0.1),
            kinds.Momentum("output", 0.5),
            kinds.InitialScale("layer"),
        ],
    },
)
def right_by_differences(make_kinds):
    model = wrapped(
        layers("float32")(), keras.optimizers.SGD(0.1, 0.5), "mse", make_kinds()
    )
    assert_right_by_differences(
        model,
        X,
        Y,
        batch_size=4,
        epochs=1,
        validation_data=(X * 0.9, Y),
        rtol=1e-3,
        step=3e-2,
    )


@members(
    KIND,
    {
        f"{method!r}, {net}": (NETS[net], method)
        for method in (ForwardMode(), ReverseMode("checkpointed"))
        for net in ("float32 and float64", "bfloat16, LoRA")
    },
)
def other_exact_methods_agree(case):
    make_model, method = case

    def gradients(method):
        made = [kinds.L2("layer", 0.1), kinds.LearningRate("layer")]
        options = dict(batch_size=4, epochs=1, validation_data=(X * 0.9, Y))
        model = wrapped(
            make_model(), momentum(), "mse", made, hypergradient=method
        )
        return model.hypergradient(X, Y, **options).gradients

    error = relative_error(gradients(method), gradients(ReverseMode()))
    assert error < (1e-5 if make_model is not low_rank else 0.05), error
