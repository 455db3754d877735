"""What a user does first, from the README's quick start to callbacks.

`python tour.py README.md` runs all parts, in a folder that may be filled;
`python tour.py README.md PART ...` some of them. `wheel_test.py` runs it where
nothing but the wheel is installed.
"""

import contextlib
import pathlib
import re
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd


class Stop(Exception):
    """What ends a `fit` in the middle."""


class StopAt(keras.callbacks.Callback):
    """Ends a `fit` after some meta-iterations."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Stop


def data(size, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, 4)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int32")


X, Y = data(48, 0)
FIT = dict(
    x=X,
    y=Y,
    batch_size=8,
    epochs=2,
    validation_data=data(24, 1),
    meta_iterations=3,
    seed=0,
    verbose=0,
)


def model(**options):
    """Returns a small compiled model, with everything chosen by "auto"."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh")(inputs)
    made = kd.DrMADModel(inputs, keras.layers.Dense(2)(x))
    defaults = dict(
        optimizer=keras.optimizers.Adam(0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters="auto",
    )
    made.compile(**defaults | options)
    return made


def quick_start(readme):
    """Runs the README's quick start as printed."""
    text = readme.read_text(encoding="utf-8")
    variables: dict = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], variables)
    losses = variables["model"].history.history["val_loss"]
    assert len(losses) == 20 and min(losses) < losses[0]
    assert pathlib.Path("digits_model/saved_model.pb").exists()


def export_and_load(_):
    """A model comes back from files, and as a SavedModel."""
    first = model()
    first.fit(**FIT)
    expected = first.predict(X, verbose=0)
    first.save("model.keras")
    loaded = keras.models.load_model("model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)
    for a, b in zip(first.hyperparameters, loaded.hyperparameters, strict=True):
        np.testing.assert_array_equal(a.raw, b.raw)
    assert loaded.fit(**FIT).history == first.fit(**FIT).history
    first.export("exported", verbose=False)
    served = tf.saved_model.load("exported")
    expected = first.predict(X, verbose=0)
    np.testing.assert_allclose(served.serve(X), expected, 1e-5, 1e-6)


def resume(_):
    """A `fit` that was ended goes on, with the same numbers."""

    def fit(*callbacks):
        movers = {"learning_rate": kd.SignDescent(0.2), "l2": "adam"}
        made = model(meta_optimizer=movers)
        return made.fit(callbacks=callbacks, **FIT).history

    whole = fit()
    backup = keras.callbacks.BackupAndRestore
    with contextlib.suppress(Stop):
        fit(backup("backup"), StopAt(2))
    rest = fit(backup("backup"))
    assert rest == {name: values[2:] for name, values in whole.items()}


def to_keras(_):
    """What was learned trains a plain model to the same weights."""
    first = model(
        optimizer=keras.optimizers.SGD(0.1),
        hyperparameters=[
            kd.hyperparameters.L2("layer"),
            kd.hyperparameters.LearningRate(),
        ],
    )
    first.fit(**FIT)
    plain = first.to_keras()
    plain.save("tuned")
    inputs = keras.Input((4,))
    names = [layer.name for layer in first.elementary_model.layers[1:]]
    x = keras.layers.Dense(3, activation="tanh", name=names[0])(inputs)
    twin = keras.Model(inputs, keras.layers.Dense(2, name=names[1])(x))
    start = [weight / 2 for weight in first.get_weights()]
    first.set_weights(start)
    twin.set_weights(start)
    for variable in twin.trainable_variables:
        variable.regularizer = plain.regularizers[variable.path]
    twin.compile(plain.optimizer, plain.loss)
    options = dict(batch_size=8, epochs=2, shuffle=False, verbose=0)
    twin.fit(X, Y, **options)
    first.fit(X, Y, meta_iterations=0, **options)
    pairs = zip(first.get_weights(), twin.get_weights(), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def callbacks(_):
    """Callbacks of Keras see meta-iterations as epochs."""
    one = model()
    one.fit(
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=1),
            keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
            keras.callbacks.CSVLogger("log.csv"),
        ],
        **FIT,
    )
    keras.models.load_model("best.keras")
    rows = pathlib.Path("log.csv").read_text().splitlines()
    assert len(rows) - 1 == len(one.history.history["val_loss"])


def main():
    """Runs the parts that are named, or all of them."""
    readme, *names = sys.argv[1:]
    parts = (quick_start, export_and_load, resume, to_keras, callbacks)
    for part in parts:
        if not names or part.__name__ in names:
            part(pathlib.Path(readme))
            print(f"{part.__name__}: {part.__doc__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
