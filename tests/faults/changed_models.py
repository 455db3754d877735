"""Layers frozen and unfrozen, optimizers used again."""

import itertools
from functools import partial

import keras

import keras_drmad as kd
from faults import REFUSED, members, refused, wrapped
from small_models import VALIDATION, X, Y, cross_entropy, hidden

H = kd.hyperparameters
FIT = dict(x=X, y=Y, batch_size=8, validation_data=VALIDATION, verbose=0)
SGD = keras.optimizers.SGD


def tuned(model=None, optimizer="sgd", kinds=(), **more):
    model = model or normalized()
    kinds = list(kinds) or [H.L2("layer", layers="last")]
    return wrapped(model, optimizer, cross_entropy(), kinds, **more)


def normalized():
    inputs = keras.Input((4,))
    h = keras.layers.Dense(5, activation="tanh", name="first")(inputs)
    h = keras.layers.BatchNormalization(center=False, scale=False, name="norm")(
        h
    )
    return keras.Model(inputs, keras.layers.Dense(3, name="last")(h))


def set_trainable(model, name, value):
    model.get_layer(name).trainable = value


def frozen(name):
    model = normalized()
    set_trainable(model, name, False)
    return model


def set_bias(model, name, value):
    model.get_layer(name).bias.trainable = value


# Of which layer: the last one has a kind, the normalization no weights that are
# trained.
FROZEN = {
    "frozen, with a kind": ("last", set_trainable),
    "one weight": ("first", set_bias),
    "without weights": ("norm", set_trainable),
    "frozen": ("first", set_trainable),
}


@members(
    "trainable changed after compile",
    {
        ", ".join(FROZEN): (False, FROZEN),
        "unfrozen": (True, {"unfrozen": FROZEN["frozen"]}),
    },
)
def is_refused_before_and_between(case):
    """Each change is taken back, so that a training fits the model again."""
    is_frozen, changes = case
    model = tuned(frozen("first") if is_frozen else normalized())
    for fits in (0, 1):
        for _ in range(fits):
            model.fit(**FIT, meta_iterations=0)
        for which, (name, change) in changes.items():
            print(which, fits)  # seen if it fails
            change(model, name, is_frozen)
            before = model.get_weights()
            refused(partial(model.fit, **FIT), "compile", name, "trainable")
            given = dict(x=X, y=Y, validation_data=VALIDATION)
            refused(partial(model.hypergradient, **given), "compile")
            assert all(
                (a == b).all()
                for a, b in zip(before, model.get_weights(), strict=True)
            )
            change(model, name, not is_frozen)
    for which, (name, change) in changes.items():
        print(which, "compiled again")
        change(model, name, is_frozen)
        kinds = [H.L2("layer", layers="first|last"), H.Temperature()]
        model.compile(
            SGD(0.1),
            cross_entropy(),
            hyperparameters=kinds[1:] if name == "last" else kinds,
            jit_compile=False,
        )
        model.fit(**FIT, meta_iterations=0)
        if name == "last":
            change(model, name, not is_frozen)


def quantized(model):
    model.get_layer("first").quantize("int8")


def with_another_layer(model):
    model.elementary_model.pop()
    model.elementary_model.add(keras.layers.Dense(3, name="new"))


def in_a_row():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="tanh", name="first"),
            keras.layers.Dense(3, name="last"),
        ]
    )


@members(
    "layers replaced after compile",
    {"quantized": quantized, "popped": with_another_layer},
)
def is_refused_after_a_fit(change):
    model = tuned(in_a_row())
    model.fit(**FIT, meta_iterations=0)
    change(model)
    given = dict(x=X, y=Y, validation_data=VALIDATION)
    for use in (
        partial(model.fit, **FIT),
        partial(model.fit, **FIT, meta_iterations=0),
        partial(model.hypergradient, **given),
        model.to_keras,
    ):
        refused(use, "replaced or quantized", "compile")
    model.compile(SGD(0.1), cross_entropy(), hyperparameters=[H.Temperature()])
    model.fit(**FIT, meta_iterations=0)


@members("layers added after compile", {"a layer": "more"})
def is_refused_before_a_fit(name):
    model = tuned(in_a_row(), kinds=[H.L2("all")])
    model.elementary_model.add(keras.layers.Dense(3, name=name))
    for options in ({}, {"meta_iterations": 0}):
        use = partial(model.fit, **FIT, **options)
        refused(use, "added after `compile`", f"{name}/kernel")


@members("gradients that are none", {"float8": "float8"})
def is_refused_where_it_is_tuned(mode):
    net = in_a_row()
    net.get_layer("first").quantize(mode)
    model = tuned(net)
    model.fit(**FIT, meta_iterations=0)
    return refused(partial(model.fit, **FIT), "float8", "meta_iterations=0")


COMPILED_AGAIN = {
    "by itself": lambda m: m.compile(SGD(0.5), cross_entropy()),
    "with the same optimizer": lambda m: m.compile(m.optimizer, "mae"),
    "with other metrics": lambda m: m.compile(m.optimizer, m.loss, metrics=[]),
    "in another model": tuned,
}


@members(
    "a net compiled after its DrMADModel",
    {", ".join(COMPILED_AGAIN): COMPILED_AGAIN},
)
def is_refused_until_compiled_again(compiles):
    """Before a training and after one."""
    net = hidden()
    model = tuned(net)
    for fits, which in itertools.product((0, 1), compiles):
        print(which, fits)  # seen if it fails
        if fits:
            model.fit(**FIT, meta_iterations=0)
        compiles[which](net)
        rest = dict(x=X, y=Y, batch_size=8, validation_data=VALIDATION)
        refused(partial(model.fit, **FIT), "compile", "DrMADModel", "loss")
        refused(partial(model.validation_loss_after, **rest), "compile")
        refused(model.to_keras, "compile")
        kinds = [H.L2("layer", layers="last")]
        options = dict(hyperparameters=kinds, jit_compile=False)
        model.compile(SGD(0.1), cross_entropy(), **options)
    model.fit(**FIT, meta_iterations=0)


class Freezes(keras.callbacks.Callback):
    def __init__(self, when):
        super().__init__()
        setattr(self, when, self.freeze)

    def freeze(self, *_, **__):
        set_trainable(self.model, "first", False)


MOMENTS = (
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
)


@members("trainable changed by a callback", {", ".join(MOMENTS): MOMENTS})
def is_refused_within(moments):
    model = tuned()
    for when in moments:
        refused(
            partial(
                model.fit,
                **FIT,
                meta_iterations=2,
                callbacks=[Freezes(when)],
            ),
            "trainable",
            "compile",
        )
        set_trainable(model, "first", True)
    return REFUSED


def of_another_model():
    optimizer = SGD(0.1, momentum=0.5)
    tuned(optimizer=optimizer).fit(**FIT, meta_iterations=0)
    tuned(optimizer=optimizer)


def of_a_plain_model():
    plain, optimizer = hidden(), keras.optimizers.Adam(0.1)
    plain.compile(optimizer, cross_entropy(), run_eagerly=True)
    plain.fit(X, Y, verbose=0)
    tuned(optimizer=optimizer)


def before_unfreezing():
    model, optimizer = frozen("first"), SGD(0.1)
    tuned(model, optimizer).fit(**FIT, meta_iterations=0)
    set_trainable(model, "first", True)
    tuned(model, optimizer)


def of_a_model_compiled_alike():
    optimizer = SGD(0.1)
    first, second = (tuned(optimizer=optimizer) for _ in range(2))
    first.fit(**FIT, meta_iterations=0)
    second.fit(**FIT, meta_iterations=0)


@members(
    "an optimizer used before",
    {
        f.__name__.replace("_", " "): f
        for f in (
            of_another_model,
            of_a_plain_model,
            before_unfreezing,
            of_a_model_compiled_alike,
        )
    },
)
def is_refused_in_words(use):
    return refused(use, "`optimizer`", "new one")


@members(
    "an optimizer as both",
    {
        "alone": lambda o: o,
        "by name": lambda o: {"l2": o},
        "built before": lambda o: o.build([keras.Variable(1.0)]) or o,
    },
)
def is_refused_as_both(meta):
    optimizer = SGD(0.1)
    return refused(
        lambda: tuned(optimizer=optimizer, meta_optimizer=meta(optimizer)),
        "optimizer`",
        "new one",
    )


@members("the same optimizer again", {"momentum": 0.5, "none": 0.0})
def of_fewer_weights(momentum):
    """Frozen and compiled again: Keras goes on with the optimizer, too."""
    model, optimizer = normalized(), SGD(0.1, momentum=momentum)
    tuned(model, optimizer).fit(**FIT, meta_iterations=0)
    set_trainable(model, "first", False)
    tuned(model, optimizer).fit(**FIT, meta_iterations=1)
