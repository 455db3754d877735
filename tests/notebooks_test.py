"""The notebooks run, install no TensorFlow, and stay small."""

import json
import pathlib
import re
import tomllib

import pytest

from write_notebooks import NOTEBOOKS, executed

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HOME = PROJECT["urls"]["Repository"]
every = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


def cells(path, kind):
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@every
def test_it_has_a_badge_and_installs_no_tensorflow(path):
    first, install = cells(path, "markdown")[0], cells(path, "code")[0]
    name = HOME.removeprefix("https://github.com/")
    badge = "colab.research.google.com/github"
    assert f"{badge}/{name}/blob/main/notebooks/{path.name}" in source(first)
    (command,) = re.findall(r"%pip .+", source(install))
    assert command == f"%pip install --quiet git+{HOME}"
    assert "tensorflow" in PROJECT["optional-dependencies"]  # an extra
    assert not any("tensorflow" in one for one in PROJECT["dependencies"])


@every
def test_its_outputs_are_there_and_small(path):
    outputs = [cell["outputs"] for cell in cells(path, "code")]
    assert sum(map(bool, outputs)) >= 2
    assert all(o.get("name") != "stderr" for o in sum(outputs, []))
    assert path.stat().st_size < 100_000
    assert "/tmp" not in path.read_text("utf-8")


@every
@pytest.mark.slow
def test_it_runs(path, tmp_path):
    for package in ("ipykernel", "nbclient", "nbformat"):
        pytest.importorskip(package)
    notebook = executed(path, tmp_path)
    texts = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    expected = {"noisy_labels": "area under the ROC curve: 0.9"}
    assert expected.get(path.stem, "Verdict: carries over") in "".join(texts)
