"""Weights and hyperparameters of one meta-iteration, and loops of `fit`."""

import tempfile

import keras
import numpy as np

import keras_drmad as kd
from faults import ONE_PATH, members, wrapped
from small_models import At, built_once, cross_entropy, linear

H = kd.hyperparameters


def new():
    return wrapped(
        linear(),
        keras.optimizers.SGD(0.3),
        cross_entropy(),
        [H.LearningRate(), H.L2()],
        metrics=["accuracy"],
        meta_optimizer=keras.optimizers.SGD(3.0),
    )


# The same model for all, as new; another one by another name.
tuned = built_once(lambda name="one": new())


def known(model):
    return [*model.get_weights(), *(h.value() for h in model.hyperparameters)]


def same(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


class Keep(keras.callbacks.Callback):
    """Keeps what the model knows after each meta-iteration."""

    def on_train_begin(self, logs=None):
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(known(self.model))


class Best(keras.callbacks.Callback):
    """A user's own: brings the weights of one meta-iteration back."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.weights = self.model.get_weights()

    def on_train_end(self, logs=None):
        self.model.set_weights([w.copy() for w in self.weights])


def early(**options):
    options = {"restore_best_weights": True, "patience": 9} | options
    return keras.callbacks.EarlyStopping(**options)


@members(
    "weights of one meta-iteration, hyperparameters of another",
    {
        "the lowest accuracy": [early(monitor="val_accuracy", mode="min")],
        "the highest norm": [
            kd.callbacks.Diagnostics(),
            early(monitor="hypergradient_norm", mode="max"),
        ],
        "the highest training loss": [early(monitor="loss", mode="max")],
        "stopped early": [early(monitor="loss", mode="max", patience=1)],
        "a callback of one's own": [Best()],
        "stopped by another": [
            early(monitor="loss", mode="max"),
            At(2, lambda: None),
        ],
    },
)
def ends_with_one_meta_iteration(callbacks):
    for keep in ("best", "last"):
        model, kept = tuned(), Keep()
        model.fit(
            **ONE_PATH,
            meta_iterations=4,
            callbacks=[kept, *callbacks],
            keep=keep,
        )
        count = sum(same(known(model), one) for one in kept.kept)
        assert count == 1, count


@members(
    "a file of one meta-iteration",
    {
        "whole": dict(filepath="best.keras"),
        "weights": dict(filepath="best.weights.h5", save_weights_only=True),
    },
)
def loads_one_meta_iteration(options):
    model, keep = tuned(), Keep()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{options['filepath']}"
        save = keras.callbacks.ModelCheckpoint(
            **options | {"filepath": path},
            save_best_only=True,
            monitor="hypergradient_norm",
            mode="max",
        )
        norms = model.fit(
            **ONE_PATH,
            meta_iterations=3,
            callbacks=[kd.callbacks.Diagnostics(), keep, save],
        ).history["hypergradient_norm"]
        if path.endswith(".keras"):
            loaded = keras.models.load_model(path)
        else:
            loaded = tuned("other")
            loaded.load_weights(path)
    assert same(known(loaded), keep.kept[int(np.argmax(norms))])


def again(model, **options):
    for _ in range(3):
        model.fit(**ONE_PATH | options, meta_iterations=1)
        yield [float(h.value()) for h in model.hyperparameters]


def from_the_start(model):
    start = model.get_weights()
    for values in again(model):
        model.set_weights(start)
        yield values


def through_files(model):
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            model.fit(**ONE_PATH, meta_iterations=1)
            model.save(f"{folder}/m.keras")
            model = keras.models.load_model(f"{folder}/m.keras")
        yield [float(h.value()) for h in model.hyperparameters]


@members(
    "a loop of fit(meta_iterations=1)",
    {
        "as it is": again,
        "not restored": lambda m: again(m, keep="last"),
        "resampled": lambda m: again(m, initial_weights="resample"),
        "continued": lambda m: again(m, initial_weights="continue"),
        "with a callback that restores": lambda m: again(
            m, callbacks=[early(monitor="val_loss")]
        ),
        "from the same weights": from_the_start,
        "through files": through_files,
    },
)
def moves_each_time(loop):
    values = list(loop(tuned()))
    for k in range(2):
        assert len({v[k] for v in values}) == 3, values


@members(
    "a loop of fit is one fit",
    {"restored": {}, "not restored": {"keep": "last"}},
)
def is_one_fit(options):
    """From the same weights, a loop of three is a fit of three."""
    one, keep = tuned(), Keep()
    start = one.get_weights()
    one.fit(**ONE_PATH, meta_iterations=3, callbacks=[keep])
    many, rows = tuned(), []  # the same model, as new
    for _ in range(3):
        many.set_weights(start)
        many.fit(**ONE_PATH | options, meta_iterations=1)
        rows.append(known(many))
    ours = slice(0, 2) if options else slice(0, 4)
    for a, b in zip(rows, keep.kept, strict=True):
        assert same(a[ours], b[ours])


@members(
    "values assigned between fits",
    {"one": [0.2, None], "both": [0.2, 1e-3]},
)
def are_trained_with(values):
    model = tuned()
    model.fit(**ONE_PATH, meta_iterations=1)
    for h, value in zip(model.hyperparameters, values, strict=True):
        if value is not None:
            h.assign(value)
    before = [float(h.value()) for h in model.hyperparameters]
    logs = model.fit(**ONE_PATH, meta_iterations=1).history
    assert np.isclose(logs["learning_rate/mean"][0], before[0], rtol=1e-6)
    assert np.isclose(logs["l2/mean"][0], before[1], rtol=1e-6)
