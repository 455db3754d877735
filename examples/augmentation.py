"""Learns how strongly to augment images, by hypergradient.

A small convolutional net sees each training image brighter or darker, with
more or less contrast, turned and shifted. How much is learned on validation
data: one strength of each kind. The same net is then trained anew, from several
seeds, without augmentation, with strengths set by hand (where the learning
starts), and with the learned ones.

    python -m examples.augmentation
    python -m examples.augmentation --dataset=cifar10 --data_dir=FOLDER
"""

import time

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
    "train_size", None, "Training examples; 300 (digits) or 4000."
)
flags.DEFINE_integer(
    "validation_size", None, "Validation examples; 500 (digits) or 1000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 997 or 1000.")
flags.DEFINE_float("brightness", 0.1, "By hand, of images in [0, 1].", 0)
flags.DEFINE_float("contrast", 0.1, "By hand, a logarithm of factors.", 0)
flags.DEFINE_float("rotation", 0.02, "By hand, in turns.", 0)
flags.DEFINE_float("translation", 0.05, "By hand, a part of the size.", 0)
flags.DEFINE_list("filters", ["16", "32"], "Filters of the convolutions.")
flags.DEFINE_integer("steps", 1000, "T, elementary steps.", lower_bound=1)
flags.DEFINE_integer("batch_size", 50, "Examples in a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.05, "Of SGD.", lower_bound=0)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0, 1)
flags.DEFINE_integer(
    "meta_iterations", 20, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float("meta_rate", 0.1, "Of Adam, on log strengths.", 0)
flags.DEFINE_enum("hypergradient", "drmad", ["drmad", "reverse"], "The method.")
flags.DEFINE_integer("trials", 3, "Trainings with each set of strengths.", 1)
flags.DEFINE_integer("seed", 0, "Of data, weights, batches and draws.", 0)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")

STRENGTHS = ("brightness", "contrast", "rotation", "translation")


def build_model(shape, classes: int, strengths: dict[str, float], seed: int):
    """Returns the net with augmentation, as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(seed)
    x = first = keras.Input(shape)
    augmentation = dict.fromkeys(STRENGTHS) | strengths
    x = kd.layers.ImageAugmentation(**augmentation, name="augmentation")(x)
    for filters in FLAGS.filters:
        x = keras.layers.Conv2D(
            int(filters), 3, strides=2, padding="same", activation="relu"
        )(x)
    x = keras.layers.Flatten()(x)
    model = kd.DrMADModel(first, keras.layers.Dense(classes)(x))
    model.compile(
        optimizer=keras.optimizers.SGD(FLAGS.learning_rate, FLAGS.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[],  # those in the layer are found
        hypergradient=kd.ReverseMode()
        if FLAGS.hypergradient == "reverse"
        else kd.DrMAD(),
        meta_optimizer=keras.optimizers.Adam(FLAGS.meta_rate),
    )
    return model


def learn(run, images, strengths: dict[str, float]):
    """Returns strengths in each meta-iteration, the model and its history."""
    import numpy as np

    import keras_drmad as kd

    model = build_model(images.shape, images.classes, strengths, FLAGS.seed)
    model.summary()
    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=500)
    history = model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
        meta_iterations=FLAGS.meta_iterations,
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history
    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    values = {
        name: recorder.values[f"augmentation.{name}"] for name in STRENGTHS
    }
    return values, model, int(np.argmin(history["val_loss"]))


def train_anew(images, strengths: dict[str, float], seed: int):
    """Returns test loss and test error of one training from a new seed."""
    model = build_model(images.shape, images.classes, strengths, seed)
    model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        meta_iterations=0,
        seed=seed,
        verbose=0,
    )
    loss, accuracy = model.evaluate(*images.test, batch_size=500, verbose=0)
    return loss, 1 - accuracy


def draw(run, model, values, results, images):
    """Writes the pictures of a run."""
    import numpy as np
    from matplotlib import pyplot as plt

    from keras_drmad import plots

    axes = plots.curves(values, {k: k for k in values}, ylabel="strength")
    axes.set_yscale("log")
    axes.set_title("Strengths that each meta-iteration trained with")
    run.write_figure(axes, "strengths")

    some = images.train[0][:6]
    layer = model.get_layer("augmentation")
    rows = [some, *(layer(some, training=True).numpy() for _ in range(3))]
    every = np.stack(rows) + images.mean
    figure, grid = plt.subplots(4, 6, figsize=(6, 4.4), layout="constrained")
    for axes, image in zip(grid.flat, every.reshape(-1, *images.shape)):
        axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmax=1, vmin=0)
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
