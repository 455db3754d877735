"""What a tuning found, in words."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_drmad import results
from keras_drmad.hyperparameters.values import NEAR, STILL
from keras_drmad.paragraphs import WIDTH, span_of, wrapped
from keras_drmad.results import Result
from keras_drmad.training.tuning_record import ALL, TuningRecord

COLUMNS = "{:<34}{:>9}  {:<22}{:<24}{}"
MOST = 5  # lines on the entries that moved most
NAMED = 3  # entries in one of these lines, which moved alike
MANY = 0.1  # of the entries at a bound: then advice
WIDEN = "Widen `bounds=` if such values make sense."
# How many are at a bound if `QUANTILES` are, the furthest of them first.
REACHED = {
    "all": 4,
    "90 % or more": 3,
    "half or more": 2,
    "10 % or more": 1,
    "some": 0,
}


def summary(model: Any) -> str:
    """Returns what `DrMADModel.results_summary` prints.

    Args:
        model: a `DrMADModel` that was tuned.

    Raises:
        ValueError: if it was not.
    """
    found, record = results.of_model(model), model.tuning_record
    rule = "─" * WIDTH
    lines = [
        f'Results of "{model.elementary_model.name}"',
        rule,
        COLUMNS.format("Name (kind)", "Count", "Start", "End", "Bounds"),
        rule,
        *map(_row, found),
        rule,
        *(line for said in fits(record) for line in wrapped(said)),
        *losses_as_lines(record),
    ]
    for one in found:
        lines += _told(one, record)
    return "\n".join([*lines, *_check(record)])


def _row(one: Result) -> str:
    return COLUMNS.format(
        f"{one.name} ({type(one.kind).__name__})",
        f"{one.kind.count:,}",
        span_of(one.start, 3),
        span_of(one.value, 3),
        "{:.3g}, {:.3g}".format(*one.kind.bounds),
    )


def fits(record: TuningRecord) -> list[str]:
    """Returns a sentence on each `fit` that completed a meta-iteration."""
    begins = [one["first"] for one in record.fits]
    ends = [*begins[1:], len(record.rows)]
    said = []
    for one, end in zip(record.fits, ends, strict=True):
        done = end - one["first"]
        if not done:
            continue
        how = one["ended"] or "not ended"
        if one["every"]:
            said.append(
                f"fit: {done} of {one['meta_iterations']} epochs of one "
                f"training, {how}; {one['steps']:,} steps an epoch, tuned "
                f"every {one['every']:,} steps, seed={one['seed']}, "
                f"{one['method']}"
            )
        else:
            said.append(
                f"fit: {done} of {one['meta_iterations']} meta-iterations, "
                f"{how}; {one['steps']:,} steps a training, "
                f"initial_weights={one['initial_weights']!r}, "
                f"keep={one['keep']!r}, draws={one['draws']}, "
                f"seed={one['seed']}, {one['method']}"
            )
    return said


def losses(
    record: TuningRecord,
) -> tuple[list[str], list[tuple[str, dict[str, float]]]]:
    """Returns the losses of the first, the best, the last and final training.

    Args:
        record: the model's record.

    Returns:
        The names of the losses, and for each training its title and a dict
        from names, of losses and others, to numbers.
    """
    rows, best = record.rows, record.best
    names = sorted(
        record.losses,
        key=lambda name: (name != "loss", name != "val_loss", name),
    )
    within = bool(record.fits[0]["every"])  # tuned before its first row ended
    first = "first: epoch 1" if within else "first: with the starting values"
    by = "of the last fit" if len(fits(record)) > 1 else "by val_loss"
    shown = [
        (first, rows[0]),
        (f"best {by}: number {best + 1}", rows[best]),
        (f"last: number {len(rows)}", rows[-1]),
    ]
    if record.final:
        shown.append(("then, with the values kept", record.final))
    return names, shown


def losses_as_lines(record: TuningRecord) -> Iterator[str]:
    """Yields the lines of the table of losses.

    Args:
        record: the model's record.
    """
    names, shown = losses(record)
    widths = {name: max(14, len(name) + 2) for name in names}
    head = "".join(f"{name:>{width}}" for name, width in widths.items())
    yield f" {'Losses, by meta-iteration or epoch':<36}{head}"
    for title, row in shown:
        each = (
            f"{row[n]:{width}.4g}" if n in row else " " * width
            for n, width in widths.items()
        )
        yield f"   {title:<34}{''.join(each)}".rstrip()


def _told(one: Result, record: TuningRecord) -> list[str]:
    """Returns a paragraph on a hyperparameter; one line of a single number."""
    said = sentences(one, record)
    if one.kind.count == 1:
        return wrapped("; ".join([f"{one.name}: {said[0]}", *said[1:]]))
    lines = [f" {one.name}:"]
    for sentence in said:
        lines += wrapped(sentence)
    return lines


def sentences(one: Result, record: TuningRecord) -> list[str]:
    """Returns what became of a hyperparameter's entries, in sentences.

    Args:
        one: the hyperparameter's `Result`.
        record: the model's record.
    """
    if one.is_held and np.all(one.is_still):
        return [f"held at {span_of(one.value, 3)}: no meta-optimizer moves it"]
    return [*_moved(one, record), *_idle(one), *_bounds(one, record)]


def _moved(one: Result, record: TuningRecord) -> list[str]:
    """Returns sentences on the entries that moved most."""
    moved = np.ravel(one.moved)
    start, end = np.ravel(one.start), np.ravel(one.value)
    if len(moved) == 1:
        return [f"{start[0]:.3g} → {end[0]:.3g}{_sure(one, [0])}"]
    if np.all(one.is_still):
        if record.fits[-1]["keep"] == "best" and record.best == 0:
            return [
                "the starting values were the best by val_loss, and are kept"
            ]
        if np.all(one.is_at_low | one.is_at_high):
            return ["nothing moved: all are at their bounds"]
        if not one.has_room:
            return [
                f"nothing moved: the bounds leave less than {STILL:g} units. "
                f"{WIDEN}"
            ]
        if record.fits[-1]["ended"].startswith("diverged"):
            return [
                "nothing moved in what is kept: training diverged after the "
                "first moves. Set `bounds=`, or lower the meta-optimizer's "
                "`learning_rate`"
            ]
        longer = "epochs" if record.fits[-1]["every"] else "meta_iterations"
        return [
            f"nothing moved: raise `{longer}`, or the meta-optimizer's "
            "`learning_rate`"
        ]
    if np.ptp(moved) < STILL:
        return [
            f"all moved alike, by {np.mean(moved):+.2f} units: "
            f"{span_of(start, 3)} → {span_of(end, 3)}"
        ]
    said: list[str] = []
    parts = one.kind.parts()
    rounded = np.round(moved, 3)
    far = np.unique(np.abs(rounded))[-MOST:]
    levels = [x for size in far[::-1] for x in (size, -size)]
    for level in dict.fromkeys(levels):
        alike = np.flatnonzero(rounded == level)
        if not alike.size or abs(level) < STILL or len(said) == MOST:
            continue
        names = results.words_of(parts, alike[:NAMED])
        if others := alike.size - len(names):
            names.append(f"{others:,} more")
        first = "then: " if said else "moved most: "
        said.append(
            f"{first}{'; '.join(names)}: {span_of(start[alike], 3)} → "
            f"{span_of(end[alike], 3)}{_sure(one, alike)}"
        )
    return said


def _sure(one: Result, places: Any) -> str:
    """Returns how sure the directions of entries are, in brackets."""
    if one.certainty is None or one.votes is None:
        return ""

    def span(values: np.ndarray, form: str) -> str:
        ends = (format(x, form) for x in (values.min(), values.max()))
        return " to ".join(dict.fromkeys(ends))

    certainty = span(np.ravel(one.certainty)[places], ".2f")
    votes = span(np.ravel(one.votes)[places], ".0f")
    return f" (certainty {certainty} of {votes} gradients)"


def _idle(one: Result) -> list[str]:
    """Returns sentences on the entries that did not matter."""
    count, still = one.kind.count, int(np.sum(one.is_still))
    said = []
    if still and count == 1:
        said.append(f"did not move (by less than {STILL:g} units)")
    elif 0 < still < count:
        said.append(
            f"did not move (by less than {STILL:g} units): "
            f"{still:,} of {count:,}"
        )
    certain = one.is_certain
    if certain is None or one.votes is None:
        return said
    silent = int(np.sum(one.votes == 0))
    if silent:
        said.append(f"without any gradient: {silent:,} of {count:,}")
    most = round(float(np.max(one.votes)))
    share, sure = results.chance(most), int(np.sum(certain))
    if not share:
        return [
            *said,
            f"how sure: can't be told from {most} gradients, of which even a "
            "coin's signs may all agree; 5 are the least",
        ]
    if count == 1:
        return said if sure else [*said, "its signs stayed a coin's"]
    return [
        *said,
        f"did not matter by their own signs, which stayed a coin's: "
        f"{count - sure - silent:,} of {count:,}; sure: {sure:,} (of coins "
        f"about {share:.0%} would pass for sure), by up to {most} gradients",
    ]


def _bounds(one: Result, record: TuningRecord) -> list[str]:
    """Returns a sentence on the entries that ended at their bounds."""
    low, high = int(np.sum(one.is_at_low)), int(np.sum(one.is_at_high))
    if not low + high:
        return _held(one, record)
    parts = [
        f"{count:,} at {bound:.3g}"
        for count, bound in zip((low, high), one.kind.bounds, strict=True)
        if count
    ]
    is_much = (low + high) / one.kind.count >= MANY
    advice = f". {WIDEN}" if is_much else ""
    return [
        f"ended at their bounds: {' and '.join(parts)}, of "
        f"{one.kind.count:,}{advice}"
    ]


def _held(one: Result, record: TuningRecord) -> list[str]:
    """Returns sentences on values that a bound held in the last training.

    Means over several steps, some of them before the bound was reached, are
    not at the bound.
    """
    spread, said = record.spreads[one.name][ALL][-1], []
    sides = zip(one.kind.bounds, (spread, spread[::-1]), strict=True)
    for bound, values in sides:
        near = np.isclose(values, bound, rtol=NEAR, atol=0)
        share = next((word for word, k in REACHED.items() if near[k]), "")
        if share:
            kept = "; what is kept is the mean over the last half"
            if record.fits[-1]["keep"] != "mean":
                kept = ""
            said.append(
                f"{share} at the bound {bound:.3g} in the last training{kept}. "
                f"{WIDEN}"
            )
    return said


def _check(record: TuningRecord) -> list[str]:
    if record.check is None:
        return [
            " Whether this carries over to new draws is not known: ask "
            "`model.check_hyperparameters`."
        ]
    check = record.check
    return wrapped(
        f"On {check.draws} new draws: {check.verdict}. {check.advice}"
    )
