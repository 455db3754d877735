"""Shows the loss on the line from first to last weights, for three nets.

Goodfellow, Vinyals and Saxe (ICLR 2015, https://arxiv.org/abs/1412.6544) saw
the training loss fall smoothly along the straight line from the first weights
w_0 to the trained ones w_T. DrMAD walks backward along it. Here a tanh net
and a convolutional one, and a residual net with BatchNormalization, are
trained by SGD with momentum, at a small and at a large learning rate, from
several seeds. Of each line the program draws training and validation loss, and
says where the training loss rises on the way by more than 5 % of its fall.

    python -m studies.loss_along_line
    python -m studies.loss_along_line --dataset=own --data_dir=FOLDER
"""

import math

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets
from studies import study

FLAGS = flags.FLAGS
study.define_flags(seeds=3)

NETS = ("mlp", "cnn", "resnet")

flags.DEFINE_enum(
    "dataset",
    "digits",
    ["digits", "own"],
    "scikit-learn's digits for all nets; or MNIST for mlp and cnn, and the "
    "CIFAR-10 subset for resnet.",
)
flags.DEFINE_multi_enum("nets", NETS, NETS, "Which nets.")
flags.DEFINE_multi_float(
    "rates", [0.01, 0.1], "Learning rates, a row of pictures for each."
)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0, 1)
flags.DEFINE_integer(
    "steps", None, "T, elementary steps; 1000 (digits, resnet) or 2000.", 1
)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", 1)
flags.DEFINE_integer("points", 61, "Places on the line, from -0.5 to 1.5.", 3)


def load(net: str, dataset: str, data_dir: str | None, seed: int):
    """Returns the images that a net is trained on."""
    if dataset == "digits":
        return datasets.load(dataset, data_dir, (1000, 400, 0), seed)
    if net == "resnet":
        return datasets.load("cifar10", data_dir, (4000, 1000, 0), seed)
    return datasets.load("mnist", data_dir, (10000, 2000, 0), seed)


def build_net(net: str, shape: tuple[int, ...], classes: int):
    """Returns one of the nets, for flattened images."""
    import keras

    from examples.tanh_net import tanh_net
    from studies.residual_net import residual_net

    pixels = math.prod(shape)
    if net == "mlp":
        return tanh_net(pixels, (50, 50, 50), classes)
    height, width, channels = (*shape, 1)[:3]
    image = height, width, channels
    x = inputs = keras.Input((pixels,))
    x = keras.layers.Reshape(image)(x)
    if net == "resnet":
        outputs = residual_net(image, classes, blocks=1, channels=8)(x)
        return keras.Model(inputs, outputs)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


def losses(
    net: str,
    dataset: str,
    data_dir: str | None,
    rate: float,
    momentum: float,
    steps: int,
    batch_size: int,
    points: int,
    seed: int,
) -> dict:
    """Trains a net; returns its losses along the line of the training."""
    import keras

    import keras_drmad as kd
    from keras_drmad.loss_along_line import losses_along_line

    images = load(net, dataset, data_dir, seed)
    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(
        build_net(net, images.shape, images.classes)
    )
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2("layer", 1e-4)],
    )
    model.fit(
        *images.train,
        batch_size=batch_size,
        steps_per_epoch=steps,
        meta_iterations=0,
        seed=seed,
        verbose=0,
    )
    alphas = np.linspace(-0.5, 1.5, points)
    some = tuple(a[:2000] for a in images.train)
    data = {"training": some, "validation": images.validation}
    found = losses_along_line(model, data, alphas=alphas)
    return {"alphas": alphas, **found}


def cells() -> dict[str, dict]:
    """Returns the settings of each training, by name."""
    common = study.values(
        "dataset", "data_dir", "momentum", "batch_size", "points"
    )
    return {
        f"{net}_{rate:g}_{seed}": common
        | {"net": net, "rate": rate, "seed": seed, "steps": steps_of(net)}
        for net in FLAGS.nets
        for rate in FLAGS.rates
        for seed in range(FLAGS.seeds)
    }


def steps_of(net: str) -> int:
    """Returns how many steps a net is trained for."""
    small = FLAGS.dataset == "digits" or net == "resnet"
    return FLAGS.steps or (1000 if small else 2000)


def rows_of(settings, results) -> list[dict]:
    """Returns what is to be said of each line, for results.csv."""
    from keras_drmad import loss_along_line

    rows = []
    for name, found in results.items():
        places = found["alphas"]
        for part in ("training", "validation"):
            barrier = loss_along_line.barrier(places, found[part])
            lowest = int(np.argmin(found[part]))
            rows.append(
                {k: settings[name][k] for k in ("net", "rate", "seed")}
                | {"loss": part}
                | barrier._asdict()
                | {
                    "rise_over_fall": barrier.height / barrier.fall,
                    "is_barrier": barrier.is_there,
                    "first_loss": np.interp(0, places, found[part]),
                    "last_loss": np.interp(1, places, found[part]),
                    "minimum_alpha": places[lowest],
                    "minimum_loss": found[part][lowest],
                }
            )
    return rows


def summary_of(rows) -> list[dict]:
    """Returns mean and standard deviation over seeds, for each net and rate."""

    def over_seeds(group, key, digits=2, factor=1):
        values = [factor * row[key] for row in group]
        return study.mean_and_deviation(values, digits)

    summary = []
    for net in FLAGS.nets:
        for rate in FLAGS.rates:
            training, validation = (
                [
                    row
                    for row in rows
                    if (row["net"], row["rate"], row["loss"])
                    == (net, rate, part)
                ]
                for part in ("training", "validation")
            )
            barriers = sum(row["is_barrier"] for row in training)
            summary.append(
                {
                    "net": net,
                    "rate": rate,
                    "loss at 0": over_seeds(training, "first_loss"),
                    "loss at 1": over_seeds(training, "last_loss", 3),
                    "rise / fall (%)": over_seeds(
                        training, "rise_over_fall", 1, 100
                    ),
                    "barriers": f"{barriers} of {len(training)}",
                    "minimum at": over_seeds(training, "minimum_alpha"),
                    "val. rise / fall (%)": over_seeds(
                        validation, "rise_over_fall", 1, 100
                    ),
                    "val. minimum at": over_seeds(validation, "minimum_alpha"),
                }
            )
    return summary


def draw(run, results):
    """Writes the picture: a column for each net, a row for each rate."""
    from keras_drmad import loss_along_line

    shape = len(FLAGS.rates), len(FLAGS.nets)
    size = (1.5 + 3.2 * shape[1], 1.2 + 2.6 * shape[0])
    grid = study.panels(*shape, size, sharex=True)
    figure = grid[0, 0].figure
    styles = {"training": ("C0", "-"), "validation": ("C1", "--")}
    for (i, j), axes in np.ndenumerate(grid):
        net, rate = FLAGS.nets[j], FLAGS.rates[i]
        highest = 0.0
        for seed in range(FLAGS.seeds):
            found = results[f"{net}_{rate:g}_{seed}"]
            places = found["alphas"]
            for part, (color, style) in styles.items():
                axes.plot(places, found[part], style, color=color, lw=1)
                way = found[part][(places >= 0) & (places <= 1)]
                highest = max(highest, way.max())
            rise = loss_along_line.barrier(places, found["training"])
            if rise.is_there:
                axes.axvspan(rise.foot, rise.top, color="C3", alpha=0.12, lw=0)
        for alpha in (0, 1):
            axes.axvline(alpha, color="gray", lw=0.8, ls=":")
        axes.set_ylim(0, 1.3 * highest)
        axes.set_title(f"{net}, learning rate {rate:g}", fontsize="medium")
    lines = [
        plt.Line2D([], [], color=color, ls=style, label=f"{part} loss")
        for part, (color, style) in styles.items()
    ]
    span = plt.Rectangle((0, 0), 1, 1, color="C3", alpha=0.3)
    span.set_label("a seed's training loss rises by > 5 % of its fall")
    figure.legend(handles=[*lines, span], loc="outside lower center", ncols=3)
    for axes in grid[-1]:
        axes.set_xlabel("α")
    for axes in grid[:, 0]:
        axes.set_ylabel("cross-entropy (nats)")
    figure.suptitle(
        "Loss at $(1 - α) w_0 + α w_T$, from first to last weights; number of "
        f"seeds: {FLAGS.seeds}"
    )
    run.write_figure(grid[0, 0], "loss_along_line")


def main(_):
    for net in FLAGS.nets:  # a file that is missing is told of before any work
        load(net, FLAGS.dataset, FLAGS.data_dir, seed=0)
    run = study.begin("loss_along_line")
    settings = cells()
    results = study.run_cells(run, losses, settings)
    draw(run, results)
    rows = rows_of(settings, results)
    run.write_table(rows, "results")
    study.report(run, summary_of(rows), "summary")
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
