"""The links, pictures and commands of the documents lead somewhere."""

import ast
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
PROGRAMS = ("benchmarks", "examples", "studies")
# Modules whose functions define flags for the program that calls them.
SHARED = (
    "benchmarks/data.py",
    "examples/datasets.py",
    "examples/saved_run.py",
    "studies/study.py",
)
OF_ABSL = {"flagfile", "help"}


def tracked() -> set[str]:
    """Returns the paths that git knows; those present, without git."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode == 0:
        return set(done.stdout.split("\0"))
    return {p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*")}


TRACKED = tracked()
FOLDERS = {
    parent.as_posix()
    for path in TRACKED
    for parent in pathlib.PurePosixPath(path).parents
}


def without_code(text: str) -> str:
    """Returns a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(document: str) -> list[str]:
    """Returns the targets of a document's links and pictures, but for URLs."""
    text = without_code((ROOT / document).read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in found if "://" not in target]


def anchors(document: str) -> set[str]:
    """Returns what `#...` may be of a document, as GitHub makes it of headings.

    In small letters, without marks, and with a hyphen for each space.
    """
    text = without_code((ROOT / document).read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def commands(document: str) -> list[list[str]]:
    """Returns the words of each `python -m PROGRAM ...` of a document.

    In a block of code a command ends with its line, which a backslash goes on
    with; in a sentence or a table, with its quotation mark, and there it may
    begin with the program's name.
    """
    text = (ROOT / document).read_text(encoding="utf-8")
    text = re.sub(r"\\\n\s*", " ", text)
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.M):
        found += re.findall(r"python -m ([^\n]*)", block)
    quoted = r"`(?:python\s+-m\s+)?(\w+\.\w+(?:\s[^`]*)?)`"
    found += re.findall(quoted, without_code(text))
    words = [shlex.split(command, comments=True) for command in found]
    return [w for w in words if w[0].partition(".")[0] in PROGRAMS]


def defined_flags(path: str) -> set[str]:
    """Returns the flags that a module defines, itself or by a shared one."""
    names = set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        function, first = ast.unparse(node.func), node.args[0]
        is_flag = function.startswith("flags.DEFINE_")
        if is_flag and isinstance(first, ast.Constant):
            names.add(first.value)
    for shared in SHARED:
        stem = pathlib.Path(shared).stem
        if f"{stem}.define_flags(" in ast.unparse(tree) and path != shared:
            names |= defined_flags(shared)
    return names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_exist_and_are_tracked(document):
    folder = (ROOT / document).parent
    broken = []
    for link in links(document):
        target, _, anchor = link.partition("#")
        path = (folder / target).resolve() if target else ROOT / document
        name = path.relative_to(ROOT).as_posix()
        is_there = name in TRACKED | FOLDERS and path.exists()
        if not is_there or (anchor and anchor not in anchors(name)):
            broken.append(link)
    assert not broken, f"{document} leads nowhere by {broken}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_link_that_names_a_document_leads_there(document):
    text = without_code((ROOT / document).read_text(encoding="utf-8"))
    named = re.findall(r"\[`?([\w./]+\.md)`?\]\(([^)\s#]+)", text)
    names = [[pathlib.PurePath(one).name for one in pair] for pair in named]
    assert not [(label, target) for label, target in names if label != target]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_name_programs_and_flags_that_exist(document):
    wrong = []
    for module, *flags in commands(document):
        path = module.replace(".", "/") + ".py"
        if module.endswith(".NAME"):  # any of them
            continue
        names = {flag.lstrip("-").partition("=")[0] for flag in flags}
        if not (ROOT / path).is_file():
            wrong.append(module)
        elif names - defined_flags(path) - OF_ABSL:
            wrong.append(f"{module} {names - defined_flags(path)}")
    assert not wrong, f"{document} has commands that do not work: {wrong}"


def test_finds_what_documents_have():
    """That the patterns above see links, anchors, commands and flags at all."""
    assert (
        "saved_runs/weight_penalties/mnist/figures/carries_over.png"
        in links("README.md")
    )
    assert "3-speed-and-memory" in anchors("docs/results.md")
    found = [
        command
        for command in commands("docs/results.md")
        if command[0] == "studies.against_tuners"
    ]
    assert [len(command) for command in found] == [5]  # over two lines
    flags = defined_flags("studies/deep_net.py")
    assert {"blocks", "seeds", "save_dir", "dataset"} <= flags
    assert "curves" not in flags
