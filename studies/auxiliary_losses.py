"""Learns how much auxiliary tasks should count beside the main one.

A net is to know digits, but few of its training images have their digit. It
has two more outputs, with targets for all images: whether the digit is odd,
which should help, and a random number, which should not. The weights of the
three losses are learned, so as to lower the loss of the main output alone on
validation data. Then the net is trained anew, from several seeds, with the
main loss alone, with equal weights, and with the learned ones.

The elementary optimizer is Adam, to which a common factor of all weights means
nothing: the weights matter relative to each other.

    python -m studies.auxiliary_losses
    python -m studies.auxiliary_losses --dataset=mnist --data_dir=FOLDER
"""

import math
import time

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt
from matplotlib import ticker

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer(
    "train_size", None, "Training images; 1000 (digits) or 5000."
)
flags.DEFINE_integer(
    "labeled", None, "Those of them that have their digit; 50 or 100.", 1
)
flags.DEFINE_integer(
    "validation_size", None, "Validation examples; 300 or 1000."
)
flags.DEFINE_integer("test_size", None, "Test examples; 497 or 10000.")
flags.DEFINE_list("hidden", ["64", "64"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 1000, "T, elementary steps.", lower_bound=1)
flags.DEFINE_integer("batch_size", 100, "Examples in a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.003, "Of Adam.", lower_bound=0)
flags.DEFINE_integer(
    "meta_iterations", 20, "Trainings, each with a hypergradient.", 1
)
flags.DEFINE_float("meta_rate", 0.2, "Of Adam, on the log weights.", 0)
flags.DEFINE_enum(
    "hypergradient", "reverse", ["drmad", "reverse"], "The method."
)
flags.DEFINE_integer("trials", 5, "Trainings with each set of weights.", 1)

# In the order in which Keras takes outputs given in a dict.
OUTPUTS = ("digit", "odd", "random")


def targets(labels, seed: int):
    """Returns the targets of the three outputs."""
    random = np.random.default_rng(seed).integers(0, 10, len(labels))
    return dict(zip(OUTPUTS, (labels, labels % 2, random), strict=True))


def sample_weights(digit, others):
    """Returns weights of the examples: `digit` for the main output."""
    return dict(zip(OUTPUTS, (digit, others, others), strict=True))


def build_model(images, seed: int):
    """Returns the net with three outputs, as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(seed)
    x = first = keras.Input((math.prod(images.shape),))
    for units in FLAGS.hidden:
        x = keras.layers.Dense(int(units), "relu")(x)
    sizes = dict(zip(OUTPUTS, (images.classes, 2, 10), strict=True))
    model = kd.DrMADModel(
        first, {k: keras.layers.Dense(n, name=k)(x) for k, n in sizes.items()}
    )
    model.compile(
        optimizer=keras.optimizers.Adam(FLAGS.learning_rate),
        loss={
            name: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            for name in OUTPUTS
        },
        metrics={"digit": "accuracy"},
        hyperparameters=[kd.hyperparameters.LossWeights()],
        hypergradient=kd.ReverseMode()
        if FLAGS.hypergradient == "reverse"
        else kd.DrMAD(),
        meta_optimizer=keras.optimizers.Adam(FLAGS.meta_rate),
    )
    return model


def test_errors(images, training, test, weights) -> list[float]:
    """Returns the errors of the main output, from several seeds."""
    errors = []
    for trial in range(FLAGS.trials):
        seed = FLAGS.seed + 1000 + trial
        model = build_model(images, seed)
        model.hyperparameters[0].assign(weights)
        model.fit(
            **training,
            batch_size=FLAGS.batch_size,
            steps_per_epoch=FLAGS.steps,
            meta_iterations=0,
            seed=seed,
            verbose=0,
        )
        results = model.evaluate(
            *test, batch_size=1000, verbose=0, return_dict=True
        )
        errors.append(100 * (1 - results["digit_accuracy"]))
    return errors


def draw(run, values, history, compared):
    """Writes the pictures of a run."""
    from keras_drmad import plots

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained"
    )
    shown = {
        name: values[:, k] / values[:, 0]
        for k, name in enumerate(OUTPUTS)
        if k > 0
    }
    labels = {"odd": "odd or even (useful)", "random": "random (harmful)"}
    plots.curves(
        shown, labels, axes=left, ylabel="weight / weight of the main loss"
    )
    left.axhline(1, color="gray", linestyle=":")
    left.set_yscale("log")
    left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(ticker.NullFormatter())
    left.set_title("Learned weights of the auxiliary losses")
    names = {"val_loss": "main output, validation"}
    plots.curves(history, names, axes=right, ylabel="cross entropy")
    right.set_title("What they are fitted to (each time a new draw)")
    run.write_figure(left, "weights")

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    means = [np.mean(errors) for errors in compared.values()]
    bars = axes.bar(list(compared), means, color="C0", alpha=0.6)
    axes.bar_label(bars, fmt="%.1f", label_type="center")
    for k, errors in enumerate(compared.values()):
        axes.plot([k] * len(errors), errors, "k.", label="one seed each")
    axes.legend(*(x[:1] for x in axes.get_legend_handles_labels()))
    axes.margins(y=0.2)
    axes.set_ylabel("test error of the main output (%)")
    run.write_figure(axes, "test_error")


def table(compared, weights) -> str:
    """Returns the test errors with each set of weights."""
    rows = [
        f"{'':16}{'weights: ' + ', '.join(OUTPUTS):>34}"
        f"{'test error':>12}{'std':>7}"
    ]
    for name, errors in compared.items():
        shown = ", ".join(f"{w:.3g}" for w in weights[name])
        rows.append(
            f"{name:16}{shown:>34}{np.mean(errors):11.2f}%{np.std(errors):7.2f}"
        )
    return "\n".join(rows)


def main(_):
    import keras_drmad as kd

    small = FLAGS.dataset == "digits"
    sizes = (
        FLAGS.train_size or (1000 if small else 5000),
        FLAGS.validation_size or (300 if small else 1000),
        FLAGS.test_size or (497 if small else 10000),
    )
    labeled = FLAGS.labeled or (50 if small else 100)
    images = datasets.load(FLAGS.dataset, FLAGS.data_dir, sizes, FLAGS.seed)
    x, y = images.train
    has_digit = (np.arange(len(x)) < labeled) * (len(x) / labeled)
    training = {
        "x": x,
        "y": targets(y, FLAGS.seed),
        "sample_weight": sample_weights(has_digit, np.ones(len(x))),
    }
    held_x, held_y = images.validation
    # Weights of 0 keep the other outputs out of the validation loss.
    only_main = sample_weights(np.ones(len(held_x)), np.zeros(len(held_x)))
    test = images.test[0], targets(images.test[1], FLAGS.seed + 2)
    run = saved_run.begin("auxiliary_losses")
    model = build_model(images, FLAGS.seed)

    recorder = kd.callbacks.HyperparameterHistory()
    begin = time.perf_counter()
    history = model.fit(
        **training,
        batch_size=FLAGS.batch_size,
        steps_per_epoch=FLAGS.steps,
        validation_data=(held_x, targets(held_y, FLAGS.seed + 1), only_main),
        validation_batch_size=1000,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights="resample",
        # A new draw each time is noise: the last weights, not the luckiest.
        keep="last",
        seed=FLAGS.seed,
        callbacks=[recorder, *run.callbacks()],
    ).history
    seconds = time.perf_counter() - begin

    run.write_hyperparameters(recorder.values)
    run.write_model(model)
    weights = {
        "main loss alone": np.array([1, 1e-9, 1e-9]),
        "equal weights": np.ones(3),
        "learned weights": model.hyperparameters[0].value().numpy(),
    }
    compared = {
        name: test_errors(images, training, test, values)
        for name, values in weights.items()
    }
    draw(run, recorder.values["loss_weights"], history, compared)
    print(table(compared, weights))
    print(
        f"3 weights learned in {FLAGS.meta_iterations} meta-iterations, "
        f"{seconds:.1f} s; errors over {FLAGS.trials} seeds. "
        f"Kept in {run.folder}"
    )


if __name__ == "__main__":
    app.run(main)
