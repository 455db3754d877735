"""Runs the notebooks, and writes their outputs into them.

python tests/write_notebooks.py
"""

import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(path, folder):
    """Returns a notebook with its outputs, but for what goes to stderr.

    Args:
        path: of the notebook.
        folder: where the notebook runs, and writes its files.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    kernel = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute(env=os.environ | kernel)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if output.get("name") != "stderr"
            ]
    return notebook


def main():
    """Writes all notebooks."""
    import nbformat

    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, folder), path)
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
