"""Tunes a deep residual net by several methods, against what hands can do.

The paper leaves open whether DrMAD serves deep nets. Here a ResNet-20 with
BatchNormalization, trained by Adam on the CIFAR-10 subset at half its
resolution, gets an L2 penalty and a learning rate for each layer with a kernel;
each method tunes them from the same start. Beside them: the start, and the
best of a small grid of one penalty and one rate for all layers. (By SGD with
momentum the exact adjoint grows a million times and more in the first 60 steps
of this net: `--optimizer=sgd --learning_rate=0.01` shows what that does.)

    python -m studies.deep_net --data_dir=FOLDER --run_name=cifar10

At the end what each found trains a net of new weights on training and
validation images together, as one would to ship it. The same command goes on
where it was killed. DrMAD() has no row of its own: as soon as rates are tuned,
it is the paper's walk, one step in ten of the whole line.
"""

import os
import pathlib

from absl import app, flags

from examples import datasets
from studies import study

FLAGS = flags.FLAGS
study.define_flags(["cifar10", "digits"], seeds=3)
flags.DEFINE_integer("blocks", 3, "Residual blocks in each of 3 stages.", 1)
flags.DEFINE_integer("channels", 8, "Channels of the first stage.", 1)
flags.DEFINE_integer("steps", 250, "T, elementary steps.", 1)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", 1)
flags.DEFINE_enum(
    "optimizer", "adam", ["adam", "sgd"], "Adam, or SGD with momentum 0.9."
)
flags.DEFINE_float("learning_rate", 1e-3, "At the start.", 0)
flags.DEFINE_float("penalty", 1e-4, "L2 coefficients at the start.", 0)
flags.DEFINE_integer("meta_iterations", 6, "Trainings of each method.", 2)
flags.DEFINE_float("meta_step", 0.35, "Step on the logarithms, by Adam.", 0)
flags.DEFINE_list("methods", ["drmad", "anchors", "exact"], "Those that tune.")
flags.DEFINE_list(
    "compared",
    ["last_tenth", "anchors_last"],
    "Methods of which only the first hypergradient is compared.",
)
flags.DEFINE_list(
    "grid_rates", ["0.3", "1", "3", "10"], "Factors on the rate, for the grid."
)
flags.DEFINE_list(
    "grid_penalties", ["0.1", "1", "10"], "Factors on the penalty."
)


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = study.values(
        "dataset",
        "data_dir",
        "blocks",
        "channels",
        "optimizer",
        "batch_size",
        "learning_rate",
        "penalty",
    ) | {"T": FLAGS.steps}
    counts = dict.fromkeys(FLAGS.methods, FLAGS.meta_iterations)
    for method in FLAGS.compared:
        counts.setdefault(method, 1)
    found = {}
    for seed in range(FLAGS.seeds):
        own = common | {"seed": seed}
        found[f"grid_{seed}"] = own | {
            "kind": "search",
            "rates": [float(factor) for factor in FLAGS.grid_rates],
            "penalties": [float(factor) for factor in FLAGS.grid_penalties],
        }
        for method, count in counts.items():
            found[f"{method}_{seed}"] = own | {
                "kind": "tune",
                "method": method,
                "meta_iterations": count,
                "meta_step": FLAGS.meta_step,
            }
    return found


def check_data(data_dir: str | None) -> None:
    """Checks that the images are there, before work starts.

    Raises:
        FileNotFoundError: if they are not.
    """
    folder = data_dir or os.environ.get("KERAS_DRMAD_DATA") or ""
    path = pathlib.Path(folder, datasets.FILES["cifar10"])
    if FLAGS.dataset == "cifar10" and not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}. Pass a folder that holds {path.name}, of "
            "Keras's keys x_train, y_train, x_test and y_test, as --data_dir, "
            "or use --dataset=digits."
        )


def main(_):
    from studies import deep_net_report as report
    from studies import deep_net_trainings

    check_data(FLAGS.data_dir)
    run = study.begin("deep_net")
    results = study.run_cells(run, deep_net_trainings.cell, cells())
    found = study.by_seed(results)
    report.draw_meta_iterations(run, found)
    report.draw_cost(run, found)
    report.draw_hyperparameters(run, found)
    study.report(run, report.table(found), "results")


if __name__ == "__main__":
    app.run(main)
