"""The table of optimizers, and of schedules of their rates.

`optimizers_test.py` crosses the updates and options with what it promises of
each; `CLASSES` says which row is of which class.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers as L
from keras.optimizers import schedules
from keras.optimizers.schedules import CosineDecay, ExponentialDecay

from conformance import (
    HELPERS,
    OWN,
    NotApplicable,
    Refused,
    Right,
    Row,
    assert_right,
    here,
    numbers,
)
from keras_drmad import versions

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
RMSprop = keras.optimizers.RMSprop


class Update(NamedTuple):
    """An optimizer, and what sets it apart from the others.

    Attributes:
        make: function that returns a new optimizer.
        as_keras: float, the error against Keras's own `fit`, at most; `None`
            where Keras does not what it says (see the test of the formula).
        penalties: bool, whether penalties reach the weights; a sign hides them.
        reversible: bool, whether steps can be taken back bit for bit.
    """

    make: Callable[[], keras.Optimizer]
    as_keras: float | None = 1e-12
    penalties: bool = True
    reversible: bool = False


def excluding_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


UPDATES_OF_ALL = {
    "sgd": Update(lambda: SGD(0.1)),
    "momentum": Update(lambda: SGD(0.1, momentum=0.9), reversible=True),
    "nesterov": Update(lambda: SGD(0.1, momentum=0.9, nesterov=True)),
    "adam": Update(lambda: Adam(0.02)),
    "adamw": Update(lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1)),
    "adamax": Update(lambda: keras.optimizers.Adamax(0.02)),
    "nadam": Update(lambda: keras.optimizers.Nadam(0.02)),
    "rmsprop": Update(lambda: RMSprop(0.01)),
    "adagrad": Update(lambda: keras.optimizers.Adagrad(0.1)),
    "adadelta": Update(lambda: keras.optimizers.Adadelta(1.0)),
    "lamb": Update(lambda: keras.optimizers.Lamb(0.02)),
    "lion": Update(lambda: keras.optimizers.Lion(0.01), penalties=False),
    "ftrl": Update(
        lambda: keras.optimizers.Ftrl(
            0.1,
            l1_regularization_strength=0.001,
            l2_regularization_strength=0.01,
        )
    ),
    "adafactor": Update(lambda: keras.optimizers.Adafactor(0.1)),
    "muon": Update(lambda: keras.optimizers.Muon(0.05, weight_decay=0.1)),
    "schedule-free": Update(
        lambda: keras.optimizers.ScheduleFreeAdamW(0.02, warmup_steps=5),
        as_keras=None,
    ),
}
OPTIONS = {
    "amsgrad": Update(lambda: Adam(0.02, amsgrad=True)),
    "rmsprop-options": Update(
        lambda: RMSprop(0.01, momentum=0.5, centered=True)
    ),
    # Schedules compute in float32, and graphs may round a cosine otherwise.
    "cosine-decay": Update(
        lambda: SGD(CosineDecay(0.2, 10), momentum=0.9),
        as_keras=1e-6,
        reversible=True,
    ),
    "exponential-decay": Update(lambda: Adam(ExponentialDecay(0.05, 4, 0.7))),
    "clipnorm-ema": Update(
        lambda: SGD(0.1, clipnorm=0.5, use_ema=True, ema_momentum=0.75)
    ),
    "clipvalue-weight-decay": Update(
        lambda: excluding_biases(SGD(0.1, clipvalue=0.2, weight_decay=0.1))
    ),
    "global-clipnorm": Update(
        lambda: SGD(0.1, global_clipnorm=0.5, loss_scale_factor=128.0)
    ),
    "ema-overwrite": Update(
        lambda: SGD(
            0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4
        )
    ),
    "accumulation": Update(lambda: Adam(0.05, gradient_accumulation_steps=2)),
}
CLASSES = {
    "Adadelta": ["adadelta"],
    "Adafactor": ["adafactor"],
    "Adagrad": ["adagrad"],
    "Adam": ["adam", "amsgrad"],
    "AdamW": ["adamw"],
    "Adamax": ["adamax"],
    "Ftrl": ["ftrl"],
    "Lamb": ["lamb"],
    "Lion": ["lion"],
    "Muon": ["muon"],
    "Nadam": ["nadam"],
    "RMSprop": ["rmsprop", "rmsprop-options"],
    "SGD": ["sgd", "momentum", "nesterov"],
    "ScheduleFreeAdamW": ["schedule-free"],
}
# Classes that the installed version of Keras has, but cannot train with.
BROKEN = ["Muon"] if versions.installed("keras") < (3, 13) else []
WORKING = {
    name: rows
    for name, rows in here(keras.optimizers, CLASSES).items()
    if name not in BROKEN
}
UPDATES = {
    row: UPDATES_OF_ALL[row]
    for rows in WORKING.values()
    for row in rows
    if row in UPDATES_OF_ALL
}
OPTIMIZERS = UPDATES | OPTIONS
NOTES = {
    "Lion": "follows a gradient's sign, so only the learning rate, weight "
    "decay and first weights can be tuned",
    "Muon": "from Keras 3.13 on; older ones cannot train with it themselves",
    "ScheduleFreeAdamW": "follows its formula; Keras 3.15 on TensorFlow reads "
    "its momentum after updating it, and starts it at 0 where `fit` builds it",
}
WRAPS = "Wraps other optimizers: pass the inner one itself."
TABLE: dict[str, Row] = (
    {name: Right(rows, NOTES.get(name, "")) for name, rows in CLASSES.items()}
    | {
        "LossScaleOptimizer": Refused(
            lambda: keras.optimizers.LossScaleOptimizer(SGD()),
            "does not wrap others",
            WRAPS,
        ),
        "MultiOptimizer": Refused(
            lambda: keras.optimizers.MultiOptimizer(
                keras.optimizers.OptimizerMap(default_optimizer=SGD())
            ),
            "does not wrap others",
            WRAPS,
        ),
        "Optimizer": NotApplicable(OWN),
        "OptimizerMap": NotApplicable("Part of `MultiOptimizer`."),
    }
    | HELPERS
)
SCHEDULES: dict[str, Row] = {
    "CosineDecay": Right(lambda: schedules.CosineDecay(0.2, 10)),
    "CosineDecayRestarts": Right(lambda: schedules.CosineDecayRestarts(0.2, 2)),
    "ExponentialDecay": Right(lambda: schedules.ExponentialDecay(0.2, 4, 0.7)),
    "InverseTimeDecay": Right(lambda: schedules.InverseTimeDecay(0.2, 4, 0.7)),
    "LearningRateSchedule": NotApplicable(OWN),
    "PiecewiseConstantDecay": Right(
        lambda: schedules.PiecewiseConstantDecay([1, 2], [0.3, 0.2, 0.1])
    ),
    "PolynomialDecay": Right(lambda: schedules.PolynomialDecay(0.2, 10)),
} | {name: row for name, row in HELPERS.items() if name != "get"}


def check_schedule(name: str) -> None:
    """Asserts that a step under a schedule, the fourth, is right."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2, activation="tanh")(inputs))
    model.compile(SGD(SCHEDULES[name].make(), momentum=0.5), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(3)
    x, held_out = numbers(4, 4), numbers(4, 4, seed=1)
    y, held_out_y = numbers(4, 2, seed=2), numbers(4, 2, seed=3)
    assert_right(model, (x, y), (held_out, held_out_y))
