"""Which meta-optimizer finds values that hold for other draws?

A training is one draw of weights, order, masks and, of small data, of the
split. Each rule tunes from the same start by the same number of trainings, each
from a new draw. What was found is then tried on new draws, the same ones for
all rules. Beside them: the start, and the best of a grid of one value for all.

    python -m studies.carrying_over --data_dir=FOLDER --run_name=exact

Cells come in the order of their importance. The same command goes on where it
was killed.
"""

from absl import app, flags

from studies import study
from studies.carrying_over_cells import CHOICES, GROUPS, is_cell, seeds_of

FLAGS = flags.FLAGS
study.define_flags()
flags.DEFINE_list(
    "cells",
    [
        "synthetic:main:5",
        "cancer:main:5",
        "mnist_1000:main:5",
        "mnist_15000:main:2-2",
        "noisy_labels:main:5",
        "noisy_labels_short:main:5",
        "schedule:main:5",
        "cnn:main:5",
        "omniglot:main:5",
        "noisy_labels:plain:5",
        "noisy_labels:far:5",
        "noisy_labels_short:plain:5",
        "noisy_labels_short:far:5",
        "omniglot:sharing:5",
        "synthetic:rivals:5",
        "cancer:rivals:5",
        "mnist_1000:rivals:4",
        "schedule:rivals:5",
        "cnn:rivals:5",
        "omniglot:rivals:5",
        "synthetic:constants:5",
        "cancer:constants:5",
        "mnist_1000:constants:3",
        "cnn_single:single:5",
        "synthetic:drmad:5",
        "cancer:drmad:5",
    ],
    "Problem, group of rules and number of seeds (or the first and the last "
    "seed, as in 2-4), in the order to run. "
    f"Problems: {', '.join(CHOICES)}. Groups: {', '.join(GROUPS)}.",
)
flags.register_validator(
    "cells",
    lambda cells: all(is_cell(*one.split(":")) for one in cells),
    "Expected entries such as mnist_1000:main:5.",
)
flags.DEFINE_integer("draws", 4, "New draws of each seed.", 2)
flags.DEFINE_integer("meta_iterations", 20, "Trainings of each tuning.", 1)
flags.DEFINE_integer("divide_steps", 1, "Makes trainings shorter.", 1)


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = study.values(
        "data_dir", "draws", "meta_iterations", "divide_steps"
    )
    found = {}
    for problem, group, seeds in (one.split(":") for one in FLAGS.cells):
        method, rules = GROUPS[group]
        for seed in seeds_of(seeds):
            found[f"{problem}-{group}_{seed}"] = common | {
                "problem": problem,
                "method": method,
                "rules": rules,
                "has_grid": group == "main",
                "seed": seed,
            }
    return found


def main(_):
    from studies import carrying_over_report as report
    from studies import carrying_over_tunings

    run = study.begin("carrying_over")
    chosen = cells()
    results = study.run_cells(run, carrying_over_tunings.cell, chosen)
    report.write(run, results, chosen)


if __name__ == "__main__":
    app.run(main)
