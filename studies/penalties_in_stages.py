"""Tunes one L2 penalty for a net, then one a layer, then one an input.

The setting of Maclaurin et al. 2015, section 3.2, in the fourth run of their
code: each meta-iteration draws anew what is training and what validation, and
is judged on test images after a training on both.

    python -m studies.penalties_in_stages --data_dir=FOLDER --run_name=mnist

The same command goes on where it was killed.
"""

import math

import numpy as np
from absl import app, flags

from examples import datasets
from studies import study

FLAGS = flags.FLAGS
study.define_flags(["mnist", "digits"], seeds=3)

STAGES = ("all", "layer", "input")
LABELS = {"drmad": "DrMAD", "reverse": "exact reverse mode"}

flags.DEFINE_multi_enum(
    "methods",
    list(LABELS),
    list(LABELS),
    "The paper's and exact; once for each.",
)
flags.DEFINE_list(
    "meta_iterations",
    ["10", "5", "3"],
    "With one penalty for all weights, one a layer, one an input.",
)
flags.DEFINE_float("meta_step", 0.1, "Step of the log penalties, by sign.", 0)
flags.DEFINE_float("log_penalty", -4.0, "Of the penalty at the start.")
flags.DEFINE_list("hidden", ["1000", "1000"], "Units of the hidden layers.")
flags.DEFINE_integer("size", 1000, "Training, validation and test images.", 1)
flags.DEFINE_integer("steps", 100, "T, elementary steps.", 1)


@flags.validator("meta_iterations", "Expected three positive whole numbers.")
def _are_three_counts(values):
    return len(values) == len(STAGES) and all(
        value.isdecimal() and int(value) > 0 for value in values
    )


def tune(
    dataset: str,
    data_dir: str | None,
    method: str,
    seed: int,
    meta_iterations: list[int],
    meta_step: float,
    log_penalty: float,
    size: int,
    T: int,
    hidden: list[int],
):
    """Tunes through all stages; returns test losses and mean penalties."""
    import keras

    import keras_drmad as kd
    from studies import papers

    images = datasets.load(dataset, data_dir, (2 * size, 1, size), seed)
    exact = method == "reverse"
    found_by = kd.ReverseMode() if exact else papers.drmad_of_paper()
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    coefficients = {"": np.exp([log_penalty])}
    losses, means = [], []
    for per, count in zip(STAGES, meta_iterations, strict=True):
        model = papers.papers_model(images, hidden)
        penalties = kd.hyperparameters.L2(per)
        papers.compile_as_papers(
            model, 0.3, 0.9, penalties, found_by, meta_step
        )
        penalties.raw.assign(np.log(spread(coefficients, penalties)))
        for _ in range(count):
            means.append(np.mean(penalties.raw))
            # New weights, a new split.
            other = papers.papers_net(images, hidden)
            model.elementary_model.set_weights(other.get_weights())
            split = random.permutation(2 * size).reshape(2, size)
            losses.append(
                step(model, images, split, T=T, batch_size=200, seed=seed)
            )
        coefficients = penalties.by_layer(penalties.value().numpy())
    return {"test_loss": np.array(losses), "mean_log_l2": np.array(means)}


def step(model, images, split, T: int, batch_size: int, seed: int) -> float:
    """Takes a meta-iteration; returns the test loss before it.

    Args:
        model: a `DrMADModel`; its hyperparameters are moved.
        images: `Images`; those for training are split.
        split: `(2, size)`, places of training and of validation images.
        T: int, elementary steps.
        batch_size: int.
        seed: int, of the order of the batches.
    """
    x, y = images.train
    training = {
        "batch_size": min(batch_size, split.shape[1]),
        "steps_per_epoch": T,
        "seed": seed,
    }
    loss = model.validation_loss_after(
        x, y, validation_data=images.test, **training
    )
    model.fit(
        x[split[0]],
        y[split[0]],
        validation_data=(x[split[1]], y[split[1]]),
        meta_iterations=1,
        initial_weights="same",
        keep="last",  # which leaves the hyperparameters a step further
        verbose=0,
        **training,
    )
    return loss


def spread(coefficients, penalties):
    """Returns where finer penalties start, from coarser ones.

    Args:
        coefficients: dict from a layer to its coefficients; or from anything
            to the one that all layers share.
        penalties: the finer `L2`, bound.
    """
    count = math.prod(penalties.raw.shape)
    places = penalties.by_layer(np.arange(count).reshape(penalties.raw.shape))
    finer = np.empty(count)
    for layer, own in places.items():
        finer[own] = coefficients.get(layer, next(iter(coefficients.values())))
    return finer.reshape(penalties.raw.shape)


def cells() -> dict[str, dict]:
    """Returns the settings of each training in stages."""
    common = study.values(
        "dataset", "data_dir", "meta_step", "log_penalty", "size"
    ) | {
        "meta_iterations": study.whole("meta_iterations"),
        "T": FLAGS.steps,
        "hidden": study.whole("hidden"),
    }
    return {
        f"{method}_seed_{seed}": {**common, "method": method, "seed": seed}
        for method in FLAGS.methods
        for seed in range(FLAGS.seeds)
    }


def draw(run, by_method):
    """Writes the test loss and the mean penalty through the stages."""
    from keras_drmad import plots

    (axes,) = study.panels(1, 2, (10, 4))
    counts = study.whole("meta_iterations")
    entries = {
        "test_loss": "test loss",
        "mean_log_l2": "mean logarithm of the L2 coefficients",
    }
    for panel, (entry, label) in zip(axes, entries.items(), strict=True):
        for method, records in by_method.items():
            rows = np.array([record[entry] for record in records])
            steps = np.arange(1, sum(counts) + 1)
            plots.mean_and_band(steps, rows, axes=panel, label=LABELS[method])
        for k in np.cumsum(counts)[:-1]:
            panel.axvline(k + 0.5, color="gray", linestyle=":", linewidth=0.8)
        study.number_meta_iterations(panel)
        panel.set_ylabel(label)
    axes[0].legend()
    axes[0].figure.suptitle(
        "One penalty for all, then one a layer, then one an input: mean and "
        f"deviation of {FLAGS.seeds} seeds"
    )
    run.write_figure(axes[0], "stages")


def rows(by_method) -> list[dict]:
    """Returns test losses at the start and at the last of each stage."""
    ends = np.cumsum(study.whole("meta_iterations")) - 1
    table = []
    for method, records in by_method.items():
        losses = np.array([record["test_loss"] for record in records])
        means = np.array([record["mean_log_l2"] for record in records])
        row = {
            "method": LABELS[method],
            "start": study.mean_and_deviation(losses[:, 0], 4),
        }
        for per, k in zip(STAGES, ends, strict=True):
            row[f"last, per {per}"] = study.mean_and_deviation(losses[:, k], 4)
            row[f"log L2, per {per}"] = f"{means[:, k].mean():.2f}"
        table.append(row)
    return table


def main(_):
    sizes = (2 * FLAGS.size, 1, FLAGS.size)
    datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, 0)  # or an error now
    run = study.begin("penalties_in_stages")
    by_method = study.by_seed(study.run_cells(run, tune, cells()))
    draw(run, by_method)
    study.report(run, rows(by_method), "results")


if __name__ == "__main__":
    app.run(main)
