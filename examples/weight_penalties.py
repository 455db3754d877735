"""Tunes one L2 penalty for each input of each layer of a net by DrMAD.

The net of the paper's MNIST experiment: a tanh net with a penalty for each
input of each layer (784 + 50 + 50 + 50 = 934 on MNIST), tuned on validation
data with the defaults of `fit`; then tried on new draws of weights and batches,
against the starting penalties.

    python -m examples.weight_penalties
    python -m examples.weight_penalties --dataset=mnist --data_dir=FOLDER
"""

import math

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("steps", 2000, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 20, "Trainings, one meta-step each.", 1)
flags.DEFINE_integer("draws", 5, "New draws, to check what was found on.", 2)

ALPHA, GAMMA = 0.05, 0.95  # of v <- gamma v - (1 - gamma) g, w <- w + alpha v
BOUNDS = (1e-6, 1.0)  # of the penalties


def build_model(images: datasets.Images, log_penalty: float):
    """Returns the tanh net as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd
    from examples.tanh_net import tanh_net

    keras.utils.set_random_seed(FLAGS.seed)
    net = tanh_net(math.prod(images.shape), [50] * 3, images.classes)
    model = kd.DrMADModel.from_model(net)
    model.compile(
        # Keras's velocity has the rate in it, and no factor 1 - gamma.
        optimizer=keras.optimizers.SGD(ALPHA * (1 - GAMMA), momentum=GAMMA),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.L2(
                per="input", initial=math.exp(log_penalty), bounds=BOUNDS
            )
        ],
    )
    return model


def draw(run, model, history, values, images):
    """Writes the pictures of a run."""
    from keras_drmad import plots

    kind = model.hyperparameters[0]
    layers = kind.by_layer(values)
    axes = plots.values_by_layer(layers, label="L2 coefficient")
    axes.set_title("Penalties by layer: mean, one standard deviation")
    run.write_figure(axes, "penalties_by_layer")

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    names = {"val_loss": "validation", "test_loss": "test"}
    plots.curves(history, names, axes=left, ylabel="loss")
    errors = {name: 1 - history[f"{name}_accuracy"] for name in ("val", "test")}
    names = {"val": "validation", "test": "test"}
    plots.curves(errors, names, axes=right, ylabel="error rate")
    left.figure.suptitle("After each training")
    run.write_figure(left, "test_error")

    if len(images.shape) == 2:
        found = kind.by_layer(kind.value().numpy()[np.newaxis])
        (first,) = next(iter(found.values()))
        axes = plots.input_map(first, images.shape, label="L2 coefficient")
        axes.set_title(f"Penalties found for the {first.size} inputs")
        run.write_figure(axes, "input_penalties")


def main(_):
    import keras_drmad as kd

    images = datasets.chosen((1000, 400, 397), (15000, 5000, 5000))
    run = saved_run.begin("weight_penalties")
    model = build_model(images, -5.5 if FLAGS.dataset == "digits" else -4.4)
    model.summary()

    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    training = dict(
        batch_size=50,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
    )
    history = model.fit(
        *images.train,
        **training,
        meta_iterations=FLAGS.meta_iterations,
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history
    history = {name: np.array(entries) for name, entries in history.items()}

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    draw(run, model, history, recorder.values["l2"], images)
    check = model.check_hyperparameters(
        *images.train,
        **training,
        test_data=images.test,
        draws=FLAGS.draws,
        seed=FLAGS.seed,
    )
    run.write_figure(kd.plots.hyperparameter_check(check), "carries_over")
    print(check)
    run.write_report(model, shape=images.shape)
    print(f"{recorder.values['l2'][0].size} penalties. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
