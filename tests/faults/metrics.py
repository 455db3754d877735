"""Metrics with several results, and steps of a model's own."""

import keras
import numpy as np

import keras_drmad as kd
from faults import members, refused, wrapped
from small_models import VALIDATION, X, Y, cross_entropy, linear

H = kd.hyperparameters
ops = keras.ops
FIT = dict(
    x=X, y=Y, batch_size=8, validation_data=VALIDATION, verbose=0, seed=0
)


class Two(keras.metrics.Metric):
    def __init__(self, name="two", nested=False, vector=False):
        super().__init__(name=name)
        self.total = self.add_variable((), "zeros")
        self.nested, self.vector = nested, vector

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(self.total + ops.mean(y_pred))

    def result(self):
        total = 1.0 * self.total  # Keras would read a variable too late
        inner = {"first": total, "second": 2 * self.total}
        if self.vector:
            inner["third"] = ops.ones((2,)) * self.total
        return {"outer": inner, "fourth": total} if self.nested else inner


def losses():
    return dict(optimizer=keras.optimizers.SGD(1e-9), loss=cross_entropy())


@members(
    "metrics whose result is a dict",
    {
        "nested, with a vector, with others, weighted": dict(
            metrics=lambda: [
                "accuracy",
                Two("nested", nested=True),
                Two("vector", vector=True),
            ],
            weighted_metrics=lambda: [Two("weighted")],
        ),
    },
)
def are_logged_as_keras_does(case):
    options = {name: make() for name, make in case.items()}
    plain = linear()
    plain.compile(**losses(), **options, run_eagerly=True)
    given = FIT | dict(shuffle=False)
    del given["seed"]
    expected = plain.fit(**given).history
    options = {name: make() for name, make in case.items()}
    model = wrapped(
        linear(),
        losses()["optimizer"],
        cross_entropy(),
        [H.L2(initial=1e-9)],
        **options,
    )
    for count in (0, 1):
        actual = model.fit(
            **given, meta_iterations=count, initial_weights="same"
        ).history
        assert set(expected) <= set(actual)
        for name, (value,) in expected.items():
            np.testing.assert_allclose(
                actual[name][0], value, rtol=1e-4, atol=1e-6, err_msg=name
            )


class OwnTest(keras.Model):
    def test_step(self, data):
        return {"loss": 0.0}


class OwnTrain(keras.Model):
    def train_step(self, data):
        return {"loss": 0.0}


class OwnTestFunction(keras.Model):
    def make_test_function(self, force=False):
        return super().make_test_function(force)


def inside(kind):
    inputs = keras.Input((4,))
    return kind(inputs, keras.layers.Dense(3)(inputs))


def on_the_object(name):
    model = inside(keras.Model)
    setattr(model, name, lambda data: {"loss": 0.0})
    return model


class Outside(kd.DrMADModel):
    def test_step(self, data):
        return {"loss": 0.0}


class OutsideMetrics(kd.DrMADModel):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {"loss": 0.0}


class OutsideTrain(kd.DrMADModel):
    def train_step(self, data):
        return {"loss": 0.0}


class OutsideCall(kd.DrMADModel):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


@members(
    "a step of a model's own",
    {
        "test_step": lambda: kd.DrMADModel.from_model(inside(OwnTest)),
        "train_step": lambda: kd.DrMADModel.from_model(inside(OwnTrain)),
        "make_test_function": lambda: kd.DrMADModel.from_model(
            inside(OwnTestFunction)
        ),
        "test_step, of the object": lambda: kd.DrMADModel.from_model(
            on_the_object("test_step")
        ),
        "test_step, outside": lambda: Outside.from_model(linear()),
        "train_step, outside": lambda: OutsideTrain.from_model(linear()),
        "compute_metrics, outside": lambda: OutsideMetrics.from_model(linear()),
        "call, outside": lambda: OutsideCall.from_model(linear()),
    },
)
def is_refused(wrap):
    return refused(wrap, "Override", "compute_loss")


class Absolute(keras.Model):
    """With a loss and metrics of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = keras.metrics.Sum(name="seen")

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        error = ops.abs(ops.cast(y, y_pred.dtype)[:, None] - y_pred)
        return ops.mean(error) * (1.0 if training else 2.0)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.seen.update_state(ops.ones_like(y))
        return self.get_metrics_result()

    def get_metrics_result(self):
        return super().get_metrics_result() | {"half": self.seen.result() / 2}


@members(
    "loss and metrics of a model's own", {"in one pass and in three": (16, 6)}
)
def are_one_number(sizes):
    model = wrapped(inside(Absolute), "sgd", None, [H.L2()])
    for size in sizes:
        logs = model.fit(
            **FIT | dict(validation_batch_size=size),
            meta_iterations=1,
            initial_weights="same",
        ).history
        found = model.evaluate(
            *VALIDATION, batch_size=size, verbose=0, return_dict=True
        )
        assert set(found) == {"loss", "seen", "half"}
        for name, value in found.items():
            np.testing.assert_allclose(logs[f"val_{name}"][0], value, rtol=1e-6)
