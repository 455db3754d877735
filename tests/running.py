"""Programs run as a user runs them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def run_example(name: str, save_dir: pathlib.Path, *flags: str) -> str:
    """Runs `python -m examples.<name>` into the run "short"; returns stdout."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"examples.{name}",
            f"--save_dir={save_dir}",
            "--run_name=short",
            *flags,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
