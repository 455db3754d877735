"""What a tuning found, in words."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_drmad import results
from keras_drmad.paragraphs import WIDTH, span_of, wrapped
from keras_drmad.results import Result
from keras_drmad.training.tuning_record import TuningRecord

COLUMNS = "{:<34}{:>9}  {:<22}{:<24}{}"
MOST = 5  # lines on the entries that moved most
NAMED = 3  # entries in one of these lines, which moved alike
MANY = 0.1  # of the entries at a bound: then advice


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
        *_course(record),
        *_losses(record),
    ]
    for one in found:
        lines += [f" {one.name}:", *_moved(one), *_idle(one), *_bounds(one)]
    return "\n".join([*lines, *_check(record)])


def _row(one: Result) -> str:
    return COLUMNS.format(
        f"{one.name} ({type(one.kind).__name__})",
        f"{one.kind.count:,}",
        span_of(one.start, 3),
        span_of(one.value, 3),
        "{:.3g}, {:.3g}".format(*one.kind.bounds),
    )


def _course(record: TuningRecord) -> list[str]:
    """Returns a line on each `fit` that completed a meta-iteration."""
    begins = [one["first"] for one in record.fits]
    ends = [*begins[1:], len(record.rows)]
    lines = []
    for one, end in zip(record.fits, ends, strict=True):
        done = end - one["first"]
        if done:
            how = one["ended"] or "not ended"
            lines += wrapped(
                f"fit: {done} of {one['meta_iterations']} meta-iterations, "
                f"{how}; {one['steps']:,} steps a training, "
                f"initial_weights={one['initial_weights']!r}, "
                f"keep={one['keep']!r}, draws={one['draws']}, "
                f"seed={one['seed']}, {one['method']}"
            )
    return lines


def _losses(record: TuningRecord) -> Iterator[str]:
    """Yields the losses of the first, the best, the last and final training."""
    rows, best = record.rows, record.best
    names = [name for name in rows[-1] if name.endswith("loss")]
    names.sort(key=lambda name: (name != "loss", name != "val_loss", name))
    head = "".join(f"{name:>14}" for name in names)
    yield f" {'Losses, by meta-iteration':<36}{head}"
    shown = [
        ("first: with the starting values", rows[0]),
        (f"best by val_loss: number {best + 1}", rows[best]),
        (f"last: number {len(rows)}", rows[-1]),
    ]
    if record.final:
        shown.append(("then, with the values kept", record.final))
    for title, row in shown:
        each = (f"{row[n]:14.4g}" if n in row else f"{'':14}" for n in names)
        yield f"   {title:<34}{''.join(each)}".rstrip()


def _moved(one: Result) -> list[str]:
    """Returns lines on the entries that moved most."""
    moved = np.ravel(one.moved)
    if np.all(one.is_still):
        return wrapped(
            "nothing moved: raise `meta_iterations`, or the meta-optimizer's "
            "`learning_rate`."
        )
    start, end = np.ravel(one.start), np.ravel(one.value)
    if len(moved) == 1:
        return wrapped(f"moved {start[0]:.3g} → {end[0]:.3g}{_sure(one, 0)}")
    if np.ptp(moved) < results.STILL:
        return wrapped(
            f"all moved alike, by {np.mean(moved):+.2f} units: "
            f"{span_of(start, 3)} → {span_of(end, 3)}"
        )
    lines, parts = ["   moved most:"], one.kind.parts()
    rounded = np.round(moved, 3)
    far = np.unique(np.abs(rounded))[-MOST:]
    levels = [x for size in far[::-1] for x in (size, -size)]
    for level in dict.fromkeys(levels):
        alike = np.flatnonzero(rounded == level)
        if not alike.size or abs(level) < results.STILL or len(lines) > MOST:
            continue
        k = alike[0]
        names = results.words_of(parts, alike[:NAMED])
        if others := alike.size - len(names):
            names.append(f"{others:,} more")
        lines += wrapped(
            f"  {'; '.join(names)}: {start[k]:.3g} → {end[k]:.3g}"
            f"{_sure(one, k)}"
        )
    return lines


def _sure(one: Result, place: int) -> str:
    """Returns how sure an entry's direction is, in brackets."""
    if one.certainty is None or one.votes is None:
        return ""
    votes = np.ravel(one.votes)[place]
    certainty = np.ravel(one.certainty)[place]
    return f" (certainty {certainty:.2f} of {votes:.0f} gradients)"


def _idle(one: Result) -> list[str]:
    """Returns lines on the entries that did not matter."""
    count, still = one.kind.count, int(np.sum(one.is_still))
    lines = []
    if still and still < count:
        lines += wrapped(
            f"did not move (by less than {results.STILL:g} units): "
            f"{still:,} of {count:,}"
        )
    certain = one.is_certain
    if certain is None or one.votes is None:
        return lines
    silent = int(np.sum(one.votes == 0))
    if silent:
        lines += wrapped(f"without any gradient: {silent:,} of {count:,}")
    most = round(float(np.max(one.votes)))
    if not results.chance(most):
        return lines + wrapped(
            f"how sure: can't be told from {most} gradients, of which even a "
            "coin's signs may all agree; 5 are the least."
        )
    coins = count - int(np.sum(certain)) - silent
    share = results.chance(most)
    return lines + wrapped(
        f"did not matter by their own signs, which stayed a coin's: {coins:,} "
        f"of {count:,}; sure: {int(np.sum(certain)):,} (of coins about "
        f"{share:.0%} would pass for sure), by up to {most} gradients"
    )


def _bounds(one: Result) -> list[str]:
    """Returns a line on the entries that ended at their bounds."""
    low, high = int(np.sum(one.is_at_low)), int(np.sum(one.is_at_high))
    if not low + high:
        return []
    ends = "{:.3g}".format
    parts = [
        f"{count:,} at {ends(bound)}"
        for count, bound in zip((low, high), one.kind.bounds, strict=True)
        if count
    ]
    advice = ""
    if (low + high) / one.kind.count >= MANY:
        advice = ". Widen `bounds=` if such values make sense."
    return wrapped(
        f"ended at their bounds: {' and '.join(parts)}, of "
        f"{one.kind.count:,}{advice}"
    )


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
