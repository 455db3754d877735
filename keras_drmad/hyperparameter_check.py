"""Found hyperparameters against the starting ones, on draws new to both."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

LEVEL = 0.05  # of the two-sided t-test
SURE = 2.0  # standard errors of what the choice of examples does
START, FOUND = "start", "found"
PARTS = "parts"


class Difference(NamedTuple):
    """How far a loss with one set of values is below that with another set.

    Attributes:
        mean: float, the mean over the draws of loss minus loss, of pairs with
            the same weights, batches and split; below 0, the first is better.
        standard_error: float, of the mean.
        p_value: float, of the two-sided t-test on the pairs, in [0, 1].
        examples_error: float, the standard error that another choice of as
            many held-out examples would give the mean, from the differences on
            up to 20 parts of these; nan where there are fewer than 4, and
            where each draw has examples of its own.
    """

    mean: float
    standard_error: float
    p_value: float
    examples_error: float = math.nan


class HyperparameterCheck(NamedTuple):
    """Whether found hyperparameters carry over; prints as a table and words.

    Attributes:
        results: dict from the name of a set of values (`"start"`, `"found"`
            and those given) to a dict from the name of a measure (`"val_loss"`,
            `"test_loss"`, and metrics) to an array `(draws,)`.
        differences: dict from the name of a loss to `Difference`, of the found
            values from the starting ones.
        verdict: str, `"carries over"`, `"does not carry over"` or `"can't be
            told"`: by the test loss where there is one, else by the validation
            loss, at the level of 5 %; where trainings diverge, by how many do.
            It can't be told where held-out examples are so few that others
            might give another answer. A validation loss of splits that are
            drawn anew flatters what was found, and can't tell.
        advice: str, a sentence on what to do.
    """

    results: dict[str, dict[str, np.ndarray]]
    differences: dict[str, Difference]
    verdict: str
    advice: str

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self.results[FOUND]["val_loss"])

    def __str__(self) -> str:
        names = list(self.results)
        width = max(map(len, [*self.results[FOUND], "measure"])) + 2
        widths = [max(14, len(name) + 2) for name in names]
        columns = list(zip(names, widths, strict=True))
        head = "".join(f"{name:>{wide}}" for name, wide in columns)
        lines = [f"{'mean':{width}}{head}    found - start"]
        for measure in self.results[FOUND]:
            row = "".join(
                f"{np.mean(self.results[name][measure]):{wide}.4g}"
                for name, wide in columns
            )
            change = difference(*self.pair(measure))
            lines.append(
                f"{measure:{width}}{row}    {change.mean:+.4g} ± "
                f"{change.standard_error:.2g}"
            )
        lines.append(f"{self.draws} new draws; ± is one standard error")
        return "\n".join([*lines, f"Verdict: {self.verdict}. {self.advice}"])

    def pair(self, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns a measure with the found and with the starting values."""
        return self.results[FOUND][measure], self.results[START][measure]


def check(
    values: Mapping[str, Any],
    outcome: Callable[[Any, int], dict[str, Any]],
    draws: int,
    progress: Callable[[int], Any],
    *,
    each: Callable[[int, Callable[[int], Any]], list[Any]],
    has_seen_all: bool = False,
    redrawn: Sequence[str] = (),
) -> HyperparameterCheck:
    """Compares sets of values on the same draws.

    Args:
        values: dict from a name to raw hyperparameters; "start" and "found"
            are among them.
        outcome: trains with raw hyperparameters from draw k, and returns
            losses and metrics by their names, nan where training diverges;
            `"val_parts"` and `"test_parts"` are losses of parts of the
            examples, `(parts,)`.
        draws: int, at least 2.
        progress: is told how many trainings are done.
        each: of `draws` and a function of a draw, returns what the function
            returns for each draw.
        has_seen_all: bool, whether the tuning has validated on each of the
            examples that the losses are of, in one split or another.
        redrawn: the losses that are of other examples in each draw.
    """
    done = 0

    def rows_of(draw: int) -> dict[str, dict[str, Any]]:
        nonlocal done
        found = {}
        for name, hparams in values.items():
            found[name] = outcome(hparams, draw)
            done += 1
            progress(done)
        return found

    of_draws = each(draws, rows_of)
    rows = {name: [found[name] for found in of_draws] for name in values}
    measures = dict.fromkeys(
        measure
        for each in rows.values()
        for row in each
        for measure in row
        if not measure.endswith(PARTS)
    )
    results = {
        name: {
            measure: np.array([row.get(measure, math.nan) for row in each])
            for measure in measures
        }
        for name, each in rows.items()
    }
    losses = [m for m in results[FOUND] if m in ("val_loss", "test_loss")]
    differences: dict[str, Difference] = {}
    for loss in losses:
        change = difference(results[FOUND][loss], results[START][loss])
        if loss not in redrawn:
            key = loss.removesuffix("loss") + PARTS
            found, start = (
                [row.get(key, ()) for row in rows[name]]
                for name in (FOUND, START)
            )
            error = _error_of_examples(found, start)
            change = change._replace(examples_error=error)
        differences[loss] = change
    verdict, advice = _verdict(results, differences, draws, has_seen_all)
    return HyperparameterCheck(results, differences, verdict, advice)


def difference(
    some: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray
) -> Difference:
    """Returns the mean difference of pairs.

    Args:
        some: `(n,)` numbers, n at least 2.
        others: `(n,)` numbers.
    """
    each = np.asarray(some, float) - np.asarray(others, float)
    mean, n = float(each.mean()), len(each)
    error = float(each.std(ddof=1) / n**0.5)
    if not math.isfinite(mean):
        return Difference(mean, math.nan, math.nan)
    if error == 0:
        return Difference(mean, 0.0, 1.0 if mean == 0 else 0.0)
    freedom, t = n - 1.0, mean / error
    # Student's distribution by the regularized incomplete beta function.
    p_value = tf.math.betainc(
        tf.constant(freedom / 2, tf.float64),
        tf.constant(0.5, tf.float64),
        tf.constant(freedom / (freedom + t**2), tf.float64),
    )
    return Difference(mean, error, float(p_value))


def _error_of_examples(found: Sequence[Any], start: Sequence[Any]) -> float:
    """Returns the standard error over parts of the examples, nan if unknown.

    Args:
        found: list of arrays `(parts,)`, a loss for each draw and part.
        start: the same, with the starting values.
    """
    if len({len(row) for row in [*found, *start]}) != 1:
        return math.nan
    of_parts = np.mean(np.asarray(found) - np.asarray(start), axis=0)
    if of_parts.size < 4:
        return math.nan
    return float(of_parts.std(ddof=1) / of_parts.size**0.5)


def _of_diverged(start: int, found: int, draws: int) -> tuple[str, str]:
    """Returns verdict and advice where trainings diverge.

    Args:
        start: int, how many do with the starting values.
        found: int, how many do with the found values.
        draws: int, of how many.
    """
    size = (
        f"With the starting values {start or 'none'} of {draws} trainings "
        f"diverge, with the found ones {found or 'none'}."
    )
    advice = " Set `bounds=`, or lower the rate of the meta-optimizer."
    if found > start:
        return "does not carry over", size + advice
    if found < start:
        return "carries over", size + (advice if found else "")
    return "can't be told", (
        f"{size} Lower the learning rate of the optimizer, from which the "
        "tuning starts, or give it an upper bound."
    )


def _verdict(
    results: dict[str, dict[str, np.ndarray]],
    differences: dict[str, Difference],
    draws: int,
    has_seen_all: bool,
) -> tuple[str, str]:
    """Returns the verdict and the advice of a `HyperparameterCheck`."""
    measure = "test_loss" if "test_loss" in differences else "val_loss"
    which = "test" if measure == "test_loss" else "validation"
    given = f"{which}_data"
    mean, error, p_value, examples_error = differences[measure]
    diverged = {
        name: int(np.sum(~np.isfinite(each[measure])))
        for name, each in results.items()
    }
    if diverged[FOUND] or diverged[START]:
        return _of_diverged(diverged[START], diverged[FOUND], draws)
    start = float(np.mean(results[START][measure]))
    share = f"({abs(mean / start):.1%}) " if start else ""
    size = (
        f"The {which} loss is {abs(mean):.3g} ± {error:.2g} {share}"
        f"{'lower' if mean < 0 else 'higher'} with the found values"
    )
    if mean == error == 0:
        return "can't be told", (
            f"In each draw the {which} loss is the same with the found values "
            "as with the starting ones: the values are equal, or it does not "
            "depend on them. Tune for longer, or with larger steps."
        )
    if not p_value < LEVEL:
        return "can't be told", (
            f"{size}, which {draws} draws can't tell from chance. Use more "
            f"`draws`, or more examples as `{given}`."
        )
    if abs(mean) < SURE * examples_error:
        return "can't be told", (
            f"{size}. But with as many other examples the difference would "
            f"vary by ± {examples_error:.2g}: the {which} set is too small to "
            f"tell. Pass more examples as `{given}`."
        )
    if mean < 0 and has_seen_all:
        return "can't be told", (
            f"{size}. But each example was held out in one split or another "
            "of the tuning, so this loss flatters what was found. Pass "
            "`test_data` that the tuning did not see."
        )
    if mean < 0:
        return "carries over", f"{size}, on draws that the tuning did not see."
    return "does not carry over", (
        f"{size}. Tune with `initial_weights='resample'` and a "
        "`validation_split` that is drawn anew, with more meta-iterations, or "
        "tune fewer values: `per='layer'` or `per='all'`."
    )
