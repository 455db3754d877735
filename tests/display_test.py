"""What `fit` prints: lines on what takes its time, and bars."""

import re

import keras
import numpy as np
import pytest

import keras_drmad as kd
from conftest import reseed
from keras_drmad.training import moves
from keras_drmad.training.display import Display
from small_models import FEATURES, VALIDATION, X, Y, cross_entropy

LINE = re.compile(r"^Compiling (.*?) \.\.\. (\S+)(?: s)?$", re.MULTILINE)


def model_of(jit_compile=False, self_check=False, **options):
    reseed()
    inputs = keras.Input((FEATURES,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(3)(inputs))
    model.compile(
        keras.optimizers.SGD(0.1),
        cross_entropy(),
        hyperparameters=[kd.hyperparameters.L2(initial=1e-2)],
        hypergradient=kd.ReverseMode(),
        jit_compile=jit_compile,
        self_check=self_check,
        **options,
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
    assert found.index("Compiling") < found.index("Training 2/2")
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
        "the validation loss",  # of one batch: not worth it
    ]


@pytest.mark.parametrize(
    "verbose, expected", [(1, "\n"), ("auto", "\n"), (2, "")]
)
def test_the_line_begins_below_a_bar(capsys, verbose, expected):
    display = Display(verbose)
    display.begin("", 10)
    display.to(5, {"loss": 1.0})
    capsys.readouterr()
    for before in (expected, ""):
        with display("backward", jit_compile=False):
            pass
        found = capsys.readouterr().out
        assert found.startswith(before + "Compiling the backward loop ... ")
        assert found.endswith(" s\n")


def test_an_error_ends_the_line(capsys):
    display = Display(1)
    loop = display("forward", jit_compile=True)
    with pytest.raises(ZeroDivisionError), loop:
        raise ZeroDivisionError
    expected = "Compiling the forward loop with XLA ... stopped\n"
    assert capsys.readouterr().out == expected


def test_helpers_are_not_spoken_of(capsys):
    with Display(1)("same", jit_compile=True):
        pass
    assert not capsys.readouterr().out


# ---- bars


def test_a_bar_has_the_steps_of_both_walks(capsys):
    model = model_of()
    fit(model, 0)  # compiles
    fit(model, 1, steps_per_epoch=200)
    shown = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    assert "Training 1/2: 200 steps forward and 200 backward\n" in shown
    assert "Training 2/2\n" in shown
    for bar in re.split(r"Training \d/2.*\n", shown)[1:]:
        steps = [int(k) for k in re.findall(r"(\d+)/400", bar)]
        assert steps == sorted(steps)
        assert steps[-1] == 400
        assert steps[0] <= 50  # an eighth, but not too often


def test_the_walk_backward_moves_the_bar(monkeypatch):
    model, seen = model_of(), []
    monkeypatch.setattr(
        Display, "further", lambda self, steps: seen.append(steps)
    )
    fit(model, 1, steps_per_epoch=200, meta_iterations=1)
    assert sum(seen) == 200
    assert len(seen) >= 4


def test_several_draws_share_a_bar(capsys):
    model = model_of()
    fit(model, 1, draws=3, meta_iterations=1)
    shown = capsys.readouterr().out
    words = "Training 1/1: 3 draws, each of 3 steps forward and 3 backward"
    assert words in shown
    assert "18/18" in shown


def test_says_how_far_hyperparameters_moved(capsys):
    model = model_of(meta_optimizer=kd.SignDescent(0.1))
    fit(model, 2, meta_iterations=1)
    last = capsys.readouterr().out.splitlines()[-1]
    value = float(model.hyperparameters[0].value())
    assert last == f"  l2  0.01 → {value:.4g}"


def moved(kind, before, after, optimizer="sgd"):
    """Returns the words on a step of one hyperparameter."""
    inputs = keras.Input((4,))
    model = kd.DrMADModel(inputs, keras.layers.Dense(3)(inputs))
    model.compile(optimizer, "mse", hyperparameters=[kind])
    together = model._assembly.hyperparameters
    raws = [
        keras.ops.convert_to_tensor(h.checked_raw(x), "float32")
        for h in together
        for x in (before, after)
    ]
    return moves.words(together, raws[:1], raws[1:])


def test_words_on_moves():
    H = kd.hyperparameters
    before = np.full(4, 0.1)
    words = moved(H.L2(per="input"), before, before * [2, 0.5, 2, 1])
    expected = "  l2  mean 0.1 → 0.1375, median of 4 moves × or ÷ 2"
    assert words == expected
    words = moved(H.WeightDecay(), 0.9, 0.95, keras.optimizers.AdamW())
    assert words == "  weight_decay  0.9 → 0.95"
    words = moved(H.L2(per="input"), before, before)
    assert words == "  l2  0.1, not moved"
    rates = np.array([0.5, 0.6])
    sgd = keras.optimizers.SGD(0.1, momentum=0.5)
    momentum = H.Momentum(schedule="step", steps=2)
    words = moved(momentum, rates, rates + [0.1, -0.1], sgd)
    expected = "  momentum  mean 0.55 → 0.55, median of 2 moves ± 0.1"
    assert words == expected


def test_says_that_the_model_is_checked_before_anything_else(capsys):
    model = model_of(self_check=True)
    fit(model, 1, meta_iterations=1)
    fit(model, 1, meta_iterations=1)
    shown = capsys.readouterr().out
    assert re.match(r"Checking a step on .* \.\.\. \d+\.\d s\n", shown)
    assert shown.count("Checking a step") == 1
    assert shown.count("Checking derivatives") == 1


def test_a_bar_of_ones_own_is_the_only_one(capsys):
    model = model_of()
    own = keras.callbacks.CallbackList(
        [keras.callbacks.ProgbarLogger()],
        add_history=True,
        model=model,
        verbose=2,
        epochs=1,
        steps=6,
    )
    fit(model, 1, meta_iterations=1, callbacks=own)
    assert capsys.readouterr().out.count("6/6") == 1


def test_another_verbose_is_refused():
    with pytest.raises(ValueError, match="`verbose`.*Received: verbose=3"):
        fit(model_of(), 3)


def test_without_interactive_logging_lines_go_to_the_log(capsys):
    keras.config.disable_interactive_logging()
    try:
        fit(model_of(), 2, meta_iterations=1)
    finally:
        keras.config.enable_interactive_logging()
    assert not capsys.readouterr().out
