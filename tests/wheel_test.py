"""The wheel alone, in new environments: run by `make release-check`.

Takes minutes and gigabytes, and needs PyPI.
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README, TOUR = ROOT / "README.md", ROOT / "tests" / "tour.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TENSORFLOW = ("tensorflow", "tensorflow-cpu")
OTHERS = ("plots", "table", "tensorboard", "tuner", "examples")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.release,
    pytest.mark.skipif(
        "KERAS_DRMAD_RELEASE" not in os.environ,
        reason="takes minutes and needs PyPI: make release-check",
    ),
]


def run(*command, **options):
    """Runs a program; returns what it printed."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, **options
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Skips where pip reaches no index of packages."""
    folder = tmp_path_factory.mktemp("index")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries=1"]
    done = subprocess.run(
        [*pip, "packaging"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"pip reaches no index of packages here: {why}")


@pytest.fixture(scope="module")
def distributions(index, tmp_path_factory):
    """Returns the paths of an sdist, and of the wheel made of it."""
    for tool in ("build", "twine"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed: pip install -e '.[release]'")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


class Environment:
    """A new virtual environment; the cache of pip is shared."""

    def __init__(self, folder, *packages):
        self.folder = folder
        run(sys.executable, "-m", "venv", folder)
        self.python = folder / "bin" / "python"
        self.pip("install", *packages)

    def pip(self, *arguments):
        quiet = "--disable-pip-version-check"
        command, *others = arguments
        return self.program("-m", "pip", command, quiet, *others)

    def names(self):
        lines = self.pip("list", "--format=freeze").splitlines()
        return {line.partition("==")[0] for line in lines}

    def program(self, *arguments, **options):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}
        hidden = {"PYTHONPATH", "XLA_FLAGS"}
        kept = {k: v for k, v in os.environ.items() if k not in hidden}
        # Elsewhere than in the repository, where Python would find the package.
        options = {"cwd": self.folder} | options
        return run(self.python, *arguments, env=kept | quiet, **options)


@pytest.fixture
def new(tmp_path):
    """Returns a function that makes an environment, to be thrown away."""
    yield lambda *packages: Environment(tmp_path / "venv", *packages)
    shutil.rmtree(tmp_path / "venv", ignore_errors=True)


# ---- what is in them


def test_descriptions_are_what_a_package_page_takes(distributions):
    checked = run(
        sys.executable, "-m", "twine", "check", "--strict", *distributions
    )
    assert checked.count("PASSED") == 2


def test_the_wheel_has_the_package_alone(distributions):
    _, wheel = distributions
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0].partition("-")[0] for name in names}
    assert roots == {"keras_drmad"}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "keras_drmad").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert here <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_has_what_git_has(distributions):
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    missing = {*tracked} - names - {".gitignore"}
    assert not missing


# ---- what it installs


def test_without_an_extra_it_says_what_to_install(distributions, new):
    made = new(distributions[1])
    assert not {"tensorflow", "tensorflow-cpu", "tensorflow_cpu"} & made.names()
    done = subprocess.run(
        [made.python, "-c", "import keras_drmad"],
        capture_output=True,
        text=True,
        cwd=made.folder,
    )
    assert "pip install 'keras_drmad[tensorflow-cpu]'" in done.stderr


def test_a_tensorflow_that_is_there_is_enough(distributions, new):
    made = new("tensorflow-cpu")
    before = made.names()
    made.pip("install", distributions[1])
    new_names = {name.replace("-", "_") for name in made.names() - before}
    assert new_names == {"keras_drmad"}
    made.pip("check")


@pytest.mark.parametrize("extra", [*TENSORFLOW, *OTHERS])
def test_the_quick_start_runs_with_each_extra(
    distributions, new, extra, tmp_path
):
    extras = extra if extra in TENSORFLOW else f"tensorflow-cpu,{extra}"
    # The quick start takes its data from scikit-learn.
    made = new(f"{distributions[1]}[{extras}]", "scikit-learn")
    made.pip("check")
    made.program(TOUR, README, "quick_start", cwd=tmp_path)
    asks = {
        "plots": "import keras_drmad.plots as p; p.curves({}, {})",
        "table": "import pandas",
        "tensorboard": "import keras_drmad as k; k.callbacks.TensorBoard()",
        "tuner": "import keras_drmad; keras_drmad.MetaRateSearch",
        "examples": "import absl, sklearn, tensorboard, tensorflow_datasets",
    }
    made.program("-c", asks.get(extra, ""), cwd=tmp_path)


def test_the_whole_tour_runs_with_the_oldest_versions(
    distributions, new, tmp_path
):
    made = new(
        distributions[1],
        "keras==3.10.0",
        "tensorflow-cpu==2.18.1",
        "numpy==1.26.4",
        "scikit-learn",
    )
    printed = made.program(TOUR, README, cwd=tmp_path)
    for part in ("export_and_load", "resume", "to_keras", "callbacks"):
        assert f"\n{part}: " in printed


def test_the_whole_tour_runs_with_the_newest_versions(
    distributions, new, tmp_path
):
    made = new(f"{distributions[1]}[tensorflow-cpu]", "scikit-learn")
    made.program(TOUR, README, cwd=tmp_path)
