"""What was learned, in a program that has Keras alone: it trains the same."""

import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import reseed
from keras_drmad import hyperparameters as kinds
from plain_models import ONE_HOT, T, X, Y, learned, momentum
from this_keras import HAS_SEVERAL

pytestmark = pytest.mark.usefixtures("float64")

SGD, AdamW = keras.optimizers.SGD, keras.optimizers.AdamW
schedules = keras.optimizers.schedules
L = kinds.LearningRate

PLAIN = """
import json
import pathlib
import sys

sys.modules["keras_drmad"] = None  # an import of it would raise

import keras
import numpy as np
import tensorflow as tf

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
FIT = dict(batch_size=4, epochs=2, shuffle=False, verbose=0)


def one():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="b")(x))


def two():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    main = keras.layers.Dense(2, name="main")(x)
    return keras.Model(inputs, [main, keras.layers.Dense(1, name="aux")(x)])


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rates):
        self.rates = rates

    def __call__(self, step):
        last = len(self.rates) - 1
        return keras.ops.take(self.rates, keras.ops.minimum(step, last))


class Squares(keras.regularizers.Regularizer):
    def __init__(self, coefficients):
        self.coefficients = coefficients

    def __call__(self, w):
        return keras.ops.sum(self.coefficients * w**2)


def run(folder, looks_up=False):
    with open(folder / "hyperparameters.json") as file:
        tuned = json.load(file)["keras"]
    tuned = keras.saving.deserialize_keras_object(tuned)
    arrays = np.load(folder / "arrays.npz")
    given = np.load(folder / "given.npz")
    x, y = given["x"], [given[f"y_{k}"] for k in range(given["outputs"])]
    x_val, y_val = x[::-1][:6] / 2, [a[::-1][:6] for a in y]
    make = one if len(y) == 1 else two
    model, count = make(), given["weights"]
    model.set_weights([given[f"w_{k}"] for k in range(count)])
    for v in model.trainable_variables:
        v.regularizer = tuned["regularizers"][v.path]
        if f"left_out/l2/{v.path}" in arrays:
            v.regularizer = Squares(arrays[f"left_out/l2/{v.path}"])
    if looks_up:
        tuned["optimizer"].learning_rate = Rates(arrays["learning_rate"])
    model.compile(
        tuned["optimizer"],
        tuned["loss"],
        tuned["loss_weights"],
        run_eagerly=folder.name not in ("together", "steps"),  # soonest
    )
    weights = arrays.get("sample_weight")
    if "own_weights" in given:
        weights = weights * given["own_weights"]
    history = model.fit(x, y, sample_weight=weights, **FIT).history
    judge = make()  # without what is there for training only
    judge.set_weights(model.get_weights())
    with open(folder / "compiled.json") as file:
        options = keras.saving.deserialize_keras_object(json.load(file))
    judge.compile(**options, run_eagerly=True)
    score = judge.evaluate(x_val, y_val, return_dict=True, verbose=0)["loss"]
    np.savez(
        folder / f"found{'_looked_up' * looks_up}.npz",
        loss=history["loss"],
        val_loss=score,
        **{f"w_{k}": w for k, w in enumerate(model.get_weights())},
    )


for folder in sorted(pathlib.Path(".").iterdir()):
    run(folder)
    if folder.name == "steps":
        run(folder, looks_up=True)
        loaded = tf.saved_model.load(str(folder / "exported"))
        x = np.load(folder / "given.npz")["x"]
        np.save(folder / "served.npy", loaded.serve(x))
known = {name for name, module in sys.modules.items() if module is not None}
assert not any(name.startswith("keras_drmad") for name in known)
"""


def cross_entropy():
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def squares():
    return "mse"


STEP = dict(schedule="step", steps=T)


def trapped():
    """Returns an optimizer of which every option counts."""
    optimizer = AdamW(
        schedules.CosineDecay(0.05, 5),
        weight_decay=0.2,
        clipnorm=0.5,
        use_ema=True,
        ema_momentum=0.7,
        ema_overwrite_frequency=4,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


CASES = {
    "steps": (lambda: [kinds.L2("layer", 0.05), L(**STEP)], momentum, squares),
    "adamw": (
        lambda: [L(), kinds.WeightDecay(), kinds.Momentum()],
        lambda: AdamW(0.05, weight_decay=0.2),
        squares,
    ),
    "examples": (
        lambda: [kinds.ExampleWeights(11), kinds.LabelSmoothing()],
        momentum,
        cross_entropy,
    ),
    "outputs": (
        lambda: [kinds.LossWeights(), kinds.L1("tensor", 0.02)],
        momentum,
        lambda: ["mse", "mse"],
    ),
    "layers": (
        lambda: [L("layer"), kinds.Momentum("tensor")],
        lambda: SGD(0.1, momentum=0.8, nesterov=True),
        squares,
    ),
    "units": (
        lambda: [kinds.L2("input", 0.05, biases=True)],
        momentum,
        squares,
    ),
    "together": (
        lambda: [
            L("layer", **STEP),
            kinds.WeightDecay("layer"),
            kinds.Momentum(layers="b", coefficient="beta_2"),
            kinds.ExampleWeights(11),
            kinds.L2("tensor", 0.05, biases=True),
            kinds.L1(initial=0.05),
        ],
        trapped,
        squares,
    ),
}
if not HAS_SEVERAL:
    del CASES["layers"], CASES["together"]


def two_plain_outputs():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="a")(inputs)
    main = keras.layers.Dense(2, name="main")(x)
    return keras.Model(inputs, [main, keras.layers.Dense(1, name="aux")(x)])


def prepared(name, folder):
    """Writes what a case needs; returns what training it here gives."""
    make, optimizer, loss = CASES[name]
    options: dict = dict(loss=loss())
    y, own = [ONE_HOT if loss is cross_entropy else Y], {}
    if name == "outputs":
        options |= dict(net=two_plain_outputs(), loss_weights=[1.0, 0.25])
        y = [Y, Y[:, :1] + X[:, :1]]
    if name == "examples":
        own = {"own_weights": np.linspace(0.5, 1.5, 11)}
    model = learned(make(), optimizer(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "units" else "error")
        model.to_keras().save(folder)
    if name == "steps":
        model.export(folder / "exported", verbose=False)
        np.save(folder / "predicted.npy", model.predict(X, verbose=0))
    start = model.get_weights()
    np.savez(
        folder / "given.npz",
        x=X,
        outputs=len(y),
        weights=len(start),
        **{f"y_{k}": a for k, a in enumerate(y)},
        **{f"w_{k}": a for k, a in enumerate(start)},
        **own,
    )
    options.pop("net", None)
    compiled = keras.saving.serialize_keras_object(options)
    (folder / "compiled.json").write_text(json.dumps(compiled))
    y = y if name == "outputs" else y[0]
    history = model.fit(
        X,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        meta_iterations=0,
        sample_weight=own.get("own_weights"),
        verbose=0,
    ).history
    held_out = tf.nest.map_structure(lambda a: a[::-1][:6], y)
    score = model.evaluate(
        X[::-1][:6] / 2, held_out, return_dict=True, verbose=0
    )
    expected = {f"w_{k}": w for k, w in enumerate(model.get_weights())}
    moved = max(
        np.abs(a - b).max()
        for a, b in zip(start, model.get_weights(), strict=True)
    )
    assert moved > 1e-2
    return expected | {"loss": history["loss"], "val_loss": score["loss"]}


@pytest.fixture(scope="module")
def witnessed(float64, tmp_path_factory):
    """Trains each case here and in a program that has Keras alone."""
    reseed()
    folder = tmp_path_factory.mktemp("plain")
    expected = {name: prepared(name, folder / name) for name in CASES}
    run = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return expected, folder


@pytest.mark.parametrize(
    "name, file",
    [*((name, "found") for name in CASES), ("steps", "found_looked_up")],
)
def test_a_program_without_this_package_trains_the_same(witnessed, name, file):
    expected, folder = witnessed
    found = np.load(folder / name / f"{file}.npz")
    assert set(found) == set(expected[name])
    for key, value in expected[name].items():
        # A product of rates is rounded to single precision.
        tolerance = 1e-6 if name == "together" else 1e-9
        np.testing.assert_allclose(found[key], value, rtol=tolerance)


def test_exported_loads_without_this_package(witnessed):
    _, folder = witnessed
    served = np.load(folder / "steps" / "served.npy")
    predicted = np.load(folder / "steps" / "predicted.npy")
    np.testing.assert_allclose(served, predicted, rtol=1e-12)
