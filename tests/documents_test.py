"""The code of the documentation runs as printed, with fewer steps.

The blocks of a page run in turn and share their names. Where a page says that
its names are those of "Get started", it is given them.
"""

import functools
import pathlib
import re

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

import keras_drmad as kd
from keras_drmad import loss_along_line

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = {
    page.relative_to(DOCS).as_posix(): found
    for page in sorted(DOCS.rglob("*.md"))
    if (found := BLOCK.findall(page.read_text(encoding="utf-8")))
}
README = "index.md"  # has the README's code, see readme_test.py
FEW = {
    "steps_per_epoch": 2,
    "epochs": 2,
    "meta_iterations": 2,
    "draws": 2,
    "directions": 1,
    "initial_epoch": 2,  # as many meta-iterations there are
    "n_trials": 1,  # of Optuna
    "max_epochs": 1,  # of KerasTuner
}
LONG_RUNNING = (
    "fit",
    "hypergradient",
    "check_hypergradient",
    "check_hyperparameters",
    "validation_loss_after",
)


def digits(size, seed):
    """Returns numbers and labels of the shape of scikit-learn's digits."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 10, size)
    y[:10] = range(10)
    return generator.random((size, 64)), y


def a_net():
    return keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(4), keras.layers.Dense(10)]
    )


def a_model():
    model = kd.DrMADModel.from_model(a_net())
    model.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2(initial=1e-2)],
    )
    return model


def given(code):
    """Returns what "Get started" leaves to a page that uses it."""
    x, y = digits(600, 0)
    x_val, y_val = digits(50, 1)
    x_test, y_test = digits(50, 2)
    names = {
        "x": x,
        "y": y,
        "x_val": x_val,
        "y_val": y_val,
        "x_test": x_test,
        "y_test": y_test,
        "training": {"batch_size": 50, "validation_data": (x_val, y_val)},
        "build_model": a_model,
    }
    makers = {"net": a_net, "model": a_model}
    for name, make in makers.items():  # making a model takes time
        if re.search(rf"\b{name}\b", code):
            names[name] = make()
    return names


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """What trains does so for a few steps, whatever it is asked for."""

    def shorter(function):
        @functools.wraps(function)
        def short(self, *args, **kwargs):
            for name, most in FEW.items():
                if kwargs.get(name):
                    kwargs[name] = min(kwargs[name], most)
            if function.__name__ == "fit" and isinstance(self, kd.DrMADModel):
                if "tune_every" not in kwargs:
                    kwargs.setdefault("meta_iterations", 2)
                kwargs.setdefault("verbose", 0)
            return function(self, *args, **kwargs)

        return short

    with pytest.MonkeyPatch.context() as patch:
        for name in LONG_RUNNING:
            method = getattr(kd.DrMADModel, name)
            patch.setattr(kd.DrMADModel, name, shorter(method))
        patch.setattr(keras.Model, "fit", shorter(keras.Model.fit))
        # Places on a line, of which each is an evaluation: 41.
        patch.setattr(loss_along_line, "ALPHAS", np.linspace(-0.5, 1.5, 5))
        patch.setattr(optuna.Study, "optimize", shorter(optuna.Study.optimize))
        patch.setattr(
            keras_tuner.Hyperband,
            "__init__",
            shorter(keras_tuner.Hyperband.__init__),
        )
        without_xla = functools.partialmethod(
            keras.Model.compile, jit_compile=False
        )
        patch.setattr(keras.Model, "compile", without_xla)
        yield


def test_there_are_pages():
    assert {"get_started.md", "howto/own_kind.md", "devices.md"} <= set(BLOCKS)


@pytest.mark.parametrize("page", [name for name in BLOCKS if name != README])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of too few steps
def test_the_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = given("".join(BLOCKS[page]))
    for number, block in enumerate(BLOCKS[page], start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
