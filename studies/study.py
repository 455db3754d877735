"""What studies share: flags, cells, tables, figures and a few numbers.

A study is many trainings, its cells, in processes of their own. What each cell
gave is kept as soon as the cell ends: the same command, with the same
`--run_name`, goes on with the cells that are missing. This module imports no
TensorFlow, so that flags are answered at once.
"""

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np
from absl import flags
from matplotlib import pyplot as plt
from matplotlib import ticker

from examples import saved_run
from examples.saved_run import SavedRun

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # they belong to the study that asks for them


def define_flags(datasets: Sequence[str] = (), seeds: int = 0) -> None:
    """Defines the flags that studies have in common.

    Args:
        datasets: names of data sets for `--dataset`, the default first; no such
            flag without names.
        seeds: int, the default of `--seeds`; no such flag for 0.
    """
    saved_run.define_flags()
    if datasets:
        flags.DEFINE_enum("dataset", datasets[0], datasets, "Which images.")
    if seeds:
        flags.DEFINE_integer("seeds", seeds, "Of data, weights and batches.", 1)
    flags.DEFINE_integer(
        "processes", 1, "Cells at a time; 0: all in this process.", 0
    )


def begin(name: str) -> SavedRun:
    """Returns the run that the flags name, a new or a killed one."""
    return saved_run.begin(name, resume=True)


def values(*names: str) -> dict[str, Any]:
    """Returns flags by their names, as the settings of cells."""
    return {name: FLAGS[name].value for name in names}


def whole(name: str) -> list[int]:
    """Returns the whole numbers of a list flag."""
    return [int(value) for value in FLAGS[name].value or ()]


def run_cells(
    run: SavedRun,
    function: Callable[..., Mapping[str, Any]],
    cells: Mapping[str, Mapping[str, Any]],
    processes: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Calls a function for each cell of a study, each in a new process.

    Prints a line for each that ends. A new process begins without what others
    have compiled and allocated.

    Args:
        run: where results are kept; those that it has are not computed again.
        function: takes a cell's settings as keyword arguments; returns arrays
            and numbers. Both are pickled: a function of a module, plain values.
        cells: dict from names to settings.
        processes: int, how many work at a time, `--processes` by default; they
            share the cores. 0: this process does all, which saves the start of
            others in a short trial.

    Returns:
        Dict from the names to what the function returned, as arrays.
    """
    if processes is None:
        processes = FLAGS.processes
    missing = [name for name in cells if not run.has_result(name)]
    done = len(cells) - len(missing)
    print(f"{run.folder}: {done} of {len(cells)} parts are there.", flush=True)
    begin = time.perf_counter()
    for name, values in _computed(function, cells, missing, processes):
        run.write_result(name, values)
        done += 1
        minutes = (time.perf_counter() - begin) / 60
        print(f"[{done}/{len(cells)}] {name}, {minutes:.1f} min", flush=True)
    return {name: run.result(name) for name in cells}


def _computed(
    function: Callable[..., Mapping[str, Any]],
    cells: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    processes: int,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields names of cells and what the function returns, as they come."""
    if not processes:
        for name in names:
            yield name, function(**cells[name])
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    with futures.ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        _use_threads,
        (threads,),
        max_tasks_per_child=1,
    ) as pool:
        pending = {pool.submit(function, **cells[k]): k for k in names}
        try:
            for future in futures.as_completed(pending):
                if error := future.exception():
                    # Those that run are waited for, before it is raised.
                    print(f"{pending[future]} failed: {error!r}", flush=True)
                yield pending[future], future.result()
        except BaseException:  # an interrupt too
            pool.shutdown(cancel_futures=True)
            raise


def by_seed(results: Mapping[str, Any]) -> dict[str, list]:
    """Returns what cells gave that differ in the seed only, in lists.

    Args:
        results: dict from "<name>_<seed>" or "<name>_seed_<seed>".

    Returns:
        Dict from "<name>" to a list in the order of `results`.
    """
    found: dict[str, list] = {}
    for name, record in results.items():
        found.setdefault(re.sub(r"(_seed)?_\d+$", "", name), []).append(record)
    return found


def report(run: SavedRun, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Writes a table to <name>.csv, and prints it as Markdown.

    Args:
        run: where it is kept.
        rows: list of dicts with the same keys, the columns.
        name: str.
    """
    run.write_table(rows, name)
    print(f"\n| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")


def mean_and_deviation(values: Any, digits: int = 3) -> str:
    """Returns the mean of numbers ± their population standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def panels(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> np.ndarray:
    """Returns the axes `(rows, columns)` of a new figure.

    Args:
        rows: int.
        columns: int.
        size: of the figure, width and height in inches.
        **options: of `plt.subplots`.
    """
    options |= {"figsize": size, "squeeze": False, "layout": "constrained"}
    return plt.subplots(rows, columns, **options)[1]


def number_meta_iterations(axes: Any) -> None:
    """Labels the horizontal axis with whole meta-iterations."""
    axes.set_xlabel("meta-iteration")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def legend_below(axes: Any, columns: int | None = None) -> None:
    """Puts the legend of some axes below all axes of their figure."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns or len(labels),
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the cosine of the angle between two vectors; nan for 0."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else float("nan")


def best_so_far(losses: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns for each place the value at the lowest loss until there, `(n,)`.

    A loss may be nan, but for the first one.
    """
    places = [int(np.nanargmin(losses[: k + 1])) for k in range(len(losses))]
    return np.asarray(values)[places]


def _use_threads(count: int) -> None:
    """Makes TensorFlow, imported later, use this many threads."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(count)
    os.environ["TF_NUM_INTEROP_THREADS"] = str(count)
