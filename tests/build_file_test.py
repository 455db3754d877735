"""BUILD lists the files that are there, and what they import."""

import ast
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("keras_drmad", "examples", "benchmarks", "tests")
RUNNER = "tests/run_pytest.py"  # the entry point of every test, see there


def rules() -> list[dict]:
    """Returns the arguments of each rule of BUILD.

    A BUILD file is Python to the eye, so it runs as such, with functions in
    the place of the rules that note what they were given.
    """
    found: list[dict] = []
    names = ("filegroup", "py_binary", "py_library", "py_test")
    build = dict.fromkeys(names, lambda **arguments: found.append(arguments))
    build["package"] = lambda **arguments: None
    exec(compile((ROOT / "BUILD").read_text(), "BUILD", "exec"), build)
    return found


def present() -> set[str]:
    """Returns the Python files of the project."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }


def module_files(path: str) -> set[str]:
    """Returns the files of the project that the file at `path` imports."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
            modules.add(node.module)
    stems = {module.replace(".", "/") for module in modules}
    stems |= {f"tests/{stem}" for stem in stems}  # pytest's sys.path[0]
    stems |= {f"{stem}/__init__" for stem in stems}
    return {f"{stem}.py" for stem in stems} & present()


RULES = rules()
OWNER = {source: rule["name"] for rule in RULES for source in rule["srcs"]}


def test_lists_every_file_that_is_present():
    missing = sorted(present() - set(OWNER))
    assert not missing, f"Add to the srcs of a rule in BUILD: {missing}"


def test_lists_only_files_that_are_present():
    listed = [
        path
        for rule in RULES
        for path in rule["srcs"] + rule.get("data", [])
        if not path.startswith(":")
    ]
    gone = sorted(path for path in set(listed) if not (ROOT / path).is_file())
    assert not gone, f"Take out of BUILD, they are no more: {gone}"


def test_lists_every_file_once():
    listed = [path for rule in RULES for path in rule["srcs"] if path != RUNNER]
    twice = sorted({path for path in listed if listed.count(path) > 1})
    assert not twice, f"Leave in one rule of BUILD only: {twice}"


def test_names_every_rule_once():
    names = [rule["name"] for rule in RULES]
    assert sorted(names) == sorted(set(names))


def test_depends_on_rules_that_exist():
    names = {f":{rule['name']}" for rule in RULES}
    unknown = {
        rule["name"]: sorted(set(rule.get("deps", [])) - names)
        for rule in RULES
        if set(rule.get("deps", [])) - names
    }
    assert not unknown, f"BUILD has no such rules: {unknown}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_depends_on_what_it_imports(rule):
    imported = {
        f":{OWNER[path]}"
        for source in rule["srcs"]
        if source in present()
        for path in module_files(source)
        if path in OWNER and path not in rule["srcs"]
    }
    missing = sorted(imported - set(rule.get("deps", [])))
    assert not missing, f"Add to the deps of {rule['name']} in BUILD: {missing}"


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
