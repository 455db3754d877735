"""BUILD covers the files that are there."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("keras_drmad", "examples", "studies", "benchmarks", "tests")
RUNNER = "tests/run_pytest.py"  # the entry point of every test, see there
IDLE: list[str] = []  # patterns that match no file


def glob(patterns: list[str], exclude: list[str] | None = None) -> list[str]:
    """Returns the files that match, as Bazel's `glob` does."""

    def matches(pattern):
        paths = ROOT.glob(pattern + "/*" if pattern.endswith("**") else pattern)
        return {
            path.relative_to(ROOT).as_posix()
            for path in paths
            if path.is_file()
        }

    left_out = set().union(*map(matches, exclude or []))
    found = sorted(set().union(*map(matches, patterns)) - left_out)
    IDLE.extend(pattern for pattern in patterns if not matches(pattern))
    return found


def rules() -> list[dict]:
    """Returns the arguments of each rule of BUILD.

    A BUILD file is Python to the eye, so it runs as such, with functions in
    the place of the rules that note what they were given.
    """
    found: list[dict] = []
    names = ("filegroup", "py_binary", "py_library", "py_test")
    build = dict.fromkeys(names, lambda **arguments: found.append(arguments))
    build["package"] = lambda **arguments: None
    build["glob"] = glob  # type: ignore[assignment]
    exec(compile((ROOT / "BUILD").read_text(), "BUILD", "exec"), build)
    return found


RULES = rules()


def test_every_pattern_matches():
    assert not IDLE, f"These patterns of BUILD match no file: {IDLE}"


def test_every_file_belongs_to_one_rule():
    present = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    listed = [path for rule in RULES for path in rule["srcs"]]
    missing = sorted(present - set(listed))
    assert not missing, f"No rule of BUILD has these files: {missing}"
    twice = sorted({p for p in listed if listed.count(p) > 1} - {RUNNER})
    assert not twice, f"More than one rule of BUILD has these files: {twice}"


def test_every_file_that_is_named_exists():
    listed = {
        path
        for rule in RULES
        for path in rule["srcs"] + rule.get("data", [])
        if not path.startswith(":")
    }
    gone = sorted(path for path in listed if not (ROOT / path).is_file())
    assert not gone, f"BUILD names files that are no more: {gone}"


def test_every_test_file_has_a_rule_of_its_name():
    names = [rule["name"] for rule in RULES]
    assert sorted(names) == sorted(set(names))
    tests = {path.stem for path in (ROOT / "tests").glob("*_test.py")}
    assert tests <= set(names)


def test_every_dependency_is_a_rule():
    names = {f":{rule['name']}" for rule in RULES}
    asked = {name for rule in RULES for name in rule.get("deps", [])}
    assert asked <= names, f"BUILD has no such rules: {sorted(asked - names)}"


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("bazel") is None,
    reason="bazel is not installed (on Debian: apt install bazel-bootstrap)",
)
def test_bazel_reads_it(tmp_path):
    # --batch: no server stays behind; a query fetches nothing.
    result = subprocess.run(
        ["bazel", "--batch", f"--output_base={tmp_path}", "query", "//..."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    names = {f"//:{rule['name']}" for rule in RULES}
    assert set(result.stdout.split()) == names
