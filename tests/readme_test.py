"""The README's code runs as printed."""

import pathlib
import re

import keras
import pytest

import keras_drmad as kd

README = pathlib.Path(__file__).parent.parent / "README.md"


def build_model(rates):
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(50, activation="tanh")(inputs)
    model = kd.DrMADModel(inputs, keras.layers.Dense(10)(hidden))
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-2)],
        meta_optimizer=kd.SignDescent(rates["l2"]),
    )
    return model


@pytest.mark.slow
def test_quick_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    quick_start, check, search = re.findall(
        r"```python\n(.*?)```", text, re.DOTALL
    )
    variables: dict = {}

    exec(compile(quick_start, str(README), "exec"), variables)
    exec(compile(check, str(README), "exec"), variables)

    history = variables["model"].history.history
    assert len(history["val_loss"]) == 20
    assert min(history["val_loss"]) < history["val_loss"][0]
    assert variables["model"].hyperparameters[0].value().shape == (64 + 50,)
    assert (tmp_path / "digits_model" / "saved_model.pb").exists()
    variables["build_model"] = build_model
    exec(compile(search, str(README), "exec"), variables)
    found = variables["search"].rates["l2"]
    rate = float(variables["model"].meta_optimizer.learning_rate)
    assert rate == pytest.approx(found) and 0.03 <= found <= 1
    printed = capsys.readouterr().out
    assert "tf.Tensor" in printed
    assert printed.count("Verdict: ") == 2  # of values, of a hypergradient
    assert "carries over" in printed
