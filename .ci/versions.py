"""Runs the fast part of the tests with several versions of Keras and others.

    python .ci/versions.py                       all rows of the table
    python .ci/versions.py --only oldest newest  some
    python .ci/versions.py --write               all, into docs/versions.md

Each row has a virtual environment of its own in `.versions/`, which is made
once, from PyPI, and made again when the requirements of the row change; those
of the newest versions are brought up to date each time. Prints a table, and
ends with 1 if a test or pip has failed. Needs Python's own library alone.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "versions.md"
MARKS = ("<!-- begin of the table -->", "<!-- end of the table -->")
TOOLS = (
    "matplotlib",
    "pandas",
    "pytest>=9",
    "pytest-xdist>=3.8",
    "scikit-learn>=1.8",
    "tensorboard",
)
# Numbers against Keras's own step and against differences; `fit`, files and
# callbacks; what leaves as plain Keras. By how the names of files begin.
FAST = (
    "backup_files",
    "broken_off",
    "callbacks",
    "conformance",
    "fit",
    "interrupted_fit",
    "keras_callbacks",
    "meta_optimizers",
    "model",
    "optimizers",
    "plain",
    "redraw",
    "resumed_fit",
    "saving",
    "stream_batches",
    "time_budget",
    "versions",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """An environment.

    Attributes:
        python: str, the version of Python.
        packages: what pip installs.
        alone: what pip installs last, in the place of what is there, without
            what it asks for.
        is_moving: bool, whether newer versions are looked for each time.
    """

    python: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    is_moving: bool = False


ROWS = {
    "oldest": Row(
        "3.11",
        (
            "keras==3.10.0",
            "tensorflow-cpu==2.18.1",
            "numpy==1.26.4",
            "keras-tuner==1.4.7",
        ),
    ),
    "middle": Row(
        "3.12",
        (
            "keras==3.13.*",
            "tensorflow-cpu==2.20.*",
            "keras-tuner",
        ),
    ),
    "newest": Row(
        "3.11", ("keras", "tensorflow-cpu", "keras-tuner"), is_moving=True
    ),
    "newest Python": Row(
        "3.13", ("keras", "tensorflow-cpu", "keras-tuner"), is_moving=True
    ),
    # The name of a release candidate lets pip take one.
    "nightly": Row(
        "3.13",
        ("tensorflow-cpu>=2.0rc0",),
        ("keras-nightly", "keras-tuner", "kt-legacy"),
        is_moving=True,
    ),
}


def python_of(version: str) -> str | None:
    """Returns the path of a Python, in PATH or of pyenv; `None` if not here."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    found = shutil.which(f"python{version}")
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv"))
    here = sorted(pyenv.expanduser().glob(f"versions/{version}.*/bin/python"))
    for path in ([found] if found else []) + [str(p) for p in here]:
        # A shim of pyenv is there for versions that are not chosen, too.
        if not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return None


def environment(name: str, home: pathlib.Path) -> pathlib.Path:
    """Returns the Python of a row's environment, made if it is not there.

    Args:
        name: str, the row's.
        home: folder of the environments.

    Raises:
        LookupError: if there is no such Python.
        RuntimeError: if pip fails; the message is the last line.
    """
    row = ROWS[name]
    folder = home / name.replace(" ", "_").lower()
    python = folder / "bin" / "python"
    stamp, wanted = folder / "made_of", repr((row, TOOLS))
    is_made = stamp.is_file() and stamp.read_text() == wanted
    if is_made and not row.is_moving:
        return python
    if not is_made:
        base = python_of(row.python)
        if base is None:
            raise LookupError(f"no Python {row.python} on this machine")
        shutil.rmtree(folder, ignore_errors=True)
        _run([base, "-m", "venv", folder])
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "--upgrade"]
    _run([*install, *row.packages, *TOOLS])
    if row.alone:
        # TensorFlow asks for `keras` or `keras-nightly`: both own one folder.
        _run([*pip, "uninstall", "--yes", "keras", "keras-nightly"])
        _run([*install, "--pre", "--no-deps", *row.alone])
    stamp.write_text(wanted)
    return python


def _run(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed without words"]
        raise RuntimeError(lines[-1])
    return done.stdout


def versions(python: pathlib.Path) -> list[str]:
    """Returns the versions of Python, Keras, TensorFlow and NumPy.

    Raises:
        RuntimeError: if they cannot be imported.
    """
    program = (
        "import keras, numpy, platform, tensorflow as tf; "
        "print(platform.python_version(), keras.__version__, "
        "tf.__version__, numpy.__version__)"
    )
    return _run([python, "-c", program]).split()


def files() -> list[str]:
    """Returns the files of the fast part."""
    tests = sorted((ROOT / "tests").glob("*_test.py"))
    return [
        path.relative_to(ROOT).as_posix()
        for path in tests
        if path.name.startswith(FAST)
    ]


def tested(python: pathlib.Path, flags: list[str], log: pathlib.Path) -> str:
    """Runs the fast part; returns pytest's closing line, without marks."""
    command = [python, "-m", "pytest", "-m", "not slow", *flags, *files()]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    with log.open("w") as out:
        done = subprocess.run(
            command, cwd=ROOT, env=quiet, stdout=out, stderr=subprocess.STDOUT
        )
    printed = log.read_text()
    # Not the last line: TensorFlow says things at its end, too.
    closing = re.findall(r"^=* ?(\d+ \w+.*) in [0-9.]+s\b", printed, re.M)
    if done.returncode not in (0, 1) or not closing:
        last = (printed.strip().splitlines() or ["no words"])[-1]
        return f"pytest ended with {done.returncode}: {last}"
    words = closing[-1]
    failed = re.findall(r"^(?:FAILED|ERROR) tests/(\w+)", printed, re.M)
    where = [f"{name} ({failed.count(name)})" for name in sorted({*failed})]
    return f"{words}: {', '.join(where)}" if where else words


def row_of_table(
    name: str, home: pathlib.Path, flags: list[str]
) -> tuple[str, bool]:
    """Returns a line of the table, and whether no test has failed.

    Where there is no such Python on the machine, none has.
    """
    start = time.monotonic()
    try:
        python = environment(name, home)
        found = versions(python)
    except (LookupError, RuntimeError) as error:
        cells = [name, ROWS[name].python, "", "", "", f"not run: {error}", ""]
        return f"| {' | '.join(cells)} |", isinstance(error, LookupError)
    result = tested(python, flags, home / f"{python.parts[-3]}.log")
    minutes = f"{(time.monotonic() - start) / 60:.0f} min"
    is_green = re.fullmatch(r"\d+ passed[^:]*", result) is not None
    return f"| {' | '.join([name, *found, result, minutes])} |", is_green


def main() -> int:
    """Runs rows, prints the table; returns 1 if a test or pip has failed."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        epilog=f"Other flags go to pytest. Rows: {', '.join(ROWS)}.",
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument(
        "--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="let a Python that is not here count as a failure",
    )
    parser.add_argument(
        "--home",
        type=pathlib.Path,
        default=ROOT / ".versions",
        help="folder of the environments",
    )
    known, flags = parser.parse_known_args()
    flags = flags or ["--numprocesses=auto", "--dist=loadfile"]
    known.home.mkdir(parents=True, exist_ok=True)
    head = "row | Python | Keras | TensorFlow | NumPy | tests | time"
    table = [f"| {head} |", "| --- " * 7 + "|"]
    all_green = True
    print("\n".join(table), flush=True)
    for name in known.only:
        line, has_passed = row_of_table(name, known.home.resolve(), flags)
        table.append(line)
        all_green &= has_passed and not (known.strict and "not run" in line)
        print(line, flush=True)
    if known.write:
        write(table)
    return 0 if all_green else 1


def write(table: list[str]) -> None:
    """Puts a table, and the day, into the page."""
    first, last = MARKS
    before, _, rest = PAGE.read_text("utf-8").partition(first)
    after = rest.partition(last)[2]
    today = f"Of {datetime.date.today():%d %B %Y}, by `make versions`:"
    parts = [first, today, "\n".join(table), last]
    PAGE.write_text(before + "\n\n".join(parts) + after, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
