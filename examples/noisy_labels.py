"""Learns which training labels are wrong: a weight for each example.

Half of the training labels are replaced by wrong ones at random. Each example
gets a weight in (0, 2) on its loss, 1 at first, and the weights are fitted to a
small validation set with right labels (data hyper-cleaning, Franceschi et al.,
ICML 2018, https://arxiv.org/abs/1806.04910). Nothing tells the program which
labels are wrong; that serves only to say how well the weights find them.

The trainings that learn the weights are short and gentle: a net that has had
the time to learn wrong labels by heart says little about them. Each starts from
a new draw of weights. Then the same net is trained for longer: with all labels
as they are, with the validation data, with the learned weights, with both, and
with the right labels.

    python -m examples.noisy_labels
    python -m examples.noisy_labels --dataset=mnist --data_dir=FOLDER
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
    "validation_size", None, "Examples with right labels; 100 or 1000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 697 or 10000.")
flags.DEFINE_float("wrong", 0.5, "The part of wrong labels.", 0.01, 0.99)
flags.DEFINE_list("hidden", ["100"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 100, "T, elementary steps.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Examples in a step; 100 or 500.", 1)
flags.DEFINE_float("learning_rate", 0.03, "Of SGD.", lower_bound=0)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0, 1)
flags.DEFINE_integer("longer", 10, "How often T the last trainings take.", 1)
flags.DEFINE_integer(
    "meta_iterations", 12, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float(
    "meta_rate",
    0.5,
    "Of gradient descent, for each training example: 1 / train_size is the "
    "size of one's hypergradient.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "hypergradient", "reverse", ["drmad", "reverse"], "The method."
)
flags.DEFINE_integer("seed", 0, "Of data, weights and batches.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")


def with_wrong_labels(labels, classes: int):
    """Returns labels, and a mask of those that are now wrong."""
    import numpy as np

    random = np.random.default_rng(FLAGS.seed + 1)
    count = round(FLAGS.wrong * len(labels))
    wrong = random.permutation(len(labels)) < count
    others = labels + random.integers(1, classes, len(labels))
    return np.where(wrong, others % classes, labels), wrong


def build_model(images, examples: int):
    """Returns a net with a weight for each of its training examples."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(FLAGS.seed)
    x = first = keras.Input((math.prod(images.shape),))
    for units in FLAGS.hidden:
        x = keras.layers.Dense(int(units), "relu")(x)
    model = kd.DrMADModel(first, keras.layers.Dense(images.classes)(x))
    weights = kd.hyperparameters.ExampleWeights(
        examples, initial=1.0, transform=kd.hyperparameters.Sigmoid(0, 2)
    )
    model.compile(
        optimizer=keras.optimizers.SGD(FLAGS.learning_rate, FLAGS.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[weights],
        hypergradient=kd.ReverseMode()
        if FLAGS.hypergradient == "reverse"
        else kd.DrMAD(),
        meta_optimizer=keras.optimizers.SGD(FLAGS.meta_rate * examples),
    )
    return model


def test_errors(images, x, y, weights=None):
    """Trains on weighted examples; returns the error after each T steps."""
    import numpy as np

    import keras_drmad as kd

    model = build_model(images, len(x))
    history = model.fit(
        x,
        y,
        batch_size=min(FLAGS.batch_size, len(x)),
        epochs=FLAGS.longer,
        steps_per_epoch=FLAGS.steps,
        sample_weight=weights,
        meta_iterations=0,
        seed=FLAGS.seed,
        verbose=0,
        callbacks=[kd.callbacks.HeldOut(*images.test, batch_size=1000)],
    ).history
    return 100 * (1 - np.array(history["test_accuracy"]))


def compare(images, given, wrong, weights):
    """Returns the test errors of all ways to treat the labels."""
    import numpy as np

    x, validation = images.train[0], images.validation
    together = zip((x, given), validation, strict=True)
    ones = np.ones(len(validation[1]), "float32")
    ways = {
        "labels as given": (x, given),
        "validation data": validation,
        "learned weights": (x, given, weights),
        "learned and validation": (
            *map(np.concatenate, together),
            np.append(weights, ones),
        ),
        "right labels": (x[~wrong], given[~wrong]),
    }
    return {name: test_errors(images, *way) for name, way in ways.items()}


def draw(run, images, given, wrong, weights, errors, compared):
    """Writes the pictures of a run."""
    import numpy as np
    from matplotlib import pyplot as plt
    from sklearn import metrics

    from keras_drmad import plots

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained"
    )
    parts = {"right labels": weights[~wrong], "wrong labels": weights[wrong]}
    for name, part in parts.items():
        left.hist(part, np.linspace(0, 2, 41), alpha=0.6, label=name)
    left.set_xlabel("learned weight (1 at first)")
    left.set_ylabel("training examples")
    left.legend(loc="upper center")
    false, true, _ = metrics.roc_curve(wrong, -weights)
    area = metrics.roc_auc_score(wrong, -weights)
    right.plot(false, true, label=f"learned weights: area {area:.3f}")
    right.plot([0, 1], [0, 1], ":", color="gray", label="chance")
    right.set_xlabel("part of the right labels taken for wrong")
    right.set_ylabel("part of the wrong labels found")
    right.legend(loc="lower right")
    figure.suptitle("How well the weights tell right from wrong labels")
    run.write_figure(left, "weights")

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.5), layout="constrained"
    )
    colors = {name: f"C{k}" for k, name in enumerate(compared)}
    names = {"error": "learned weights"}
    plots.curves({"error": errors}, names, axes=left, ylabel="test error (%)")
    left.lines[0].set_color(colors["learned weights"])
    for name in ("labels as given", "right labels"):
        left.axhline(compared[name][0], color=colors[name], ls="--", label=name)
    left.set_title(
        f"Trainings of {FLAGS.steps} steps while weights are learned"
    )
    steps = FLAGS.steps * np.arange(1, FLAGS.longer + 1)
    for name, curve in compared.items():
        label = f"{name}: {curve[-1]:.1f}"
        right.plot(steps, curve, ".-", color=colors[name], label=label)
    right.set_ylim(bottom=0)
    right.set_xlabel("elementary step")
    right.set_title("Longer trainings")
    for axes in (left, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    run.write_figure(left, "test_error")

    if len(images.shape) == 2:
        # Black on white again: each pixel is white in some image.
        pixels = images.train[0] - images.train[0].min(axis=0)
        figure, grid = plt.subplots(
            4, 10, figsize=(9, 4.4), layout="constrained"
        )
        for axes, k in zip(grid.flat, np.argsort(weights), strict=False):
            axes.imshow(pixels[k].reshape(images.shape), cmap="gray_r")
            color = "black" if wrong[k] else "red"
            axes.set_title(f"“{given[k]}”", color=color, fontsize="medium")
            axes.set_axis_off()
        figure.suptitle(
            "The 40 smallest weights and their labels (in red: right ones)"
        )
        run.write_figure(grid[0, 0], "smallest_weights")


def table(compared) -> str:
    """Returns the test errors of all ways."""
    steps = (FLAGS.steps, FLAGS.steps * FLAGS.longer)
    columns = "".join(f"{f'{n} steps':>12}" for n in steps)
    rows = [f"{'test error after':24}{columns}"]
    for name, errors in compared.items():
        numbers = "".join(f"{errors[k]:11.2f}%" for k in (0, -1))
        rows.append(f"{name:24}{numbers}")
    return "\n".join(rows)


def main(_):
    import matplotlib
    import numpy as np
    from sklearn import metrics

    import keras_drmad as kd
    from examples import datasets
    from examples.saved_run import SavedRun

    matplotlib.use("Agg")
    # TensorFlow tells of each file of a SavedModel, and of each new model.
    logging.set_verbosity(logging.ERROR)
    small = FLAGS.dataset == "digits"
    FLAGS.batch_size = FLAGS.batch_size or (100 if small else 500)
    sizes = (
        FLAGS.train_size or (1000 if small else 10000),
        FLAGS.validation_size or (100 if small else 1000),
        FLAGS.test_size or (697 if small else 10000),
    )
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    given, wrong = with_wrong_labels(images.train[1], images.classes)
    run = SavedRun(FLAGS.save_dir, "noisy_labels", FLAGS.run_name)
    run.write_flags(FLAGS, "dataset")
    model = build_model(images, len(given))

    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    begin = time.perf_counter()
    history = model.fit(
        images.train[0],
        given,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
        validation_batch_size=1000,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights="resample",
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history
    seconds = time.perf_counter() - begin

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    weights = model.hyperparameters[0].value().numpy()
    compared = compare(images, given, wrong, weights)
    errors = 100 * (1 - np.array(history["test_accuracy"]))
    draw(run, images, given, wrong, weights, errors, compared)
    print(table(compared))
    area = metrics.roc_auc_score(wrong, -weights)
    print(
        f"{len(weights)} weights learned in {FLAGS.meta_iterations} "
        f"meta-iterations, {seconds:.1f} s; as a detector of wrong labels "
        f"their area under the ROC curve is {area:.4f}. Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
