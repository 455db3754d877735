"""The README's quick start runs as printed."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_quick_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    variables: dict = {}

    exec(compile(code, str(README), "exec"), variables)

    history = variables["model"].history.history
    assert len(history["val_loss"]) == 10
    assert min(history["val_loss"]) < history["val_loss"][0]
    assert variables["model"].hyperparameters[0].value().shape == (64 + 50,)
    assert (tmp_path / "digits_model" / "saved_model.pb").exists()
    assert "tf.Tensor" in capsys.readouterr().out
