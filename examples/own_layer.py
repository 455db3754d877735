"""Tunes a value inside a layer of one's own: the widths of a kernel.

A linear model of random Fourier features is a Gaussian kernel machine. How fast
the kernel falls along each input, its bandwidth, decides how well the machine
generalizes, and training data cannot choose it. `FourierFeatures`, in
fourier_features.py, holds the bandwidths in a `kd.layers.LearnedValue`: the
training loss leaves them alone, and the validation loss tunes all of them.

    python -m examples.own_layer
    python -m examples.own_layer --dataset=mnist --data_dir=FOLDER
"""

import math

from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("steps", 300, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 20, "Trainings, one meta-step each.", 1)


def build_model(images: datasets.Images):
    """Returns the kernel machine as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd
    from examples.fourier_features import FourierFeatures

    keras.utils.set_random_seed(FLAGS.seed)
    pixels = math.prod(images.shape)
    inputs = keras.Input((pixels,))
    x = FourierFeatures(300, pixels, name="features")(inputs)
    model = kd.DrMADModel(inputs, keras.layers.Dense(images.classes)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[],  # those in the layer are found
    )
    return model


def draw(run, history, bandwidths, shape):
    """Writes the picture of a run."""
    from keras_drmad import plots

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    names = {"val_loss": "validation", "test_loss": "test"}
    plots.curves(history, names, axes=left, ylabel="loss")
    left.set_title("After each training")
    if len(shape) == 2:
        plots.input_map(bandwidths, shape, axes=right, label="bandwidth")
    right.set_title("Learned bandwidths of the pixels")
    run.write_figure(left, "bandwidths")


def main(_):
    import keras_drmad as kd

    images = datasets.chosen((1000, 400, 397), (15000, 5000, 5000))
    run = saved_run.begin("own_layer")
    model = build_model(images)
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

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    bandwidths = model.hyperparameters[0].value().numpy()
    draw(run, history, bandwidths, images.shape)
    print(
        model.check_hyperparameters(
            *images.train, **training, test_data=images.test, seed=FLAGS.seed
        )
    )
    print(f"{bandwidths.size} bandwidths. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
