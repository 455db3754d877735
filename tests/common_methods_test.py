"""The methods table: every method crossed with what all of them promise."""

import collections
import json
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import flat, problem_of, relative_error, traces
from closed_forms import exact_model, regression, tanh_net
from conftest import precision
from keras_drmad.core.span import CHUNK_SIZE
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters import L2, LearningRate
from keras_drmad.methods import Method
from small_models import assert_helps, built_once, compiled

# 4 batches a pass, all full: a short one is a second trace of each step, and
# each way back meets one in `first_edition_test` and `differentiations_test`.
X, Y = regression(20)
VALIDATION = regression(10, seed=1)
EPOCHS = 3
TRAINING = {"batch_size": 5, "epochs": EPOCHS, "validation_data": VALIDATION}


class Row(NamedTuple):
    """A method, and what it promises.

    Attributes:
        method: the method.
        rates: bool, whether the method sees learning rates; one that looks at
            the minimum alone does not.
        is_exact: bool, whether it gives the numbers of `ReverseMode()`.
        float32: float, the error of a hypergradient in float32, at most.
        xla: float, the error where XLA compiles the loops, at most; `None`
            where another row walks through the same code.
        bits: bool, whether the same seed gives the same bits; or the same
            numbers but for rounding, as TensorFlow may sum terms that training
            and tangents share in another order.
        steps: two numbers of steps an epoch for which the loops are the same.
    """

    method: Method
    rates: bool = True
    is_exact: bool = False
    float32: float = 1e-5
    xla: float | None = None
    bits: bool = True
    steps: tuple[int, int] = (3, CHUNK_SIZE // EPOCHS + 1)


METHODS = {
    "drmad": Row(kd.DrMAD(0.5)),
    "lines": Row(kd.DrMAD(1.0, anchors=3, spacing="end"), xla=1e-10),
    "gauss-newton": Row(kd.DrMAD(1.0, curvature="gauss_newton")),
    "stored": Row(kd.ReverseMode(), is_exact=True),
    "bfloat16": Row(kd.ReverseMode("bfloat16"), float32=1e-2),
    "checkpointed": Row(
        # Stretches of one length, for trainings longer than a chunk.
        kd.ReverseMode("checkpointed"),
        is_exact=True,
        xla=1e-10,
        steps=(CHUNK_SIZE // EPOCHS + 1, CHUNK_SIZE // 2),
    ),
    "forward": Row(kd.ForwardMode(), is_exact=True, xla=1e-10, bits=False),
    # XLA sums in another order, and the walk rounds that to its grid.
    "reversible": Row(kd.ReverseMode("reversible"), is_exact=True, xla=1e-9),
    "truncated": Row(kd.Truncated(last=5)),
    "neumann": Row(kd.Implicit(terms=5), rates=False),
    "cg": Row(
        kd.Implicit("cg", terms=3, curvature="gauss_newton"),
        rates=False,
        xla=1e-10,
    ),
    "one-step": Row(kd.OneStep(), rates=False),
    "auto": Row(kd.Auto(), is_exact=True),
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

# For what takes seconds: others walk through the same code.
SLOW = {"lines", "bfloat16", "truncated", "one-step", "auto"}
each_method = pytest.mark.parametrize("name", METHODS)


def each_but(*names):
    """Returns a parametrization by all methods but some."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.slow if name in SLOW else [])
            for name in METHODS
            if name not in names
        ],
    )


each_traced_method = each_but("gauss-newton")  # which "cg" has, too
# Those left out keep states and walk back by the code of "lines", "stored" and
# "neumann".
each_method_in_float64 = each_but(
    "gauss-newton", "drmad", "truncated", "one-step"
)
each_method_under_xla = pytest.mark.parametrize(
    "name", [name for name, row in METHODS.items() if row.xla is not None]
)


def model_of(name, optimizer=None, **options):
    """Returns a model that is the same for all methods and both dtypes."""
    rates = [LearningRate(initial=0.1)] if METHODS[name].rates else []
    model = exact_model(
        tanh_net(),
        [L2("input", 0.05), *rates],
        # A momentum of few bits: a reversible walk takes it exactly.
        optimizer or keras.optimizers.SGD(0.1, momentum=0.75),
        hypergradient=METHODS[name].method,
        **options,
    )
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.normal(size=w.shape) / 2 for w in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module")
def single():
    """Returns a function from names to models in float32, each as new."""
    return built_once(model_of)


@pytest.fixture(scope="module")
def double():
    """Returns the same in float64, for use in that precision.

    Exact methods share their numbers, as `spans_test` and others compare them
    there, and so does `bfloat16`, whose error in float32 may be larger than its
    own. Methods that see the same kinds share a model.
    """
    shares = {"bfloat16"} | {n for n, row in METHODS.items() if row.is_exact}
    build = sharing_models()
    return lambda name: build("stored" if name in shares else name)


@pytest.fixture(scope="module")
def under_xla():
    """Returns the same of models that XLA compiles, each with its method."""
    return sharing_models(jit_compile=True)


def sharing_models(**options):
    """Returns a function from names to one of two models, with the method."""
    first = {row.rates: n for n, row in reversed(METHODS.items())}
    build = built_once(lambda name: model_of(name, **options))

    def with_method(name):
        model = build(first[METHODS[name].rates])
        model._assembly.method = METHODS[name].method
        return model

    return with_method


def gradients(model, **training):
    dtype = keras.config.floatx()
    data = X.astype(dtype), Y.astype(dtype)
    return model.hypergradient(*data, **TRAINING | training).gradients


# ---- as configurations


@pytest.mark.parametrize("name", [*METHODS, *OTHER_ARGUMENTS])
def test_config_round_trip(name):
    method = OTHER_ARGUMENTS.get(name) or METHODS[name].method
    config = keras.saving.serialize_keras_object(method)
    in_file = json.loads(json.dumps(config))
    copy = keras.saving.deserialize_keras_object(in_file)
    assert copy is not method
    assert type(copy) is type(method)
    assert copy.get_config() == method.get_config()
    assert repr(copy) == repr(method) == repr(eval(f"kd.{method!r}"))


@each_method
def test_a_method_says_whether_it_is_exact(name):
    row = METHODS[name]
    makes_a_choice = name == "auto"
    assert row.method.is_exact == (row.is_exact and not makes_a_choice)


def test_saved_with_a_model(tmp_path):
    method = METHODS["lines"].method
    model = compiled(hypergradient=method)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.method) == repr(method)
    assert loaded.get_compile_config() == model.get_compile_config()


# ---- as compiled loops


@each_traced_method
def test_loops_are_traced_once(single, name):
    model = single(name)
    x, y = X.astype("float32"), Y.astype("float32")
    lengths = zip(METHODS[name].steps, ("same", "resample"), strict=True)
    for seed, (steps, initial_weights) in enumerate(lengths, start=1):
        training = TRAINING | {"steps_per_epoch": steps}
        for rate in model.hyperparameters[1:]:
            rate.assign(0.1 / (seed + 3))
        model.fit(
            x,
            y,
            seed=seed,
            verbose=0,
            meta_iterations=seed % 2 + 1,
            initial_weights=initial_weights,
            **training,
        )
        if seed == 1:  # of the other length, fit has its loops
            model.hypergradient(x, y, **training)
    counts = traces(model)
    assert max(counts.values()) == 1, counts
    by_kind = collections.Counter(name.split()[0] for name in counts)
    assert by_kind["differentiate"] == 1
    # Pages of states are as long as a training asks for: a loop for each size.
    pages = sum("forward Pages" in name for name in counts)
    walks_back = name != "forward"
    assert by_kind["backward"] + by_kind["products"] == max(walks_back, pages)
    assert by_kind["forward"] >= 1


# ---- as numbers


@each_method_in_float64
def test_float32_is_near_float64(single, double, name):
    found = gradients(single(name))
    with precision("float64"):
        expected = gradients(double(name))
    # 12 steps forward and backward in float32, each with sums of few numbers.
    assert 0 < relative_error(found, expected) < METHODS[name].float32


@each_traced_method
def test_the_same_seed_gives_the_same_numbers(single, name):
    first, other, again = (
        flat(gradients(single(name), seed=seed)) for seed in (1, 2, 1)
    )
    tolerance = 0 if METHODS[name].bits else 1e-5
    np.testing.assert_allclose(first, again, rtol=tolerance, atol=tolerance)
    assert not np.isclose(first, other).any()


@pytest.mark.slow
@each_method_under_xla
def test_xla_gives_the_same_numbers(double, under_xla, name):
    with precision("float64"):
        expected = gradients(double(name))
        model = under_xla(name)
        found = gradients(model)
    assert model.uses_xla and not double(name).uses_xla
    assert relative_error(found, expected) < METHODS[name].xla


# ---- by hand


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.02, momentum=0.75, nesterov=True),
        lambda: keras.optimizers.RMSprop(0.02),
    ],
    ids=["Nesterov", "RMSprop"],
)
def test_one_step_is_one_more_step_of_the_optimizer(optimizer):
    # ∂F/∂w_T times the derivative of one more step from s_T, by the tape.
    training = {"batch_size": len(X), "epochs": 6}
    with precision("float64"):
        model = model_of("one-step", optimizer=optimizer())
        found = gradients(model, **training)["l2"]
        model.fit(X, Y, meta_iterations=0, verbose=0, **training)
    problem = problem_of(model)
    s_T, hparams = problem.state(), problem.hparams()
    batch, held_out = (
        Batch(*map(tf.constant, data)) for data in ((X, Y), VALIDATION)
    )
    none = problem.metrics_state()
    with precision("float64"), tf.GradientTape(persistent=True) as tape:
        tape.watch([s_T.params, hparams])
        loss, _, _ = problem.validation_loss(s_T, hparams, held_out, none)
        after, _, _ = problem.step(s_T, hparams, batch, none)
    dw = tape.gradient(loss, s_T.params)
    (expected,) = tape.gradient(after.params, hparams, dw)
    # The rows of the one batch are in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-9)


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
        method.bind(12, None)
    assert_helps(error, argument, "=13")
    assert "12" in str(error.value)
    method.bind(13, None)
