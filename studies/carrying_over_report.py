"""The tables and the pictures of the study of meta-optimizers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from studies import study, tabular_problems
from studies.study import mean_and_deviation

REFERENCE = "SignConsensus()"  # the defaults
START, GRID = "untuned", "one value, best of a grid"
TITLES = {
    "mnist_1000": "MNIST, 1,000 images, 934 L2 penalties",
    "mnist_15000": "MNIST, 15,000 images, 934 L2 penalties",
    "synthetic": "500 columns, 10 of which matter, an L2 penalty a column",
    "cancer": "Breast cancer and 300 columns of noise, an L2 penalty a column",
    "noisy_labels": "1,000 images, 400 labels wrong, a weight an example",
    "noisy_labels_short": "The same with 500 wrong, shorter trainings",
    "schedule": "A learning rate for each tensor in each of 100 steps",
    "cnn": "Small CNN, a penalty and a rate a layer",
    "cnn_single": "Small CNN, one penalty and one rate",
    "omniglot": "Omniglot, six alphabets, a matrix of what they share a layer",
    "digits": "Digits, an L2 penalty an input",
}
METHODS = {
    "drmad": ", DrMAD()",
    "exact": "",
    "anchors": ", DrMAD(0.5, 39 anchors)",
    "gauss_newton": ", Gauss-Newton",
}


COLUMNS = 5  # of the picture of all problems


class Result(NamedTuple):
    """What the values of one rule and seed gave.

    Attributes:
        val_loss: float, mean over new draws.
        test_loss: float, the same.
        error: float, of the test in percent, the same.
        returned: float, test loss of the model that `fit` returned.
        values: `(entries,)`.
        area: float, how well values find the entries that matter; nan if there
            is nothing to find.
    """

    val_loss: float
    test_loss: float
    error: float
    returned: float
    values: np.ndarray
    area: float


Found = dict[str, dict[int, Result]]  # of a problem: by rule, by seed


def by_problem(
    results: Mapping[str, Any], cells: Mapping[str, Mapping[str, Any]]
) -> dict[str, Found]:
    """Returns the results of all cells, by problem, rule and seed."""
    found: dict[str, Found] = {}
    for name, cell in cells.items():
        own = found.setdefault(cell["problem"], {})
        for label, result in results_of(results[name], cell["method"]).items():
            own.setdefault(label, {})[cell["seed"]] = result
    return found


def results_of(record, method: str) -> dict[str, Result]:
    """Returns the results of a cell by their labels."""
    losses = record["val_loss"].mean(1), record["test_loss"].mean(1)
    errors = 100 * (1 - record["test_accuracy"].mean(1))
    every = [
        Result(*numbers)
        for numbers in zip(
            *losses,
            errors,
            record["returned"][:, 0],
            record["values"],
            record.get("areas", np.full(len(errors), np.nan)),
            strict=True,
        )
    ]
    named = dict(zip(record["names"].tolist(), every, strict=True))
    single = [named["start"]]
    single += [r for name, r in named.items() if name.startswith("grid ")]
    found = {START: named["start"]}
    if len(single) > 1:
        found[GRID] = min(single, key=lambda result: result.val_loss)
    for name, result in named.items():
        if name != "start" and not name.startswith("grid "):
            found[name + METHODS.get(method, "")] = result
    return found


def row(label: str, own: Mapping[int, Result], found: Found) -> dict:
    """Returns the row of a rule: means and deviations over seeds."""

    def column(name, digits):
        return mean_and_deviation(
            [getattr(one, name) for one in own.values()], digits
        )

    one = next(iter(own.values()))
    return {
        "rule": label,
        "seeds": len(own),
        "validation loss": column("val_loss", 3),
        "test loss": column("test_loss", 3),
        "minus the default's": change(label, own, found) or "-",
        "test error, %": column("error", 1),
        "area": "-" if np.isnan(one.area) else column("area", 2),
        "test loss of the model returned": "-"
        if np.isnan(one.returned)
        else column("returned", 3),
    }


def change(label: str, own: Mapping[int, Result], found: Found) -> str:
    """Returns the mean difference to the default rule's test loss.

    With the standard error over seeds; "" where there is nothing to compare.
    """
    if label == REFERENCE or REFERENCE not in found:
        return ""
    each = differences(own, found)
    if len(each) == 1:
        return f"{each[0]:+.3f}"
    return (
        f"{np.mean(each):+.3f} ± {np.std(each, ddof=1) / len(each) ** 0.5:.3f}"
    )


def summary(found: Mapping[str, Found]) -> list[dict]:
    """Returns a row for each rule, with its changes in all problems.

    The first row has the test losses of the default rule and the number of
    seeds; a change over fewer seeds names their number.
    """
    shown = {name: own for name, own in found.items() if REFERENCE in own}
    defaults = {name: own[REFERENCE] for name, own in shown.items()}
    rows = [
        {"rule": REFERENCE}
        | {
            name: f"{np.mean([r.test_loss for r in own.values()]):.3f} "
            f"({len(own)})"
            for name, own in defaults.items()
        }
    ]
    for label in labels_of(shown):
        cells = {}
        for name, own in shown.items():
            seeds = own.get(label, {})
            few = f" ({len(seeds)})" if len(seeds) < len(own[REFERENCE]) else ""
            cells[name] = change(label, seeds, own) + few if seeds else ""
        if label != REFERENCE:
            rows.append({"rule": label} | cells)
    return rows


def labels_of(found: Mapping[str, Found]) -> list[str]:
    """Returns the labels of all problems, in the order of the tables."""
    return list(dict.fromkeys(label for own in found.values() for label in own))


def differences(own: Mapping[int, Result], found: Found) -> list[float]:
    """Returns test losses minus those of the default rule, by seed."""
    default = found.get(REFERENCE, {})
    return [
        one.test_loss - default[seed].test_loss
        for seed, one in own.items()
        if seed in default
    ] or [np.nan]


def write(run, results, cells) -> None:
    """Writes a table for each problem, and the pictures."""
    found = by_problem(results, cells)
    for problem, own in found.items():
        print(f"\n**{TITLES[problem]}**")
        rows = [row(label, seeds, own) for label, seeds in own.items()]
        study.report(run, rows, problem)
    if any(REFERENCE in own for own in found.values()):
        print("\n**Test losses minus the default rule's**")
        study.report(run, summary(found), "summary")
        draw_losses(run, found)
    if "synthetic" in found:
        draw_penalties(run, found["synthetic"])


# ---- pictures


def draw_losses(run, found: Mapping[str, Found]) -> None:
    """Writes test losses minus the default rule's, a point for each seed.

    Shows the rules that at least half of the problems have.
    """
    shown = {name: own for name, own in found.items() if REFERENCE in own}
    labels = [
        label
        for label in labels_of(shown)[::-1]
        if 2 * sum(label in own for own in shown.values()) >= len(shown)
        and label not in (START, REFERENCE)
    ]
    shown = {
        name: own
        for name, own in shown.items()
        if any(label in own for label in labels)
    }
    rows = -(-len(shown) // COLUMNS)
    columns = min(COLUMNS, len(shown))
    size = (2.6 + 2.4 * columns, rows * (1 + 0.26 * len(labels)))
    axes = study.panels(rows, columns, size, sharey=True).ravel()
    for one in axes[len(shown) :]:
        one.remove()
    for (problem, own), one in zip(shown.items(), axes, strict=False):
        for place, label in enumerate(labels):
            if label not in own:
                continue
            each = np.array(differences(own[label], own))
            here = np.full(len(each), place)
            one.plot(each, here, ".", color="C0", alpha=0.5)
            one.plot(each.mean(), place, "|", color="C0", ms=12, mew=2)
        one.axvline(0, color="0.5", lw=1)
        one.set_ylim(-0.5, len(labels) - 0.5)
        one.set_yticks(range(len(labels)), labels)
        one.set_title(problem)
        one.locator_params(axis="x", nbins=3)
        one.grid(alpha=0.3)
    axes[0].figure.suptitle(
        "Test loss on new draws minus the default rule's (left is better)"
    )
    run.write_figure(axes[0], "test_loss")


def draw_penalties(run, found: Found) -> None:
    """Writes the penalties of columns that matter and of all others."""
    shown = [label for label in found if label not in (START, GRID)][:4]
    axes = study.panels(1, len(shown), (3.4 * len(shown), 3.4), sharey=True)[0]
    bins = np.linspace(-6, 1, 36)
    for label, one in zip(shown, axes, strict=True):
        logs = np.log10([r.values for r in found[label].values()])
        matters = tabular_problems.load("synthetic", 0).matters
        for name, are in (("matter", matters), ("do not", ~matters)):
            one.hist(
                logs[:, are].ravel(),
                bins,
                alpha=0.6,
                density=True,
                label=name,
            )
        one.set_title(label)
        one.set_xlabel("logarithm (10) of the penalty")
    axes[0].set_ylabel("density of columns, all seeds")
    axes[0].legend(title="columns that")
    run.write_figure(axes[0], "penalties")
