"""Examples and studies, run as a user runs them."""

import csv
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent


def python(*arguments: str) -> subprocess.CompletedProcess:
    """Runs Python in the project's folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run_program(module: str, save_dir: pathlib.Path, *flags: str) -> str:
    """Runs `python -m <module>` into the run "short"; returns stdout."""
    done = python(
        "-m",
        module,
        f"--save_dir={save_dir}",
        "--run_name=short",
        *flags,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_flag_is_refused_without_tensorflow(module: str, flag: str) -> None:
    """Asserts that a program complains of a flag before it is slow to.

    Args:
        module: str, the program, such as "examples.augmentation".
        flag: str, with a value that is not allowed.
    """
    done = python(
        "-c",
        f"import sys, {module} as program\n"
        f"try: program.app.run(program.main, ['x', {flag!r}])\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules, 'imported TensorFlow'\n",
    )
    assert done.returncode == 0, done.stderr
    assert flag.partition("=")[0] in done.stderr


def assert_folder_is_complete(
    folder: pathlib.Path, figures: set[str], flag: str
) -> None:
    """Asserts that a run left all its files.

    Args:
        folder: the run's.
        figures: the names of its pictures.
        flag: str, one of its flags.
    """
    assert {path.stem for path in (folder / "figures").iterdir()} == figures
    for name in ("model.keras", "saved_model", "tensorboard"):
        assert (folder / name).exists()
    assert flag in (folder / "flags.txt").read_text().splitlines()


def history(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the entries of history.csv, a number for each meta-iteration."""
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {k: np.array([float(row[k]) for row in rows]) for k in rows[0]}
