"""Small trainings, each to be had on one device and on several."""

import collections
import contextlib
import functools
import json
import os
import pathlib
import signal
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from closed_forms import regression
from conformance import optimizers
from conftest import reseed
from keras_drmad import hyperparameters as kinds
from keras_drmad.core import nested
from keras_drmad.core.adjoint import step_back
from keras_drmad.core.state import Batch

# Batches of 5, the last of a pass of 1: replicas have parts of different sizes,
# and more parts than there are examples.
N, SIZE, T = 16, 5, 20
X, Y = regression(N)
LABELS = np.arange(N) % 2
VALIDATION = regression(11, seed=1)
LABELLED = VALIDATION[0], np.arange(11) % 2
IMAGES = np.random.default_rng(0).normal(size=(N, 6, 6, 1))
WORDS = np.random.default_rng(0).integers(0, 9, (N, 4))
# Without short batches, for what need not meet them: half of the tracing.
WHOLE = 15
FULL = {"x": X[:WHOLE], "y": LABELS[:WHOLE]}
FULL["validation"] = LABELLED[0][:10], LABELLED[1][:10]
TRAINING = {"batch_size": SIZE, "steps_per_epoch": T, "seed": 0}
CASES = {}


def case(function):
    """Registers a case: a function without arguments that returns arrays."""
    CASES[function.__name__] = function
    return function


def compiled(inputs, outputs, hyperparameters, **options):
    """Returns a model for classes, with an exact hypergradient."""
    defaults = {
        "optimizer": keras.optimizers.SGD(0.1, momentum=0.5),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "hypergradient": kd.ReverseMode(),
        "jit_compile": "auto",
        "self_check": False,
    }
    model = kd.DrMADModel(inputs, outputs)
    model.compile(hyperparameters=hyperparameters, **defaults | options)
    return model


def mlp():
    """Returns inputs and outputs of a net with one hidden layer."""
    reseed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, "tanh", name="a")(inputs)
    return inputs, keras.layers.Dense(2, name="b")(x)


def cnn():
    """Returns inputs and outputs of a convolutional net."""
    reseed(1)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, activation="tanh", name="a")(inputs)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return inputs, keras.layers.Dense(2, name="b")(x)


def hypergradient(model, x=X, y=LABELS, validation=LABELLED, **options):
    """Returns loss and gradients as arrays by name."""
    h = model.hypergradient(
        x, y, validation_data=validation, **TRAINING | options
    )
    gradients = {k: np.asarray(g) for k, g in h.gradients.items()}
    return {"loss": np.asarray(h.validation_loss), **gradients}


def three_kinds(size=WHOLE):
    """Returns kinds in the loss, of the optimizer and of the examples."""
    return [
        kinds.L2("input", 0.01),
        kinds.LearningRate("layer", 0.1, schedule="piecewise", knots=3),
        kinds.ExampleWeights(size),
    ]


METHODS = {
    "drmad": kd.DrMAD,
    "gauss_newton": lambda: kd.DrMAD(0.5, curvature="gauss_newton"),
    "stored": kd.ReverseMode,
    "checkpointed": lambda: kd.ReverseMode("checkpointed"),
    "reversible": lambda: kd.ReverseMode("reversible"),
    "forward": kd.ForwardMode,
    "cg": lambda: kd.Implicit("cg", terms=4, curvature="gauss_newton"),
}


def _of_method(name):
    def run():
        if name == "cg":  # which learns no rates
            model = compiled(*mlp(), three_kinds()[::2])
        else:
            model = fresh()
        with method_of(model, METHODS[name]()):
            return hypergradient(model, **FULL)

    return run


@contextlib.contextmanager
def method_of(model, method):
    """Gives a model a method within a `with` statement."""
    before = model._assembly.method
    model._assembly.method = method
    try:
        yield
    finally:
        model._assembly.method = before


for _name in METHODS:
    CASES[f"method_{_name}"] = _of_method(_name)


@case
def accumulation():
    """An optimizer that takes a step each few minibatches."""
    optimizer = optimizers.OPTIMIZERS["accumulation"].make()
    weights = kinds.ExampleWeights(WHOLE)
    model = compiled(*mlp(), [weights], optimizer=optimizer)
    return hypergradient(model, steps_per_epoch=9, **FULL)


@case
def each_place():
    """Kinds in other places: first weights, data, labels, layers, losses."""
    reseed(1)
    x = inputs = keras.Input((4,))
    for layer in "ab":
        x = keras.layers.Dense(4, "tanh", name=layer)(x)
    x = keras.layers.ActivityRegularization(l2=0.1, name="noisy")(x)
    chosen = [
        kinds.InitialWeights("a"),
        kinds.LabelSmoothing(0.2),
        kinds.LearnedData(FULL["x"]),
        kinds.LossWeights(0.5, layers="noisy"),
        kinds.WeightSharing([["a", "b"]], 0.25),
    ]
    model = compiled(inputs, keras.layers.Dense(2)(x), chosen)
    return hypergradient(model, steps_per_epoch=6, **FULL)


@case
def convolutions():
    """A convolutional net, and losses one by one.

    Also returns how many convolutions of a step backward are on each device.
    """
    model = compiled(
        *cnn(),
        three_kinds()[::2],
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=None
        ),
    )
    held_out = IMAGES[:10], LABELS[:10]
    found = hypergradient(model, IMAGES[:WHOLE], LABELS[:WHOLE], held_out)
    problem = model._assembly.loops.problem
    if model._assembly.replicas.count == 1:
        return found

    def backward():
        state, hparams = problem.problem.state(), problem.problem.hparams()
        data = IMAGES[:4], LABELS[:4], None, np.arange(4)
        batch = Batch(*nested.map_arrays(tf.constant, data))
        adjoint = nested.float_leaves(state)
        return step_back(problem, state, hparams, batch, adjoint)

    traced = tf.function(backward, autograph=False).get_concrete_function()
    ops = [op for op in traced.graph.get_operations() if "Conv2D" in op.type]
    counts = collections.Counter(op.device for op in ops)
    return found | {"placed": np.array(sorted(counts.values()))}


class Positions(keras.layers.Layer):
    """Adds rows of a table that no example chooses."""

    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(4, 4)

    def call(self, x):
        return x + self.table(keras.ops.arange(4))


@case
def embedding():
    """Gradients of rows, which optimizers take one by one.

    Parts look up rows of their own, and all of them those of positions.
    """
    reseed(1)
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(9, 4, name="a")(inputs)
    x = keras.layers.Flatten()(Positions()(x))
    outputs = keras.layers.Dense(2, name="b")(x)
    model = compiled(
        inputs,
        outputs,
        [kinds.L2("layer", 0.01, layers="b")],
        optimizer=keras.optimizers.Adam(0.05, clipnorm=0.1),
    )
    return hypergradient(model, WORDS, validation=(WORDS[:10], LABELS[:10]))


@case
def two_outputs_weighed():
    """A mean and a sum of losses, their own weights, and those of examples."""
    reseed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, "tanh", kernel_regularizer="l2", name="a")(inputs)
    outputs = {
        "p": keras.layers.Dense(2, name="p")(x),
        "q": keras.layers.Dense(2, name="q")(x),
    }
    model = compiled(
        inputs,
        outputs,
        three_kinds(N)[::2],
        loss={
            "p": keras.losses.MeanSquaredError(),
            "q": keras.losses.Huber(reduction="sum"),
        },
        loss_weights={"p": 2.0, "q": 0.3},
        self_check=tf.distribute.get_strategy().num_replicas_in_sync > 1,
    )
    targets = {"p": Y, "q": -Y}
    v = [data[:10] for data in VALIDATION]
    weights = np.linspace(0.5, 2, N)
    return hypergradient(
        model,
        y=targets,
        validation=(v[0], {"p": v[1], "q": v[1]}),
        sample_weight={"p": weights, "q": weights[::-1]},
    )


def fitted(model, x=FULL["x"], y=FULL["y"], validation=None, **options):
    """Returns logs, weights and values after a `fit`."""
    validation = validation or FULL["validation"]
    history = model.fit(
        x,
        y,
        validation_data=validation,
        verbose=0,
        **TRAINING | {"steps_per_epoch": 9, "meta_iterations": 3} | options,
    ).history
    found = {f"log_{k}": np.asarray(v) for k, v in history.items()}
    for k, w in enumerate(model.get_weights()):
        found[f"weight_{k}"] = w
    for h in model.hyperparameters:
        found[f"value_{h.name}"] = np.asarray(h.value())
    return found


@functools.cache
def shared(strategy):
    """Returns a model that several cases train, and its variables' values."""
    model = compiled(*mlp(), three_kinds(), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model, [np.array(v) for v in _variables(model)]


def _variables(model):
    kinds_own = [h.raw for h in model.hyperparameters]
    return [*model.weights, *model.optimizer.variables, *kinds_own]


def fresh():
    """Returns the shared model as it was compiled."""
    model, values = shared(tf.distribute.get_strategy())
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)
    return model


@case
def whole_fit():
    """Validation has a short batch, which one of two replicas stands by."""
    model = fresh()
    held_out = [data[: SIZE + 1] for data in LABELLED]
    found = fitted(model, validation=held_out, initial_weights="same")
    evaluated = model.evaluate(*held_out, batch_size=SIZE, verbose=0)
    return found | {"evaluated": np.asarray(evaluated)}


@case
def plain_training():
    return fitted(fresh(), meta_iterations=0, epochs=2)


@case
def tuned_while_training():
    return fitted(fresh(), meta_iterations=None, tune_every=3)


@case
def stream():
    def batches(data):
        return tf.data.Dataset.from_tensor_slices(data).batch(SIZE)

    data, held_out = (
        batches((FULL["x"], FULL["y"])),
        batches(FULL["validation"]),
    )
    return _of_batches(data, held_out)


def _of_batches(data, held_out):
    """Returns a hypergradient without weights of examples, by name."""
    reseed(1)
    model = _without_examples(tf.distribute.get_strategy())
    h = model.hypergradient(data, steps_per_epoch=9, validation_data=held_out)
    return {k: np.asarray(g) for k, g in h.gradients.items()}


@functools.cache
def _without_examples(strategy):
    return compiled(*mlp(), three_kinds()[:2])


@case
def uneven_draws():
    """Three draws, of which one of two workers has two."""
    return fitted(fresh(), draws=3, meta_iterations=2)


@case
def best_of_draws():
    """Which one worker had, and all have at the end."""
    options = {"meta_iterations": 2, "keep": "best", "seed": 1}
    return fitted(fresh(), draws=3, **options)


@case
def checked_values():
    model = fresh()
    fitted(model, meta_iterations=2)
    check = model.check_hyperparameters(
        FULL["x"],
        FULL["y"],
        validation_data=FULL["validation"],
        draws=2,
        verbose=0,
        **TRAINING | {"steps_per_epoch": 9},
    )
    return {k: np.asarray(v) for k, v in check.results["found"].items()}


@case
def synchronized():
    """Statistics of whole minibatches, so numbers as on one device."""
    reseed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="a")(inputs)
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = compiled(inputs, keras.layers.Dense(2)(x), [kinds.L2("input")])
        return hypergradient(model, **FULL)


@case
def sequence():
    class Batches(keras.utils.PyDataset):
        def __init__(self, count):
            super().__init__()
            self.count = count

        def __len__(self):
            return self.count

        def __getitem__(self, k):
            part = slice(k * SIZE, (k + 1) * SIZE)
            return X[part], LABELS[part]

    return _of_batches(Batches(3), Batches(2))


def xla():
    """Asks for what replicas cannot have."""
    model = compiled(*mlp(), three_kinds()[:1], jit_compile=True)
    return hypergradient(model, steps_per_epoch=2)


def other_data():
    """One worker has other data."""
    model = fresh()
    return fitted(model, FULL["x"] if model.is_chief else FULL["x"] + 1)


def refused_once():
    """A `fit` of what was seen before, after one that was refused."""
    fitted(fresh(), meta_iterations=1)
    with contextlib.suppress(ValueError):
        other_data()
    return fitted(fresh(), meta_iterations=1)


def other_length():
    """One worker has more meta-iterations to go."""
    model = fresh()
    return fitted(model, meta_iterations=2 if model.is_chief else 3)


def stopped_by_one():
    """A callback stops on the worker that is not the chief."""
    model = fresh()

    def stop(epoch, logs):
        model.stop_training = not model.is_chief

    callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    return fitted(model, callbacks=[callback], meta_iterations=5)


def without_a_seed():
    """Each worker would draw a seed, and first weights, of its own."""
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    keras.utils.set_random_seed(rank)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2)(inputs)
    model = compiled(inputs, outputs, [kinds.L2("input")])
    return fitted(model, seed=None, initial_weights="same")


def out_of_time():
    """Each worker has a draw, and its own clock."""
    budget = kd.callbacks.TimeBudget(2)
    found = fitted(
        fresh(),
        callbacks=[budget],
        draws=2,
        meta_iterations=1000,
        steps_per_epoch=200,
    )
    return {k: v for k, v in found.items() if not k.startswith("log")}


# ---- what does not add up


def _warned(model, **options):
    """Returns what a model says, and the losses on its way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = hypergradient(model, steps_per_epoch=2, **options)
    words = [str(w.message) for w in caught if "add up" in str(w.message)]
    return {"words": np.array(" ".join(words)), **found}


def hidden_sum():
    """A function that returns a sum, which nothing says."""

    def loss(y, y_pred):
        return keras.ops.sum(keras.ops.square(y - y_pred))

    model = compiled(*mlp(), three_kinds()[:1], loss=loss, self_check=True)
    held_out = [data[:10] for data in VALIDATION]
    return _warned(model, x=FULL["x"], y=Y[:WHOLE], validation=held_out)


class Counting(keras.layers.Layer):
    """Counts examples, and adds a sum over them to the loss."""

    def build(self, shape):
        del shape
        self.count = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if training:
            self.count.assign_add(keras.ops.shape(x)[0])
        return x


def counts():
    """A variable that counts examples."""
    inputs, outputs = mlp()
    model = compiled(
        inputs, Counting()(outputs), three_kinds()[:1], self_check=True
    )
    found = _warned(model, **FULL)
    fitted(model, meta_iterations=0)
    (count,) = [v for v in model.non_trainable_variables if v.shape == ()]
    return found | {"count": count.numpy()}


# ---- what workers write


@case
def files():
    """A `fit` with callbacks that write, an export and a reload."""
    folder = pathlib.Path(os.environ["FOLDER"])
    C = keras.callbacks
    model = fresh()
    found = fitted(
        model,
        callbacks=[
            C.CSVLogger(str(folder / "log.csv")),
            C.ModelCheckpoint(str(folder / "best.keras"), save_best_only=True),
            C.TensorBoard(str(folder / "tensorboard")),
            C.EarlyStopping(patience=1),
            C.TerminateOnNaN(),
        ],
    )
    if model.is_chief:
        model.save(folder / "model.keras")
        model.export(folder / "exported", verbose=False)
        found["predicted"] = np.asarray(model(X))
    return found


@case
def late():
    """Time is up on the worker that is not the chief, in its own draw."""
    folder = pathlib.Path(os.environ["FOLDER"]) / "late"
    model = fresh()
    end, epochs = time.monotonic() + 7, []

    def wait(batch, logs):
        if epochs and not model.is_chief:
            time.sleep(max(0, end - time.monotonic()))

    return fitted(
        model,
        draws=2,
        keep="best",
        meta_iterations=1000,
        callbacks=[
            keras.callbacks.BackupAndRestore(str(folder)),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: epochs.append(epoch),
                on_train_batch_end=wait,
            ),
            kd.callbacks.TimeBudget(6),
        ],
    )


def _backed_up(folder):
    """Fits with a backup after each chunk, and returns what it was told, too.

    The second worker may end in the second chunk of the second training.
    """
    model = compiled(*mlp(), three_kinds(), hypergradient=kd.DrMAD())
    folder = pathlib.Path(os.environ["FOLDER"]) / folder
    ends = "KILLED" in os.environ and not model.is_chief
    epochs, chunks = [], []

    def may_kill(batch, logs):
        chunks.append(batch)
        if ends and epochs and chunks[-2] < batch:
            os.kill(os.getpid(), signal.SIGKILL)

    found = fitted(
        model,
        callbacks=[
            keras.callbacks.BackupAndRestore(str(folder), save_freq=1),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: epochs.append(epoch),
                on_train_batch_end=may_kill,
            ),
            kd.callbacks.TimeBudget(1000),
        ],
        steps_per_epoch=100,
    )
    return found | {"told_epochs": epochs, "told_chunks": chunks}


@case
def killed():
    """Goes on from a backup where there is one."""
    return _backed_up("killed")


@case
def never_killed():
    return _backed_up("never_killed")


# ---- parts that are not alike: exact, but other trainings than on one device


def _batch_normalization():
    reseed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="a")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    return inputs, keras.layers.Dense(2)(x)


def _dropout():
    reseed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, "tanh", name="a")(inputs)
    x = keras.layers.Dropout(0.5, seed=3)(x)
    return inputs, keras.layers.Dense(2)(x)


def _against_differences(net):
    """Returns the largest error of a hypergradient, by differences."""
    model = compiled(*net(), [kinds.L2("input", 0.01), kinds.LearningRate()])
    x, y, held_out = FULL["x"], FULL["y"], FULL["validation"]
    training = {**TRAINING, "steps_per_epoch": 9, "validation_data": held_out}
    h = model.hypergradient(x, y, **training)
    errors = []
    for kind in model.hyperparameters:
        raw, eps = kind.raw, 1e-5
        before = np.array(raw.numpy())
        direction = np.ones_like(before)
        losses = []
        for sign in (1, -1):
            raw.assign(before + sign * eps * direction)
            losses.append(model.validation_loss_after(x, y, **training))
        raw.assign(before)
        slope = (losses[0] - losses[1]) / (2 * eps)
        exact = float(np.sum(h.gradients[kind.name] * direction))
        errors.append(abs(slope - exact) / abs(exact))
    return {"far": np.array(max(errors)), "loss": np.array(h.validation_loss)}


ALONE = {
    "batch_normalization": lambda: _against_differences(_batch_normalization),
    "dropout": lambda: _against_differences(_dropout),
}
CASES |= ALONE
WITH_SURROUNDINGS = {
    name: CASES.pop(name)
    for name in ("files", "killed", "late", "never_killed")
}
WITH_SURROUNDINGS |= {
    one.__name__: one
    for one in (
        counts,
        hidden_sum,
        other_data,
        other_length,
        out_of_time,
        refused_once,
        stopped_by_one,
        without_a_seed,
        xla,
    )
}
