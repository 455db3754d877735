"""Arguments that Keras takes, compiles that fail, classes of one's own."""

import keras
import numpy as np

import keras_drmad as kd
from faults import REFUSED, members, refused, wrapped
from small_models import (
    CLASSES,
    FEATURES,
    VALIDATION,
    X,
    Y,
    cross_entropy,
    hidden,
    linear,
)

H = kd.hyperparameters
FIT = dict(
    x=X, y=Y, batch_size=8, validation_data=VALIDATION, verbose=0, seed=0
)


def tuned(**options):
    return wrapped(linear(), "sgd", cross_entropy(), [H.L2()], **options)


@members(
    "arguments of compile that change nothing",
    {
        "steps_per_execution=1, auto_scale_loss": dict(
            steps_per_execution=1, auto_scale_loss=True
        ),
        "steps_per_execution=4, no auto_scale_loss, run_eagerly=False": dict(
            steps_per_execution=4, auto_scale_loss=False, run_eagerly=False
        ),
    },
)
def compile_takes(options):
    model = tuned(**options)
    assert np.isfinite(model.evaluate(X, Y, verbose=0))


@members(
    "arguments of compile that are refused",
    {
        "run_eagerly": (dict(run_eagerly=True), "run_eagerly"),
        "run_eagerly, no bool": (dict(run_eagerly=1), "run_eagerly"),
        "steps_per_execution": (
            dict(steps_per_execution=0),
            "steps_per_execution",
        ),
        "auto_scale_loss": (dict(auto_scale_loss="no"), "auto_scale_loss"),
        "a typing error": (dict(metric=["accuracy"]), "`metrics`"),
        "unknown": (dict(distribute_reduction_method="sum"), "Expected"),
    },
)
def compile_refuses(case):
    options, word = case
    return refused(lambda: tuned(**options), word, "Received")


ARGUMENTS_OF_FIT = {
    "validation_freq=2": (dict(validation_freq=2), "validation_freq"),
    "a list": (dict(validation_freq=[1, 3]), "validation_freq"),
    "workers": (dict(workers=2), "workers"),
    "a typing error": (dict(meta_iteration=2), "`meta_iterations`"),
    "max_queue_size": (dict(max_queue_size=10), "max_queue_size"),
}


@members("arguments of fit", {", ".join(ARGUMENTS_OF_FIT): ARGUMENTS_OF_FIT})
def fit_refuses(cases):
    model = tuned()
    model.fit(**FIT, validation_freq=1, meta_iterations=1)
    for options, word in cases.values():
        refused(
            lambda given=options: model.fit(**FIT, **given), word, "Received"
        )
    return REFUSED


COMPILES_THAT_FAIL = {
    "no such optimizer": dict(optimizer="sgdd"),
    "a wrapped optimizer": dict(
        optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    ),
    "an optimizer without the number": dict(hyperparameters=[H.WeightDecay()]),
    "no such layers": dict(hyperparameters=[H.L2(layers="none")]),
    "no such meta-optimizer": dict(meta_optimizer="none"),
    "a name of none": dict(meta_optimizer={"none": "sgd"}),
    "no such method": dict(hypergradient="none"),
    "two of a name": dict(hyperparameters=[H.L2(), H.L2()]),
    "an unknown argument": dict(unknown=1),
    "no hyperparameters": dict(hyperparameters=[]),
}


@members(
    "compiles that fail",
    {", ".join(COMPILES_THAT_FAIL): COMPILES_THAT_FAIL},
)
def leave_the_model_as_it_was(cases):
    """Also with other metrics, and with its own hyperparameters."""
    model, twin = (tuned(metrics=["accuracy"]) for _ in range(2))
    for one in (model, twin):
        one.fit(**FIT, meta_iterations=1)
    loss, optimizer, kinds = model.loss, model.optimizer, model.hyperparameters
    before = model.evaluate(*VALIDATION, verbose=0)
    given = dict(
        optimizer="adam", loss="mse", metrics=["mae"], hyperparameters=kinds
    )
    for name, options in cases.items():
        refused(lambda more=options: model.compile(**given | more))
        assert model.optimizer is optimizer, name
        assert model.elementary_model.optimizer is optimizer, name
        assert model.loss is loss and model.hyperparameters == kinds, name
        assert len(model.metrics) == len(twin.metrics), name
        for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert model.evaluate(*VALIDATION, verbose=0) == before
    logs, expected = (
        one.fit(**FIT, meta_iterations=1, initial_weights="same").history
        for one in (model, twin)
    )
    assert "accuracy" in logs and "mae" not in logs
    for name, values in expected.items():
        assert np.allclose(logs[name], values, rtol=1e-6), name


class Blocks(keras.Model):
    """A subclass that holds its layers in each way."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(5, "tanh")
        self.norms = [keras.layers.BatchNormalization()]
        self.heads = {"logits": keras.layers.Dense(CLASSES)}

    def call(self, x, training=False):
        h = self.norms[0](self.first(x), training=training)
        return self.heads["logits"](h)


def blocks():
    keras.utils.set_random_seed(0)
    model = Blocks()
    model(X[:1])
    return model


def stacked():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((FEATURES,)), blocks()])


@members(
    "a first compile that fails",
    {"functional": hidden, "subclassed": blocks, "sequential": stacked},
)
def leaves_the_model_whole(make):
    model = kd.DrMADModel.from_model(make())
    inside = model.elementary_model
    before = [*inside.layers], [v.path for v in inside.weights]
    options = dict(optimizer="sgd", loss=cross_entropy(), jit_compile=False)
    for none in ([H.LossWeights()], [H.L2(layers="none")]):
        refused(
            lambda none=none: model.compile(hyperparameters=none, **options)
        )
        assert ([*inside.layers], [v.path for v in inside.weights]) == before
    model.compile(hyperparameters=[H.L2()], **options)
    other = wrapped(make(), "sgd", cross_entropy(), [H.L2()])
    given = dict(batch_size=8, validation_data=VALIDATION, seed=0)
    found, expected = (
        one.validation_loss_after(X, Y, **given) for one in (model, other)
    )
    assert np.isclose(found, expected, rtol=1e-6)


@members("the model inside, seen from outside", {"inputs, outputs": None})
def shows_through(_):
    model = wrapped(hidden(), "sgd", cross_entropy(), [H.L2()])
    inside = model.elementary_model
    assert model.output_names == inside.output_names
    for ends in (
        lambda m: (m.input, m.output),
        lambda m: (m.input, m.get_layer("first").output),
        lambda m: (m.inputs, m.outputs),
        lambda m: (m.inputs[0], m.layers[-1].output),
    ):
        found, expected = (
            keras.Model(*ends(m)).predict(X, verbose=0, batch_size=24)
            for m in (model, inside)
        )
        keras.tree.map_structure(np.testing.assert_array_equal, found, expected)


class Mine(kd.DrMADModel):
    """With arguments of its own."""

    def compile(self, optimizer, *, strength, **kwargs):
        self.strength = strength
        super().compile(
            optimizer,
            cross_entropy(),
            hyperparameters=[H.L2(initial=strength)],
            jit_compile=False,
            **kwargs,
        )

    def fit(self, x, y, *, often=1, **kwargs):
        for _ in range(often):
            history = super().fit(
                x, y, meta_iterations=1, validation_data=(x, y), **kwargs
            )
        return history


@members("a subclass with arguments of its own", {"": None})
def subclass_works(_):
    model = Mine.from_model(linear())
    model.compile("sgd", strength=1e-3, metrics=["accuracy"])
    history = model.fit(X, Y, often=2, verbose=0).history
    assert np.isfinite(history["val_accuracy"][0])


class Scaled(keras.Model):
    """A model whose `compile` and loss are its own."""

    def compile(self, optimizer, scale, metrics=None, **kwargs):
        super().compile(optimizer, metrics=metrics, **kwargs)
        self.scale = scale

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return self.scale * keras.ops.mean((y_pred - y) ** 2)


class Narrow(Scaled):
    """One that takes nothing else."""

    def compile(self, optimizer, scale):
        super().compile(optimizer, scale)


class Distiller(Scaled):
    """One that trains by steps of its own."""

    def train_step(self, data):
        return {}


def own(kind, **options):
    inputs = keras.Input((4,))
    inside = kind(inputs, keras.layers.Dense(1)(inputs))
    model = kd.DrMADModel.from_model(inside)
    model.compile("sgd", hyperparameters=[H.L2()], jit_compile=False, **options)
    return model


@members("a model with a compile of its own", {"a": Scaled, "b": Narrow})
def own_compile_works(kind):
    y = X[:, :1]
    model = own(kind, scale=1e-3)
    logs = model.fit(
        X,
        y,
        validation_data=(X, y),
        meta_iterations=1,
        initial_weights="same",
        verbose=0,
    ).history
    error = np.mean((model.predict(X, verbose=0) - y) ** 2)
    np.testing.assert_allclose(logs["val_loss"][0], 1e-3 * error, rtol=1e-5)


@members(
    "a model with a compile of its own, refused",
    {
        "its argument is missing": (Scaled, {}, "scale"),
        "it takes no metrics": (
            Narrow,
            dict(scale=1.0, metrics=["mae"]),
            "metrics",
        ),
        "unknown": (Narrow, dict(scale=1.0, other=1), "other"),
        "distillation": (Distiller, dict(scale=1.0), "train_step"),
    },
)
def own_compile_is_refused(case):
    kind, options, word = case
    return refused(lambda: own(kind, **options), word, kind.__name__)
