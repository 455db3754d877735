"""The page of the tables, `docs/supported.md`.

`python tests/write_supported.py` writes it.
"""

import pathlib
import textwrap

from conformance import (
    HELPERS,
    OWN,
    NotApplicable,
    Refused,
    Right,
    Row,
    layers,
    losses,
    metrics,
    optimizers,
    small_things,
)

PATH = pathlib.Path(__file__).parents[2] / "docs" / "supported.md"
UNLISTED = {OWN, HELPERS["get"].why}
FAMILIES = {
    "Layers": ("keras.layers", layers.LAYERS),
    "Losses": ("keras.losses", losses.LOSSES),
    "Optimizers": ("keras.optimizers", optimizers.TABLE),
    "Learning rate schedules": (
        "keras.optimizers.schedules",
        optimizers.SCHEDULES,
    ),
    "Metrics": ("keras.metrics", metrics.METRICS),
    "Activations": ("keras.activations", small_things.ACTIVATIONS),
    "Initializers": ("keras.initializers", small_things.INITIALIZERS),
    "Regularizers": ("keras.regularizers", small_things.REGULARIZERS),
    "Constraints": ("keras.constraints", small_things.CONSTRAINTS),
}
# Each of these is a paragraph, or an item of a list, without its line breaks.
HEAD = (
    """
    Every public class and function of Keras 3.15, on TensorFlow 2.21. The lists
    are the tables in `tests/conformance/`, which `tests/conformance_test.py`
    and `tests/conformance_of_layers_test.py` run; this page is written from
    them by `python tests/write_supported.py`.
    """,
    """
    - *Right* means: one step on a minibatch gives the weights and the loss of
    Keras's own `train_step`, and the derivatives of the step's gradient and of
    the validation loss are those of finite differences. For optimizers and
    constraints also: the exact hypergradient of whole trainings is that of
    differences. For metrics: `fit` logs what Keras's `fit` logs. For
    initializers also: `initial_weights="resample"` draws anew.
    """,
    """
    - *Refused* means: by an error in words, before the first training with a
    hypergradient.
    """,
    """
    - *Nothing to compare* has what computes nothing in a training, or cannot be
    used with TensorFlow alone. Not listed below, but counted: base classes for
    one's own, and `deserialize`, `get` and `serialize`.
    """,
    """
    A layer, loss or optimizer of your own is held against Keras and against
    differences in the same way, on your own model, before its first
    hypergradient. [limits.md](limits.md#what-is-refused) says what is refused,
    whatever it is called.
    """,
)


def page() -> str:
    """Returns the page."""
    parts = ["# What of Keras is supported\n", *map(_filled, HEAD[:1])]
    parts += [
        "\n".join(line.rstrip() for line in map(_filled, HEAD[1:4])) + "\n"
    ]
    parts += [_filled(HEAD[4]), "## In numbers\n", *_counts()]
    for title, (module, table) in FAMILIES.items():
        parts += [f"## {title}\n", *_section(module, table)]
    return "\n".join(parts)


def _counts() -> list[str]:
    lines = ["| | right | refused | nothing to compare |", "| --- " * 4 + "|"]
    for title, (module, table) in FAMILIES.items():
        counts = [
            sum(isinstance(row, kind) for row in table.values())
            for kind in (Right, Refused, NotApplicable)
        ]
        cells = [f"{title}, `{module}`", *map(str, counts)]
        lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines) + "\n"]


def _section(module: str, table: dict[str, Row]) -> list[str]:
    right = {n: row for n, row in table.items() if isinstance(row, Right)}
    refused = {n: row for n, row in table.items() if isinstance(row, Refused)}
    nothing = {
        n: row
        for n, row in table.items()
        if isinstance(row, NotApplicable) and row.why not in UNLISTED
    }
    items = [
        f"{_listed(names)}: {words}."
        for words, names in _by_words({n: r.note for n, r in right.items()})
    ]
    items += [
        f"Refused: {_listed(names)}. {words}"
        for words, names in _by_words({n: r.why for n, r in refused.items()})
    ]
    items += [
        f"Nothing to compare: {_listed(names)}. {words}"
        for words, names in _by_words({n: r.why for n, r in nothing.items()})
    ]
    parts = [_filled(f"Right in `{module}`: {_listed([*right])}.")]
    if items:
        listed = [_filled(f"- {item}").rstrip() for item in items]
        parts.append("\n".join(listed) + "\n")
    return parts


def _by_words(words_of: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Returns words with the names that share them, but for empty words."""
    found: dict[str, list[str]] = {}
    for name, words in words_of.items():
        if words:
            found.setdefault(words, []).append(name)
    return list(found.items())


def _filled(text: str) -> str:
    """Returns a paragraph or an item of a list, in lines of 88 columns."""
    text = " ".join(text.split())
    indent = "  " if text.startswith("- ") else ""
    return (
        textwrap.fill(
            text,
            88,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names, key=_key))


def _key(name: str) -> tuple:
    """Classes first, each in the order of the alphabet."""
    return name[0].islower(), name.lower()
