"""Learns how strongly to augment images, by hypergradient.

A small convolutional net sees each training image brighter or darker, with
more or less contrast, turned and shifted. How much is learned on validation
data, one strength of each kind: from weaker ones than are set by hand, each
meta-iteration from new weights. The same net is then trained anew, from several
seeds, without augmentation, with the strengths set by hand, and with the
learned ones, their mean over the last quarter of the learning.

    python -m examples.augmentation
    python -m examples.augmentation --dataset=cifar10 --data_dir=FOLDER
"""

import math
import time
from typing import Any

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset", "digits", "digits, cifar10, mnist or an image data set of TFDS."
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with the data's file or TFDS's; KERAS_DRMAD_DATA by default.",
)
flags.DEFINE_integer(
    "train_size", None, "Training examples; 300 (digits) or 1000."
)
flags.DEFINE_integer(
    "validation_size", None, "Validation examples; 500 (digits) or 2000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 997 or 1000.")
flags.DEFINE_float("brightness", 0.1, "By hand, of images in [0, 1].", 0)
flags.DEFINE_float("contrast", 0.1, "By hand, a logarithm of factors.", 0)
flags.DEFINE_float("rotation", 0.02, "By hand, in turns.", 0)
flags.DEFINE_float("translation", 0.05, "By hand, a part of the size.", 0)
flags.DEFINE_float(
    "start", 0.5, "Where learning starts, a part of what is set by hand.", 1e-6
)
flags.DEFINE_list(
    "filters", None, "Of the convolutions; 16,32 (digits) or 16,32,64."
)
flags.DEFINE_integer(
    "epochs", None, "Of each training; 100 (digits) or 20.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Of SGD; 0.02 (digits) or 0.01.", 0)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0, 1)
flags.DEFINE_integer(
    "meta_iterations", 20, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float("meta_step", 0.15, "Step of the log strengths.", 0)
flags.DEFINE_enum(
    "hypergradient", "reverse", ["drmad", "reverse"], "The method."
)
flags.DEFINE_enum(
    "initial_weights",
    "resample",
    ["same", "resample"],
    "Where trainings start.",
)
flags.DEFINE_integer("trials", 3, "Trainings with each set of strengths.", 1)
flags.DEFINE_integer("seed", 0, "Of data, weights, batches and draws.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")

STRENGTHS = ("brightness", "contrast", "rotation", "translation")


def build_net(images, strengths: dict[str, float], seed: int):
    """Returns the net with augmentation, a `keras.Model`."""
    import keras

    from keras_drmad import layers

    keras.utils.set_random_seed(seed)
    given: dict[str, Any] = dict.fromkeys(STRENGTHS)
    given.update(strengths)  # those that are left out are switched off
    net = keras.Sequential([keras.Input(images.shape)])
    net.add(layers.ImageAugmentation(**given, name="augmentation"))
    net.add(keras.layers.Rescaling(4, -2))  # from [0, 1] to about unit size
    for filters in FLAGS.filters:
        net.add(
            keras.layers.Conv2D(
                int(filters),
                3,
                strides=2,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
            )
        )
    net.add(keras.layers.Flatten())
    net.add(keras.layers.Dense(images.classes))
    return net


def training():
    """Returns the arguments of `compile` that all trainings share."""
    import keras

    return {
        "optimizer": keras.optimizers.SGD(FLAGS.learning_rate, FLAGS.momentum),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def learn(run, images, strengths: dict[str, float]):
    """Returns the strengths of each meta-iteration."""
    import keras_drmad as kd

    net = build_net(images, strengths, FLAGS.seed)
    model = kd.DrMADModel.from_model(net)
    model.compile(
        **training(),
        hyperparameters=[],  # those in the layer are found
        hypergradient=kd.ReverseMode()
        if FLAGS.hypergradient == "reverse"
        else kd.DrMAD(),
        meta_optimizer=kd.SignDescent(FLAGS.meta_step),
    )
    model.summary()
    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=500)
    model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        validation_data=images.validation,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights=FLAGS.initial_weights,
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    )
    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    return {name: recorder.values[f"augmentation.{name}"] for name in STRENGTHS}


def train_anew(images, strengths: dict[str, float], seed: int):
    """Returns test loss and test error of a plain training from a new seed."""
    net = build_net(images, strengths, seed)
    net.compile(**training(), jit_compile=False)
    net.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        verbose=0,
    )
    loss, accuracy = net.evaluate(*images.test, batch_size=500, verbose=0)
    return loss, 1 - accuracy


def draw(run, values, learned, results, images):
    """Writes the pictures of a run."""
    import numpy as np
    from matplotlib import pyplot as plt

    from keras_drmad import layers, plots

    axes = plots.curves(values, {k: k for k in values}, ylabel="strength")
    axes.set_yscale("log")
    axes.set_title("Strengths that each meta-iteration trained with")
    run.write_figure(axes, "strengths")

    some = images.train[0][:6]
    layer = layers.ImageAugmentation(**learned, seed=FLAGS.seed)
    rows = [some, *(layer(some, training=True).numpy() for _ in range(3))]
    figure, grid = plt.subplots(4, 6, figsize=(6, 4.4), layout="constrained")
    for axes, image in zip(grid.flat, np.concatenate(rows), strict=True):
        axes.imshow(np.clip(image, 0, 1).squeeze(), "gray", vmin=0, vmax=1)
        axes.set_axis_off()
    figure.suptitle("Training images, and three draws at the learned strengths")
    run.write_figure(grid[0, 0], "augmented_images")

    errors = {name: 100 * trials[:, 1] for name, trials in results.items()}
    means = [trials.mean() for trials in errors.values()]
    axes = plt.figure(figsize=(5, 4), layout="constrained").add_subplot()
    axes.bar(list(errors), means, color="lightsteelblue")
    for name, trials in errors.items():
        axes.plot([name] * len(trials), trials, "o", color="black", ms=4)
    axes.set_ylabel("test error, %")
    axes.set_title("Mean of trainings from new seeds; each one a point")
    run.write_figure(axes, "test_error")


def table(results, strengths) -> str:
    """Returns what each set of strengths is, and what it reached."""
    head = "".join(f"{name:>12}" for name in STRENGTHS)
    rows = [f"{'':10}{head}{'test loss':>11}{'test error':>20}"]
    for name, trials in results.items():
        given = strengths[name]
        cells = (f"{given[k]:.4f}" if k in given else "-" for k in STRENGTHS)
        loss, error = trials.mean(axis=0)
        spread = f"{100 * error:.2f}% ± {100 * trials[:, 1].std():.2f}"
        rows.append(
            f"{name:10}{''.join(f'{cell:>12}' for cell in cells)}"
            f"{loss:11.4f}{spread:>20}"
        )
    return "\n".join(rows)


def load_images():
    """Returns `Images`, of shape `(n, height, width, channels)`, in [0, 1]."""
    from examples import datasets

    small = FLAGS.dataset == "digits"
    sizes = (
        FLAGS.train_size or (300 if small else 1000),
        FLAGS.validation_size or (500 if small else 2000),
        FLAGS.test_size or (997 if small else 1000),
    )
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    shape = (*images.shape, 1)[:3]
    train, validation, test = (
        ((x + images.mean).reshape(-1, *shape), y) for x, y in images[:3]
    )
    return images._replace(
        train=train, validation=validation, test=test, shape=shape
    )


def main(_):
    import matplotlib
    import numpy as np

    from examples.saved_run import SavedRun

    matplotlib.use("Agg")
    # TensorFlow tells of each file of a SavedModel otherwise.
    logging.set_verbosity(logging.WARNING)
    images = load_images()
    if FLAGS.filters is None:
        FLAGS.filters = ["16", "32", "64"][: 2 if images.shape[0] < 16 else 3]
    if FLAGS.epochs is None:
        FLAGS.epochs = 100 if FLAGS.dataset == "digits" else 20
    if FLAGS.learning_rate is None:
        FLAGS.learning_rate = 0.02 if FLAGS.dataset == "digits" else 0.01
    run = SavedRun(FLAGS.save_dir, "augmentation", FLAGS.run_name)
    run.write_flags(FLAGS, "dataset")
    by_hand = {name: getattr(FLAGS, name) for name in STRENGTHS}

    begin = time.perf_counter()
    start = {name: FLAGS.start * given for name, given in by_hand.items()}
    values = learn(run, images, start)
    # One training's hypergradient is noisy: the mean of the last quarter's.
    last = -math.ceil(FLAGS.meta_iterations / 4)
    learned = {
        name: float(np.exp(np.log(values[name][last:]).mean()))
        for name in STRENGTHS
    }
    strengths = {"none": {}, "by hand": by_hand, "learned": learned}
    seeds = range(FLAGS.seed + 1, FLAGS.seed + 1 + FLAGS.trials)
    results = {
        name: np.array([train_anew(images, given, seed) for seed in seeds])
        for name, given in strengths.items()
    }
    seconds = time.perf_counter() - begin

    draw(run, values, learned, results, images)
    print(table(results, strengths))
    print(
        f"Learned in {FLAGS.meta_iterations} meta-iterations, compared by "
        f"{FLAGS.trials} trainings each, {seconds:.1f} s. Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
