"""Which meta-optimizer finds values that hold for other draws?

A training is one draw of weights, order, masks and, of small data, of the
split. Each rule tunes from the same start by the same number of trainings, each
from a new draw. What was found is then tried on new draws, the same ones for
all rules. Beside them: the start, and the best of a grid of one value for all.

    python -m studies.carrying_over --data_dir=FOLDER --run_name=rules

Cells come in the order of their importance. The same command goes on where it
was killed.
"""

from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags()
PENALTIES = [
    "mnist_1000",
    "mnist_1000_uncentred",
    "synthetic",
    "cancer",
    "mnist_15000",
]
OTHERS = ["noisy_labels", "schedule", "cnn"]
CHOICES = [*PENALTIES, *OTHERS, "digits"]
MAIN = [
    "SignConsensus(reach=6.0)",
    "SignConsensus()",
    "SignDescent(0.3), mean",
    "Adam(0.3), mean",
]
CONSTANTS = [
    "SignConsensus(reach=9.0)",
    "SignConsensus(prior=3.0)",
    "SignConsensus(prior=12.0)",
    "SignConsensus(forget=0.9)",
    "SignConsensus(layer_rate=0.0)",
]
FURTHER = [
    "SignDescent(0.3), same path",
    "SignDescent(0.3), last",
    "Adam(0.05), mean",
    "Lion(0.3), mean",
    "SGD, normalized, mean",
]
# Groups of rules that one process tries, by the method of the hypergradient.
GROUPS = {
    "main": ("drmad", MAIN),
    "constants": ("drmad", CONSTANTS),
    "further": ("drmad", FURTHER),
    "exact": ("exact", MAIN[:3]),
    "anchors": ("anchors", MAIN[:1]),
    "gauss_newton": ("gauss_newton", MAIN[:2]),
}
flags.DEFINE_list(
    "cells",
    [
        "mnist_1000:main:5",
        "mnist_1000:exact:5",
        "mnist_1000:anchors:5",
        "mnist_1000_uncentred:main:5",
        "mnist_1000_uncentred:exact:5",
        "synthetic:main:5",
        "cancer:main:5",
        "mnist_15000:main:3",
        "synthetic:constants:5",
        "cancer:constants:5",
        "mnist_1000:constants:3",
        "mnist_1000:further:3",
        "synthetic:exact:5",
        "cancer:exact:5",
        "synthetic:further:5",
        "cancer:further:5",
        "noisy_labels:main:3",
        "schedule:main:3",
        "cnn:main:3",
        "synthetic:gauss_newton:5",
        "mnist_1000:gauss_newton:3",
    ],
    "Problem, group of rules and number of seeds, in the order to run. "
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


def is_cell(problem="", group="", seeds="", *more: str) -> bool:
    """Returns whether an entry of `--cells` is one."""
    return (
        problem in CHOICES
        and group in GROUPS
        and seeds.isdigit()
        and int(seeds) > 0
        and not more
    )


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = study.values(
        "data_dir", "draws", "meta_iterations", "divide_steps"
    )
    found = {}
    for problem, group, seeds in (one.split(":") for one in FLAGS.cells):
        method, rules = GROUPS[group]
        for seed in range(int(seeds)):
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
