"""What came out of DrMAD beside exact reverse mode: tables, claims, a picture.

For `benchmarks/against_reverse_mode.py`; none of this measures anything.
"""

import math

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

from benchmarks.against_reverse_mode_trainings import (
    PAPERS,
    SAID,
    TIMED,
    method_and_momentum,
)
from keras_drmad.methods.memory import in_words


def rows_of(names: list[str], T: int, timed, memory) -> list[dict]:
    """Returns a row for each method.

    Args:
        names: list of str, the methods'.
        T: int.
        timed: what `time_all` returned.
        memory: dict from names to what `measure_memory` returned.
    """
    rows = []
    for k, name in enumerate(names):
        peaks = memory.get(name, {})
        rows.append(
            {
                "steps": T,
                "method": name,
                "momentum": method_and_momentum(name)[1],
                "rounds": len(timed["alone"]),
                "seconds_alone": np.median(timed["alone"]),
                **{key: np.median(timed[key][k]) for key in TIMED},
                **{key: timed[key][k] for key in (*SAID, "kept_bytes")},
                "peak": peaks.get("peak", math.nan),
            }
        )
    return rows


class Results:
    """The rows of all T.

    Attributes:
        rows: list of dicts.
        labels: dict from methods to their names in tables, in the order of
            colours; there may be more than were measured.
        names: list of str, the methods'.
        steps: list of int, every T.
    """

    def __init__(self, rows: list[dict], labels: dict[str, str]):
        self.rows = rows
        self.labels = labels
        self.names = list(dict.fromkeys(row["method"] for row in rows))
        self.steps = list(dict.fromkeys(row["steps"] for row in rows))

    def of(self, name: str, key: str):
        """Returns a column of one method, an entry for each T, or nan."""
        if name not in self.names:
            return np.full(len(self.steps), np.nan)
        found = [row[key] for row in self.rows if row["method"] == name]
        return np.array(found, float)

    def ratio(self, name: str, key: str, base: str):
        """Returns a method's column over another's."""
        return self.of(name, key) / self.of(base, key)

    def process_bytes(self, name: str):
        """Returns by how much the process's peak is above the paper's DrMAD."""
        return self.of(name, "peak") - self.of(PAPERS, "peak")


def table(title: str, results: Results, column) -> str:
    """Returns Markdown, a row for each method and a column for each T.

    Args:
        title: str.
        results: `Results`.
        column: function from a method's name to numbers for each T.
    """
    heads = [f"T = {T:,}" for T in results.steps]
    lines = [
        f"| {' | '.join([title, *heads])} |",
        f"| --- |{' ---: |' * len(heads)}",
    ]
    for name in results.names:
        cells = [_number(x) for x in column(name)]
        lines.append(f"| {' | '.join([results.labels[name], *cells])} |")
    return "\n".join([*lines, ""])


def _number(x: float) -> str:
    if math.isnan(x):
        return "-"
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def tables(results: Results) -> str:
    """Returns all tables."""
    of, ratio = results.of, results.ratio
    parts = {
        "seconds of one hypergradient": lambda name: of(name, "seconds"),
        "training and walk backward / training alone": lambda name: (
            of(name, "seconds") / of(name, "seconds_alone")
        ),
        "seconds / seconds of the paper's DrMAD": lambda name: ratio(
            name, "seconds", PAPERS
        ),
        "seconds of the walk backward / the paper's DrMAD's": lambda name: (
            ratio(name, "seconds_backward", PAPERS)
        ),
        "MB kept for the walk backward": lambda name: (
            of(name, "kept_bytes") / 1e6
        ),
        "bytes kept / bytes kept by DrMAD": lambda name: ratio(
            name, "kept_bytes", PAPERS
        ),
        "process: peak, MB": lambda name: of(name, "peak") / 1e6,
        "process: MB above the paper's DrMAD": lambda name: (
            results.process_bytes(name) / 1e6
        ),
    }
    return "\n".join(
        table(title, results, column) for title, column in parts.items()
    )


def claims(results: Results) -> str:
    """Returns the paper's claims beside what was measured."""
    ratio = results.ratio
    slower = _range(ratio("reversible_0.1", "seconds", PAPERS))
    slower_back = _range(ratio("reversible_0.1", "seconds_backward", PAPERS))
    stored = _range(ratio("stored", "kept_bytes", PAPERS))
    reversible = _range(ratio("reversible_0.1", "kept_bytes", PAPERS))
    lines = [
        "The paper: 45 times faster than reverse mode at momentum 0.1. Here: "
        f"{slower} times faster than reversible learning, {slower_back} times "
        "in the walk backward alone.",
        "The paper: at least 100 times less memory. Here: "
        f"{stored} times less than all states stored, {reversible} times less "
        "than reversible learning at momentum 0.1.",
    ]
    for name in results.names:
        if name.startswith("reversible"):
            momentum = results.of(name, "momentum")[0]
            lines.append(
                f"Information buffer at momentum {momentum}: "
                f"{_range(results.of(name, 'buffer_bits'))} bits for each "
                f"weight and step; log2(1/momentum) is "
                f"{math.log2(1 / momentum):.3f}."
            )
    return "\n".join(lines)


def _range(values) -> str:
    """Returns the least and the greatest of numbers, nan left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    low, high = map(_number, (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def notes(results: Results, memory: int) -> str:
    """Returns what was left out, and which walks were cut short."""
    lines = []
    for row in results.rows:
        which = f"{results.labels[row['method']]}, T = {row['steps']:,}"
        if math.isnan(row["seconds"]):
            lines.append(
                f"Left out: {which} keeps {in_words(row['kept_bytes'])}, and "
                f"--memory allows {in_words(memory)}."
            )
        elif row["reverse_steps_used"] < row["reverse_steps"]:
            lines.append(
                f"Cut short: {which} walked {row['reverse_steps_used']:.0f} of "
                f"{row['reverse_steps']:.0f} steps back."
            )
    return "\n".join(lines)


def draw(run, results: Results) -> None:
    """Draws seconds, bytes kept and the process's peak against T."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 5.2), layout="constrained")
    seconds, kept, process = panels
    alone = results.of(PAPERS, "seconds_alone")
    style = {"color": "black", "linestyle": ":", "label": "training alone"}
    seconds.plot(results.steps, alone, **style)
    for k, name in enumerate(results.labels):
        if name in results.names:
            _draw_method(panels, results, name, f"C{k}", "os^Dv<>P"[k])
    titles = {
        seconds: ("Time of one hypergradient", "seconds"),
        kept: ("Kept for the walk backward", "MB"),
        process: ("Process: peak of resident memory", "GB"),
    }
    for panel, (title, unit) in titles.items():
        if any(np.isfinite(line.get_ydata()).any() for line in panel.lines):
            _dress(panel, title, unit, results.steps)
        else:
            panel.remove()  # no axis of logarithms without numbers
    figure.legend(loc="outside lower center", ncols=5)
    run.write_figure(seconds, "against_reverse_mode")


def _draw_method(panels, results: Results, name: str, color, marker) -> None:
    """Draws one method's line in each panel."""
    columns = [
        results.of(name, "seconds"),
        results.of(name, "kept_bytes") / 1e6,
        results.of(name, "peak") / 1e9,
    ]
    labels = [results.labels[name], None, None]  # once in the legend
    for panel, column, label in zip(panels, columns, labels, strict=True):
        panel.plot(
            results.steps,
            column,
            color=color,
            marker=marker,
            markersize=5,
            alpha=0.85,
            label=label,
        )


def _dress(panel, title: str, unit: str, steps: list[int]) -> None:
    """Gives a panel its title and its axes of logarithms."""
    panel.set_title(title)
    panel.set_xlabel("T, steps of the training")
    panel.set_ylabel(unit)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(steps, [f"{T:,}" for T in steps])
    panel.tick_params("x", rotation=45)
    panel.xaxis.set_minor_formatter("")
    decades = np.log10(np.divide(*panel.get_ylim()[::-1]))
    subs = (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 4, 5, 7)
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    panel.grid(alpha=0.3)
