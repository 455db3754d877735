"""Measures what `hyperparameters="auto"` gains over the untuned start.

    python -m studies.suggested --data_dir=FOLDER

For scikit-learn's digits, MNIST and the CIFAR-10 subset, by SGD with momentum
and by AdamW, and for each seed: a net is tuned by `compile(
hyperparameters="auto")`; its first training, at the optimizer's own numbers,
is the untuned one. Both are judged on test data that nothing was fitted to.
"""

import time

import numpy as np
from absl import app, flags

from examples import datasets

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", None, "Folder of the files; KERAS_DRMAD_DATA by default."
)
flags.DEFINE_list("datasets", ["digits", "mnist", "cifar10"], "Which data.")
flags.DEFINE_list("optimizers", ["sgd", "adamw"], "Which optimizers.")
flags.DEFINE_integer("seeds", 2, "How many seeds.", 1)
flags.DEFINE_integer("steps", 500, "T; CIFAR-10 takes a fifth of it.", 5)
flags.DEFINE_integer("meta_iterations", 10, "Trainings.", 2)
flags.DEFINE_float("meta_step", 0.2, "Step on the logarithms, by Adam.")

SIZES = {
    "digits": (1000, 400, 397),
    "mnist": (10000, 5000, 10000),
    "cifar10": (4000, 1000, 1000),
}


def net(shape: tuple[int, ...], classes: int):
    """Returns a net of dense layers, or with two convolutions for colors."""
    import keras

    L = keras.layers
    if len(shape) == 2:
        hidden = [L.Dense(100, "relu"), L.Dense(100, "relu")]
        shape = (shape[0] * shape[1],)
    else:
        hidden = [
            L.Conv2D(16, 3, 2, "same", activation="relu"),
            L.Conv2D(32, 3, 2, "same", activation="relu"),
            L.Flatten(),
            L.Dense(64, "relu"),
        ]
    return keras.Sequential([keras.Input(shape), *hidden, L.Dense(classes)])


def optimizer(name: str):
    """Returns an optimizer with the numbers that one might begin with."""
    import keras

    if name == "sgd":
        return keras.optimizers.SGD(0.01, momentum=0.9)
    return keras.optimizers.AdamW(1e-3)


def tune(dataset: str, name: str, seed: int):
    """Returns test loss and test error, untuned and tuned."""
    import keras

    import keras_drmad as kd

    images = datasets.load(dataset, FLAGS.data_dir, SIZES[dataset], seed)
    shape = images.shape if len(images.shape) == 3 else (-1,)
    train, validation, test = (
        (x.reshape(len(x), *shape), y)
        for x, y in (images.train, images.validation, images.test)
    )
    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(net(images.shape, images.classes))
    model.compile(
        optimizer(name),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters="auto",
        meta_optimizer=keras.optimizers.Adam(FLAGS.meta_step),
    )
    history = model.fit(
        *train,
        batch_size=50,
        steps_per_epoch=FLAGS.steps // (5 if dataset == "cifar10" else 1),
        validation_data=validation,
        validation_batch_size=500,
        meta_iterations=FLAGS.meta_iterations,
        initial_weights="same",
        seed=seed,
        verbose=0,
        callbacks=[kd.callbacks.HeldOut(*test, batch_size=500)],
    ).history
    best = int(np.argmin(history["val_loss"]))
    return [
        (history["test_loss"][k], 1 - history["test_accuracy"][k])
        for k in (0, best)
    ]


def main(_):
    print(
        f"{'data':9}{'optimizer':11}{'seed':>4}{'test loss':>20}"
        f"{'test error':>22}{'seconds':>9}"
    )
    for dataset in FLAGS.datasets:
        for name in FLAGS.optimizers:
            for seed in range(FLAGS.seeds):
                begin = time.perf_counter()
                (loss, error), (tuned, tuned_error) = tune(dataset, name, seed)
                print(
                    f"{dataset:9}{name:11}{seed:4}"
                    f"{loss:9.4f} -> {tuned:.4f}"
                    f"{100 * error:10.2f}% -> {100 * tuned_error:.2f}%"
                    f"{time.perf_counter() - begin:9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    app.run(main)
