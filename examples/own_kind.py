"""Tunes a kind of hyperparameter of one's own: a weight for each class.

Of half of the classes only a twentieth of the training examples are left; the
validation data have all classes alike, as the test data do. A net that is
trained on the examples as they are neglects the rare classes. `ClassWeights`,
thirty lines in class_weights.py, puts a weight on the training loss of each
class, and the hypergradient says which classes should count more.

    python -m examples.own_kind
    python -m examples.own_kind --dataset=mnist --data_dir=FOLDER
"""

import math

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("steps", 300, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 10, "Trainings, one meta-step each.", 1)

RARE = 0.05  # the part of the examples of the rare classes that are left


def without_most_of_half(x, y, classes: int):
    """Returns the examples without most of those of the last classes."""
    random = np.random.default_rng(FLAGS.seed + 1)
    is_rare = y >= classes // 2
    kept = ~is_rare | (random.random(len(y)) < RARE)
    return x[kept], y[kept]


def build_model(images: datasets.Images):
    """Returns a net with a weight for each class."""
    import keras

    import keras_drmad as kd
    from examples.class_weights import ClassWeights

    keras.utils.set_random_seed(FLAGS.seed)
    inputs = keras.Input((math.prod(images.shape),))
    x = keras.layers.Dense(50, "relu")(inputs)
    model = kd.DrMADModel(inputs, keras.layers.Dense(images.classes)(x))
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[ClassWeights(images.classes)],
        # All signs agree for long, and the default would go with them until
        # weights of 70 make training unstable.
        meta_optimizer=kd.SignDescent(0.3),
    )
    return model


def draw(run, history, weights, counts):
    """Writes the picture of a run."""
    from keras_drmad import plots

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    names = {"val_loss": "validation", "test_loss": "test"}
    plots.curves(history, names, axes=left, ylabel="loss")
    left.set_title("After each training")
    right.bar(np.arange(len(weights)), weights, color="lightsteelblue")
    for k, count in enumerate(counts):
        right.annotate(count, (k, weights[k]), ha="center", va="bottom")
    right.set(xlabel="class", ylabel="learned weight")
    right.margins(y=0.1)
    right.set_title("Weights, and numbers of training examples")
    run.write_figure(left, "class_weights")


def main(_):
    import keras_drmad as kd

    images = datasets.chosen((1000, 400, 397), (15000, 5000, 5000))
    x, y = without_most_of_half(*images.train, images.classes)
    run = saved_run.begin("own_kind")
    model = build_model(images)
    recorder = kd.callbacks.HyperparameterHistory()
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    training = dict(
        batch_size=50,
        steps_per_epoch=FLAGS.steps,
        validation_data=images.validation,
    )
    history = model.fit(
        x,
        y,
        **training,
        meta_iterations=FLAGS.meta_iterations,
        seed=FLAGS.seed,
        callbacks=[held_out, recorder, *run.callbacks()],
    ).history

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    weights = model.hyperparameters[0].value().numpy()
    draw(run, history, weights, np.bincount(y))
    print(
        model.check_hyperparameters(
            x, y, **training, test_data=images.test, seed=FLAGS.seed
        )
    )
    print(f"Weights: {np.round(weights, 2)}. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
