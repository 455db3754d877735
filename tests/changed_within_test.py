"""Changed within a training: the walk backward sees what the steps saw.

The witness is `fit` itself: the validation loss of the very training, with the
callback, at raw values on both sides. Keras's learning rate is heard from the
next chunk on, as in Keras's own `fit`; so are frozen weights and variables of
layers. A raw value counts from the next training on.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import relative_error
from closed_forms import LinearTerm, exact_model, linear_net, regression
from keras_drmad.hyperparameters import L2, LearningRate

pytestmark = pytest.mark.usefixtures("float64")

T = 200  # walks pause every 50 steps, or oftener
X, Y = regression(10)
VALIDATION = regression(10, seed=1)


class Annealed(keras.layers.Layer):
    """Adds `strength` times the mean square of its inputs to the loss."""

    def build(self, input_shape):
        self.strength = self.add_weight(
            name="strength", initializer="ones", trainable=False
        )

    def call(self, x):
        square = keras.ops.mean(keras.ops.square(x))
        self.add_loss(0.1 * self.strength * square)
        return x


def net():
    """Returns a net with a frozen layer and an annealed loss."""
    inputs = keras.Input((4,))
    frozen = keras.layers.Dense(4, name="frozen", trainable=False)
    x = keras.layers.Dense(3, activation="tanh", name="a")(frozen(inputs))
    x = Annealed(name="annealed")(x)
    return inputs, keras.layers.Dense(2, name="b")(x)


class Within(keras.callbacks.Callback):
    """Sets a variable before or after each chunk of a training."""

    def __init__(self, variable_of, values, on="end"):
        super().__init__()
        self.variable_of, self.values, self.on = variable_of, values, on

    def on_train_begin(self, logs=None):
        self.variable = self.variable_of(self.model)
        self.first = np.array(self.variable)

        self.seen = set()

    def on_train_batch_begin(self, batch, logs=None):
        if self.on == "begin":
            self.set(batch)

    def on_train_batch_end(self, batch, logs=None):
        if self.on == "end":
            self.set(batch)

    def set(self, batch):
        quarter = 4 * batch // T
        self.variable.assign(self.first * self.values[quarter])
        self.seen.add(quarter)

    def on_train_end(self, logs=None):
        assert self.seen == {0, 1, 2, 3}, "all quarters of a training"


def rate(model):
    return model.optimizer.learning_rate


def frozen_kernel(model):
    return model.elementary_model.get_layer("frozen").kernel


def strength(model):
    return model.elementary_model.get_layer("annealed").strength


def raw(model):
    return model.hyperparameters[0].raw


def rate_that_reads(variable):
    """Returns a function that is a learning rate."""

    @keras.saving.register_keras_serializable("test", type(variable).__name__)
    def read_rate():
        return 0.05 * keras.ops.convert_to_tensor(variable)

    return read_rate


def loss_that_reads(variable):
    """Returns a loss with a term that a variable weighs."""

    def loss(y, y_pred):
        square = keras.ops.mean(keras.ops.square(y - y_pred), axis=-1)
        strength = keras.ops.convert_to_tensor(variable)
        return square + 0.1 * strength * keras.ops.mean(y_pred**4, axis=-1)

    return loss


WITHIN = {
    "rate-after": lambda: Within(rate, [0.3, 0.1, 1.5, 0.2]),
    "rate-before": lambda: Within(rate, [0.2, 1.0, 0.5, 0.1], "begin"),
    "frozen-weights": lambda: Within(frozen_kernel, [0.5, 2.0, -1.0, 1.0]),
    "variable-of-a-layer": lambda: Within(strength, [0.0, 3.0, 9.0, 1.0]),
    "raw-value": lambda: Within(raw, [0.5, 0.25, 1.5, 1.2]),
}
# Exact methods, and how exact in float64.
METHODS = {
    "stored": (kd.ReverseMode(), 1e-6),
    "checkpointed": (kd.ReverseMode("checkpointed"), 1e-6),
    "bfloat16": (kd.ReverseMode("bfloat16"), 0.02),
    "reversible": (kd.ReverseMode("reversible"), 1e-6),
    "all-lines": (kd.DrMAD(1.0, anchors=T), 0.02),
}
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.5),
    "adam": lambda: keras.optimizers.Adam(0.02),
}


class Case:
    """A compiled model whose `fit` shows a derivative and what it is of."""

    initial_weights = "same"

    def __init__(self, kinds, optimizer="momentum", made=net, **options):
        keras.utils.set_random_seed(0)
        self.model = exact_model(
            made(),
            kinds,
            OPTIMIZERS.get(optimizer, lambda: optimizer)(),
            hypergradient=kd.ReverseMode(),
            meta_optimizer=keras.optimizers.SGD(1.0),
            **options,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [
            *self.model.variables,
            *self.model.optimizer.variables,
            *(h.raw for h in self.model.hyperparameters),
        ]
        self.before = [np.array(v) for v in self.variables]

    def fit(self, within, moved=0.0):
        """Runs one training from the same numbers each time.

        Args:
            within: function that returns a callback.
            moved: float, how far all raw values are moved.

        Returns:
            The validation loss, and the hypergradient of each raw value.
        """
        for variable, value in zip(self.variables, self.before, strict=True):
            variable.assign(value)
        raws = [h.raw for h in self.model.hyperparameters]
        for variable in raws:
            variable.assign_add(np.full(variable.shape, moved))
        steps = Steps(raws)
        history = self.model.fit(
            X,
            Y,
            batch_size=5,
            steps_per_epoch=T,
            validation_data=VALIDATION,
            meta_iterations=1,
            keep="last",
            initial_weights=self.initial_weights,
            callbacks=[within(), steps],
            seed=0,
            verbose=0,
        )
        gradients = [
            before - np.array(after)
            for before, after in zip(steps.before, raws, strict=True)
        ]
        return history.history["val_loss"][0], gradients

    def difference(self, within, step=5e-5):
        """Returns the derivative of the loss along all raw values.

        The error is f‴ step² / 6 from the truncation, and about 1e-16 f / step
        from the rounding: 1e-9 and less.
        """
        more, less = (self.fit(within, s)[0] for s in (step, -step))
        return (more - less) / (2 * step)

    def assert_exact(self, within, tolerance, expected=None):
        _, gradients = self.fit(within)
        along = sum(float(np.sum(g)) for g in gradients)
        if expected is None:
            expected = self.difference(within)
        assert abs(expected) > 1e-4
        assert along == pytest.approx(expected, rel=tolerance)


class Steps(keras.callbacks.Callback):
    """Keeps raw values as they are just before the meta-optimizer's step."""

    def __init__(self, raws):
        super().__init__()
        self.raws = raws

    def on_epoch_end(self, epoch, logs=None):
        self.before = [np.array(raw) for raw in self.raws]


@pytest.fixture(scope="module")
def case_of():
    """Returns a function to one compiled model, which then has a method."""
    kinds = [L2("layer", 0.05), LearningRate(layers="b", initial=0.04)]
    case = Case(kinds)

    def case_with(method):
        case.model._assembly.method = METHODS[method][0]
        return case

    return case_with


@pytest.mark.parametrize(
    "within", [name for name in WITHIN if name != "raw-value"]
)
def test_reverse_mode_is_exact(case_of, within):
    case_of("stored").assert_exact(WITHIN[within], METHODS["stored"][1])


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name != "stored"]
)
def test_other_methods_are_as_exact_as_they_can(case_of, method):
    # Chunks, after which a rate is set, are of other lengths for each.
    case_of(method).assert_exact(WITHIN["rate-after"], METHODS[method][1])


@pytest.fixture(scope="module")
def with_a_raw_value(case_of):
    """Returns the derivative of a training that is the same for all methods."""
    return case_of("stored").difference(WITHIN["raw-value"])


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_with_a_raw_value(case_of, with_a_raw_value, method):
    tolerance = METHODS[method][1]
    case = case_of(method)
    case.assert_exact(WITHIN["raw-value"], tolerance, with_a_raw_value)


def test_an_adaptive_optimizer_is_exact_too():
    kinds = [L2("layer", 0.05), LearningRate(layers="b", initial=0.04)]
    Case(kinds, "adam").assert_exact(WITHIN["rate-before"], 1e-6)


@pytest.mark.parametrize(
    "where, make", [("rate", keras.Variable), ("loss", tf.Variable)]
)
def test_variables_that_no_scope_reaches_are_held(where, make):
    variable = make(np.float64(1.0))
    optimizer, options = "momentum", {}
    if where == "rate":
        optimizer = keras.optimizers.SGD(rate_that_reads(variable))
    else:
        options["loss"] = loss_that_reads(variable)
    case = Case([L2("layer", 0.05)], optimizer, **options)
    within = Within(lambda model: variable, [0.3, 2.0, 0.5, 1.0])
    case.assert_exact(lambda: within, 1e-6)
    # The walk backward puts back what it held.
    assert float(np.array(variable)) == 1.0


def test_lines_use_the_rates_of_the_steps_that_they_walk():
    # On a quadratic with a linear hyperparameter states do not matter: what
    # is left are the rates, one for each step.
    case = Case([LinearTerm()], made=linear_net)
    for method in (kd.DrMAD(1.0), kd.DrMAD(1.0, anchors=7)):
        case.model._assembly.method = method
        case.assert_exact(WITHIN["rate-after"], 1e-6)


def test_a_raw_value_counts_from_the_next_training_on(case_of):
    case = case_of("stored")
    plain, gradients = case.fit(keras.callbacks.Callback)
    moved, same = case.fit(WITHIN["raw-value"])
    assert moved == plain
    assert relative_error(same, gradients) < 1e-12


def towers():
    """Returns a net with two layers of one shape, side by side."""
    inputs = keras.Input((4,))
    parts = [
        keras.layers.Dense(3, activation="tanh", name=f"{name}_bottom")(inputs)
        for name in ("greek", "hebrew")
    ]
    joined = keras.layers.Concatenate()(parts)
    return inputs, keras.layers.Dense(2, name="top")(joined)


def test_a_training_that_goes_on_starts_from_weights_that_it_holds():
    # With shared weights the first parameters depend on the matrix, if what
    # is held are the weights that the last training left.
    sharing = kd.hyperparameters.WeightSharing([".*_bottom"], 0.6)
    case = Case([sharing], made=towers)
    case.initial_weights = "continue"
    case.assert_exact(WITHIN["rate-after"], 1e-6)
