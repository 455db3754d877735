"""What `fit` says of compiling."""

import re

import keras
import pytest

import keras_drmad as kd
from conftest import reseed
from keras_drmad.training.compile_line import CompileLine
from small_models import FEATURES, VALIDATION, X, Y, cross_entropy

LINE = re.compile(r"^Compiling (.*?) \.\.\. (\S+)(?: s)?$", re.MULTILINE)


def model_of(jit_compile=False):
    reseed()
    inputs = keras.Input((FEATURES,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(3)(inputs))
    model.compile(
        keras.optimizers.SGD(0.1),
        cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2(initial=1e-2)],
        hypergradient=kd.ReverseMode(),
        jit_compile=jit_compile,
        self_check=False,
    )
    return model


def fit(model, verbose, meta_iterations=2, keep="last", **options):
    model.fit(
        X,
        Y,
        8,
        validation_data=VALIDATION,
        verbose=verbose,
        meta_iterations=meta_iterations,
        keep=keep,
        seed=0,
        **options,
    )


@pytest.mark.parametrize("verbose", [1, 2])
def test_says_what_is_compiled_once(capsys, verbose):
    model = model_of()
    fit(model, verbose)
    found = capsys.readouterr().out
    lines = LINE.findall(found)
    assert [what for what, _ in lines] == [
        "the forward loop that remembers states",
        "the validation loss and its gradient",
        "the backward loop",
    ]
    assert all(0 <= float(seconds) < 60 for _, seconds in lines)
    assert found.count("Compiling") == 3  # each begins a line of its own
    assert found.index("Compiling") < found.index("Epoch 2/2")
    fit(model, verbose)
    assert "Compiling" not in capsys.readouterr().out
    # The last training's loss is what has not been asked for yet.
    fit(model, verbose, keep="mean")
    lines = LINE.findall(capsys.readouterr().out)
    assert [what for what, _ in lines] == ["the validation loss"]


def test_is_silent(capsys):
    model = model_of()
    fit(model, 0)
    assert not capsys.readouterr().out
    model.hypergradient(X, Y, 6, validation_data=VALIDATION)
    assert not capsys.readouterr().out


def test_says_so_where_xla_compiles(capsys):
    model_of(jit_compile=True).fit(
        X, Y, 8, meta_iterations=0, validation_data=VALIDATION, seed=0
    )
    found = [what for what, _ in LINE.findall(capsys.readouterr().out)]
    assert found == [
        "the forward loop with XLA",
        "the validation loss with XLA",
    ]


@pytest.mark.parametrize(
    "verbose, expected", [(1, "\n"), ("auto", "\n"), (2, "")]
)
def test_the_line_begins_below_a_bar(capsys, verbose, expected):
    line = CompileLine(verbose)
    line.is_after_bar = True
    for k, before in enumerate((expected, "")):
        with line("backward", jit_compile=False):
            assert not line.is_after_bar, k
        found = capsys.readouterr().out
        assert found.startswith(before + "Compiling the backward loop ... ")
        assert found.endswith(" s\n")


def test_an_error_ends_the_line(capsys):
    line = CompileLine(1)
    with pytest.raises(ZeroDivisionError), line("forward", jit_compile=True):
        raise ZeroDivisionError
    expected = "Compiling the forward loop with XLA ... stopped\n"
    assert capsys.readouterr().out == expected


def test_helpers_are_not_spoken_of(capsys):
    with CompileLine(1)("same", jit_compile=True):
        pass
    assert not capsys.readouterr().out
