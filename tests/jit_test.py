"""What `jit_compile="auto"` takes, and that `fit` has the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from checks import loops_of, relative_error
from conftest import reseed
from keras_drmad.core.loops import Loops
from keras_drmad.differentiation import line
from keras_drmad.seam import traits
from keras_drmad.seam.compiler import Compiler
from small_models import VALIDATION, X, Y, assert_same, compiled, fit, hidden


def result(jit_compile):
    # No dropout: XLA has another random generator.
    model = compiled(
        hidden(),
        hyperparameters=[
            kd.hyperparameters.L2(per="input", initial=1e-2),
            kd.hyperparameters.LearningRate(),
        ],
        hypergradient=kd.DrMAD(reverse_steps=5),
        jit_compile=jit_compile,
    )
    # A short batch at the end of each epoch.
    return model, fit(model, batch_size=7, meta_iterations=3)


@pytest.fixture
def soon(monkeypatch):
    """Compiling pays from 20 steps on, not from some thousands."""
    monkeypatch.setattr(traits, "PAYS_FROM", 20)


@pytest.fixture(scope="module")
def without():
    """Returns what `result` does without XLA."""
    reseed()
    return result(False)


@pytest.mark.parametrize(
    "jit_compile, pays_from, validates",
    [("auto", 20, False), (True, 1, True)],
    ids=["auto, few held-out batches", "all"],
)
def test_xla_gives_the_same_numbers(
    without, monkeypatch, jit_compile, pays_from, validates
):
    plain, expected = without
    monkeypatch.setattr(traits, "PAYS_FROM", pays_from)
    model, logs = result(jit_compile)
    loops = loops_of(model)
    assert model.uses_xla and not plain.uses_xla
    assert loops.forward(line.SUM).jit_compile
    assert loops.differentiate.jit_compile is validates
    # float32, sums in another order, and three steps on hyperparameters.
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-3, atol=1e-6)
    tolerance = dict(rtol=1e-3, atol=1e-5)
    assert_same(model.get_weights(), plain.get_weights(), **tolerance)
    # The last one of the held-out batches a short one.
    found, same = (
        one.hypergradient(
            X,
            Y,
            batch_size=7,
            epochs=2,
            validation_data=VALIDATION,
            validation_batch_size=6,
            seed=0,
        )
        for one in (model, plain)
    )
    assert found.validation_loss == pytest.approx(
        same.validation_loss, rel=1e-3
    )


def asked_for(**training):
    """Asks for a training, which does not begin yet."""
    return dict(batch_size=8, validation_data=VALIDATION, **training)


def test_compiling_pays_sooner_for_large_nets():
    assert not traits.pays(7_999, 0) and traits.pays(8_000, 0)
    assert not traits.pays(3_999, 36_000) and traits.pays(4_000, 36_000)
    assert not traits.pays(400, 600_000) and traits.pays(500, 600_000)
    assert not traits.pays(799, 0, has_loops=True)
    assert traits.pays(800, 0, has_loops=True)


def test_functions_that_run_eagerly_are_refused(request):
    request.addfinalizer(lambda: tf.config.run_functions_eagerly(False))
    model = compiled()
    tf.config.run_functions_eagerly(True)
    with pytest.raises(ValueError, match=r"run_functions_eagerly\(True\)"):
        fit(model)


def test_auto_compiles_once_enough_steps_were_asked_for():
    model = compiled(jit_compile="auto")  # of few weights
    model.hypergradient(X, Y, **asked_for(steps_per_epoch=3))
    assert model.uses_xla is False
    model.prepared(X, Y, **asked_for(steps_per_epoch=3, trainings=2_600))
    assert model.uses_xla is False
    model.prepared(X, Y, **asked_for(steps_per_epoch=200))
    assert model.uses_xla is True
    # What is compiled stays in use.
    traced = model.prepared(X, Y, **asked_for(steps_per_epoch=1))[0].loops
    assert loops_of(model) is traced


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_change_nothing_where_jit_compile_says_it(jit_compile):
    model = compiled(jit_compile=jit_compile)
    for steps in (1, 10_000):
        model.prepared(X, Y, **asked_for(steps_per_epoch=steps))
        assert model.uses_xla is jit_compile


class Begun(Exception):
    """A training asks for its first loop: XLA is taken, or not."""


def test_auto_counts_all_trainings_of_a_fit_and_of_a_check(soon, monkeypatch):
    def begin(self, *args, **options):
        raise Begun

    monkeypatch.setattr(Loops, "_loop", begin)

    def uses_xla(train):
        model = compiled(jit_compile="auto")
        with pytest.raises(Begun):
            train(model)
        return model.uses_xla

    def fitted(count):
        options = dict(epochs=1, steps_per_epoch=3, meta_iterations=count)
        return lambda model: fit(model, **options)

    def checked(model):
        model.check_hypergradient(X, Y, **asked_for(steps_per_epoch=3))

    assert not uses_xla(fitted(6))  # 18 steps
    assert uses_xla(fitted(7))
    assert uses_xla(checked)  # 7 trainings


def test_held_out_batches_are_counted():
    def of(**options):
        training, plan = compiled(jit_compile=True).prepared(
            X, Y, **asked_for(steps_per_epoch=2), **options
        )
        return training.loops.compiler.jit_validation

    one = dict(validation_batch_size=16)
    assert not of(trainings=7_900, **one) and of(trainings=8_000, **one)
    assert of(trainings=4_000, validation_batch_size=8)


def test_a_mean_of_the_last_steps_takes_one_loop():
    def gradients(jit_compile):
        model = compiled(jit_compile=jit_compile)
        found = model.hypergradient(
            X, Y, 8, 105, validation_data=VALIDATION, seed=1
        )
        return loops_of(model).traces(), list(found.gradients.values())

    # 210 steps: the mean of the last 21 begins in the first of two chunks.
    traces, found = gradients(True)
    forward = {k: v for k, v in traces.items() if k.startswith("forward") and v}
    assert forward == {"forward Sum()": 1}
    _, same = gradients(False)
    np.testing.assert_allclose(found, same, rtol=1e-3)


def images(x):
    """Returns images of four pixels."""
    return x.reshape(-1, 2, 2, 1)


def with_convolution():
    inputs = keras.Input((2, 2, 1))
    h = keras.layers.Conv2D(2, 2)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(h)))


def with_pooling():
    inputs = keras.Input((2, 2, 1))
    h = keras.layers.MaxPooling2D(2)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(h)))


@pytest.mark.parametrize("make", [with_convolution, with_pooling])
def test_auto_takes_no_xla_for_images_on_a_cpu(make):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU runs these well with XLA")
    model = compiled(make(), jit_compile="auto")
    x_val, y_val = VALIDATION
    data = asked_for(steps_per_epoch=10_000)
    data["validation_data"] = images(x_val), y_val
    model.prepared(images(X), Y, **data)
    assert not model.uses_xla


def test_what_xla_cannot_compile_runs_without_it_where_nobody_asked_for_it():
    x = tf.constant([3.0, 1.0])

    def by_numpy(x):
        return tf.numpy_function(np.flip, [x], tf.float32)

    compiler = Compiler(jit_compile=True, is_sure=False)
    twice, loop = compiler(lambda x: 2 * x), compiler(by_numpy)
    np.testing.assert_array_equal(twice(x), [6, 2])
    assert compiler.jit_compile
    with pytest.warns(RuntimeWarning, match="XLA could not compile the loops"):
        np.testing.assert_array_equal(loop(x), [1, 3])
    # Without another warning, and the same for all functions.
    np.testing.assert_array_equal(loop(x), [1, 3])
    np.testing.assert_array_equal(twice(x), [6, 2])
    assert not compiler.jit_compile and compiler.has_fallen_back
    assert not loop.jit_compile and not twice.jit_compile
    with pytest.raises(tf.errors.OpError):
        Compiler(jit_compile=True)(by_numpy)(x)


def test_an_error_of_a_compiled_function_is_its_own():
    def checked(x):
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return tf.numpy_function(np.flip, [x], tf.float32)

    loop = Compiler(jit_compile=True, is_sure=False)(checked)
    with pytest.raises(tf.errors.OpError, match="positive"):
        loop(tf.constant([-1.0]))
    assert loop.jit_compile


def test_masks_of_one_seed_stay_the_same_from_call_to_call(soon):
    model = compiled(hidden(dropout=0.5), jit_compile="auto")
    data = asked_for(steps_per_epoch=5, seed=3)
    first = model.hypergradient(X, Y, **data)
    for _ in range(5):
        again = model.hypergradient(X, Y, **data)
    assert not model.uses_xla  # 30 steps
    assert again.validation_loss == first.validation_loss
    # Without masks yet, a fit that is long enough takes XLA at once.
    model = compiled(hidden(dropout=0.5), jit_compile="auto")
    model.prepared(X, Y, **asked_for(steps_per_epoch=20))
    assert model.uses_xla


def test_what_was_found_of_a_problem_is_kept():
    model = compiled(
        hypergradient=kd.DrMAD(curvature="gauss_newton"), jit_compile="auto"
    )
    traced = []
    for _ in range(2):
        model.prepared(X, Y, **asked_for(steps_per_epoch=3))
        traced.append(model._assembly._convex)
    assert traced[0] is not None and traced[0] is traced[1]


def test_loops_of_layers_are_the_same_with_xla():
    x = np.random.default_rng(0).normal(size=(16, 3, 2))

    def gradients(jit_compile):
        reseed()
        inputs = keras.Input((3, 2))
        outputs = keras.layers.Dense(3)(keras.layers.SimpleRNN(2)(inputs))
        model = compiled(
            keras.Model(inputs, outputs),
            hypergradient=kd.ReverseMode(),
            jit_compile=jit_compile,
        )
        data = asked_for(steps_per_epoch=10_000 if jit_compile else 1)
        data["validation_data"] = x, Y[:16]
        model.prepared(x, Y[:16], **data)
        assert model.uses_xla == bool(jit_compile)
        data["steps_per_epoch"] = 3
        return model.hypergradient(x, Y[:16], **data).gradients

    assert relative_error(gradients("auto"), gradients(False)) < 1e-4
