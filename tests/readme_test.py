"""The README's quick start runs as printed."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_quick_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    quick_start, check = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    variables: dict = {}

    exec(compile(quick_start, str(README), "exec"), variables)
    exec(compile(check, str(README), "exec"), variables)

    history = variables["model"].history.history
    assert len(history["val_loss"]) == 10
    assert min(history["val_loss"]) < history["val_loss"][0]
    assert variables["model"].hyperparameters[0].value().shape == (64 + 50,)
    assert (tmp_path / "digits_model" / "saved_model.pb").exists()
    printed = capsys.readouterr().out
    assert "tf.Tensor" in printed
    assert "Verdict: " in printed
