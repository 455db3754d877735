"""Examples and studies, run as a user runs them."""

import atexit
import csv
import functools
import importlib
import json
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
AS_A_USERS = {"XLA_FLAGS": ""}
CONTEXT = multiprocessing.get_context  # which a program may have otherwise


def python(*arguments: str) -> subprocess.CompletedProcess:
    """Runs Python in the project's folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=_as_a_users(),
        capture_output=True,
        text=True,
        check=False,
    )


def _as_a_users() -> dict[str, str]:
    """Returns the environment, without what saves the tests time."""
    return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}


def run_program(
    module: str,
    save_dir: pathlib.Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> str:
    """Runs a program into the run "short", see `forked`; returns stdout."""
    done = forked(
        "-m",
        module,
        f"--save_dir={save_dir}",
        "--run_name=short",
        *flags,
        environment=environment,
        constants=constants,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def forked(
    option: str,
    program: str,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    self_check: bool = False,
    constants: Mapping[str, Any] | None = None,
) -> subprocess.CompletedProcess:
    """Runs Python as `python` does, in a process that needs no imports.

    It is forked from one that has imported TensorFlow already, which takes
    longer than many a program does. XLA compiles it as it does the tests.

    Args:
        option: str, "-m" or "-c".
        program: str, the module or the code.
        *flags: of the program.
        environment: variables beside those of this process; `AS_A_USERS` lets
            XLA compile as it does for a user.
        self_check: bool, whether its models may check themselves.
        constants: for constants of modules, such as "examples.tables.SIZES",
            what they are instead, in a smaller problem.
    """
    variables = {**os.environ} | dict(environment or {})
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        process = forks().Process(
            target=_become,
            args=(
                option,
                program,
                flags,
                paths,
                variables,
                self_check,
                constants or {},
            ),
        )
        process.start()
        process.join()
        stdout, stderr = (path.read_text() for path in paths)
    return subprocess.CompletedProcess(
        [option, program, *flags], process.exitcode, stdout, stderr
    )


def _keep_server() -> None:
    """Lets a fork start forks by its own server.

    A fork has the server's address, from which Python starts a server anew.
    """
    multiprocessing.forkserver._forkserver.ensure_running = lambda: None


def forks_of_program(method: str | None = None):
    """Does for `multiprocessing.get_context` in a program, see `forked`."""
    _keep_server()
    return CONTEXT("forkserver")


def run_in_fork(command, **options) -> subprocess.CompletedProcess:
    """Does for `subprocess.run` of Python in a program, see `forked`."""
    _keep_server()
    sys.modules["__main__"] = types.ModuleType("__main__")  # not for the fork
    done = forked(*command[1:])
    assert done.returncode == 0, done.stderr
    return done


class PopenInFork:
    """Does for `subprocess.Popen` of a file of Python in a program.

    What it prints comes as it is printed, also in a process without imports.
    """

    def __init__(self, command, *, cwd, env, **options):
        _keep_server()
        sys.modules["__main__"] = types.ModuleType("__main__")  # as above
        paths = [pathlib.Path(cwd, name) for name in ("stdout", "stderr")]
        os.mkfifo(paths[0])
        code = (
            "import os, sys\n"
            "sys.stdout.reconfigure(line_buffering=True)\n"
            f"os.chdir({cwd!r})\n"
        )
        code += pathlib.Path(command[-1]).read_text("utf-8")
        arguments = ("-c", code, (), paths, env, False, {})
        self.process = forks().Process(target=_become, args=arguments)
        self.process.start()
        self.stdout = paths[0].open()

    def wait(self):
        self.process.join()
        return self.process.exitcode


@functools.cache
def forks():
    context = CONTEXT("forkserver")
    context.set_forkserver_preload(
        ["keras_drmad", "matplotlib.pyplot", "quick_tracing"]
    )
    return context


def _become(option, program, flags, paths, environment, self_check, constants):
    """Runs a program; called in its process."""
    for number, path in enumerate(paths, start=1):
        with path.open("w") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [option, *flags]
    if not self_check:
        spare_self_checks(setattr)
    spare_pictures()
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        owner = importlib.import_module(module)
        assert hasattr(owner, constant), name
        setattr(owner, constant, value)
    if program in sys.modules:  # with other constants
        sys.modules[program].app.run(sys.modules[program].main)
    elif option == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(program, {"__name__": "__main__"})


def spare_self_checks(assign: Callable) -> None:
    """Lets models not check themselves, which has tests of its own.

    Args:
        assign: `setattr`, or one that will be taken back.
    """
    from keras_drmad.training import assembly

    for name in ("check_step", "check_slopes"):
        assign(assembly.self_check, name, lambda *args: 0.0)


def spare_pictures() -> None:
    """Lets pictures be drawn once, not twice for the layout, and smaller.

    plots_test.py and pictures_test.py draw all kinds as a user does.
    """
    from matplotlib import figure

    savefig = figure.Figure.savefig

    def small(self, file, *, dpi=100, **options):
        self._layout_engine = None
        savefig(self, file, dpi=dpi / 2, **options)

    figure.Figure.savefig = small


def assert_flag_is_refused_without_tensorflow(module: str, flag: str) -> None:
    """Asserts that a program complains of a flag before it is slow to.

    Args:
        module: str, the program, such as "examples.augmentation".
        flag: str, with a value that is not allowed.
    """
    code = (
        f"import sys, {module} as program\n"
        f"try: program.app.run(program.main, ['x', {flag!r}])\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules, 'imported TensorFlow'\n"
    )
    server = without_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "stderr")
        print(json.dumps([code, str(path)]), file=server.stdin, flush=True)
        exit_code = int(server.stdout.readline())
        stderr = path.read_text()
    assert exit_code == 0, stderr
    assert flag.partition("=")[0] in stderr


# Forks for each line, so that what all programs import is imported once.
SERVER = """
import json, os, sys
import absl.app, matplotlib.pyplot, numpy

for line in sys.stdin:
    code, path = json.loads(line)
    child = os.fork()
    if not child:
        with open(path, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        exec(code, {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def without_tensorflow() -> subprocess.Popen:
    """Returns a process that runs code in forks of itself."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=_as_a_users(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)  # ends it
    return server


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


def rows_by(path: pathlib.Path, column: str) -> dict[str, dict[str, str]]:
    """Returns the rows of a table of a run, by what a column has there."""
    with path.open() as file:
        return {row[column]: row for row in csv.DictReader(file)}
