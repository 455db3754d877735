"""Learns how much the nets of ten alphabets should share, layer by layer.

Maclaurin et al. 2015, section 3.3, and Fu et al. 2016 (DrMAD): five Omniglot
alphabets and the same five turned by 90 degrees are ten tasks, with a net each.
The weights of each layer are w = T z, where a 10 x 10 matrix T mixes what the
tasks train, z. The matrices are tuned on held-out drawings, by DrMAD and by the
exact hypergradient, and compared with two that are fixed: separate nets (T = I)
and a tied bottom layer (T = 1/10 in that layer).

    python -m studies.omniglot_sharing --data_dir=FOLDER --run_name=rotated

The same command goes on where it was killed.
"""

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from studies import omniglot, study

FLAGS = flags.FLAGS
study.define_flags(seeds=3)
flags.DEFINE_list(
    "alphabets",
    ["Aurek-Besh", "Blackfoot", "Hebrew", "N_Ko", "Ojibwe"],
    "How their names begin.",
)
flags.DEFINE_multi_enum(
    "methods",
    ["drmad", "reverse"],
    ["drmad", "default", "reverse"],
    "drmad, along the whole line; default, this package's DrMAD(); reverse, "
    "exact.",
)
flags.DEFINE_list("hidden", ["400", "200"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 50, "T, elementary steps.", lower_bound=1)
flags.DEFINE_float(
    "learning_rate",
    1.0,
    "alpha of v <- gamma v - (1 - gamma) g, z <- z + alpha v.",
    lower_bound=0,
)
flags.DEFINE_float("momentum", 0.9, "gamma.", 0, 1)
flags.DEFINE_float("log_penalty", -4.0, "Logarithm of the L2 penalty of z.")
flags.DEFINE_float(
    "log_init_scale", -2.0, "Logarithm of the deviation of the first z."
)
flags.DEFINE_float(
    "own_part", 0.5, "Of T at the start: own_part I + (1 - own_part) / tasks."
)
flags.DEFINE_integer(
    "meta_iterations", 20, "Trainings, each with a hypergradient.", 2
)
flags.DEFINE_float("meta_step", 0.2, "Of gradient descent on T.", 0)

FIXED = {"separate": "separate nets", "tied": "tied bottom layer"}
LEARNED = {
    "drmad": "learned, DrMAD",
    "default": "learned, DrMAD()",
    "reverse": "learned, exact",
}
NAMES = FIXED | LEARNED


def cells() -> dict[str, dict]:
    """Returns the settings of each cell, by name."""
    common = study.values(
        "data_dir", "alphabets", "steps", "meta_iterations"
    ) | {
        "hidden": study.whole("hidden"),
        "numbers": study.values(
            "learning_rate",
            "momentum",
            "log_penalty",
            "log_init_scale",
            "own_part",
            "meta_step",
        ),
    }
    return {
        f"{way}_seed_{seed}": common
        | {"way": way, "is_learned": way in LEARNED, "seed": seed}
        for way in (*FIXED, *FLAGS.methods)
        for seed in range(FLAGS.seeds)
    }


def of_way(results, way: str, key: str):
    """Returns what all seeds found, stacked."""
    return np.stack([record[key] for record in results[way]])


def pairs(correlations):
    """Returns mean correlations of alphabets with themselves, turned.

    Args:
        correlations: `(..., tasks, tasks)`.

    Returns:
        Their mean, and that of all others between different tasks.
    """
    tasks = correlations.shape[-1]
    are_pairs = np.roll(np.eye(tasks, dtype=bool), tasks // 2, axis=1)
    others = ~are_pairs & ~np.eye(tasks, dtype=bool)
    return correlations[..., are_pairs].mean(-1), (
        correlations[..., others].mean(-1)
    )


def table(results) -> list[dict]:
    """Returns a row for each way to share: means, deviations over seeds."""
    rows = []
    for way in (*FIXED, *FLAGS.methods):
        row = {"sharing": NAMES[way]} | {
            f"{part} loss": study.mean_and_deviation(
                of_way(results, way, f"last_{part}_loss")
            )
            for part in ("train", "test")
        }
        both = pairs(of_way(results, way, "correlations"))
        for name, values in zip(("pairs", "others"), both, strict=True):
            row[f"correlation, {name}"] = " / ".join(
                f"{value:.2f}" for value in values.mean(0)
            )
        row["seconds a meta-iteration"] = ""
        if way in LEARNED:  # the first one compiles
            seconds = of_way(results, way, "seconds")[:, 1:].mean(axis=1)
            row["seconds a meta-iteration"] = study.mean_and_deviation(seconds)
        rows.append(row)
    return rows


def draw_curves(run, results) -> None:
    """Writes validation and test loss against meta-iterations."""
    from keras_drmad import plots
    from studies.omniglot_nets import TRAINING, VALIDATION

    (panels,) = study.panels(1, 2, (10, 4.5), sharey=True)
    places = np.arange(1, FLAGS.meta_iterations + 1)
    titles = {
        "val_loss": f"Validation: {VALIDATION} drawings of each character",
        "test_loss": "Test: 3 drawings of each character",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for way in FLAGS.methods:
            curves = of_way(results, way, key)
            plots.mean_and_band(places, curves, axes=axes, label=NAMES[way])
        axes.set_title(title, fontsize="medium")
        study.number_meta_iterations(axes)
    panels[0].set_ylabel("loss (nats an example)")
    study.legend_below(panels[0])
    panels[0].figure.suptitle(
        f"Each training with {TRAINING} drawings of each character: mean and "
        f"deviation of {FLAGS.seeds} seeds"
    )
    run.write_figure(panels[0], "losses")


def draw_correlations(run, results) -> None:
    """Writes what is learned: a row for each method, a column for each layer.

    An alphabet stands beside itself, turned.
    """
    n, depths = len(FLAGS.alphabets), len(FLAGS.hidden) + 1
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    rows = len(FLAGS.methods)
    grid = study.panels(rows, depths, (1.8 + 3 * depths, 1.2 + 3 * rows))
    for panels, way in zip(grid, FLAGS.methods, strict=True):
        mean = of_way(results, way, "correlations").mean(axis=0)
        both = zip(*pairs(mean), strict=True)
        for depth, (axes, numbers) in enumerate(zip(panels, both, strict=True)):
            image = axes.imshow(
                mean[depth][np.ix_(order, order)], vmin=0, vmax=1
            )
            for k in range(n):
                axes.add_patch(
                    plt.Rectangle(
                        (2 * k - 0.5, 2 * k - 0.5), 2, 2, fill=False, ec="red"
                    )
                )
            places = 2 * np.arange(n) + 0.5
            axes.set_xticks(places, [])
            axes.set_yticks(places, [])
            axes.tick_params(length=0)
            axes.set_title(
                f"{NAMES[way]}: layer {depth + 1}\n"
                "pairs {:.2f}, others {:.2f}".format(*numbers),
                fontsize="medium",
            )
        panels[0].set_yticks(places, FLAGS.alphabets)
    for axes in grid[-1]:
        axes.set_xticks(places, FLAGS.alphabets, rotation=45, ha="right")
    figure = grid[0, 0].figure
    figure.colorbar(image, ax=grid, label="correlation of weights, T Tᵀ")
    figure.suptitle(
        "What the nets share, mean of seeds; in red: an alphabet and itself, "
        "turned by 90°"
    )
    run.write_figure(grid[0, 0], "correlations")


def main(_):
    from studies import omniglot_nets

    omniglot.load(FLAGS.data_dir, FLAGS.alphabets, 0)  # or an error now
    run = study.begin("omniglot_sharing")
    results = study.by_seed(study.run_cells(run, omniglot_nets.cell, cells()))
    draw_curves(run, results)
    draw_correlations(run, results)
    study.report(run, table(results), "results")
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
