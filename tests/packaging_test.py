"""What a release says of itself: versions, requirements, links, checks."""

import ast
import importlib.util
import pathlib
import re
import runpy
import sys
import tomllib

import pytest

import keras_drmad as kd
from keras_drmad import versions

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def text(name):
    return (ROOT / name).read_text("utf-8")


def module(path):
    """Returns a file as a module, under its own name."""
    name = pathlib.Path(path).stem
    spec = importlib.util.spec_from_file_location(f"the_{name}", ROOT / path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # a dataclass looks its module up
    spec.loader.exec_module(found)
    return found


MATRIX = module(".ci/versions.py")


def lowest(requirement):
    """Returns the name and the lowest version of a requirement."""
    return re.fullmatch(
        r"([\w-]+)>=([\d.]+)(?:,<[\d.]+)?", requirement
    ).groups()


# ---- the version


def test_the_version_stands_in_one_place_and_the_log_has_it():
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]
    heads = re.findall(r"^## \[([\d.]+)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert heads[0] == kd.__version__
    cited = re.search(r"^version: (\S+)$", text("CITATION.cff"), re.MULTILINE)
    assert cited[1] == kd.__version__


# ---- requirements


def test_requirements_have_no_upper_bound_but_for_checkers():
    bounded = {
        lowest(r)[0]
        for r in [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]
        if "<" in r
    }
    assert bounded == {"mypy", "ruff"}  # others find other things


def test_the_package_asks_for_what_it_imports():
    asked = {lowest(r)[0] for r in PROJECT["dependencies"]}
    optional = {
        "matplotlib": "plots",
        "pandas": "table",
        "tensorboard": "tensorboard",
        "keras_tuner": "tuner",
    }
    for name, extra in optional.items():
        assert lowest(EXTRAS[extra][0])[0].replace("-", "_") == name
    own = {"keras_drmad", "tensorflow", *asked, *optional}
    imported = set()
    for path in (ROOT / "keras_drmad").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    outside = {one.partition(".")[0] for one in imported}
    assert outside - sys.stdlib_module_names <= own


def test_no_tensorflow_is_forced_on_anyone():
    for name, requirements in EXTRAS.items():
        named = {lowest(r)[0] for r in requirements if "[" not in r}
        has = {"tensorflow", "tensorflow-cpu"} & named
        assert has == ({name} if name.startswith("tensorflow") else set())


def test_what_is_refused_as_too_old_is_what_pip_would_not_install():
    bounds = dict(map(lowest, PROJECT["dependencies"]))
    for extra in ("tensorflow", "tensorflow-cpu"):
        bounds |= dict(map(lowest, EXTRAS[extra]))
        oldest = versions.words(versions.OLDEST["tensorflow"])
        assert bounds[extra] == oldest
    assert bounds["keras"] == versions.words(versions.OLDEST["keras"])


# ---- the table of versions


def test_the_oldest_row_has_the_oldest_versions():
    row = MATRIX.ROWS["oldest"]
    bounds = dict(
        map(
            lowest,
            PROJECT["dependencies"]
            + EXTRAS["tensorflow-cpu"]
            + EXTRAS["tuner"],
        )
    )
    exact = dict(package.split("==") for package in row.packages)
    for name, version in exact.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name
    assert PROJECT["requires-python"] == f">={row.python}"


def test_every_row_is_on_the_page_and_every_python_is_declared():
    first, last = MATRIX.MARKS
    table = text("docs/versions.md").partition(first)[2].partition(last)[0]
    names = re.findall(r"^\| ([\w ]+?) \|", table, re.MULTILINE)
    assert names == ["row", *MATRIX.ROWS]
    declared = {c.rpartition(" :: ")[2] for c in PROJECT["classifiers"]}
    assert {row.python for row in MATRIX.ROWS.values()} <= declared


def test_the_fast_part_has_files():
    files = [path.removeprefix("tests/") for path in MATRIX.files()]
    for word in MATRIX.FAST:
        assert any(name.startswith(word) for name in files), word


@pytest.mark.parametrize(
    "error, passes",
    [(LookupError("no Python 2.7"), True), (RuntimeError("no wheel"), False)],
    ids=["no such Python", "pip failed"],
)
def test_a_row_that_cannot_run_says_why(monkeypatch, tmp_path, error, passes):
    def environment(name, home):
        raise error

    monkeypatch.setattr(MATRIX, "environment", environment)
    line, has_passed = MATRIX.row_of_table("oldest", tmp_path, [])
    assert f"not run: {error}" in line and "3.11" in line
    assert has_passed is passes


def test_the_closing_line_is_pytests_whatever_comes_after(tmp_path):
    log, python = tmp_path / "log", tmp_path / "python"

    def result(*lines, code=0):
        words = "\n".join(lines)
        python.write_text(
            f"#!/bin/sh\ncat <<'END'\n{words}\nEND\nexit {code}\n"
        )
        python.chmod(0o755)
        return MATRIX.tested(python, [], log)

    closing = "==== 5 passed, 1 skipped in 12.3s (0:00:12) ===="
    after = "I0000 port.cc: oneDNN is on"
    assert result("1 thing", closing, after) == "5 passed, 1 skipped"
    failed = "FAILED tests/fit_test.py::test_one"
    closing = "1 failed, 4 passed in 2.0s"
    assert "fit_test (1)" in result(failed, closing, code=1)
    assert "ended with 3" in result("1 passed in 1.0s", code=3)
    assert "ended with 1: Killed" in result("Killed", code=1)


def test_a_row_whose_keras_cannot_be_imported_says_why(monkeypatch, tmp_path):
    def environment(name, home):
        (home / "python").write_text("#!/bin/sh\necho 'no such op' >&2; exit 1")
        (home / "python").chmod(0o755)
        return home / "python"

    monkeypatch.setattr(MATRIX, "environment", environment)
    line, has_passed = MATRIX.row_of_table("nightly", tmp_path, [])
    assert "not run: no such op" in line and not has_passed


# ---- the package page


def test_links_of_the_package_page_work_elsewhere():
    page = runpy.run_path(str(ROOT / "setup.py"))["readme"]()
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert links and all(re.match(r"https://|#", link) for link in links)
    home = PROJECT["urls"]["Repository"]
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    for link in pictures:
        name = link.removeprefix(f"{home}/raw/v{kd.__version__}/")
        assert (ROOT / name).is_file(), link
    assert len(pictures) == text("README.md").count("![")
    for word in ("Documentation", "Changelog", "Issues"):
        assert PROJECT["urls"][word].startswith(home)


# ---- checks of others are those of `make lint`


@pytest.mark.parametrize(
    "name", [".pre-commit-config.yaml", ".github/workflows/checks.yml"]
)
def test_other_checks_are_those_of_make(name):
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    commands = re.findall(r"\$\(python\) -m (.+)", lint[1])
    assert len(commands) == 3
    if name.startswith(".pre-commit"):
        for command in commands:
            assert f"python -m {command}\n" in text(name)
    else:
        assert "make lint" in text(name)


def test_the_workflow_has_the_rows_of_the_table():
    workflow = text(".github/workflows/checks.yml")
    (rows,) = re.findall(r"row: \[(.+)\]", workflow)
    assert re.findall(r"[\w ]+", rows.replace(", ", ",")) == [*MATRIX.ROWS]
