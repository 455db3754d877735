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


# What tests spare; the notebooks have no such cell.
SPARED = f"""
import sys

sys.path.append({str(ROOT / "tests")!r})
import quick_tracing, running

running.spare_self_checks(setattr)
"""
# As sure with fewer epochs, meta-iterations and steps, and no short batch.
WHOLE = {"test_size=0.6": "train_size=700, test_size=1000"}
SHORTER = {
    "digits": {"epochs=20": "epochs=10"} | WHOLE,
    "noisy_labels": {
        "steps_per_epoch=1000": "steps_per_epoch=100",
        "x[550:], y[550:]": "x[550:1750], y[550:1750]",
    },
    "schedule": {"meta_iterations=30": "meta_iterations=8"} | WHOLE,
}


@pytest.mark.slow
def test_they_run(tmp_path):
    """In one kernel, which forgets all names after each."""
    for package in ("ipykernel", "nbclient", "nbformat"):
        pytest.importorskip(package)
    import nbformat

    whole = nbformat.v4.new_notebook()
    whole.cells.append(nbformat.v4.new_code_cell(SPARED))
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        text = "".join(source(cell) for cell in notebook.cells)
        assert all(number in text for number in SHORTER[path.stem])
        notebook.cells.append(nbformat.v4.new_code_cell("%reset -f"))
        for cell in notebook.cells:
            cell.id = f"{path.stem}-{cell.id}"
            cell.metadata["notebook"] = path.stem
            for number, smaller in SHORTER[path.stem].items():
                cell.source = cell.source.replace(number, smaller)
        whole.cells += notebook.cells
    nbformat.write(whole, tmp_path / "whole.ipynb")

    printed = dict.fromkeys(SHORTER, "")
    for cell in executed(tmp_path / "whole.ipynb", tmp_path).cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stdout":
                printed[cell.metadata["notebook"]] += output["text"]
    assert "area under the ROC curve: 0.9" in printed["noisy_labels"]
    for name in ("digits", "schedule"):
        assert "Verdict: carries over" in printed[name]
