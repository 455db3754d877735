"""Learns the learning rate and the momentum of every step of a training.

The experiment of section 3.1 of Maclaurin, Duvenaud, Adams, ICML 2015
(https://arxiv.org/abs/1502.03492): each of the 8 weight tensors of a tanh net
has a rate and a momentum of its own in each of 100 steps, and a scale of its
first weights: 1,608 hyperparameters, fitted to the loss on the training data by
exact hypergradients. The paper's v <- beta v - (1 - beta) g, w <- w + alpha v
is Keras's SGD with m = beta and lr = alpha (1 - beta) where rates are constant:
the picture shows lr / (1 - m).

    python -m examples.learning_rate_schedule
    python -m examples.learning_rate_schedule --dataset=mnist --data_dir=FOLDER
"""

import math

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 50, "Trainings, one meta-step each.", 1)

ALPHA, BETA, SCALE = math.exp(-1), 0.5, math.exp(-3)  # where all begin


def build_model(images: datasets.Images):
    """Returns the tanh net as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd
    from examples.tanh_net import tanh_net

    keras.utils.set_random_seed(FLAGS.seed)
    # First weights of deviation 1, which `InitialScale` multiplies.
    pixels = math.prod(images.shape)
    net = tanh_net(pixels, [50] * 3, images.classes, start=1.0, bias_start=1.0)
    model = kd.DrMADModel.from_model(net)
    schedule = {"per": "tensor", "schedule": "step", "steps": FLAGS.steps}
    model.compile(
        optimizer=keras.optimizers.SGD(ALPHA * (1 - BETA), momentum=BETA),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.LearningRate(**schedule),
            kd.hyperparameters.Momentum(**schedule),
            kd.hyperparameters.InitialScale("tensor", SCALE, biases=True),
        ],
        hypergradient=kd.ReverseMode(),
        meta_optimizer=keras.optimizers.Adam(0.04),
    )
    return model


def draw(run, model, values, best: int):
    """Writes the picture of a run."""
    rates, momenta, _ = (
        kind.by_layer(values[kind.name]) for kind in model.hyperparameters
    )
    alphas = {layer: rates[layer] / (1 - momenta[layer]) for layer in rates}
    figure, grid = plt.subplots(
        2, 2, figsize=(10, 6.5), layout="constrained", sharex=True, sharey="row"
    )
    # For each layer (meta_iterations, steps, 2): its kernel, its bias.
    for row, shown, start in ((0, alphas, ALPHA), (1, momenta, BETA)):
        for k, axes in enumerate(grid[row]):
            for layer, entries in shown.items():
                axes.plot(entries[best, :, k], label=layer)
            axes.axhline(start, color="gray", linestyle=":", label="start")
    grid[0, 0].set(title="kernels", ylabel="learning rate / (1 − momentum)")
    grid[0, 1].set(title="biases")
    grid[1, 0].set(xlabel="elementary step", ylabel="momentum")
    grid[1, 1].set(xlabel="elementary step")
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5)
    figure.suptitle(f"Schedules after {best} hypergradients")
    run.write_figure(grid[0, 0], "schedules")


def main(_):
    import keras_drmad as kd

    images = datasets.chosen((1000, 400, 397), (10000, 10000, 10000))
    run = saved_run.begin("learning_rate_schedule")
    model = build_model(images)
    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    history = model.fit(
        *images.train,
        batch_size=200,
        steps_per_epoch=FLAGS.steps,
        hyper_data=images.train,  # what is minimized
        validation_data=images.validation,  # only reports
        validation_batch_size=1000,
        meta_iterations=FLAGS.meta_iterations,
        keep="best",
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    best = int(np.argmin(history["hyper_loss"]))
    draw(run, model, recorder.values, best)
    print(f"{'loss':14}{'training':>12}{'validation':>12}{'test':>12}")
    for name, k in (("at the start", 0), ("best", best)):
        losses = (history[f"{of}_loss"][k] for of in ("hyper", "val", "test"))
        print(f"{name:14}" + "".join(f"{loss:12.4f}" for loss in losses))
    count = sum(values[0].size for values in recorder.values.values())
    print(f"{count} hyperparameters. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
