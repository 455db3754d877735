"""All that a tuning found, on one page."""

import io
import pathlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import results, results_summary
from keras_drmad.paragraphs import span_of
from keras_drmad.plots import basics, of_values, over_time
from keras_drmad.plots.forms import pieces_of
from keras_drmad.plots.page import Page
from keras_drmad.results import Result

PACKAGE = __name__.partition(".")[0]
NAME = "report.html"
DPI = 100
MOST = 2000  # letters on one setting
PAPERS = {"light": "#ffffff", "dark": "#16181d"}


def report(
    model: Any,
    folder: Any,
    *,
    shape: Sequence[int] | None = None,
    x: Any = None,
    y: Any = None,
) -> pathlib.Path:
    """Writes one page of HTML on all that the `fit`s since `compile` found.

    What `model.results_summary()` tells, the course of the losses and of each
    hyperparameter, a picture of the values of each hyperparameter, the
    diagnostics of the walks backward, the last `check_hyperparameters` if no
    `fit` came after, settings and versions. Pictures are part of the page,
    which needs nothing from elsewhere: it can be sent, and read offline, on a
    phone, in light or dark.

    Example:

    ```python
    kd.plots.report(model, "run_1", shape=(28, 28))  # run_1/report.html
    ```

    Args:
        model: a `DrMADModel` that was tuned.
        folder: path; the folder is made, and a report in it replaced.
        shape: as for `values`, and so are the others.
        x: the training inputs, for pictures of examples.
        y: their labels, in the same order.

    Returns:
        `pathlib.Path` of the page, `folder/report.html`.

    Raises:
        ImportError: if there is no matplotlib.
        ValueError: if the model was not tuned, or if `y` has not a label for
            each of `x`.
    """
    found = results.of_model(model)
    page = Page(f"Tuning of {model.elementary_model.name}")
    _summary(page, model, found)
    known = of_values.known_of(model, shape, x, y)
    for title, together in groups(found):
        page.heading(title)
        _hyperparameters(page, model, title, together, known)
    page.heading("Diagnostics")
    page.paragraph(
        "Of the walks backward. Norms may differ by powers of ten between "
        "trainings; where the adjoint grows by a million or more, the training "
        "is too hot for its hypergradient to guide.",
        is_soft=True,
    )
    _add(
        page,
        (9, 3.2),
        lambda figure: over_time.diagnostics(model, figure=figure),
        "norm of the hypergradient and growth of the adjoint",
    )
    _check(page, model)
    _settings(page, model)
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    path = path / NAME
    path.write_text(page.text(), encoding="utf-8")
    return path


def groups(found: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Returns hyperparameters that are drawn together, with a title.

    Single numbers of the same kind, such as the rates of several `Dropout`s.
    """
    together: dict[tuple, list[Result]] = {}
    for one in found:
        attribute = one.name.rpartition(".")[2]
        is_number = one.kind.count == 1 and "." in one.name
        key = (type(one.kind), attribute) if is_number else (one.name,)
        together.setdefault(key, []).append(one)
    return [
        (
            own[0].name if len(own) == 1 else f"{key[1]} of {len(own)} layers",
            own,
        )
        for key, own in together.items()
    ]


# ---- sections


def _summary(page: Page, model: Any, found: Sequence[Result]) -> None:
    record = model.tuning_record
    for sentence in results_summary.fits(record):
        page.paragraph(sentence, is_soft=True)
    page.heading("Summary")
    page.table(
        ["hyperparameter", "kind", "count", "start", "end", "bounds"],
        [
            [
                one.name,
                type(one.kind).__name__,
                f"{one.kind.count:,}",
                span_of(one.start, 3),
                span_of(one.value, 3),
                "{:.3g} to {:.3g}".format(*one.kind.bounds),
            ]
            for one in found
        ],
        numbers=[2],
    )
    names, rows = results_summary.losses(record)
    table = [
        [title, *(f"{row[n]:.4g}" if n in row else "" for n in names)]
        for title, row in rows
    ]
    page.table(["training", *names], table, range(1, len(names) + 1))
    _add(
        page,
        (8, 3.6),
        lambda figure: over_time.losses(model, axes=figure.add_subplot()),
        "losses of each training",
    )


def _hyperparameters(
    page: Page,
    model: Any,
    title: str,
    found: Sequence[Result],
    known: of_values.Known,
) -> None:
    record = model.tuning_record
    said = {one.name: results_summary.sentences(one, record) for one in found}
    if len(found) == 1:
        page.sentences(said[found[0].name])
    else:
        page.sentences([f"{name}: {'; '.join(x)}" for name, x in said.items()])
    pieces = pieces_of(found)
    panels = of_values.panels(pieces, known)
    left_out = of_values.left_out(pieces, panels)
    _add(
        page,
        of_values.size_of(panels),
        lambda figure: of_values.draw(panels, figure, left_out),
        f"the values of {title}, at the start and now",
    )
    names = [one.name for one in found]
    _add(
        page,
        (8, 3.4),
        lambda figure: over_time.course(
            model, names, axes=figure.add_subplot()
        ),
        f"the values of {title} in each meta-iteration",
    )


def _check(page: Page, model: Any) -> None:
    page.heading("Do the values carry over?")
    check = model.tuning_record.check
    if check is None:
        page.paragraph(
            "Not known: `model.check_hyperparameters` trains with the starting "
            "and with the found values, from draws that the tuning did not see."
        )
        return
    page.paragraph(f"{check.verdict}. {check.advice}")
    page.verbatim(str(check).partition("\nVerdict")[0])
    _add(
        page,
        (8, 4),
        lambda figure: basics.hyperparameter_check(
            check, axes=figure.add_subplot()
        ),
        "losses with the starting and the found values, on the same draws",
    )


def _settings(page: Page, model: Any) -> None:
    page.heading("Settings")
    last = model.tuning_record.fits[-1]
    why = last["why"] and f": {last['why']}"
    rows = [
        ["optimizer", _in_words(model.optimizer)],
        ["meta-optimizer", _in_words(model.given_meta_optimizer)],
        ["hypergradient", last["method"] + why],
        ["seed", str(last["seed"])],
        ["hyperparameters", ", ".join(map(repr, model.hyperparameters))[:MOST]],
    ]
    page.table([], rows)
    page.table([], [[name, found] for name, found in _versions().items()])


def _versions() -> dict[str, str]:
    return {
        "keras_drmad": sys.modules[PACKAGE].__version__,
        "Keras": keras.__version__,
        "TensorFlow": tf.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }


def _in_words(optimizer: Any) -> str:
    """Returns an optimizer, or a dict of some, as they were constructed."""
    if isinstance(optimizer, dict):
        each = [f"{name}: {_in_words(one)}" for name, one in optimizer.items()]
        return "; ".join(each)
    name, config = type(optimizer).__name__, optimizer.get_config()
    return _as_call(name, config)[:MOST]


def _as_call(name: str, config: Mapping[str, Any]) -> str:
    """Returns a config as the call that constructs what has it."""

    def words(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, Mapping) and {"class_name", "config"} <= {*value}:
            return _as_call(value["class_name"], value["config"])
        return repr(value)

    given = [
        f"{k}={words(v)}"
        for k, v in config.items()
        if v is not None and k != "name"
    ]
    return f"{name}({', '.join(given)})"


# ---- pictures


def _add(
    page: Page,
    size: tuple[float, float],
    draw: Callable[[Any], Any],
    text: str,
) -> None:
    """Adds a picture to a page, for light and for dark paper.

    Without pyplot: its figures, its backend and its settings stay as they are.
    """
    basics.need_matplotlib()
    import matplotlib as mpl
    from matplotlib import style
    from matplotlib.figure import Figure

    pngs = {}
    for name, color in PAPERS.items():
        paper = {
            "figure.facecolor": color,
            "axes.facecolor": color,
            "savefig.facecolor": color,
            "legend.facecolor": color,
        }
        own: dict[Any, Any] = {}
        if name == "dark":
            own |= style.library["dark_background"] | {"grid.color": "0.5"}
        lines = mpl.rcParamsDefault["axes.prop_cycle"]
        own |= {"axes.prop_cycle": lines, **paper}
        with mpl.rc_context(own):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=DPI)
        pngs[name] = file.getvalue()
    page.picture(pngs, text)
