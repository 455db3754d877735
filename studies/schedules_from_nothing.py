"""Learns schedules from starts a hundred times off, against cosine schedules.

    python -m studies.schedules_from_nothing --data_dir=FOLDER

A learning rate in 7 knots, a momentum and a weight decay are learned in a few
meta-iterations of exact hypergradients: *from nothing* (rate and decay a
hundredth of what is usual, momentum .01; a logarithm cannot start at 0) and
*from far above* (the rate a hundred times the usual one). `--problems`:

*lenet*: LeNet by AdamW, on MNIST or, in small, on the digits.
*lenet_sgd*: the same net by SGD with momentum, whose edge of stability is
sharper: there a training with a rate a hundred times too high leaves the finite
numbers.
*resnet*: a residual net with BatchNormalization by AdamW, on the CIFAR-10
subset at half its resolution, or on the digits.

Beside them, each with the best of a grid of rates by validation loss on draws
of its own: AdamW and SGD with momentum .9, with a cosine schedule and with a
constant rate, and `keras.optimizers.ScheduleFreeAdamW` where this Keras has it;
and AdamW with a cosine schedule, the best of a grid of rates and momenta.
All ways are judged on new draws of weights and batches, as many for each way.

Prints Markdown, writes tables and a picture; the same command goes on where it
was killed.
"""

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(seeds=3)
PROBLEMS = ("lenet", "lenet_sgd", "resnet")
STARTS = ("from nothing", "from far above")
RULES = ("SignConsensus()", "SignDescent(0.1)")
flags.DEFINE_bool("digits", False, "Scikit-learn's digits for all problems.")
flags.DEFINE_multi_enum(
    "problems", PROBLEMS[:1], PROBLEMS, "Once for each problem."
)
flags.DEFINE_multi_enum("starts", STARTS, STARTS, "Once for each start.")
flags.DEFINE_multi_enum(
    "rules", RULES[:1], RULES, "Meta-optimizers, once for each."
)
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 2)
flags.DEFINE_integer("knots", 7, "Of the rate.", 2)
flags.DEFINE_integer("meta_iterations", 15, "Trainings that tune.", 1)
flags.DEFINE_integer("grid", 6, "Rates of each rival's grid.", 1)
flags.DEFINE_list(
    "momenta", ["0.01", "0.5"], "Beside .9, for a grid of rates and momenta."
)
flags.DEFINE_integer("tries", 2, "Draws on which a grid is judged.", 1)
flags.DEFINE_integer("draws", 4, "New draws on which all are judged.", 1)


def cells(problem: str) -> dict[str, dict]:
    """Returns the settings of each cell of a problem."""
    common = {"problem": problem} | study.values(
        "digits", "data_dir", "steps", "draws"
    )
    ours = common | study.values("knots", "meta_iterations")
    found = {}
    for seed in range(FLAGS.seeds):
        # Rivals are those of the net, whatever optimizer tuning begins with.
        net = problem.removesuffix("_sgd")
        rivals = common | {"problem": net, "seed": seed}
        rivals |= study.values("grid", "tries")
        found[f"{net}_rivals_{seed}"] = rivals | {"kind": "rivals"}
        if FLAGS.momenta:
            found[f"{net}_momenta_{seed}"] = rivals | {
                "kind": "momenta",
                "further": [float(number) for number in FLAGS.momenta],
            }
        for start in FLAGS.starts:
            for rule in FLAGS.rules:
                name = f"{problem}_{start}_{rule}_{seed}".replace(" ", "_")
                found[name] = ours | {
                    "kind": "ours",
                    "start": start,
                    "rule": rule,
                    "seed": seed,
                }
    return found


def table(records) -> list[dict]:
    """Returns means over draws, and deviations over seeds, for each way.

    Args:
        records: what the cells of one problem returned.
    """
    ways: dict[str, list] = {}
    for record in records:
        for name, values, (forward, backward) in zip(
            record["names"], record["values"], record["steps"], strict=True
        ):
            if backward:
                forward = backward + FLAGS.steps * _repeated(record)
            own = values, (forward, backward)
            ways.setdefault(str(name), []).append(own)
    best = min(
        np.mean([v[:, 1] for v, _ in each])
        for name, each in ways.items()
        if "cosine" in name
    )
    rows = []
    for name, each in ways.items():
        means = np.array([values.mean(axis=0) for values, _ in each])
        forward, backward = np.mean([steps for _, steps in each], axis=0)
        rows.append(
            {
                "way": name,
                "test loss": study.mean_and_deviation(means[:, 0], 3),
                "test error, %": study.mean_and_deviation(means[:, 1], 2),
                "of the best cosine": f"{means[:, 1].mean() / best:.2f}",
                "worst draw, %": f"{max(v[:, 1].max() for v, _ in each):.1f}",
                "steps forward + backward": f"{forward:.0f} + {backward:.0f}",
            }
        )
    return rows


def _repeated(record) -> float:
    """Returns how many trainings began again, for they diverged.

    Of those past the edge in a meta-iteration, all but the last.
    """
    return np.maximum(record["past_edge"] - 1, 0).sum()


def draw(run, problem: str, results) -> None:
    """Draws losses and errors over meta-iterations, and the rates found."""
    axes = study.panels(1, 3, (13, 4))[0]
    colors: dict[str, str] = {}
    for name, record in results.items():
        if "rates" not in record:
            continue
        way = str(record["names"][-1])
        color = colors.setdefault(way, f"C{len(colors)}")
        label = way if name.endswith("_0") else None
        count = range(1, 1 + len(record["val_loss"]))
        axes[0].plot(count, record["val_loss"], color=color, label=label)
        axes[1].plot(count, record["rates"].mean(axis=1), color=color)
        steps = np.linspace(0, FLAGS.steps, len(record["found"]))
        axes[2].plot(steps, record["found"], color=color)
    axes[0].set(ylabel="validation loss", yscale="log")
    axes[1].set(ylabel="mean rate of the knots", yscale="log")
    axes[2].set(xlabel="elementary step", yscale="log")
    axes[2].set_ylabel("rate found: mean of the last half")
    for one in axes[:2]:
        study.number_meta_iterations(one)
    for name, record in results.items():
        if name.endswith("rivals_0"):
            family = "SGD" if problem.endswith("_sgd") else "AdamW"
            cosines = [family in n and "cosine" in n for n in record["names"]]
            rate = float(record["chosen"][cosines.index(True)])
            time = np.arange(FLAGS.steps)
            wave = rate * (0.5 + 0.5 * np.cos(np.pi * time / FLAGS.steps))
            label = f"best cosine of {family}'s grid"
            axes[2].plot(time, wave, "k:", label=label)
            axes[2].set_ylim(bottom=rate / 300)
            axes[2].legend(fontsize="small")
    study.legend_below(axes[0])
    run.write_figure(axes[0], problem)


def main(_):
    from studies import schedules_from_nothing_trainings as trainings

    run = study.begin("schedules_from_nothing")
    for problem in FLAGS.problems:
        trainings.check_data(problem, FLAGS.digits, FLAGS.data_dir)
        found = study.run_cells(run, trainings.cell, cells(problem))
        study.report(run, table(list(found.values())), problem)
        draw(run, problem, found)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
