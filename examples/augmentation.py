"""Learns how strongly to augment images, by hypergradient.

A small convolutional net sees each training image brighter or darker, with
more or less contrast, turned and shifted. How much is learned on validation
data, from half of the strengths that one might set by hand. The net is then
trained anew without augmentation, with the strengths set by hand, and with the
learned ones.

    python -m examples.augmentation
    python -m examples.augmentation --dataset=cifar10 --data_dir=FOLDER
"""

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("epochs", None, "Of a training; 100 (digits) or 20.", 1)
flags.DEFINE_integer("meta_iterations", 20, "Trainings, one meta-step each.", 1)
flags.DEFINE_float("meta_step", 0.15, "Step of the log strengths.", 0)
flags.DEFINE_integer("trials", 3, "Trainings with each set of strengths.", 1)

BY_HAND = {
    "brightness": 0.1,  # of images in [0, 1]
    "contrast": 0.1,  # a logarithm of factors
    "rotation": 0.02,  # in turns
    "translation": 0.05,  # a part of the size
}


def build_net(images, strengths: dict[str, float], seed: int):
    """Returns the net with augmentation, and the arguments of `compile`."""
    import keras

    import keras_drmad as kd
    from examples.small_cnn import small_cnn

    keras.utils.set_random_seed(seed)
    given: dict = dict.fromkeys(BY_HAND) | strengths  # `None` switches off
    layer = kd.layers.ImageAugmentation(**given, name="augmentation")
    cnn = small_cnn(images.shape, images.classes)
    net = keras.Sequential([keras.Input(images.shape), layer, *cnn])
    rate = 0.02 if FLAGS.dataset == "digits" else 0.01
    return net, {
        "optimizer": keras.optimizers.SGD(rate, momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def learn(run, images) -> dict[str, float]:
    """Returns learned strengths, means over the last meta-iterations."""
    import keras_drmad as kd

    start = {name: 0.5 * strength for name, strength in BY_HAND.items()}
    net, training = build_net(images, start, FLAGS.seed)
    model = kd.DrMADModel.from_model(net)
    model.compile(
        **training,
        hyperparameters=[],  # those in the layer are found
        hypergradient=kd.ReverseMode(),
        meta_optimizer=kd.SignDescent(FLAGS.meta_step),
    )
    recorder = kd.callbacks.HyperparameterHistory()
    model.fit(
        *images.train,
        batch_size=50,
        epochs=FLAGS.epochs,
        validation_data=images.validation,
        meta_iterations=FLAGS.meta_iterations,
        keep="best",
        seed=FLAGS.seed,
        callbacks=[recorder, *run.callbacks()],
    )
    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    # One training's hypergradient is noisy: the mean of the last quarter's.
    last = -(-FLAGS.meta_iterations // 4)
    found = {k: recorder.values[f"augmentation.{k}"][-last:] for k in BY_HAND}
    return {k: float(np.exp(np.log(v).mean())) for k, v in found.items()}


def train_anew(images, strengths: dict[str, float], seed: int):
    """Returns test loss and accuracy of a plain training from a new seed."""
    net, training = build_net(images, strengths, seed)
    net.compile(**training, jit_compile=False)
    net.fit(*images.train, batch_size=50, epochs=FLAGS.epochs, verbose=0)
    return net.evaluate(*images.test, batch_size=500, verbose=0)


def draw(run, learned, images):
    """Writes the picture of a run."""
    from keras_drmad import layers

    some = images.train[0][:6]
    layer = layers.ImageAugmentation(**learned, seed=FLAGS.seed)
    rows = [some, *(layer(some, training=True).numpy() for _ in range(3))]
    figure, grid = plt.subplots(4, 6, figsize=(6, 4.4), layout="constrained")
    for axes, image in zip(grid.flat, np.concatenate(rows), strict=True):
        axes.imshow(np.clip(image, 0, 1).squeeze(), "gray", vmin=0, vmax=1)
        axes.set_axis_off()
    figure.suptitle("Training images, and three draws at the learned strengths")
    run.write_figure(grid[0, 0], "augmented_images")


def main(_):
    images = datasets.chosen((300, 500, 997), (1000, 2000, 1000)).as_pictures()
    FLAGS.epochs = FLAGS.epochs or (100 if FLAGS.dataset == "digits" else 20)
    run = saved_run.begin("augmentation")
    learned = learn(run, images)
    draw(run, learned, images)
    columns = (*BY_HAND, "test loss", "test error")
    print(f"{'':10}" + "".join(f"{name:>12}" for name in columns))
    strengths = {"none": {}, "by hand": BY_HAND, "learned": learned}
    for name, given in strengths.items():
        seeds = range(FLAGS.seed + 1, FLAGS.seed + 1 + FLAGS.trials)
        trials = [train_anew(images, given, seed) for seed in seeds]
        loss, accuracy = np.mean(trials, axis=0)
        cells = [f"{given[k]:.4f}" if k in given else "-" for k in BY_HAND]
        cells += [f"{loss:.4f}", f"{100 * (1 - accuracy):.2f}%"]
        print(f"{name:10}" + "".join(f"{cell:>12}" for cell in cells))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
