"""Every method crossed with what all of them promise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import flat, relative_error
from closed_forms import exact_model, regression, tanh_net
from conftest import set_precision
from keras_drmad.core.state import Batch
from keras_drmad.core.walk import Loop
from keras_drmad.hyperparameters import L2, LearningRate
from small_models import assert_helps, compiled, numbers, put_back

METHODS = {
    "drmad": kd.DrMAD(0.5),
    "lines": kd.DrMAD(1.0, anchors=3, spacing="end"),
    "gauss-newton": kd.DrMAD(1.0, curvature="gauss_newton"),
    "stored": kd.ReverseMode(),
    "bfloat16": kd.ReverseMode("bfloat16"),
    "checkpointed": kd.ReverseMode("checkpointed"),
    "reversible": kd.ReverseMode("reversible"),
    "truncated": kd.Truncated(last=5),
    "neumann": kd.Implicit(terms=5),
    "cg": kd.Implicit("cg", terms=3, curvature="gauss_newton"),
    "one-step": kd.OneStep(),
    "auto": kd.Auto(),
}
OTHER_ARGUMENTS = {
    "drmad-count": kd.DrMAD(7),
    "drmad-last": kd.DrMAD(3, last=0.5, average=False),
    "drmad-memory": kd.DrMAD(memory="64MB"),
    "reverse-memory": kd.ReverseMode(memory=10**6),
    "truncated-part": kd.Truncated(0.25),
    "implicit-cg": kd.Implicit("cg", terms=7),
    "auto-budget": kd.Auto(memory="1GB", time_factor=3.0),
}
BLIND = {"neumann", "cg", "one-step"}  # to what leaves the minimum where it is

X, Y = regression(18)  # 4 batches a pass, the last one short
VALIDATION = regression(7, seed=1)
TRAINING = {"batch_size": 5, "epochs": 3, "validation_data": VALIDATION}

each_method = pytest.mark.parametrize("name", METHODS)
# For what takes seconds: others walk through the same code.
SLOW = {"gauss-newton", "lines", "bfloat16", "truncated", "one-step", "auto"}
each_way_back = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.slow if name in SLOW else [],
        )
        for name in METHODS
    ],
)


def model_of(name, optimizer=None, kinds=None, **options):
    """Returns a model that is the same for all methods and both dtypes."""
    model = exact_model(
        tanh_net(),
        [L2("input", 0.05)] if kinds is None else kinds,
        optimizer or keras.optimizers.SGD(0.1, momentum=0.75),
        hypergradient=METHODS[name],
        **options,
    )
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=w.shape) / 2 for w in model.get_weights()]
    )
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def single():
    """Returns a function from names to models in float32, compiled once."""
    models = {}

    def model(name):
        if name not in models:
            rates = [] if name in BLIND else [LearningRate(initial=0.1)]
            models[name] = model_of(name, kinds=[L2("input", 0.05), *rates])
        return models[name]

    return model


@pytest.fixture
def in_float64():
    set_precision("float64")
    yield
    set_precision("float32")


def gradients(model, **training):
    dtype = keras.config.floatx()
    data = X.astype(dtype), Y.astype(dtype)
    return model.hypergradient(*data, **TRAINING | training).gradients


# ---- as configurations


@pytest.mark.parametrize("name", [*METHODS, *OTHER_ARGUMENTS])
def test_config_round_trip(name):
    method = (METHODS | OTHER_ARGUMENTS)[name]
    config = keras.saving.serialize_keras_object(method)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy is not method
    assert type(copy) is type(method)
    assert copy.get_config() == method.get_config()
    assert repr(copy) == repr(method) == repr(eval(f"kd.{method!r}"))


@each_method
def test_saved_with_a_model(name, tmp_path):
    model = compiled(hypergradient=METHODS[name])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.method) == repr(METHODS[name])
    assert loaded.get_compile_config() == model.get_compile_config()


# ---- as compiled loops


@each_way_back
def test_loops_are_traced_once(name, single):
    model = single(name)
    before = numbers(model)
    x, y = X.astype("float32"), Y.astype("float32")
    # Stretches of checkpoints have one length for T = 9 to 12.
    for seed, steps in enumerate((4, 3) if name == "checkpointed" else (3, 10)):
        training = TRAINING | {"steps_per_epoch": steps}
        for rate in model.hyperparameters[1:]:
            rate.assign(0.1 / (seed + 1))
        model.fit(
            x,
            y,
            seed=seed,
            verbose=0,
            meta_iterations=2,
            initial_weights="resample",
            **training,
        )
        model.hypergradient(x, y, **training)
    put_back(model, before)
    loops = vars(model._compiled_walks[2]).items()
    counts = {
        loop: walk.experimental_get_tracing_count()
        for loop, walk in loops
        if isinstance(walk, Loop)
    }
    assert max(counts.values()) == 1, counts
    assert counts["differentiate"] == 1
    assert counts["back"] + counts["second_products"] == 1


# ---- as numbers


@each_way_back
def test_float32_is_near_float64(name, single, request):
    model = single(name)
    found = gradients(model)
    request.getfixturevalue("in_float64")
    rates = [] if name in BLIND else [LearningRate(initial=0.1)]
    expected = gradients(model_of(name, kinds=[L2("input", 0.05), *rates]))
    # 12 steps there and back in float32, each with sums of a few numbers.
    tolerance = 1e-2 if name == "bfloat16" else 1e-5
    assert 0 < relative_error(found, expected) < tolerance


@each_way_back
def test_the_same_seed_gives_the_same_numbers(name, single):
    first, other, again = (
        flat(gradients(single(name), seed=seed)) for seed in (1, 2, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lines", "reversible", "checkpointed", "cg"])
def test_xla_gives_the_same_numbers(name, in_float64):
    without, with_xla = (
        gradients(model_of(name, jit_compile=jit_compile))
        for jit_compile in (False, True)
    )
    # Sums in another order; the reversible walk rounds them to its grid, and
    # bfloat16 to one of two neighbours.
    tolerance = {"bfloat16": 1e-2, "reversible": 1e-9}.get(name, 1e-10)
    assert relative_error(with_xla, without) < tolerance


# ---- with every optimizer


OPTIMIZERS = {
    "SGD": keras.optimizers.SGD,
    "Momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.75),
    "Nesterov": lambda rate: keras.optimizers.SGD(
        rate, momentum=0.75, nesterov=True
    ),
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
    "RMSprop": keras.optimizers.RMSprop,
    "Adagrad": keras.optimizers.Adagrad,
    "Adadelta": keras.optimizers.Adadelta,
    "Adamax": keras.optimizers.Adamax,
    "Nadam": keras.optimizers.Nadam,
    "Ftrl": keras.optimizers.Ftrl,
    "Lamb": keras.optimizers.Lamb,
    "Lion": keras.optimizers.Lion,
}
NOT_REVERSIBLE = sorted(set(OPTIMIZERS) - {"Momentum"})
FAST = {"Adam"}

each_optimizer = pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in OPTIMIZERS
    ],
)


def with_optimizer(name, method):
    # Lion follows signs, which hide penalties from a derivative.
    kinds = [LearningRate()] if name == "Lion" else [L2("input", 0.05)]
    rate = 0.5 if name == "Adadelta" else 0.02
    model = model_of("stored", OPTIMIZERS[name](rate), kinds)
    model.method = method
    return model


@each_optimizer
def test_with_every_optimizer(optimizer, in_float64):
    # Both have every state.
    found, exact = (
        gradients(with_optimizer(optimizer, kd.ReverseMode(storage)))
        for storage in ("checkpointed", "stored")
    )
    # Rounding, which roots of small moments make larger.
    assert relative_error(found, exact) < 1e-9


@pytest.mark.parametrize("optimizer", ["Nesterov", "RMSprop"])
def test_one_step_with_other_optimizers(optimizer, in_float64):
    # ∂F/∂w_T times the derivative of one more step from s_T, by the tape.
    model = with_optimizer(optimizer, kd.OneStep())
    training = {"batch_size": len(X), "epochs": 6}
    found = gradients(model, **training)["l2"]
    model.fit(X, Y, meta_iterations=0, verbose=0, **training)
    problem = model._compiled_walks[1]
    s_T, hparams = problem.state(), problem.hparams()
    batch, held_out = (
        Batch(*map(tf.constant, data)) for data in ((X, Y), VALIDATION)
    )
    none = problem.metrics_state()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([s_T.params, hparams])
        loss, _, _ = problem.validation_loss(s_T, hparams, held_out, none)
        after, _, _ = problem.step(s_T, hparams, batch, none)
    dw = tape.gradient(loss, s_T.params)
    (expected,) = tape.gradient(after.params, hparams, dw)
    # The rows of the one batch are in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("optimizer", sorted(NOT_REVERSIBLE))
def test_what_cannot_be_reversed_is_refused(optimizer):
    with pytest.raises(ValueError) as error:
        model_of("reversible", OPTIMIZERS[optimizer](0.1))
    received = type(OPTIMIZERS[optimizer](0.1)).__name__
    assert_helps(error, "hypergradient", f"Received: {received}")
    assert "ReverseMode('checkpointed')" in str(error.value)


# ---- bad arguments


WRONG_VALUES = [
    (lambda: kd.DrMAD(anchors=0), "anchors", "=0"),
    (lambda: kd.DrMAD(spacing="start"), "spacing", "'start'"),
    (lambda: kd.DrMAD(curvature="fisher"), "curvature", "'fisher'"),
    (lambda: kd.DrMAD(memory="lots"), "memory", "'lots'"),
    (lambda: kd.DrMAD(last=0), "last", "=0"),
    (lambda: kd.Auto(time_factor=1.0), "time_factor", "=1.0"),
    (lambda: kd.Auto(memory=-1), "memory", "=-1"),
    (lambda: kd.ReverseMode("disk"), "storage", "'disk'"),
    (lambda: kd.ReverseMode(memory=0), "memory", "=0"),
    (lambda: kd.Truncated(0), "last", "=0"),
    (lambda: kd.Truncated(1.5), "last", "=1.5"),
    (lambda: kd.Truncated(float("nan")), "last", "=nan"),
    (lambda: kd.Implicit("lu"), "solver", "'lu'"),
    (lambda: kd.Implicit(terms=0), "terms", "=0"),
    (lambda: kd.Implicit(curvature=None), "curvature", "None"),
]
WRONG_TYPES = [
    (lambda: kd.DrMAD(anchors=2.0), "anchors", "=2.0"),
    (lambda: kd.DrMAD(anchors=True), "anchors", "True"),
    (lambda: kd.Truncated("all"), "last", "'all'"),
    (lambda: kd.Truncated(None), "last", "None"),
    (lambda: kd.Implicit(terms=0.5), "terms", "=0.5"),
]


@pytest.mark.parametrize(
    "kind, make, argument, received",
    [
        *((ValueError, *row) for row in WRONG_VALUES),
        *((TypeError, *row) for row in WRONG_TYPES),
    ],
)
def test_bad_arguments(kind, make, argument, received):
    with pytest.raises(kind) as error:
        make()
    assert_helps(error, argument, received)


@pytest.mark.parametrize(
    "method, argument",
    [
        (kd.DrMAD(13), "reverse_steps"),
        (kd.DrMAD(last=13), "last"),
        (kd.Truncated(13), "last"),
        (kd.Implicit(terms=13), "terms"),
    ],
    ids=repr,
)
def test_more_than_there_are_steps(method, argument):
    with pytest.raises(ValueError) as error:
        method.trajectory(12)
    assert_helps(error, argument, "=13")
    assert "12" in str(error.value)
    method.trajectory(13)
