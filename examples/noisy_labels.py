"""Learns which training labels are wrong: a weight for each example.

Half of the training labels are replaced by wrong ones at random. Each example
gets a weight in (0, 2) on its loss, 1 at first, and the weights are fitted to a
small validation set with right labels (data hyper-cleaning, Franceschi et al.,
ICML 2018, https://arxiv.org/abs/1806.04910). The trainings that learn the
weights end before a net learns wrong labels by heart. Then nets are trained for
longer, with the learned weights and in four other ways.

    python -m examples.noisy_labels
    python -m examples.noisy_labels --dataset=mnist --data_dir=FOLDER
"""

import math

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_float("wrong", 0.5, "The part of wrong labels.", 0.01, 0.99)
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("longer", 10, "How often T the last trainings take.", 1)
flags.DEFINE_integer("meta_iterations", 12, "Trainings, one meta-step each.", 1)


def fit(images, x, y, sample_weight=None, epochs=1, callbacks=(), **options):
    """Fits a new net; returns the model and its test errors in percent."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(FLAGS.seed)
    inputs = keras.Input((math.prod(images.shape),))
    hidden = keras.layers.Dense(100, "relu")(inputs)
    model = kd.DrMADModel(inputs, keras.layers.Dense(images.classes)(hidden))
    weights = kd.hyperparameters.ExampleWeights(
        len(x), initial=1.0, transform=kd.hyperparameters.Sigmoid(0, 2)
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.03, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[weights],
        hypergradient=kd.ReverseMode(),
        # One example's hypergradient is of the size of 1 / examples.
        meta_optimizer=keras.optimizers.SGD(0.5 * len(x)),
    )
    held_out = kd.callbacks.HeldOut(*images.test, batch_size=1000)
    history = model.fit(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=min(100 if FLAGS.dataset == "digits" else 500, len(x)),
        epochs=epochs,
        steps_per_epoch=FLAGS.steps,
        seed=FLAGS.seed,
        callbacks=[held_out, *callbacks],
        **options,
    ).history
    return model, 100 * (1 - np.array(history["test_accuracy"]))


def train_longer(images, given, wrong, weights) -> dict[str, np.ndarray]:
    """Returns the test errors of longer trainings, after each T steps."""
    x, validation = images.train[0], images.validation
    both = map(np.concatenate, zip((x, given), validation, strict=True))
    ones = np.ones(len(validation[1]), "float32")
    ways = {
        "labels as given": (x, given),
        "validation data": validation,
        "learned weights": (x, given, weights),
        "learned and validation": (*both, np.append(weights, ones)),
        "right labels": (x[~wrong], given[~wrong]),
    }
    longer = {"epochs": FLAGS.longer, "meta_iterations": 0, "verbose": 0}
    return {name: fit(images, *way, **longer)[1] for name, way in ways.items()}


def draw(run, wrong, weights, compared):
    """Writes the picture of a run."""
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, are in (("right labels", ~wrong), ("wrong labels", wrong)):
        left.hist(weights[are], np.linspace(0, 2, 41), alpha=0.6, label=name)
    left.set(xlabel="learned weight (1 at first)", ylabel="training examples")
    for name, errors in compared.items():
        steps = FLAGS.steps * np.arange(1, len(errors) + 1)
        right.plot(steps, errors, ".-", label=f"{name}: {errors[-1]:.1f}")
    right.set(xlabel="elementary step", ylabel="test error (%)", ylim=(0, None))
    left.legend()
    right.legend(loc="lower left")
    run.write_figure(left, "weights")


def main(_):
    from sklearn import metrics

    import keras_drmad as kd

    images = datasets.chosen((1000, 100, 697), (10000, 1000, 10000))
    given, wrong = images.with_wrong_labels(FLAGS.wrong, FLAGS.seed + 1)
    run = saved_run.begin("noisy_labels")
    recorder = kd.callbacks.HyperparameterHistory()
    model, _ = fit(
        images,
        images.train[0],
        given,
        validation_data=images.validation,
        validation_batch_size=1000,
        meta_iterations=FLAGS.meta_iterations,
        keep="best",
        callbacks=[recorder, *run.callbacks()],
    )

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    x = images.train[0]
    run.write_report(model, shape=images.shape, x=x, y=given)
    weights = model.hyperparameters[0].value().numpy()
    compared = train_longer(images, given, wrong, weights)
    draw(run, wrong, weights, compared)
    print(f"{'test error after':24}{FLAGS.steps:6} steps, then longer")
    for name, errors in compared.items():
        print(f"{name:24}{errors[0]:11.2f}%{errors[-1]:11.2f}%")
    area = metrics.roc_auc_score(wrong, -weights)
    print(f"The area under the ROC curve is {area:.4f}. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
