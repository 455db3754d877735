"""Learns how much the nets of ten alphabets should share, layer by layer.

Maclaurin et al. 2015, section 3.3, and Fu et al. 2016 (DrMAD): five Omniglot
alphabets and the same five turned by 90 degrees are ten tasks, with a net each.
The weights of each layer are w = T z, where a 10 x 10 matrix T mixes what the
tasks train, z. The matrices are tuned on held-out drawings, by DrMAD and by the
exact hypergradient, and compared with two that are fixed: separate nets (T = I)
and a tied bottom layer (T = 1/10 there).

    python -m examples.omniglot_sharing --data_dir=FOLDER --run_name=rotated

The same command goes on where it was killed.
"""

import math
import time

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "data_dir", None, "Folder with omniglot28.npz; KERAS_DRMAD_DATA by default."
)
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
flags.DEFINE_integer("seeds", 3, "Of splits, classes and weights.", 1)
flags.DEFINE_integer(
    "processes", 1, "Cells of the study at a time; 0: in this process.", 0
)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")

# Drawings of each character.
TRAINING, VALIDATION = 10, 2  # and 3 for the test
FIXED = {"separate": "separate nets", "tied": "tied bottom layer"}
LEARNED = {
    "drmad": "learned, DrMAD",
    "default": "learned, DrMAD()",
    "reverse": "learned, exact",
}
NAMES = FIXED | LEARNED


# ---- one cell of the study


def matrices(start: str, own_part: float, depths: int, tasks: int):
    """Returns the T of each depth to start from, `(depths, tasks, tasks)`."""
    import numpy as np

    own = {"separate": [1.0] * depths, "tied": [0.0] + [1.0] * (depths - 1)}
    parts = np.array(own.get(start, [own_part] * depths))[:, None, None]
    return parts * np.eye(tasks) + (1 - parts) / tasks


def towers(counts: list[int], hidden: list[int], scale: float):
    """Returns a model with a net for the characters of each task.

    It takes a drawing of every character of all tasks at a time, `(characters,
    pixels)`; so no task needs padding, whatever the size of its alphabet.
    """
    import keras
    import numpy as np

    from examples import omniglot

    ops, draw = keras.ops, keras.initializers.RandomNormal
    inputs = keras.Input((sum(counts), 28 * 28))
    ends = np.cumsum([0, *counts])
    outputs = []
    for task, count in enumerate(counts):
        x = ops.reshape(inputs[:, ends[task] : ends[task + 1]], (-1, 28 * 28))
        for depth, units in enumerate([*hidden, omniglot.CLASSES]):
            x = keras.layers.Dense(
                units,
                "tanh" if depth < len(hidden) else None,
                kernel_initializer=draw(stddev=scale),
                bias_initializer=draw(stddev=scale),
                name=f"layer{depth}_task{task}",
            )(x)
        outputs.append(ops.reshape(x, (-1, count, omniglot.CLASSES)))
    return keras.Model(inputs, ops.concatenate(outputs, axis=1))


def way_back(name: str):
    """Returns a method by the name of its cells."""
    import keras_drmad as kd

    if name == "drmad":
        # Of 50 steps, with such large ones at first, a tenth says too little:
        # the hypergradient is less than half as long, and tuning as slow.
        return kd.DrMAD(1.0, average=False)
    return kd.ReverseMode() if name == "reverse" else kd.DrMAD()


def build_model(counts, hidden, T, method, seed, numbers):
    """Returns the towers as a compiled `DrMADModel`.

    Args:
        counts: the characters of each task.
        hidden: units of the hidden layers.
        T: matrices to start from.
        method: its name.
        seed: int, of the weights.
        numbers: dict of the flags that are numbers of the training.
    """
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(
        towers(counts, hidden, math.exp(numbers["log_init_scale"]))
    )
    depths = [f"layer{depth}_.*" for depth in range(len(T))]
    penalty, gamma = math.exp(numbers["log_penalty"]), numbers["momentum"]
    model.compile(
        # Keras's velocity has the rate in it, and no factor 1 - gamma.
        optimizer=keras.optimizers.SGD(
            numbers["learning_rate"] * (1 - gamma), gamma
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[
            kd.hyperparameters.WeightSharing(depths, T),
            # A regularizer of Keras would act on w. The bounds keep it fixed.
            kd.hyperparameters.L2(
                initial=penalty,
                biases=True,
                bounds=(penalty, penalty * (1 + 1e-6)),
            ),
        ],
        hypergradient=way_back(method),
        meta_optimizer=keras.optimizers.SGD(numbers["meta_step"]),
        # It takes XLA a minute to compile this, which runs no faster then.
        jit_compile=False,
    )
    return model


def batch(images, drawings, is_sum: bool = False):
    """Returns all images as one batch `(x, y, sample_weight)`.

    Args:
        images: `(n, characters, pixels)`.
        drawings: `Drawings`.
        is_sum: bool, whether the loss is the sum over tasks, which is what the
            papers train by; otherwise the mean, which they report and tune by.
    """
    import numpy as np

    counts = np.array(drawings.counts)
    weights = counts.sum() / np.repeat(counts, counts).astype("float32")
    weights /= 1 if is_sum else len(counts)
    n = len(images)
    return images, np.tile(drawings.labels, (n, 1)), np.tile(weights, (n, 1))


def fit(model, data, steps: int, **kwargs):
    """Fits to one batch; returns what is logged."""
    x, y, weights = data
    return model.fit(
        x,
        y,
        batch_size=len(x),
        steps_per_epoch=steps,
        sample_weight=weights,
        verbose=0,
        **kwargs,
    ).history


def learn(model, drawings, train, test, seed, steps, meta_iterations):
    """Tunes the matrices; returns what each training reached.

    As in the papers each training has a new split into training and validation
    drawings, and new first weights.
    """
    import numpy as np

    import keras_drmad as kd
    from examples import omniglot

    x, y, weights = batch(test, drawings)
    held_out = kd.callbacks.HeldOut(x, y, sample_weight=weights)
    record = {
        "val_loss": [],
        "test_loss": [],
        "hypergradient_norm": [],
        "T": [],
        "seconds": [],
    }
    for k in range(meta_iterations):
        parts = omniglot.split(train, TRAINING, [seed, k])
        record["T"].append(model.hyperparameters[0].value().numpy())
        begin = time.perf_counter()
        history = fit(
            model,
            batch(parts[0], drawings, is_sum=True),
            steps,
            validation_data=batch(parts[1], drawings),
            meta_iterations=1,
            initial_weights="resample",
            restore_best=False,  # T goes one step further
            callbacks=[held_out],
            seed=1000 * seed + k,
        )
        record["seconds"].append(time.perf_counter() - begin)
        for name in ("val_loss", "test_loss", "hypergradient_norm"):
            record[name].append(history[name][0])
    return {name: np.array(rows) for name, rows in record.items()}


def train_at_last(model, data, steps: int) -> None:
    """Trains with the matrices as they are, from the model's weights as z."""
    sharing = model.hyperparameters[0]
    variables = model.trainable_variables
    z = {id(v): v.value for v in variables}
    # Training goes on from weights w, of which it finds z by itself.
    mixed = sharing.weights(sharing.raw.value, z)
    for v in variables:
        v.assign(mixed[id(v)])
    fit(model, data, steps, meta_iterations=0)


def cell(
    way: str,
    seed: int,
    data_dir: str | None,
    alphabets: list[str],
    hidden: list[int],
    steps: int,
    meta_iterations: int,
    numbers: dict[str, float],
):
    """Returns the matrices of one way to share, and what they are good for."""
    from examples import omniglot

    drawings = omniglot.load(data_dir, alphabets, seed)
    train, test = omniglot.split(drawings.images, TRAINING + VALIDATION, [seed])
    T = matrices(way, numbers["own_part"], len(hidden) + 1, len(drawings.tasks))
    found = {}
    if way in LEARNED:
        model = build_model(drawings.counts, hidden, T, way, seed, numbers)
        found = learn(
            model, drawings, train, test, seed, steps, meta_iterations
        )
        T = model.hyperparameters[0].value().numpy()
    # The first z are the same for all ways.
    model = build_model(drawings.counts, hidden, T, way, seed, numbers)
    train_at_last(model, batch(train, drawings, is_sum=True), steps)
    losses = [
        model.evaluate(x, y, sample_weight=weights, verbose=0)
        for x, y, weights in (batch(part, drawings) for part in (train, test))
    ]
    return found | {
        "last_T": T,
        "correlations": model.hyperparameters[0].correlations(),
        "last_train_loss": losses[0],
        "last_test_loss": losses[1],
    }


# ---- the study


def cells() -> dict[str, dict]:
    """Returns the settings of each cell, by name."""
    common = {
        "data_dir": FLAGS.data_dir,
        "alphabets": FLAGS.alphabets,
        "hidden": [int(units) for units in FLAGS.hidden],
        "steps": FLAGS.steps,
        "meta_iterations": FLAGS.meta_iterations,
        "numbers": {
            name: FLAGS[name].value
            for name in (
                "learning_rate",
                "momentum",
                "log_penalty",
                "log_init_scale",
                "own_part",
                "meta_step",
            )
        },
    }
    return {
        f"{way}_seed_{seed}": common | {"way": way, "seed": seed}
        for way in (*FIXED, *FLAGS.methods)
        for seed in range(FLAGS.seeds)
    }


def of_way(results, way: str, key: str):
    """Returns what all seeds found, stacked."""
    import numpy as np

    return np.stack(
        [results[f"{way}_seed_{seed}"][key] for seed in range(FLAGS.seeds)]
    )


def pairs(correlations):
    """Returns mean correlations of alphabets with themselves, turned.

    Args:
        correlations: `(..., tasks, tasks)`.

    Returns:
        Their mean, and that of all others between different tasks.
    """
    import numpy as np

    tasks = correlations.shape[-1]
    are_pairs = np.roll(np.eye(tasks, dtype=bool), tasks // 2, axis=1)
    others = ~are_pairs & ~np.eye(tasks, dtype=bool)
    return correlations[..., are_pairs].mean(-1), (
        correlations[..., others].mean(-1)
    )


def table(results) -> list[dict]:
    """Returns a row for each way to share: means, deviations over seeds."""

    def in_words(values):
        return f"{values.mean():.3f} ± {values.std():.3f}"

    rows = []
    for way in (*FIXED, *FLAGS.methods):
        row = {"sharing": NAMES[way]} | {
            f"{part} loss": in_words(of_way(results, way, f"last_{part}_loss"))
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
            row["seconds a meta-iteration"] = in_words(seconds)
        rows.append(row)
    return rows


def draw_curves(run, results) -> None:
    """Writes validation and test loss against meta-iterations."""
    import numpy as np
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    figure, panels = plt.subplots(
        1, 2, figsize=(10, 4.5), sharey=True, layout="constrained"
    )
    places = np.arange(1, FLAGS.meta_iterations + 1)
    titles = {
        "val_loss": f"Validation: {VALIDATION} drawings of each character",
        "test_loss": "Test: 3 drawings of each character",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for way in FLAGS.methods:
            curves = of_way(results, way, key)
            plots.mean_and_band(places, curves, axes, NAMES[way])
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("meta-iteration")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("loss (nats an example)")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(FLAGS.methods),
    )
    figure.suptitle(
        f"Each training with {TRAINING} drawings of each character: mean and "
        f"deviation of {FLAGS.seeds} seeds"
    )
    run.write_figure(panels[0], "losses")


def draw_correlations(run, results) -> None:
    """Writes what is learned: a row for each method, a column for each layer.

    An alphabet stands beside itself, turned.
    """
    import numpy as np
    from matplotlib import pyplot as plt

    n, depths = len(FLAGS.alphabets), len(FLAGS.hidden) + 1
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    figure, grid = plt.subplots(
        len(FLAGS.methods),
        depths,
        figsize=(1.8 + 3 * depths, 1.2 + 3 * len(FLAGS.methods)),
        squeeze=False,
        layout="constrained",
    )
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
    figure.colorbar(image, ax=grid, label="correlation of weights, T Tᵀ")
    figure.suptitle(
        "What the nets share, mean of seeds; in red: an alphabet and itself, "
        "turned by 90°"
    )
    run.write_figure(grid[0, 0], "correlations")


def main(_):
    import matplotlib

    from examples import omniglot, study
    from keras_drmad.saved_run import SavedRun

    matplotlib.use("Agg")
    logging.set_verbosity(logging.WARNING)
    omniglot.load(FLAGS.data_dir, FLAGS.alphabets, 0)  # or an error now
    run = SavedRun(
        FLAGS.save_dir, "omniglot_sharing", FLAGS.run_name, resume=True
    )
    run.write_flags(FLAGS, "alphabets")
    results = study.run_cells(run, cell, cells(), FLAGS.processes)
    draw_curves(run, results)
    draw_correlations(run, results)
    study.report(run, table(results), "results")
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
