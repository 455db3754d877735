"""The notebooks run, install no TensorFlow, and stay small."""

import json
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
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
    assert sum(map(bool, outputs)) >= 3
    assert not [o for o in sum(outputs, []) if o.get("name") == "stderr"]
    assert path.stat().st_size < 100_000
    assert "/tmp" not in path.read_text("utf-8")


@every
@pytest.mark.slow
def test_it_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the kernel
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # raises what a cell raises
    texts = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    expected = {"noisy_labels": "area under the ROC curve: 0.9"}
    assert expected.get(path.stem, "Verdict: carries over") in "".join(texts)
