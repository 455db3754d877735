"""Data hyper-cleaning beside the field, and beside what people use.

    python -m studies.hyper_cleaning --dataset=mnist --data_dir=FOLDER
    python -m studies.hyper_cleaning --parts=rivals --dataset=digits

*published*: the setting in which gradient-based methods are compared. 30 or
50 % of 1,000 training labels are wrong, 1,000 clean images validate, a CNN of
three convolutions with 8 channels takes steps of SGD(0.1, 0.9) on the full
batch, and a weight for each example is learned. `fit` as published (T = 10, on
and on from where the net is, Adam(0.1)); with a faster meta-optimizer; and with
a longer horizon after that: trainings of T = 150 steps, each from the first
weights again.

*rivals*: a half or a fifth of 10,000 labels are wrong, uniformly or by class,
and there are 1,000 clean images. Beside learned weights: cleanlab, the loss of
nets that were trained on the clean images, small losses, and nets that are
trained on what other nets believe. All have the same clean images, and in the
end train on them as well. Needs cleanlab (`pip install keras_drmad[studies]`).

Every way is tried on new draws of weights and batches too. Prints Markdown, and
writes a table and a picture for each part.
"""

import importlib
import importlib.util

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
PARTS = ("published", "rivals")
study.define_flags(datasets=["mnist", "digits"], seeds=5)
flags.DEFINE_integer("seed", 0, "The first of the seeds.", 0)
flags.DEFINE_multi_enum("parts", PARTS, PARTS, "Which; once for each.")
flags.DEFINE_list("noise", ["30", "50"], "Published: percent wrong, of each.")
flags.DEFINE_integer(
    "meta_iterations", 200, "Published: trainings of T = 10, as published.", 1
)
flags.DEFINE_integer(
    "patience", 15, "Published: of these, without a better one.", 1
)
flags.DEFINE_integer("quick", 25, "Published: trainings by the faster way.", 1)
flags.DEFINE_integer("longer", 4, "Published: trainings of T = 150.", 1)
flags.DEFINE_list("kinds", ["uniform", "class"], "Rivals: kinds of noise.")
flags.DEFINE_list("wrong", ["50", "20"], "Rivals: percent wrong, of each.")
flags.DEFINE_integer("draws", 1, "Rivals: new draws of each seed.", 1)
flags.DEFINE_integer("steps", 1000, "Rivals: of the trainings at last.", 1)
flags.DEFINE_integer("trainings", 12, "Rivals: short ones, which tune.", 1)
flags.DEFINE_float("smoothing", 0.0, "Rivals: of all labels.", 0, 1)


def cells_of(part: str) -> dict[str, dict]:
    """Returns the settings of each cell of a part, by its name."""
    common = study.values("dataset", "data_dir")
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    if part == "published":
        common |= study.values("meta_iterations", "patience", "quick", "longer")
        problems = {
            f"{percent} %": {"percent": percent}
            for percent in study.whole("noise")
        }
    else:
        common |= study.values("draws", "steps", "trainings", "smoothing")
        problems = {
            f"{kind}, {percent} %": {"kind": kind, "percent": percent}
            for kind in FLAGS.kinds
            for percent in study.whole("wrong")
        }
    return {
        f"{part}, {name}_{seed}": common
        | problem
        | {"part": part, "seed": seed}
        for seed in seeds
        for name, problem in problems.items()
    }


def cell(part: str, **settings):
    """Returns what a part gave."""
    return module_of(part).cell(**settings)


def module_of(part: str):
    """Returns the module of a part."""
    return importlib.import_module(f"studies.hyper_cleaning_{part}")


def table(results, measures) -> list[dict]:
    """Returns a row for each problem and way: means, deviations over seeds.

    Args:
        results: dict from problems to lists of what cells gave.
        measures: names of the last axis of the values.
    """
    rows = []
    for problem, found in results.items():
        values = np.stack([own["values"] for own in found])
        for k, way in enumerate(found[0]["names"].tolist()):
            row = {"wrong labels": problem, "way": way, "seeds": len(found)}
            for measure, column in zip(measures, values[:, k].T, strict=True):
                digits = 4 if measure == "area" else 1
                known = np.isfinite(column).all()
                row[measure] = (
                    study.mean_and_deviation(column, digits) if known else "-"
                )
            rows.append(row)
    return rows


def draw(run, part, results, measures) -> None:
    """Writes two measures of each way and problem, a point for each seed."""
    shown = module_of(part).SHOWN
    size = (4 + 3.2 * len(results), 2.2 * len(shown) + 0.8)
    axes = study.panels(
        len(shown), len(results), size, sharey=True, sharex="row"
    )
    for one, measure in zip(axes, shown, strict=True):
        place = measures.index(measure)
        for axis, (problem, found) in zip(one, results.items(), strict=True):
            names = found[0]["names"].tolist()
            for own in found:
                values = own["values"][:, place]
                if measure == "area":
                    values = 1 - values
                axis.plot(values, range(len(names)), "oC0", alpha=0.5)
            axis.set_yticks(range(len(names)), names)
            if measure == "area":  # a few thousandths, or a third
                axis.set_xscale("log")
            label = "1 − area" if measure == "area" else measure
            axis.set(title=f"{problem} wrong", xlabel=label)
            axis.grid(alpha=0.3)
        one[0].set_ylim(len(names) - 0.5, -0.5)
    run.write_figure(axes[0, 0], part)


def main(_):
    if "rivals" in FLAGS.parts and not importlib.util.find_spec("cleanlab"):
        raise SystemExit(
            "The part 'rivals' needs cleanlab. Install the extra `studies`, "
            "pip install 'keras_drmad[studies]', or choose --parts=published."
        )
    run = study.begin("hyper_cleaning")
    for part in dict.fromkeys(FLAGS.parts):
        found = study.run_cells(run, cell, cells_of(part))
        results = {
            name.split(", ", 1)[1]: records
            for name, records in study.by_seed(found).items()
        }
        measures = module_of(part).MEASURES
        study.report(run, table(results, measures), part)
        draw(run, part, results, measures)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
