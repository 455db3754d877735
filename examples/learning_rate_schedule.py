"""Learns the learning rate and the momentum of every step of a training.

The experiment of section 3.1 of Maclaurin, Duvenaud, Adams, ICML 2015
(https://arxiv.org/abs/1502.03492): a 784-50-50-50-10 tanh net on 10,000 images
trains for 100 steps of 200. Each of its 8 weight tensors has a rate and a
momentum of its own in each step, and a scale of its first weights: 1,608
hyperparameters, fitted to the loss on the training data by exact
hypergradients. Each of the 50 trainings starts from a new draw of weights.

The paper's optimizer is v <- beta v - (1 - beta) g, w <- w + alpha v, from
alpha = exp(-1) and beta = 0.5. Keras's SGD is v <- m v - lr g, w <- w + v: the
same, for constant rates, with m = beta and lr = alpha (1 - beta). So the rates
start there, and the pictures show lr / (1 - m), which compares with alpha.

    python -m examples.learning_rate_schedule
    python -m examples.learning_rate_schedule --dataset=mnist --data_dir=FOLDER
"""

import math
import time

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset", "digits", "digits, mnist or an image data set of TFDS."
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with mnist.npz or TFDS's data; KERAS_DRMAD_DATA by default.",
)
flags.DEFINE_integer(
    "train_size", None, "Training examples; 1000 (digits) or 10000."
)
flags.DEFINE_integer(
    "validation_size", None, "Validation examples; 400 (digits) or 10000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 397 or 10000.")
flags.DEFINE_list("hidden", ["50", "50", "50"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 100, "T, elementary steps.", lower_bound=1)
flags.DEFINE_integer("batch_size", 200, "Examples in a step.", lower_bound=1)
flags.DEFINE_float("log_alpha", -1.0, "Logarithm of the rates alpha at first.")
flags.DEFINE_float("momentum", 0.5, "The momenta at first.", 0.01, 0.99)
flags.DEFINE_float(
    "log_init_scale", -3.0, "Logarithm of the first weights' scales at first."
)
flags.DEFINE_integer(
    "meta_iterations", 50, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float("meta_rate", 0.04, "Of Adam, on the raw values.", 0)
flags.DEFINE_integer("seed", 0, "Of data, weights and batches.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")


def build_model(inputs: int, classes: int):
    """Returns the tanh net as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(FLAGS.seed)

    def dense(units, activation, name):
        normal = keras.initializers.RandomNormal
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=normal(stddev=1.0),
            bias_initializer=normal(stddev=1.0),
            name=name,
        )

    x = first = keras.Input((inputs,))
    for k, units in enumerate(FLAGS.hidden):
        x = dense(int(units), "tanh", f"hidden_{k + 1}")(x)
    model = kd.DrMADModel(first, dense(classes, None, "output")(x))
    schedule = {"per": "tensor", "schedule": "step", "steps": FLAGS.steps}
    rate = math.exp(FLAGS.log_alpha) * (1 - FLAGS.momentum)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, FLAGS.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.LearningRate(**schedule),
            kd.hyperparameters.Momentum(**schedule),
            kd.hyperparameters.InitialScale(
                "tensor", math.exp(FLAGS.log_init_scale), biases=True
            ),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=keras.optimizers.Adam(FLAGS.meta_rate),
    )
    return model


def draw(run, model, history, values, best: int):
    """Writes the pictures of a run."""
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    names = {
        "hyper_loss": "training (minimized)",
        "val_loss": "validation",
        "test_loss": "test",
    }
    axes = plots.curves(history, names, ylabel="cross entropy")
    _logarithmic(axes)
    axes.set_title(f"Loss after each training of {FLAGS.steps} steps")
    run.write_figure(axes, "losses")

    rates, momenta, scales = (
        kind.by_layer(values[kind.name]) for kind in model.hyperparameters
    )
    alphas = {layer: rates[layer] / (1 - momenta[layer]) for layer in rates}
    figure, grid = plt.subplots(
        2, 2, figsize=(10, 6.5), layout="constrained", sharex=True, sharey="row"
    )
    # For each layer (meta_iterations, steps, 2): its kernel, its bias.
    for row, shown, start in (
        (grid[0], alphas, math.exp(FLAGS.log_alpha)),
        (grid[1], momenta, FLAGS.momentum),
    ):
        for k, axes in enumerate(row):
            for layer, entries in shown.items():
                axes.plot(entries[best, :, k], label=layer)
            axes.axhline(start, color="gray", linestyle=":", label="start")
    for k, tensor in enumerate(("kernels", "biases")):
        grid[0, k].set_title(tensor)
        grid[1, k].set_xlabel("elementary step")
    _logarithmic(grid[0, 0])
    grid[0, 0].set_ylabel("learning rate / (1 - momentum)")
    grid[1, 0].set_ylabel("momentum")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    figure.suptitle(f"Schedules after {best} hypergradients")
    run.write_figure(grid[0, 0], "schedules")

    axes = None
    for k, tensor in enumerate(("kernel", "bias")):
        shown = {f"{layer}, {tensor}": v[:, k] for layer, v in scales.items()}
        axes = plots.curves(shown, {name: name for name in shown}, axes=axes)
    for k, line in enumerate(axes.lines):
        line.set(
            color=f"C{k % len(scales)}", ls="--" if k >= len(scales) else "-"
        )
    _logarithmic(axes)
    axes.set_ylabel("standard deviation of the first weights")
    axes.set_title("Initial scales")
    axes.legend(fontsize="small")
    run.write_figure(axes, "initial_scales")


def _logarithmic(axes):
    """Makes the vertical axis logarithmic, with numbers in plain digits."""
    from matplotlib import ticker

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def table(history, best: int) -> str:
    """Returns what the first, the best and the last training reached."""
    columns = ("training loss", "val loss", "test loss", "test error")
    rows = [f"{'':14}" + "".join(f"{name:>15}" for name in columns)]
    last = len(history["hyper_loss"]) - 1
    for name, k in (("at the start", 0), ("best", best), ("last", last)):
        numbers = "".join(
            f"{history[f'{part}_loss'][k]:15.4f}"
            for part in ("hyper", "val", "test")
        )
        error = 100 * (1 - history["test_accuracy"][k])
        rows.append(f"{name:14}{numbers}{error:14.2f}%")
    return "\n".join(rows)


def main(_):
    import matplotlib
    import numpy as np

    import keras_drmad as kd
    from examples import datasets
    from examples.saved_run import SavedRun

    matplotlib.use("Agg")
    # TensorFlow tells of each file of a SavedModel otherwise.
    logging.set_verbosity(logging.WARNING)
    small = FLAGS.dataset == "digits"
    sizes = (
        FLAGS.train_size or (1000 if small else 10000),
        FLAGS.validation_size or (400 if small else 10000),
        FLAGS.test_size or (397 if small else 10000),
    )
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    run = SavedRun(FLAGS.save_dir, "learning_rate_schedule", FLAGS.run_name)
    run.write_flags(FLAGS, "dataset")
    model = build_model(math.prod(images.shape), images.classes)

    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    begin = time.perf_counter()
    history = model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        hyper_data=images.train,  # what is minimized
        validation_data=images.validation,  # only reports
        validation_batch_size=1000,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights="resample",
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history
    seconds = time.perf_counter() - begin

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    history = {name: np.array(entries) for name, entries in history.items()}
    best = int(np.argmin(history["hyper_loss"]))
    draw(run, model, history, recorder.values, best)
    print(table(history, best))
    count = sum(values[0].size for values in recorder.values.values())
    print(
        f"{count} hyperparameters tuned in {FLAGS.meta_iterations} "
        f"meta-iterations, {seconds:.1f} s. Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
