"""What is kept of arrays from call to call, and that it is never stale."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import regression
from conftest import reseed
from keras_drmad.training import first_look, kept_arrays, tables
from keras_drmad.training.kept_arrays import KeptArrays

N = 400


def arrays(dtype="float32", size=N):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(size, 7)).astype(dtype)
    return x, generator.integers(0, 3, size)


def tensors(kept, x, y=None, w=None, argument="x"):
    return kept.tensors(x, y, w, argument, False)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kept_arrays, "_BLOCK", 100)  # many in the arrays here


# ---- what comes back


@pytest.mark.parametrize("floatx", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "uint8", "int32", "int64", "bool"],
)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "frozen"])
def test_tensors_are_the_arrays(monkeypatch, floatx, dtype, layout):
    monkeypatch.setattr(keras.config, "floatx", lambda: floatx)
    x = (10 * arrays()[0]).astype(dtype)
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "strided":
        x = x[::-2, 1::2]
    elif layout == "frozen":
        x.flags.writeable = False
    expected = x.astype(floatx) if x.dtype.kind == "f" else x
    kept = KeptArrays()
    for _ in range(2):
        found, nothing, _ = tensors(kept, x)
        assert nothing is None
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected)
    assert tensors(kept, x)[0] is found


def test_a_tensor_has_memory_of_its_own():
    x, y = arrays()
    before = x.copy(), y.copy()
    found = tensors(KeptArrays(), x, y)[:2]
    x[:], y[:] = 0, 0
    for tensor, array in zip(found, before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_tensors_are_kept_by_argument():
    kept, (x, y) = KeptArrays(), arrays()
    first = tensors(kept, {"a": x, "b": x + 1}, y, y + 0.5)
    held_out = tensors(kept, x[:9], y[:9], argument="validation_data")
    assert tensors(kept, {"a": x, "b": x + 1}, y)[0]["a"] is first[0]["a"]
    again = tensors(kept, x[:9], y[:9], argument="validation_data")
    assert all(a is b for a, b in zip(again[:2], held_out[:2], strict=True))


# ---- never stale


def change_first(x):
    x[0, 0] += 1


def change_last(x):
    x[-1, -1] = np.nextafter(x[-1, -1].astype("float32"), np.float32(9))


def change_sign_of_zero(x):
    x[5, 5] = -0.0


def swap_rows(x):
    x[[0, 1]] = x[[1, 0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "change", [change_first, change_last, change_sign_of_zero, swap_rows]
)
def test_what_changes_in_place_is_seen(change, dtype):
    kept, (x, _) = KeptArrays(), arrays(dtype)
    x[5, 5] = 0.0
    before = tensors(kept, x)[0]
    change(x)
    found = tensors(kept, x)[0]
    assert found is not before
    assert found.numpy().tobytes() == x.astype("float32").tobytes()


def test_what_becomes_infinite_is_refused_each_time():
    kept, (x, _) = KeptArrays(), arrays("float64")
    tensors(kept, x)
    x[7, 3] = 1e300  # finite, but not in float32
    for _ in range(2):
        with pytest.raises(ValueError, match="1 of 400 .* at index 7"):
            tensors(kept, x)
    x[7, 3] = 1
    assert tensors(kept, x)[0].numpy()[7, 3] == 1


def test_another_floatx_makes_another_tensor(monkeypatch):
    kept, (x, _) = KeptArrays(), arrays()
    assert tensors(kept, x)[0].dtype == "float32"
    monkeypatch.setattr(keras.config, "floatx", lambda: "float64")
    assert tensors(kept, x)[0].dtype == "float64"


# ---- for how long


def test_a_tensor_goes_with_its_array():
    kept, (x, y) = KeptArrays(), arrays()
    refs = [weakref.ref(one) for one in tensors(kept, x, y)[:2]]
    gc.collect()
    assert all(ref() is not None for ref in refs)
    del x
    assert refs[0]() is None
    assert refs[1]() is not None


def test_slices_of_an_array_are_known_again():
    kept, (x, _) = KeptArrays(), arrays()
    assert tensors(kept, x[:50])[0] is tensors(kept, x[:50])[0]
    ref = weakref.ref(tensors(kept, x[:50])[0])
    del x
    assert ref() is None


def test_what_is_kept_has_a_limit(monkeypatch):
    monkeypatch.setattr(kept_arrays, "LIMIT", N * 7 * 4 + 8)
    kept, (x, y) = KeptArrays(), arrays()
    first = tensors(kept, x, y)
    again = tensors(kept, x, y)
    assert again[0] is first[0]
    assert again[1] is not first[1]
    np.testing.assert_array_equal(again[1].numpy(), y)


class Table:
    """A user's own, of which no weak reference can be made."""

    __slots__ = ()

    def __array__(self, dtype=None, copy=None):
        return np.arange(6.0)[:, None]


@pytest.mark.parametrize("data", [Table(), np.array([["a"], ["b"]])])
def test_tables_without_an_end_and_strings_are_not_kept(data):
    kept = KeptArrays()
    found = [kept.tensors(data, None, None, "x", True)[0] for _ in range(2)]
    assert found[0] is not found[1]
    np.testing.assert_array_equal(found[0].numpy(), found[1].numpy())


def test_conversion_makes_one_copy(monkeypatch):
    whole = []
    convert = tables.in_floatx

    def counted(array):
        whole.append(len(array) == N)
        return convert(array)

    monkeypatch.setattr(tables, "in_floatx", counted)
    tensors(KeptArrays(), arrays("float64")[0])
    assert len(whole) > 10
    assert not any(whole)


# ---- what a model looks at


@pytest.fixture(scope="module")
def model():
    """A compiled model that has seen `regression(24)` and its weights."""
    reseed()
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(1)(inputs)
    model = kd.DrMADModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        hyperparameters=[kd.hyperparameters.L2()],
        hypergradient=kd.ReverseMode(),
        jit_compile=False,
    )
    return model


X, Y = (np.asarray(a) for a in regression(24))
X = np.ascontiguousarray(X[:, :2])
HELD_OUT = X[:7].copy(), Y[:7].copy()


@pytest.fixture
def looks(monkeypatch):
    """The arguments whose data were looked at."""
    seen = []
    check = first_look.check_source

    def counted(model, batches, first, argument):
        seen.append(argument)
        return check(model, batches, first, argument)

    monkeypatch.setattr(first_look, "check_source", counted)
    return seen


BOTH = ["x", "validation_data"]


def ask(model, x=X, y=Y, held_out=HELD_OUT, batch_size=8, **options):
    return model.hypergradient(
        x, y, batch_size, validation_data=held_out, **options
    )


def test_the_same_data_are_looked_at_once(model, looks):
    first = ask(model)
    looks.clear()
    again = ask(model)
    ask(model, seed=3, epochs=2)
    assert not looks
    assert again.validation_loss == first.validation_loss
    np.testing.assert_array_equal(
        again.gradients["l2"].numpy(), first.gradients["l2"].numpy()
    )


def test_looks_again_at_what_changed(model, looks):
    ask(model)
    x, y = X.copy(), Y.copy()
    ask(model, x, y)  # equal, but of other arrays: kept for their numbers
    looks.clear()
    before = ask(model, x, y).validation_loss
    assert not looks
    x[:] = x[::-1].copy()
    after = ask(model, x, y).validation_loss
    assert looks == BOTH
    assert after != before
    x[:] = x[::-1].copy()
    assert ask(model, x, y).validation_loss == before


def test_looks_again_at_other_weights(model, looks):
    ask(model)
    looks.clear()
    kernel = model.layers[-1].kernel
    value = kernel.numpy()
    kernel.assign(value + 1)
    try:
        ask(model)
        assert looks == BOTH
        kernel.assign(np.full_like(value, np.nan))
        with pytest.raises(ValueError, match="finite loss at the initial"):
            ask(model)
    finally:
        kernel.assign(value)


def test_looks_again_at_another_batch_size(model, looks):
    ask(model)
    looks.clear()
    ask(model, batch_size=6)
    assert looks == BOTH


def test_looks_again_at_weights_of_examples(model, looks):
    ask(model)
    looks.clear()
    ask(model, sample_weight=np.linspace(0, 1, 24))
    assert looks == BOTH


def test_data_sets_are_always_looked_at(model, looks):
    for _ in range(2):
        looks.clear()
        held_out = tf.data.Dataset.from_tensor_slices(HELD_OUT).batch(7)
        ask(model, held_out=held_out)
        assert looks == BOTH


def test_what_is_refused_is_refused_again(model):
    y = Y.copy()
    ask(model, y=y)
    y[3] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="Expected finite numbers"):
            ask(model, y=y)
    y[3] = 0
    ask(model, y=y)
