"""What came out of gradients against KerasTuner: a picture and a table.

For `studies/against_tuners.py`. Results are a dict from a method and its
number of coefficients to what `search` returned for each seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_drmad import plots
from studies.study import mean_and_deviation

Results = Mapping[tuple, Sequence[Mapping[str, Any]]]


def best_so_far(result: Mapping[str, Any], key: str):
    """Returns an entry of the training with the lowest loss so far.

    Args:
        result: of `search`.
        key: str, the name of the entry.
    """
    loss = result["val_loss"]
    is_best = loss == np.minimum.accumulate(loss)
    places = np.maximum.accumulate(np.where(is_best, np.arange(len(loss)), 0))
    return result[key][places]


def draw(run, results: Results, labels: Mapping[str, str]) -> None:
    """Writes the picture of losses against steps spent.

    Args:
        run: `SavedRun`.
        results: see above.
        labels: dict from methods to their names, in the order of colours.
    """
    from matplotlib import pyplot as plt

    counts = sorted({count for _, count in results})
    figure, panels = plt.subplots(
        2,
        len(counts),
        figsize=(1 + 3.2 * len(counts), 6.5),
        layout="constrained",
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for (method, count), cells in results.items():
        column = panels[:, counts.index(count)]
        color = f"C{list(labels).index(method)}"
        _draw_cells(column, cells, labels[method], color)
    for count, axes in zip(counts, panels[0], strict=True):
        axes.set_title(f"{count} coefficient{'s' if count > 1 else ''}")
    for axes in panels[1]:
        axes.set_xlabel("thousands of elementary steps spent")
    panels[0, 0].set_ylabel("best validation loss so far")
    panels[1, 0].set_ylabel("test loss of the same training")
    figure.suptitle(
        "Best of all trainings so far: mean and standard deviation over seeds; "
        "dots where searches end"
    )
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(labels),
    )
    run.write_figure(panels[0, 0], "losses_against_steps")


def _draw_cells(column, cells, label: str, color: str) -> None:
    """Draws validation and test losses of one method, a panel for each."""
    ends = [cell["steps"][-1] for cell in cells]
    grid = np.linspace(cells[0]["steps"][0], min(ends), 400)
    for key, axes in zip(("val_loss", "test_loss"), column, strict=True):
        rows = [
            best_so_far(cell, key)[
                np.searchsorted(cell["steps"], grid, side="right") - 1
            ]
            for cell in cells
        ]
        plots.mean_and_band(
            grid / 1000, np.array(rows), axes, label, color=color
        )
        axes.plot(grid[-1] / 1000, np.mean(rows, 0)[-1], "o", color=color)


def table(results: Results, labels: Mapping[str, str]) -> list[dict]:
    """Returns means and standard deviations over seeds, at the end.

    Args:
        results: see above.
        labels: dict from methods to their names.
    """
    begun = [
        {key: values[:1] for key, values in cell.items()}
        for cell in next(iter(results.values()))
    ]
    return [_row("any", "the start", begun)] + [
        _row(count, labels[method], cells)
        for (method, count), cells in results.items()
    ]


def _row(count, method: str, cells) -> dict[str, Any]:
    """Returns one row of the table."""

    def words(key: str, digits: int, factor: float = 1) -> str:
        values = [factor * best_so_far(cell, key)[-1] for cell in cells]
        return mean_and_deviation(values, digits)

    lengths = sorted({len(cell["steps"]) for cell in cells})
    seconds = [cell["search_seconds"][-1] for cell in cells]
    return {
        "coefficients": count,
        "method": method,
        "trainings": " to ".join(map(str, lengths[:1] + lengths[1:][-1:])),
        "validation loss": words("val_loss", 4),
        "test loss": words("test_loss", 4),
        "validation error, %": words("val_error", 2, 100),
        "test error, %": words("test_error", 2, 100),
        "s of search": f"{np.mean(seconds):.0f}",
    }
