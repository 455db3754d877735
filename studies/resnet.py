"""Tunes a penalty and a learning rate for each layer of a residual net.

A ResNet with BatchNormalization, trained by Adam on the CIFAR-10 subset of
`--data_dir` or on scikit-learn's digits, tuned by `hyperparameters="auto"`:
one L2 penalty and one learning rate for each layer that has a kernel.

    python -m studies.resnet
    python -m studies.resnet --dataset=cifar10 --data_dir=FOLDER --steps=400
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("blocks", 1, "Residual blocks in each of 3 stages.", 1)
flags.DEFINE_integer("channels", 8, "Channels of the first stage.", 1)
flags.DEFINE_integer("steps", 200, "Elementary steps a training, T.", 1)
flags.DEFINE_integer("batch_size", 50, "Minibatch size.", 1)
flags.DEFINE_integer("meta_iterations", 8, "Trainings.", 1)
flags.DEFINE_float("learning_rate", 1e-3, "Adam's, at first.")
flags.DEFINE_enum(
    "hypergradient", "auto", ["auto", "drmad", "reverse"], "Which method."
)
flags.DEFINE_float("meta_step", 0.2, "Step on the logarithms, by Adam.")


def draw(run, model, history, values):
    """Writes the pictures of a run."""
    from keras_drmad import plots

    for kind in model.hyperparameters:
        axes = plt.figure(figsize=(9, 4.5), layout="constrained").add_subplot()
        layers = kind.by_layer(values[kind.name])
        plots.values_by_layer(layers, axes=axes, label=kind.name)
        axes.get_legend().remove()
        axes.figure.legend(loc="outside right center", fontsize="x-small")
        axes.set_title(f"Each layer's {kind.name}")
        run.write_figure(axes, kind.name)
    names = {"val_loss": "validation", "test_loss": "test"}
    axes = plots.curves(history, names, ylabel="loss")
    run.write_figure(axes, "loss")


def print_gain(
    history: Mapping[str, Sequence[float]], before: str, after: str
) -> None:
    """Prints what the first meta-iteration reached, and the best one.

    Args:
        history: of `fit`, with accuracy and a `HeldOut` test set.
        before: str, the name of the first meta-iteration's row.
        after: str, that of the best one's, by validation loss.
    """
    print(f"{'':20}{'val loss':>10}{'test loss':>11}{'test error':>12}")
    for name, k in ((before, 0), (after, int(np.argmin(history["val_loss"])))):
        losses = history["val_loss"][k], history["test_loss"][k]
        error = 100 * (1 - history["test_accuracy"][k])
        print("{:20}{:10.4f}{:11.4f}{:11.2f}%".format(name, *losses, error))


def main(_):
    import keras

    import keras_drmad as kd
    from studies.residual_net import residual_net

    small = FLAGS.dataset == "digits"
    sizes = (1000, 400, 397) if small else (4000, 1000, 1000)
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    images = images.as_pictures(centred=True)
    run = saved_run.begin("resnet")
    keras.utils.set_random_seed(FLAGS.seed)
    model = kd.DrMADModel.from_model(
        residual_net(images.shape, images.classes, FLAGS.blocks, FLAGS.channels)
    )
    model.compile(
        optimizer=keras.optimizers.Adam(FLAGS.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters="auto",
        hypergradient={
            "auto": "auto",
            "drmad": kd.DrMAD(),
            "reverse": kd.ReverseMode(),
        }[FLAGS.hypergradient],
        meta_optimizer=keras.optimizers.Adam(FLAGS.meta_step),
    )
    recorder = kd.callbacks.HyperparameterHistory()
    begin = time.perf_counter()
    history = model.fit(
        *images.train,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
        validation_batch_size=500,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights="same",
        seed=FLAGS.seed,
        callbacks=[
            kd.callbacks.HeldOut(*images.test, batch_size=500),
            recorder,
            *run.callbacks(),
        ],
    ).history
    seconds = time.perf_counter() - begin
    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    draw(run, model, history, recorder.values)
    print_gain(history, "untuned", "tuned")
    count = sum(values[0].size for values in recorder.values.values())
    print(
        f"{count} hyperparameters by {model.resolved.method!r} in "
        f"{seconds:.1f} s. Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
