"""What is learned by hypergradient, beside what one would do without it.

    python -m studies.rivals --dataset=mnist --data_dir=FOLDER
    python -m studies.rivals --experiments=schedule --dataset=digits

*noisy_labels*: half of the training labels are wrong, and there is a small
clean set. A weight for each example is learned. Beside it: the labels as they
are, for the length that is best; the clean data alone, and together with all
labels; and dropping the examples whose label is not what a net says that was
trained on the clean data, on all labels for a short time, or the majority of as
many clean nets as there were trainings to tune.

*schedule*: a learning rate and a momentum for each tensor and step are learned,
and the scales of the first weights, to lower the training loss. Beside it: the
best of six rates, for each of five common ways to use a rate, and a random
search over these with as many trainings as there were to tune.

*augmentation*: four strengths are learned, for 1,000 images of the CIFAR-10
subset. Beside them: none, what one would set by hand, times .5 to 4, and a
random search with as many trainings as there were to tune.

Every way is tried on the same new draws of weights and batches in each seed.
Prints Markdown, and writes a table for each experiment and a picture.
"""

import importlib

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
EXPERIMENTS = ("noisy_labels", "schedule", "augmentation")
TRAININGS = (12, 50, 10)  # that tune, of each
study.define_flags(datasets=["mnist", "digits"], seeds=3)
flags.DEFINE_multi_enum(
    "experiments", EXPERIMENTS, EXPERIMENTS, "Which; once for each."
)
flags.DEFINE_integer("draws", 4, "New draws of each seed.", 2)
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 1)
flags.DEFINE_integer(
    "longer", 10, "How often T trainings with noisy labels take at last.", 1
)
flags.DEFINE_list(
    "meta_iterations",
    None,
    "Trainings that tune, for each of --experiments; 12, 50 and 10.",
)
TITLES = {
    "noisy_labels": "Half of the labels wrong",
    "schedule": "Rates and momenta of each step",
    "augmentation": "Strengths of augmentation",
}


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    chosen = list(dict.fromkeys(FLAGS.experiments))
    trainings = dict(zip(EXPERIMENTS, TRAININGS, strict=True))
    if FLAGS.meta_iterations:
        given = study.whole("meta_iterations")
        trainings |= zip(chosen, given, strict=True)
    common = study.values("dataset", "data_dir", "draws", "steps")
    own = {"noisy_labels": study.values("longer")}
    return {
        f"{experiment}_{seed}": common
        | own.get(experiment, {})
        | {
            "experiment": experiment,
            "seed": seed,
            "meta_iterations": trainings[experiment],
        }
        for experiment in chosen
        for seed in range(FLAGS.seeds)
    }


def cell(experiment: str, **settings):
    """Returns what an experiment gave."""
    return module_of(experiment).cell(**settings)


def module_of(experiment: str):
    """Returns the module of an experiment."""
    return importlib.import_module(f"studies.rivals_{experiment}")


def table(found, measures) -> list[dict]:
    """Returns a row for each way: means and deviations over seeds.

    Args:
        found: list of what a cell gave, for each seed.
        measures: names of the last axis of the values.
    """
    # (seeds, ways, measures)
    means = np.stack([own["values"].mean(axis=1) for own in found])
    rows = []
    for k, name in enumerate(found[0]["names"].tolist()):
        row = {"way": name, "seeds": len(found)}
        for measure, values in zip(measures, means[:, k].T, strict=True):
            digits = 1 if measure.endswith("%") else 3
            known = np.isfinite(values).all()
            row[measure] = (
                study.mean_and_deviation(values, digits) if known else "-"
            )
        rows.append(row)
    return rows


def draw(run, results) -> None:
    """Writes the last measure of each way, a point for each seed."""
    count = max(len(found[0]["names"]) for found in results.values())
    size = (6.2 * len(results), 1.2 + 0.3 * count)
    axes = study.panels(1, len(results), size)[0]
    for (experiment, found), one in zip(results.items(), axes, strict=True):
        names = found[0]["names"].tolist()[::-1]
        for own in found:
            values = own["values"].mean(axis=1)[::-1, -1]
            one.plot(values, range(len(names)), "o", color="C0", alpha=0.5)
        one.set_yticks(range(len(names)), names)
        one.set_xlabel(module_of(experiment).MEASURES[-1])
        one.set_title(TITLES[experiment])
        one.grid(alpha=0.3)
    run.write_figure(axes[0], "rivals")


def main(_):
    chosen = cells()
    run = study.begin("rivals")
    results = study.by_seed(study.run_cells(run, cell, chosen))
    for experiment, found in results.items():
        print(f"\n**{TITLES[experiment]}**")
        rows = table(found, module_of(experiment).MEASURES)
        study.report(run, rows, experiment)
    draw(run, results)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
