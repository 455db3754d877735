"""Tunes one L2 penalty for each unit of a net by DrMAD, on images of digits.

The paper's MNIST experiment: a tanh net with a penalty for each input of each
layer (784 + 50 + 50 + 50 = 934 on MNIST), tuned on validation data by the sign
of DrMAD's hypergradient, against the same net at the starting penalties.

    python -m examples.weight_penalties
    python -m examples.weight_penalties --dataset=mnist --data_dir=FOLDER
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
    "train_size", None, "Training examples; 1000 (digits) or 15000."
)
flags.DEFINE_integer(
    "validation_size", None, "Validation examples; 400 (digits) or 5000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 397 or 5000.")
flags.DEFINE_list("hidden", ["50", "50", "50"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 2000, "T, elementary steps.", lower_bound=1)
flags.DEFINE_float(
    "reverse_steps", 0.1, "R, a fraction of T up to 1, or above it a count."
)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", lower_bound=1)
flags.DEFINE_float(
    "learning_rate",
    0.05,
    "alpha of v <- gamma v - (1 - gamma) g, w <- w + alpha v.",
    lower_bound=0,
)
flags.DEFINE_float("momentum", 0.95, "gamma.", 0, 1)
flags.DEFINE_float(
    "log_penalty",
    None,
    "Logarithm of the penalties at the start; -5.5 (digits) or -4.4.",
)
flags.DEFINE_float(
    "log_init_scale", -3.0, "Logarithm of the initial weights' deviation."
)
flags.DEFINE_integer(
    "meta_iterations", 20, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float("meta_step", 0.14, "Step of the log penalties.", 0)
flags.DEFINE_enum("hypergradient", "drmad", ["drmad", "reverse"], "The method.")
flags.DEFINE_enum(
    "initial_weights",
    "same",
    ["same", "resample", "continue"],
    "Where each training starts.",
)
flags.DEFINE_integer("seed", 0, "Of data, weights and batches.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")


def build_model(inputs: int, classes: int):
    """Returns the tanh net as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd
    from examples.tanh_net import compile_as_papers, tanh_net

    keras.utils.set_random_seed(FLAGS.seed)
    hidden = [int(units) for units in FLAGS.hidden]
    model = kd.DrMADModel.from_model(
        tanh_net(inputs, hidden, classes, math.exp(FLAGS.log_init_scale))
    )
    R, log_penalty = FLAGS.reverse_steps, FLAGS.log_penalty
    if log_penalty is None:
        log_penalty = -5.5 if FLAGS.dataset == "digits" else -4.4
    compile_as_papers(
        model,
        FLAGS.learning_rate,
        FLAGS.momentum,
        kd.hyperparameters.L2("input", math.exp(log_penalty)),
        kd.ReverseMode()
        if FLAGS.hypergradient == "reverse"
        else kd.DrMAD(int(R) if R > 1 else R),
        FLAGS.meta_step,
    )
    return model


def draw(run, model, history, values, images):
    """Writes the pictures of a run."""
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    l2 = model.hyperparameters[0]
    layers = l2.by_layer(values)
    axes = plots.values_by_layer(layers, label="L2 coefficient")
    axes.set_title("Penalties by layer: mean, one standard deviation")
    run.write_figure(axes, "values_by_layer")

    errors = {
        f"{part}_error": 1 - history[f"{part}_accuracy"]
        for part in ("val", "test")
    }
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 4), layout="constrained"
    )
    names = {"val_loss": "validation", "test_loss": "test"}
    plots.curves(history, names, axes=left, ylabel="loss")
    names = {"val_error": "validation", "test_error": "test"}
    plots.curves(errors, names, axes=right, ylabel="error rate")
    figure.suptitle("After each training")
    run.write_figure(left, "test_error")

    if len(images.shape) == 2:
        first = next(iter(layers.values()))
        axes = plots.input_map(first[-1], images.shape, label="L2 coefficient")
        axes.set_title(f"Penalties of the {first.shape[1]} inputs")
        run.write_figure(axes, "input_penalties")

    some = slice(0, 2000)
    axes = plots.loss_along_line(
        model,
        {
            "training": tuple(a[some] for a in images.train),
            "validation": tuple(a[some] for a in images.validation),
        },
    )
    axes.set_title("Loss along the line of the last training")
    run.write_figure(axes, "loss_along_line")


def table(history, best: int) -> str:
    """Returns what the start and the best meta-iteration reached."""
    rows = [f"{'':20}{'val loss':>10}{'test loss':>11}{'test error':>12}"]
    for name, k in (("starting penalties", 0), ("tuned penalties", best)):
        error = 1 - history["test_accuracy"][k]
        rows.append(
            f"{name:20}{history['val_loss'][k]:10.4f}"
            f"{history['test_loss'][k]:11.4f}{100 * error:11.2f}%"
        )
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
        FLAGS.train_size or (1000 if small else 15000),
        FLAGS.validation_size or (400 if small else 5000),
        FLAGS.test_size or (397 if small else 5000),
    )
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    run = SavedRun(FLAGS.save_dir, "weight_penalties", FLAGS.run_name)
    run.write_flags(FLAGS, "dataset")
    model = build_model(math.prod(images.shape), images.classes)
    model.summary()

    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    begin = time.perf_counter()
    history = model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights=FLAGS.initial_weights,
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history
    seconds = time.perf_counter() - begin

    values = recorder.values["l2"]
    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    history = {name: np.array(entries) for name, entries in history.items()}
    draw(run, model, history, values, images)
    print(table(history, int(np.argmin(history["val_loss"]))))
    print(
        f"{values[0].size} penalties tuned in {len(values)} meta-iterations, "
        f"{seconds:.1f} s. Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
