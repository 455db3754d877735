"""The self-check: what it catches when a mending is taken out again."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_drmad as kd
from faults import derivatives, variables, wrapped
from faults.sparse_gradients import HELD_OUT, TOKENS, Y, embedding
from keras_drmad import keras_internals
from keras_drmad.core import rows
from keras_drmad.hyperparameters import LearningRate
from keras_drmad.seam import gradient_rules, look, problem, scope
from keras_drmad.seam.self_check import SelfCheckError
from keras_drmad.training import assembly

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.self_check,
]


def sgd():
    return keras.optimizers.SGD(0.1, momentum=0.5)


def fits(model, x, y, held_out):
    model.fit(
        x,
        y,
        batch_size=4,
        validation_data=held_out,
        meta_iterations=1,
        verbose=0,
    )


def checked(model, x, y, held_out):
    """Checks a model as `fit` does before it trains."""
    model.prepared(x, y, batch_size=4, validation_data=held_out, seed=0)


def dense(layer):
    """Returns what fits a net with a layer inside."""
    model = wrapped(variables.around(layer), sgd(), "mse", [LearningRate()])
    return model, variables.X, variables.Y, variables.HELD_OUT


def images(layer):
    pooled = derivatives.pooled((lambda: layer, (6, 6, 2)))
    x, y = derivatives.IMAGES, derivatives.Y
    return wrapped(pooled, sgd(), "mse", [LearningRate()]), x, y, (x, y)


def tokens():
    model = wrapped(
        embedding(), keras.optimizers.Adam(0.05), "mse", [LearningRate()]
    )
    return model, TOKENS, Y, HELD_OUT


def labels():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model = wrapped(model, sgd(), loss, [LearningRate()])
    y = np.full((8, 3), 0.2)
    return model, derivatives.X, y, (derivatives.X, y)


# ---- mendings, taken out


def without_rule(monkeypatch, kind):
    rules = {k: v for k, v in gradient_rules._RULES.items() if k != kind}
    monkeypatch.setattr(gradient_rules, "_RULES", rules)


def without_seeing_through(monkeypatch):
    monkeypatch.setattr(keras_internals, "set_gradient", lambda op, name: None)


def without_constants_read_back(monkeypatch):
    monkeypatch.setattr(
        scope.Scope,
        "get_current_value",
        lambda self, v: keras.StatelessScope.get_current_value(self, v),
    )


def without_rows(monkeypatch):
    monkeypatch.setattr(
        problem,
        "Rows",
        lambda values, indices: tf.math.unsorted_segment_sum(
            values, indices, 8
        ),
    )


def without_drawing_check(monkeypatch):
    monkeypatch.setattr(look.traits, "check_pure", lambda *args: None)


def noisy():
    return dense(
        variables.noise(lambda x: tf.random.normal(tf.shape(x), dtype=x.dtype))
    )


CASES = {
    "moments": (
        lambda: dense(layers.LayerNormalization()),
        lambda m: without_rule(m, "StopGradient"),
    ),
    "reversal": (
        lambda: dense(layers.Lambda(derivatives.reversed_)),
        without_seeing_through,
    ),
    "max pooling": (
        lambda: images(layers.MaxPooling2D(2, 1, "same")),
        lambda m: without_rule(m, "MaxPoolGrad"),
    ),
    "labels": (
        labels,
        lambda m: without_rule(m, "SoftmaxCrossEntropyWithLogits"),
    ),
    "assigned and read": (
        lambda: dense(variables.RunningMean()),
        without_constants_read_back,
    ),
    "sparse gradients": (tokens, without_rows),
    "randomness": (noisy, without_drawing_check),
}


@pytest.mark.parametrize("name", CASES)
def test_catches_what_a_mending_would_mend(name, monkeypatch):
    make, take_out = CASES[name]
    with monkeypatch.context() as patch:
        take_out(patch)
        with pytest.raises(SelfCheckError):
            fits(*make())
    if name != "randomness":
        checked(*make())


class Wrong(keras.optimizers.SGD):
    """Steps that depend on who asks: in eager mode twice as long."""

    def update_step(self, gradient, variable, learning_rate):
        is_keras = isinstance(variable, tf.Variable)
        factor = 2.0 if is_keras else 1.0
        super().update_step(gradient, variable, factor * learning_rate)


class OwnLoss(keras.losses.Loss):
    """A loss that counts its calls in Python."""

    calls = 0

    def call(self, y_true, y_pred):
        OwnLoss.calls += 1
        return OwnLoss.calls * (y_true - y_pred) ** 2


@pytest.mark.parametrize(
    ("optimizer", "loss"),
    [(lambda: Wrong(0.1), "mse"), (sgd, OwnLoss())],
    ids=["optimizer", "loss"],
)
def test_refuses_steps_that_are_not_keras_s(optimizer, loss):
    model = wrapped(
        variables.around(layers.Dense(3)), optimizer(), loss, [LearningRate()]
    )
    with pytest.raises(SelfCheckError, match="otherwise here than in"):
        fits(model, variables.X, variables.Y, variables.HELD_OUT)


@tf.custom_gradient
def half(x):
    """A function whose gradient is half of what it should be.

    In a function of its own, where no rule reaches.
    """
    return tf.sin(x), lambda d: 0.5 * d * tf.cos(x)


def test_names_the_weights_at_which_a_derivative_is_wrong():
    compiled = tf.function(half)
    model, *data = dense(layers.Lambda(lambda x: compiled(x)))
    with pytest.raises(SelfCheckError, match="dense.*kernel"):
        fits(model, *data)


def test_can_be_switched_off_and_says_so(capsys):
    model = wrapped(
        variables.around(layers.Dense(3)),
        Wrong(0.1),
        "mse",
        [LearningRate()],
        self_check=False,
    )
    fits(model, variables.X, variables.Y, variables.HELD_OUT)
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert "Self-check: off" in "".join(lines)


def test_moves_nothing_of_anyone():
    model = wrapped(
        variables.around(layers.BatchNormalization()),
        keras.optimizers.Adam(0.1),
        "mse",
        [LearningRate()],
        metrics=["mae"],
    )
    inner = model.elementary_model
    inner.optimizer.build(inner.trainable_variables)
    everything = [*inner.variables, *inner.optimizer.variables]
    before = [np.array(v.value) for v in everything]
    numpy = np.random.get_state()[1].copy()
    checked(model, variables.X, variables.Y, variables.HELD_OUT)
    for v, value in zip(everything, before, strict=True):
        np.testing.assert_array_equal(np.array(v.value), value, v.path)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_lets_kinks_pass_in_coarse_numbers(dtype):
    from conftest import precision

    with precision("float32"), contextlib.ExitStack() as stack:
        if dtype != "float32":
            keras.config.set_dtype_policy(dtype)
            stack.callback(keras.config.set_dtype_policy, "float32")
        keras.utils.set_random_seed(1)
        inputs = x = keras.Input((6, 6, 2))
        for _ in range(2):
            x = layers.Conv2D(4, 3, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.MaxPooling2D(padding="same")(x)
        outputs = layers.Dense(2, dtype="float32")(layers.Flatten()(x))
        model = wrapped(
            keras.Model(inputs, outputs),
            "adam",
            "mse",
            [kd.hyperparameters.L2("layer")],
            hypergradient=kd.DrMAD(),
        )
        x, y = derivatives.IMAGES, derivatives.Y
        checked(model, x.astype("float32"), y.astype("float32"), (x, y))


@pytest.fixture
def wrong_slopes(monkeypatch):
    """Every derivative is found to be wrong."""

    def check_slopes(*args):
        raise SelfCheckError("wrong")

    monkeypatch.setattr(assembly.self_check, "check_slopes", check_slopes)


@pytest.mark.parametrize(
    ("method", "traces", "trains"),
    [
        (kd.ReverseMode(), 0, False),  # no training comes sooner than the check
        (kd.ReverseMode(), 1e9, True),  # each does
        (kd.ForwardMode(), 1e9, False),  # which differentiates as it trains
    ],
)
def test_derivatives_are_checked_before_long_trainings_and_after_short_ones(
    method, traces, trains, wrong_slopes, monkeypatch
):
    monkeypatch.setattr(assembly, "TRACES", traces)
    model = wrapped(
        variables.around(layers.Dense(3)),
        sgd(),
        "mse",
        [LearningRate()],
        hypergradient=method,
    )
    before = [w.copy() for w in model.get_weights()]
    taken = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: taken.append(batch)
    )
    for _ in range(2):  # a check that failed is due again
        taken.clear()
        with pytest.raises(SelfCheckError):
            model.fit(
                variables.X,
                variables.Y,
                batch_size=4,
                validation_data=variables.HELD_OUT,
                meta_iterations=2,
                callbacks=[count],
                verbose=0,
            )
        assert bool(taken) == trains
    for w, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, old)
    assert not model.start_weights
    with pytest.raises(SelfCheckError):  # of one training, always before it
        checked(model, variables.X, variables.Y, variables.HELD_OUT)


def test_rows_are_picked_and_averaged():
    table = [tf.constant(np.arange(8.0).reshape(4, 2))]
    g = [rows.Rows(tf.zeros([3, 2], tf.float64), tf.constant([1, 1, 3]))]
    picked = rows.picked(table, g)
    np.testing.assert_array_equal(picked[0], [[2, 3], [2, 3], [6, 7]])
    back = rows.averaged(picked, g, table)[0]
    np.testing.assert_array_equal(back[1], [2, 3])
    np.testing.assert_array_equal(back[0], [0, 0])


def test_validates_averages_where_training_ends_with_these():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = wrapped(
        variables.around(layers.Dense(3)), optimizer, "mse", [LearningRate()]
    )
    data = variables.X, variables.Y
    # The check comes after a training that has moved weights and averages.
    model.fit(*data, batch_size=4, epochs=3, meta_iterations=0, verbose=0)
    checked(model, *data, variables.HELD_OUT)
