"""The README's code runs as printed, in its full length."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


def block():
    text = README.read_text(encoding="utf-8")
    (only,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return only


def test_it_is_twenty_lines():
    assert len([line for line in block().splitlines() if line]) <= 20


def test_the_first_page_of_the_site_has_the_same():
    page = README.parent / "docs" / "index.md"
    assert block() in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    variables: dict = {}

    exec(compile(block(), str(README), "exec"), variables)

    history = variables["model"].history.history
    assert len(history["val_loss"]) == 20
    assert min(history["val_loss"]) < history["val_loss"][0]
    assert variables["model"].hyperparameters[0].value().shape == (64 + 50,)
    assert (tmp_path / "digits_model" / "saved_model.pb").exists()
    assert "Verdict: carries over" in capsys.readouterr().out
