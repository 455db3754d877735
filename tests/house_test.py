"""The house: which modules may ask which, and who knows private names."""

import ast
import functools
import pathlib

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_drmad"
LONGEST = 11  # modules in a chain of imports, at most
# Each room, and the rooms that it may ask; every room may ask `arguments`.
MAY_ASK = {
    "arguments": set(),
    "versions": set(),
    "keras_internals": set(),
    "core": set(),
    "differentiation": {"core"},
    "methods": {"core", "differentiation", "keras_internals"},
    "hyperparameters": {"core", "keras_internals"},
    "layers": {"hyperparameters", "keras_internals"},
    "seam": {"core", "hyperparameters", "keras_internals"},
    "training": {
        "core",
        "differentiation",
        "hyperparameters",
        "keras_internals",
        "methods",
        "seam",
    },
    "export": {"hyperparameters", "keras_internals"},
    "meta_optimizers": {"hyperparameters", "keras_internals", "seam"},
}
# What the members of a family share; sideways they do not ask each other.
SHARED = {
    "differentiation": {"base", "recorders"},
    "methods": {"base", "memory"},
    "hyperparameters": {
        "base",
        "grouped",
        "groups",
        "kernel_sides",
        "layer_choice",
        "optimizer_number",
        "parts",
        "penalty",
        "place",
        "plain_training",
        "sample_weights",
        "start",
        "transforms",
        "values",
    },
    "layers": {"base", "learned_value", "sampling"},
}
# Members whose work is to choose among others.
CHOOSE = {
    "methods.auto",
    "methods.drmad",  # all states, where its budget holds them
    "hyperparameters.suggested",
}
WITHOUT_KERAS = ("core", "differentiation", "arguments")
# Where Keras, TensorFlow and KerasTuner keep what is not for users.
HIDDEN = ("keras.src", "tensorflow.python", "keras_tuner.engine")


@functools.cache
def modules():
    """Returns a dict from the modules' names to their syntax trees."""
    return {name_of(path): tree_of(path) for path in PACKAGE.rglob("*.py")}


def name_of(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(tree):
    """Returns the names of all that a module imports, wherever it does."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@functools.cache
def asked():
    """Returns a dict from each module to the modules that it imports."""
    names = set(modules())

    def module(name):
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name

    return {
        name: {module(one) for one in imported(tree)} - {"", name}
        for name, tree in modules().items()
    }


def room(name):
    """Returns the room of a module; "" for those that stand above all."""
    first = name.split(".")[1:2]
    return first[0] if first and first[0] in MAY_ASK else ""


def chain(name, above=()):
    """Returns the longest chain of imports that begins with a module."""
    assert name not in above, f"a cycle: {[*above, name]}"
    chains = [chain(one, (*above, name)) for one in sorted(asked()[name])]
    return [name, *max(chains, key=len, default=[])]


def test_the_longest_chain_of_imports_is_short_and_there_is_no_cycle():
    longest = max((chain(name) for name in asked()), key=len)
    assert len(longest) <= LONGEST, "\n".join(longest)


@pytest.mark.parametrize("name", sorted(modules()))
def test_rooms_ask_the_rooms_below(name):
    if not room(name):
        return
    allowed = MAY_ASK[room(name)] | {room(name), "arguments"}
    wrong = {one for one in asked()[name] if room(one) not in allowed}
    assert not wrong


@pytest.mark.parametrize("family", SHARED)
def test_members_of_a_family_share_its_ground_alone(family):
    prefix = f"keras_drmad.{family}."
    for name in asked():
        member = name.removeprefix("keras_drmad.")
        if not name.startswith(prefix) or member in CHOOSE:
            continue
        own = {one for one in asked()[name] if one.startswith(prefix)}
        shared = {prefix + one for one in SHARED[family]}
        assert not own - shared, name


def test_the_package_asks_no_program():
    outside = {"examples", "studies", "benchmarks", "tests"}
    for tree in modules().values():
        assert not {one.split(".")[0] for one in imported(tree)} & outside


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_mathematics_does_not_mention_keras(name):
    if room(name) not in WITHOUT_KERAS:
        return
    tree = modules()[name]
    assert not any(one.split(".")[0] == "keras" for one in imported(tree))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert "keras" not in names


# ---- private names


@functools.cache
def private_names_of_keras():
    """Returns the private attributes and methods of Keras's own classes."""
    source = pathlib.Path(keras.__file__).parent / "src"
    files = [
        *(source / "backend" / "common").glob("*.py"),
        *(source / "backend" / "tensorflow").glob("*.py"),
        *(source / "models").glob("*.py"),
        *(source / "optimizers").glob("*.py"),
        *(source / "trainers").glob("*.py"),
        source / "layers" / "layer.py",
        source / "losses" / "loss.py",
        source / "metrics" / "metric.py",
        source / "ops" / "operation.py",
    ]
    found = set()
    for path in files:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found |= private_names(node)
    return found


def private_names(tree):
    """Returns the private names that a tree defines or asks objects for."""
    found = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    found |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    return {n for n in found if n.startswith("_") and not n.startswith("__")}


@functools.cache
def own_names(tree):
    """Returns the private names that a module gives to objects of its own."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = getattr(node, "targets", None) or [node.target]
            for target in targets:
                for one in ast.walk(target):
                    if isinstance(one, ast.Attribute):
                        found.add(one.attr)
                    elif isinstance(one, ast.Name):
                        found.add(one.id)
    return found


def outside_of_internals():
    return sorted(set(modules()) - {"keras_drmad.keras_internals"})


def is_of_keras(tree):
    """Returns whether a module has classes with a base of another package."""
    return any(
        isinstance(base, ast.Attribute)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )


@pytest.mark.parametrize("name", outside_of_internals())
def test_private_names_stand_in_one_file(name):
    tree = modules()[name]
    # A name that no class of the package has, its own bases included, can
    # only be that of another library.
    own = set().union(*map(own_names, family(name)))
    assert not private_names(tree) - own - {"_replace", "_fields"}
    if is_of_keras(tree):
        # In a subclass, a name of Keras would be overridden without a word.
        assert not private_names(tree) & private_names_of_keras()


def family(name):
    """Returns the trees of a module and of all that it asks, at any depth."""
    found, new = set(), {name}
    while new:
        found |= new
        new = set().union(*(asked()[one] for one in new)) - found
    return [modules()[one] for one in found - {"keras_drmad.keras_internals"}]


@pytest.mark.parametrize("name", outside_of_internals())
def test_hidden_modules_are_asked_in_one_file(name):
    for one in imported(modules()[name]):
        assert not one.startswith(HIDDEN), one
